package amf

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// ue is the context of one UE. Whoever wants something of it posts; one worker at
// a time empties the mailbox and owns every field below "worker".
type ue struct {
	a *AMF

	mu      sync.Mutex // guards queue, running and ended
	queue   []item
	running bool
	ended   bool

	snap atomic.Pointer[UEStatus] // what Status shows; stored by the worker

	// worker
	state      gmmState
	registered bool // REGISTRATION ACCEPT was sent: what an aborted procedure falls back to
	dead       bool // end after this item
	out        []action
	epoch      uint64 // counts procedures; results of an older one are ignored

	supi    ident.SUPI
	pei     ident.PEI
	guti    *ident.GUTI // assigned last
	oldGUTI *ident.GUTI // still valid until REGISTRATION COMPLETE
	caps    *nas.SecurityCapability
	ambr    ident.AMBR
	allowed []ident.SNSSAI
	inUDM   bool      // registered there as serving AMF
	udmPEI  ident.PEI // as registered there

	sec       *nas.SecurityContext // current
	newSec    *nas.SecurityContext // of the security mode command under way
	kamf      [32]byte             // of sec
	newKAMF   [32]byte
	secure    bool   // secure exchange of NAS messages is established on conn (TS 24.501 clause 4.4.2.5)
	kgnbCount uint32 // uplink NAS COUNT that K_gNB is derived from

	conn     *n2conn // nil in CM-IDLE
	sessions map[ident.PDUSessionID]*smContext

	initial  nas.Message // the request that the running procedure serves
	askedPEI bool        // by IDENTITY REQUEST, in this registration
	resend   bool        // the initial message has to come again in SECURITY MODE COMPLETE
	hint     ident.SUPI  // what an unverified 5G-GUTI stands for
	auth     authentication
	retx     retransmission
	timers   [timerCount]*time.Timer
	gens     [timerCount]uint64
}

// item is a piece of work for a UE's worker. dead, if set, runs instead of f when
// the context has ended.
type item struct {
	f    func(*ue)
	dead func()
}

// maxMailbox bounds what the peer can queue at one UE.
const maxMailbox = 128

func newUE(a *AMF) *ue {
	u := &ue{a: a, sessions: map[ident.PDUSessionID]*smContext{}}
	a.reg.addUE(u)
	return u
}

// post queues f for the worker. It reports false if the context has ended or the
// AMF has stopped; f will then not run.
func (u *ue) post(f func(*ue)) bool { return u.enqueue(item{f: f}, false) }

// postOr is post, and runs dead instead if the context ends before f could run.
func (u *ue) postOr(f func(*ue), dead func()) bool { return u.enqueue(item{f: f, dead: dead}, false) }

// postBounded is post for messages of a peer: with a full mailbox the message is
// dropped and counted, as a lost one would be.
func (u *ue) postBounded(f func(*ue)) bool { return u.enqueue(item{f: f}, true) }

func (u *ue) enqueue(it item, bounded bool) bool {
	u.mu.Lock()
	if u.ended {
		u.mu.Unlock()
		return false
	}
	if bounded && len(u.queue) >= maxMailbox {
		u.mu.Unlock()
		u.a.stats.mailboxDrops.Add(1)
		return true
	}
	u.queue = append(u.queue, it)
	if u.running {
		u.mu.Unlock()
		return true
	}
	u.running = true
	u.mu.Unlock()
	return u.a.tasks.run(u.work)
}

// work is the worker: it empties the mailbox and ends.
func (u *ue) work(ctx context.Context) {
	for {
		u.mu.Lock()
		batch := u.queue
		u.queue = nil
		if len(batch) == 0 {
			u.running = false
			u.mu.Unlock()
			return
		}
		u.mu.Unlock()
		for i, it := range batch {
			if ctx.Err() != nil {
				return // the AMF stops: UEs are not told of calls it cancelled itself
			}
			it.f(u)
			u.perform(ctx)
			if u.dead {
				u.bury(batch[i+1:])
				return
			}
		}
		u.publish()
	}
}

// bury ends the context after its last action and answers what is still queued.
func (u *ue) bury(rest []item) {
	u.mu.Lock()
	u.ended = true
	rest = append(rest, u.queue...)
	u.queue = nil
	u.mu.Unlock()
	for i := range u.timers {
		u.stop(timerID(i))
	}
	u.out = nil
	for _, it := range rest {
		if it.dead != nil {
			it.dead()
		}
	}
}

// setState is the only place where the 5GMM state changes.
func (u *ue) setState(s gmmState) {
	if u.state == s {
		return
	}
	u.log(slog.LevelDebug, "5GMM state", "from", u.state, "to", s)
	u.state = s
}

// log writes a line with the UE's identities.
func (u *ue) log(level slog.Level, msg string, args ...any) {
	if u.supi != "" {
		args = append(args, "supi", u.supi)
	}
	if c := u.conn; c != nil {
		args = append(args, "gnb", gnbName(c.gnbID), "amf_ue_id", c.amf, "ran_ue_id", c.ran)
	}
	switch level {
	case slog.LevelDebug:
		u.a.log.Debug(msg, args...)
	case slog.LevelInfo:
		u.a.log.Info(msg, args...)
	case slog.LevelWarn:
		u.a.log.Warn(msg, args...)
	default:
		u.a.log.Error(msg, args...)
	}
}

// abort ends the running procedure without its outcome: the UE falls back to
// 5GMM-REGISTERED if it was registered (for REGISTRATION ACCEPT not yet
// confirmed: TS 24.501 clause 5.5.1.2.8 a, both 5G-GUTIs stay valid), else its
// context ends.
func (u *ue) abort() {
	u.endRetransmission()
	u.epoch++
	u.initial, u.newSec, u.resend = nil, nil, false
	switch {
	case u.state == stateDeregistering:
		u.finish() // clause 5.5.2.3.5 b
	case u.registered:
		u.setState(stateRegistered)
	default:
		u.finish()
	}
}

// goIdle is the UE's entry to CM-IDLE: user planes are reported deactivated to the
// SMF, and the mobile reachable timer starts (TS 24.501 clause 5.3.7).
func (u *ue) goIdle() {
	u.conn, u.secure = nil, false
	u.stop(timerContext)
	for _, s := range u.sessions {
		u.deactivate(s)
	}
	if u.registered && !u.dead {
		u.start(timerReachable, u.a.cfg.T3512+4*time.Minute)
	}
}

// n2Lost handles a connection that ended without signalling: gNB loss, NG Reset,
// or an identifier error.
func (u *ue) n2Lost(c *n2conn) {
	if u.conn != c {
		return
	}
	u.goIdle()
	u.abort()
}

// releaseN2 sends UE CONTEXT RELEASE COMMAND and goes to CM-IDLE.
func (u *ue) releaseN2(cause ngap.Cause) {
	c := u.conn
	if c == nil {
		return
	}
	u.send(c, &ngap.UEContextReleaseCommand{IDs: c.ids(), HasRAN: true, Cause: cause})
	u.a.reg.release(c, u.a.cfg.N2Timeout)
	u.goIdle()
}

// finish ends the context: sessions are released at the SMF, identities become
// invalid, the N2 connection, if it still stands, is released.
func (u *ue) finish() {
	if u.dead {
		return
	}
	u.dead = true
	u.setState(stateDeregistered)
	u.releaseN2(ngap.NASNormalRelease)
	for _, s := range u.sessions {
		u.dropSession(s, releaseGone)
	}
	if u.inUDM {
		u.inUDM = false
		u.deregisterUDM()
	}
	u.a.reg.removeUE(u)
}

// adopt makes c the UE's N2 connection after its first message was verified. An
// older connection is released: the UE has left it (TS 23.502 clause 4.2.2.2.2;
// TS 38.413 clause 8.3.3).
func (u *ue) adopt(c *n2conn) {
	if old := u.conn; old != nil && old != c {
		if u.state != stateDeregistering {
			u.abort()
		}
		u.releaseN2(ngap.RadioRelease5GCReason)
	}
	u.stop(timerReachable)
	u.stop(timerImplicit)
	u.conn = c
}

// location returns where the UE is, the zero value in CM-IDLE.
func (u *ue) location() ident.Location {
	if u.conn == nil {
		return ident.Location{}
	}
	return u.conn.location
}
