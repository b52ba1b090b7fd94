package smf

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// upf is one user plane function: its configuration, its address pools and what
// its association knows. Everything below mu belongs to the table's mutex.
type upf struct {
	cfg    UPF
	dnns   map[ident.DNN]*upfDNN
	inbox  *mailbox[assocEvent] // of the association's goroutine
	window chan struct{}        // bounds outstanding session requests

	state    assocState
	node     pfcp.NodeID
	recovery time.Time
	epoch    uint64 // counts associations; sessions of an older one are gone at the UPF
	sessions map[*session]struct{}
	losses   uint64
	nextTEID ident.TEID
}

type upfDNN struct {
	cfg  UPFDNN
	pool *pool
}

// upfTable is every UPF, with the mutex that guards their changing parts. It is
// held for map operations only, never across I/O.
type upfTable struct {
	mu   sync.Mutex
	list []*upf
}

func newUPFTable(cfg Config, firstTEID ident.TEID) *upfTable {
	t := &upfTable{}
	for _, c := range cfg.UPFs {
		u := &upf{
			cfg: c, dnns: map[ident.DNN]*upfDNN{}, inbox: newMailbox[assocEvent](),
			window: make(chan struct{}, cfg.RestoreWindow), sessions: map[*session]struct{}{}, nextTEID: firstTEID,
		}
		for _, d := range c.DNNs {
			if d.NetworkInstance == "" {
				d.NetworkInstance = string(d.DNN)
			}
			u.dnns[d.DNN] = &upfDNN{cfg: d, pool: newPool(d.Pools, d.Reserved)}
		}
		t.list = append(t.list, u)
	}
	return t
}

// criteria is what a session needs of a UPF (TS 23.501 clause 6.3.3.3).
type criteria struct {
	supi    ident.SUPI
	dnn     ident.DNN
	snssai  ident.SNSSAI
	group   string
	tac     ident.TAC
	static  ident.UEAddress
	exclude []*upf // tried already
}

// grant is a UPF with an address on it.
type grant struct {
	upf      *upf
	address  ident.UEAddress
	instance string
	epoch    uint64
	uplink   *ident.FTEID // chosen by the SMF; nil lets the UPF choose
}

// take selects a UPF for s and reserves an address on it. Of the UPFs that serve
// DNN, slice, group and tracking area, those that name the UE's group come first,
// then lower priority values, then fewer sessions. Errors: ErrNoUPF, ErrUPFDown,
// ErrPoolExhausted, ErrStaticAddress.
func (t *upfTable) take(s *session, want criteria) (grant, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var up []*upf
	configured := false
	for _, u := range t.list {
		if !u.serves(want) {
			continue
		}
		configured = true
		if u.state == assocUp && !slices.Contains(want.exclude, u) {
			up = append(up, u)
		}
	}
	if !configured {
		return grant{}, ErrNoUPF
	}
	if len(up) == 0 {
		return grant{}, ErrUPFDown
	}
	slices.SortStableFunc(up, func(a, b *upf) int {
		return cmp.Or(
			cmp.Compare(a.rank(want.group), b.rank(want.group)),
			cmp.Compare(a.cfg.Priority, b.cfg.Priority),
			cmp.Compare(len(a.sessions), len(b.sessions)),
		)
	})
	err := ErrPoolExhausted
	if want.static.V4.IsValid() {
		err = ErrStaticAddress
	}
	for _, u := range up {
		d := u.dnns[want.dnn]
		addr, ok := want.static.V4, false
		if addr.IsValid() {
			ok = d.pool.takeStatic(want.supi, addr)
		} else {
			addr, ok = d.pool.take(want.supi)
		}
		if !ok {
			continue
		}
		g := grant{upf: u, address: ident.UEAddress{V4: addr}, instance: d.cfg.NetworkInstance, epoch: u.epoch}
		if u.cfg.N3.IsValid() {
			u.nextTEID = max(u.nextTEID+1, 1)
			g.uplink = &ident.FTEID{Addr: u.cfg.N3, TEID: u.nextTEID}
		}
		u.sessions[s] = struct{}{}
		return g, nil
	}
	return grant{}, err
}

// giveBack undoes take.
func (t *upfTable) giveBack(s *session, g grant) {
	if g.upf == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(g.upf.sessions, s)
	if d := g.upf.dnns[s.dnn]; d != nil && g.address.V4.IsValid() {
		d.pool.release(g.address.V4)
	}
}

func (u *upf) serves(want criteria) bool {
	d := u.dnns[want.dnn]
	return d != nil &&
		(len(d.cfg.SNSSAIs) == 0 || slices.Contains(d.cfg.SNSSAIs, want.snssai)) &&
		(len(u.cfg.Groups) == 0 || slices.Contains(u.cfg.Groups, want.group)) &&
		(len(u.cfg.TACs) == 0 || slices.Contains(u.cfg.TACs, want.tac))
}

func (u *upf) rank(group string) int {
	if group != "" && slices.Contains(u.cfg.Groups, group) {
		return 0
	}
	return 1
}

// byPeer finds the UPF that a PFCP request came from: by address, as its source
// port is free (TS 29.244 clause 6.4), with the port deciding between UPFs that
// share an address. A node ID alone proves nothing: 3GPP leaves the protection of N4
// to NDS/IP (TS 33.210), which a testbed goes without.
func (t *upfTable) byPeer(from netip.AddrPort) *upf {
	var found *upf
	for _, u := range t.list {
		switch {
		case u.cfg.N4 == from:
			return u
		case u.cfg.N4.Addr() == from.Addr():
			found = u
		}
	}
	return found
}
