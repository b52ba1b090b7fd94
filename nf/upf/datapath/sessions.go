package datapath

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// sessions is every session, and the ways by which packets find theirs.
type sessions struct {
	byTEID table[teidKey]

	mu   sync.Mutex // guards byID, all fields of session but rules, and writing to tables
	byID map[ident.SEID]*session
}

// session is the handle that the tables point to. Packets read rules and nothing
// else.
type session struct {
	id    ident.SEID
	rules atomic.Pointer[ruleSet]

	usages   map[uint32]*usage
	limiters map[uint32]*limiter
	teids    []teidKey
	ues      []networkKey
}

// Apply makes s the rule set of its session, new or known. Packets meet either all
// of the old rules or all of the new ones. Counters of URRs and buckets of QERs
// that keep their ID go on. If it returns an error nothing has changed; the error
// wraps ErrTEIDInUse, ErrAddressInUse, ErrNoNetwork or ErrInvalidRules. removed has
// the last counts of URRs that s no longer has.
func (p *Plain) Apply(s Session) (removed map[uint32]Usage, err error) {
	p.sessions.mu.Lock()
	defer p.sessions.mu.Unlock()
	old := p.sessions.byID[s.ID]
	c, err := p.compile(s, old)
	if err != nil {
		return nil, fmt.Errorf("apply session %#x: %w", s.ID, err)
	}
	if err := p.conflict(c, old); err != nil {
		return nil, fmt.Errorf("apply session %#x: %w", s.ID, err)
	}

	h := old
	if h == nil {
		h = &session{id: s.ID}
		p.sessions.byID[s.ID] = h
	}
	for id, u := range c.usages {
		u.limit.Store(c.limits[id])
	}
	h.rules.Store(c.rules)
	oldTEIDs, oldUEs := h.teids, h.ues
	removed = make(map[uint32]Usage)
	for id, u := range h.usages {
		if c.usages[id] == nil {
			removed[id] = u.read()
		}
	}
	h.usages, h.limiters, h.teids, h.ues = c.usages, c.limiters, c.teids, c.ues

	// A key that is new finds the new rules at once, since they are already there;
	// one that is gone finds rules that do not name it until it is taken out.
	for _, k := range c.teids {
		if !slices.Contains(oldTEIDs, k) {
			p.sessions.byTEID.put(k, h)
		}
	}
	for _, nk := range c.ues {
		if !slices.Contains(oldUEs, nk) {
			nk.network.byUE.put(nk.key, h)
		}
	}
	p.unlink(oldTEIDs, oldUEs, c.teids, c.ues)
	return removed, nil
}

// conflict reports a key of c that belongs to another session than h.
func (p *Plain) conflict(c *compiled, h *session) error {
	for _, k := range c.teids {
		if o := p.sessions.byTEID.lookup(k); o != nil && o != h {
			return fmt.Errorf("%w: %#x of session %#x", ErrTEIDInUse, uint32(k), o.id)
		}
	}
	for _, nk := range c.ues {
		if o := nk.network.byUE.lookup(nk.key); o != nil && o != h {
			return fmt.Errorf("%w: network %q, session %#x", ErrAddressInUse, nk.network.name, o.id)
		}
	}
	return nil
}

// unlink takes the old keys that are not among the kept ones out of the tables.
func (p *Plain) unlink(teids []teidKey, ues []networkKey, keepTEIDs []teidKey, keepUEs []networkKey) {
	for _, k := range teids {
		if !slices.Contains(keepTEIDs, k) {
			p.sessions.byTEID.remove(k)
		}
	}
	for _, nk := range ues {
		if !slices.Contains(keepUEs, nk) {
			nk.network.byUE.remove(nk.key)
		}
	}
}

// Remove ends a session and returns the last counts of its URRs. The error is
// ErrNoSession.
func (p *Plain) Remove(id ident.SEID) (map[uint32]Usage, error) {
	p.sessions.mu.Lock()
	defer p.sessions.mu.Unlock()
	h := p.sessions.byID[id]
	if h == nil {
		return nil, fmt.Errorf("remove session %#x: %w", id, ErrNoSession)
	}
	h.rules.Store(nil)
	p.unlink(h.teids, h.ues, nil, nil)
	delete(p.sessions.byID, id)
	return h.read(), nil
}

// Usage returns the counts of the URRs of a session. The error is ErrNoSession.
func (p *Plain) Usage(id ident.SEID) (map[uint32]Usage, error) {
	p.sessions.mu.Lock()
	defer p.sessions.mu.Unlock()
	h := p.sessions.byID[id]
	if h == nil {
		return nil, fmt.Errorf("usage of session %#x: %w", id, ErrNoSession)
	}
	return h.read(), nil
}

// SetVolumeLimit changes the VolumeLimit of one URR and arms its event anew. It
// does nothing if session or URR are gone.
func (p *Plain) SetVolumeLimit(id ident.SEID, urr uint32, limit uint64) {
	p.sessions.mu.Lock()
	defer p.sessions.mu.Unlock()
	if h := p.sessions.byID[id]; h != nil && h.usages[urr] != nil {
		h.usages[urr].limit.Store(limit)
	}
}

func (s *session) read() map[uint32]Usage {
	out := make(map[uint32]Usage, len(s.usages))
	for id, u := range s.usages {
		out[id] = u.read()
	}
	return out
}

// SendEndMarker sends a GTP-U End Marker into the tunnel of a gNB. Call it after the
// Apply that moved the session away from there; a packet that another goroutine is
// carrying at that moment may still follow it.
func (p *Plain) SendEndMarker(to ident.FTEID) error {
	b := gtpu.EncodeEndMarker(to.TEID)
	_, err := p.n3.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: outerAddr(to, p.cfg.PeerPort)}})
	if err != nil {
		return fmt.Errorf("send end marker to %v: %w", to.Addr, err)
	}
	p.count.endMarkersSent.Add(1)
	return nil
}

// measure adds a forwarded packet to the URRs of r.
func (p *Plain) measure(r *rule, n int, uplink bool) {
	for _, u := range r.usages {
		if uplink {
			u.ulBytes.Add(uint64(n))
			u.ulPackets.Add(1)
		} else {
			u.dlBytes.Add(uint64(n))
			u.dlPackets.Add(1)
		}
		limit := u.limit.Load()
		if limit == 0 || u.ulBytes.Load()+u.dlBytes.Load() < limit {
			continue
		}
		// Whoever takes the limit away makes the event. If the event is lost, the
		// next packet tries again, unless a new limit has come meanwhile.
		if u.limit.CompareAndSwap(limit, 0) && !p.post(Event{Kind: VolumeReached, Session: u.session, URR: u.urr}) {
			u.limit.CompareAndSwap(0, limit)
		}
	}
}
