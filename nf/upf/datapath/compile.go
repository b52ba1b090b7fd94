package datapath

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// ruleSet is what packets of a session meet. It is immutable but for the counters
// and meters that its rules point to.
type ruleSet struct {
	uplink   []*rule // by precedence
	downlink []*rule
}

// rule is a PDR with all it refers to.
type rule struct {
	pdr    uint16
	action Action
	closed bool // a gate of this direction is closed

	// match
	teid    ident.TEID // uplink
	hasQFI  bool
	qfi     ident.QFI
	ues     []ueKey
	network *network // downlink: where it comes from

	// forward
	to    *network       // uplink
	outer netip.AddrPort // downlink
	head  gtpu.Header    // downlink

	meters   []*meter
	usages   []*usage
	notify   bool
	notified atomic.Bool
}

// usage is the state of a URR.
type usage struct {
	session ident.SEID
	urr     uint32

	limit              atomic.Uint64 // 0: none, or the event is out
	ulBytes, ulPackets atomic.Uint64
	_                  [32]byte // the two directions have different writers
	dlBytes, dlPackets atomic.Uint64
}

func (u *usage) read() Usage {
	return Usage{
		UplinkBytes: u.ulBytes.Load(), UplinkPackets: u.ulPackets.Load(),
		DownlinkBytes: u.dlBytes.Load(), DownlinkPackets: u.dlPackets.Load(),
	}
}

// limiter is the state of a QER.
type limiter struct {
	mbr      ident.AMBR
	up, down *meter // nil: unlimited
}

func newLimiter(mbr ident.AMBR) *limiter {
	l := &limiter{mbr: mbr}
	if mbr.Uplink != 0 {
		l.up = newMeter(mbr.Uplink, minBurst)
	}
	if mbr.Downlink != 0 {
		l.down = newMeter(mbr.Downlink, minBurst)
	}
	return l
}

// compiled is a rule set with its table keys, not yet published.
type compiled struct {
	rules    *ruleSet
	usages   map[uint32]*usage
	limiters map[uint32]*limiter
	limits   map[uint32]uint64 // of URRs
	teids    []teidKey
	ues      []networkKey
}

type networkKey struct {
	network *network
	key     ueKey
}

// compile builds what s describes. State of URRs and QERs that old (which may be
// nil) has under the same ID goes on: counters always, buckets if the rate is the
// same. It changes nothing that packets see.
func (p *Plain) compile(s Session, old *session) (*compiled, error) {
	c := &compiled{
		rules:    new(ruleSet),
		usages:   make(map[uint32]*usage, len(s.URRs)),
		limiters: make(map[uint32]*limiter, len(s.QERs)),
		limits:   make(map[uint32]uint64, len(s.URRs)),
	}
	for _, u := range s.URRs {
		if old != nil && old.usages[u.ID] != nil {
			c.usages[u.ID] = old.usages[u.ID]
		} else {
			c.usages[u.ID] = &usage{session: s.ID, urr: u.ID}
		}
		c.limits[u.ID] = u.VolumeLimit
	}
	qers := make(map[uint32]QER, len(s.QERs))
	for _, q := range s.QERs {
		qers[q.ID] = q
		if old != nil && old.limiters[q.ID] != nil && old.limiters[q.ID].mbr == q.MBR {
			c.limiters[q.ID] = old.limiters[q.ID]
		} else {
			c.limiters[q.ID] = newLimiter(q.MBR)
		}
	}
	fars := make(map[uint32]FAR, len(s.FARs))
	for _, f := range s.FARs {
		fars[f.ID] = f
	}
	all, err := allAddresses(s.PDRs)
	if err != nil {
		return nil, err
	}
	pdrs := slices.SortedStableFunc(slices.Values(s.PDRs), func(a, b PDR) int { return cmp.Compare(a.Precedence, b.Precedence) })
	for _, d := range pdrs {
		far, ok := fars[d.FAR]
		if !ok {
			return nil, fmt.Errorf("%w: PDR %d: no FAR %d", ErrInvalidRules, d.ID, d.FAR)
		}
		r := &rule{pdr: d.ID, action: far.Action, notify: far.Notify}
		if err := c.attach(r, d, qers); err != nil {
			return nil, err
		}
		if d.Uplink {
			err = p.compileUplink(c, r, d, far, all)
		} else {
			err = p.compileDownlink(c, r, d, far)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// allAddresses is every UE address that a rule of the session names.
func allAddresses(pdrs []PDR) ([]ueKey, error) {
	var all []ueKey
	for _, d := range pdrs {
		keys, ok := keysOf(d.UE)
		if !ok {
			return nil, fmt.Errorf("%w: PDR %d: UE prefix %v is not a /64", ErrInvalidRules, d.ID, d.UE.V6)
		}
		for _, k := range keys {
			if !slices.Contains(all, k) {
				all = append(all, k)
			}
		}
	}
	return all, nil
}

// attach adds gates, meters, QFI and counters.
func (c *compiled) attach(r *rule, d PDR, qers map[uint32]QER) error {
	for _, id := range d.QERs {
		q, ok := qers[id]
		if !ok {
			return fmt.Errorf("%w: PDR %d: no QER %d", ErrInvalidRules, d.ID, id)
		}
		m := c.limiters[id].down
		if d.Uplink {
			m = c.limiters[id].up
		}
		if m != nil {
			r.meters = append(r.meters, m)
		}
		r.closed = r.closed || d.Uplink && q.UplinkClosed || !d.Uplink && q.DownlinkClosed
		if q.HasQFI {
			r.head.HasQFI, r.head.QFI = true, q.QFI
		}
	}
	for _, id := range d.URRs {
		u, ok := c.usages[id]
		if !ok {
			return fmt.Errorf("%w: PDR %d: no URR %d", ErrInvalidRules, d.ID, id)
		}
		r.usages = append(r.usages, u)
	}
	return nil
}

func (p *Plain) compileUplink(c *compiled, r *rule, d PDR, far FAR, all []ueKey) error {
	if d.TEID == 0 {
		return fmt.Errorf("%w: PDR %d: uplink without TEID", ErrInvalidRules, d.ID)
	}
	r.teid, r.hasQFI, r.qfi = d.TEID, d.HasQFI, d.QFI
	r.ues, _ = keysOf(d.UE)
	if len(r.ues) == 0 {
		r.ues = all
	}
	if far.Action == Forward {
		name := far.Network
		if name == "" {
			name = d.Network
		}
		n, ok := p.n6[name]
		if !ok {
			return fmt.Errorf("%w: %q of FAR %d", ErrNoNetwork, name, far.ID)
		}
		r.to = n
	}
	c.rules.uplink = append(c.rules.uplink, r)
	if k := teidKey(d.TEID); !slices.Contains(c.teids, k) {
		c.teids = append(c.teids, k)
	}
	return nil
}

func (p *Plain) compileDownlink(c *compiled, r *rule, d PDR, far FAR) error {
	n, ok := p.n6[d.Network]
	if !ok {
		return fmt.Errorf("%w: %q of PDR %d", ErrNoNetwork, d.Network, d.ID)
	}
	r.network = n
	r.ues, _ = keysOf(d.UE)
	if len(r.ues) == 0 {
		return fmt.Errorf("%w: PDR %d: downlink without UE address", ErrInvalidRules, d.ID)
	}
	if far.Action == Forward {
		if !far.Outer.Addr.IsValid() || far.Outer.TEID == 0 {
			return fmt.Errorf("%w: FAR %d: downlink without outer header", ErrInvalidRules, far.ID)
		}
		r.outer = outerAddr(far.Outer, p.cfg.PeerPort)
		r.head.Type, r.head.TEID = gtpu.GPDU, far.Outer.TEID
	}
	c.rules.downlink = append(c.rules.downlink, r)
	for _, k := range r.ues {
		if nk := (networkKey{n, k}); !slices.Contains(c.ues, nk) {
			c.ues = append(c.ues, nk)
		}
	}
	return nil
}
