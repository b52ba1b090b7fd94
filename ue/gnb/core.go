package gnb

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

// core is the NGAP logic of a gNB: no I/O but for handing events to radios, which
// never blocks. Inputs are method calls, outputs are actions in out, time is the
// field now. The loop owns it.
type core struct {
	cfg   Config
	log   *slog.Logger
	teids *teidTable
	owner *GNB

	now    time.Time
	out    []action
	timers map[timerID]time.Time

	n2      n2State
	next    int           // index into cfg.AMFs of the address to try
	pause   time.Duration // before the last retry
	amfName string
	amfAddr netip.AddrPort
	lastErr error

	ues     map[uint32]*ueContext
	byAMF   map[int64]*ueContext
	lastRAN uint32
	bearers int
	resets  []chan error // who waits for an NG RESET ACKNOWLEDGE
	ended   []func()     // tells those whose command has ended, after publishing

	counters Counters
}

// ueContext is one UE-associated logical NG connection.
type ueContext struct {
	ran     uint32
	amf     int64
	hasAMF  bool
	state   ueState
	asked   bool   // UE CONTEXT RELEASE REQUEST was sent
	radio   *radio // nil once the RRC connection has gone
	bearers map[ident.PDUSessionID]*bearer
}

func (u *ueContext) ids() ngap.UEIDs { return ngap.UEIDs{AMF: u.amf, RAN: u.ran} }

func (u *ueContext) partial() ngap.PartialIDs {
	p := ngap.PartialIDs{RAN: &u.ran}
	if u.hasAMF {
		p.AMF = &u.amf
	}
	return p
}

// action is something the core asks the loop to do.
type action interface{}

type (
	actDial   struct{ addr netip.AddrPort }
	actHangUp struct{}
	actSend   struct{ msg ngap.Message }
	actReady  struct{}
)

type timerKind uint8

const (
	tRetry timerKind = iota
	tSetup
	tRelease
)

type timerID struct {
	kind timerKind
	ran  uint32
}

func newCore(g *GNB) *core {
	return &core{
		cfg: g.cfg, log: g.log, teids: g.teids, owner: g,
		timers: map[timerID]time.Time{}, ues: map[uint32]*ueContext{}, byAMF: map[int64]*ueContext{},
	}
}

func (c *core) act(a action)          { c.out = append(c.out, a) }
func (c *core) send(msg ngap.Message) { c.act(actSend{msg}) }

func (c *core) take() []action {
	out := c.out
	c.out = nil
	return out
}

func (c *core) start(k timerKind, ran uint32, d time.Duration) {
	c.timers[timerID{k, ran}] = c.now.Add(d)
}
func (c *core) stop(k timerKind, ran uint32) { delete(c.timers, timerID{k, ran}) }

func (c *core) nextTimer() (time.Time, bool) {
	var first time.Time
	for _, d := range c.timers {
		if first.IsZero() || d.Before(first) {
			first = d
		}
	}
	return first, !first.IsZero()
}

func (c *core) expire() {
	for id, d := range c.timers {
		if d.After(c.now) {
			continue
		}
		delete(c.timers, id)
		switch id.kind {
		case tRetry:
			c.startDial()
		case tSetup:
			c.setupTimeout()
		case tRelease:
			c.releaseTimeout(id.ran)
		}
	}
}

// deliver hands an event to a UE. A UE that does not read loses its connection.
func (c *core) deliver(u *ueContext, e ue.RadioEvent) bool {
	if u.radio == nil {
		return false
	}
	if u.radio.push(e) {
		return true
	}
	c.log.Warn("UE does not read its radio", "ran_ue_id", u.ran)
	u.radio.end(ue.ErrRadioLinkFailure)
	c.radioGone(u)
	return false
}

// drop forgets a UE context and ends its RRC connection, if it has one.
func (c *core) drop(u *ueContext, err error) {
	c.stop(tRelease, u.ran)
	for _, b := range u.bearers {
		c.removeBearer(u, b)
	}
	if u.radio != nil {
		u.radio.end(err)
		u.radio = nil
	}
	delete(c.ues, u.ran)
	if u.hasAMF && c.byAMF[u.amf] == u {
		delete(c.byAMF, u.amf)
	}
}

// releaseAll drops every UE.
func (c *core) releaseAll(err error) {
	for _, u := range c.ues {
		c.drop(u, err)
	}
}

// removeBearer takes a session's user plane down.
func (c *core) removeBearer(u *ueContext, b *bearer) {
	c.teids.remove(b)
	delete(u.bearers, b.id)
	c.bearers--
	if u.radio != nil {
		u.radio.bearers[b.id].Store(nil)
	}
}
