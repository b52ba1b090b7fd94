package manager

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

type relayKey struct {
	kind RelayKind
	id   RelayID
}

// fleet is the set of attached relays: those with a session here, and what the store
// says of those that are attached to other managers.
type fleet struct {
	mu       sync.Mutex // guards the rest, and every session's pending, lastID, live, counters
	sessions map[string]*RelaySession
	byRelay  map[relayKey]*RelaySession // those that serve; others drain
	others   []RelayAttachment          // of other managers, in the order of Sequence
	reads    uint64                     // numbers reads of the attachments in the store
	learnt   uint64                     // the read that others is from
	closed   bool                       // Run has ended
	moved    chan struct{}              // capacity 1: sessions came, went or began to drain
}

func newFleet() fleet {
	return fleet{sessions: map[string]*RelaySession{}, byRelay: map[relayKey]*RelaySession{}, moved: make(chan struct{}, 1)}
}

// RelayStatus describes an attached relay.
type RelayStatus struct {
	ID       RelayID
	Kind     RelayKind
	Address  netip.AddrPort
	Region   string
	Manager  string // the instance of the manager that it is attached to
	Draining bool   // finishes its connections beside its replacement, or for good
	Since    time.Time
	Live     int // connections alive now
	// The next are since the relay's process began, as it said last; of a relay that does
	// not report its load, what it reported in this session.
	Opened   uint64            // connections that reached their device
	Closed   uint64            // of those, how many ended
	Denied   map[string]uint64 // connections refused, by cause; nil if attached to another manager
	Up, Down uint64            // bytes from and to clients
	Rate     uint64            // bytes per second of all connections, both directions, recently
	Load     RelayLoad         // as the relay said last; zero if it has not, or is attached to another manager
}

func (f *fleet) movedLocked() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

func (f *fleet) endLocked(rs *RelaySession, cause error) bool {
	if rs.cause != nil {
		return false
	}
	rs.cause = cause
	clear(rs.pending)
	delete(f.sessions, rs.id)
	if key := rs.key(); f.byRelay[key] == rs {
		delete(f.byRelay, key)
		if old := rs.before; old != nil && old.cause == nil { // which has not been told to drain
			old.draining = false
			f.byRelay[key] = old
		}
	}
	close(rs.done)
	f.movedLocked()
	return true
}

// serves notes that a session has carried out its snapshot.
func (f *fleet) serves(rs *RelaySession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rs.cause == nil && !rs.serving {
		rs.serving = true
		f.supersedeLocked(rs)
		f.movedLocked()
	}
}

// replacesLocked reports whether rs is of another process than one that serves.
func (f *fleet) replacesLocked(rs *RelaySession) bool {
	return rs.before != nil || slices.ContainsFunc(f.others, func(a RelayAttachment) bool {
		return a.key() == rs.key() && a.Relay.Instance != rs.relay.Instance && !a.Relay.Draining
	})
}

// supersedeLocked tells the process that rs replaces to finish: not earlier, because
// clients that come until rs serves need somebody who accepts them.
func (f *fleet) supersedeLocked(rs *RelaySession) {
	if old := rs.before; old != nil {
		rs.before = nil
		_, _ = f.enqueueLocked(old, Command{Kind: CommandDrain}, nil) // fails only if it has gone
	}
}

func (f *fleet) endAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, rs := range f.sessions {
		f.endLocked(rs, ErrSessionEnded)
	}
}

// endOuters ends the sessions of outer relays, which then attach again.
func (f *fleet) endOuters(cause error) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rs := range f.sessions {
		if rs.relay.Kind == OuterRelay && f.endLocked(rs, cause) {
			n++
		}
	}
	return n
}

// session returns the session here that serves as a relay.
func (f *fleet) session(key relayKey) (*RelaySession, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rs, ok := f.byRelay[key]
	return rs, ok
}

// own returns all sessions here of a relay, those that drain too.
func (f *fleet) own(key relayKey) []*RelaySession {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ownLocked(key)
}

func (f *fleet) ownLocked(key relayKey) []*RelaySession {
	var all []*RelaySession
	for _, rs := range f.sessions {
		if rs.key() == key {
			all = append(all, rs)
		}
	}
	return all
}

// serving returns what an attached relay says about itself, wherever it is attached.
func (f *fleet) serving(key relayKey) (Relay, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rs, ok := f.byRelay[key]; ok {
		return rs.relay, true
	}
	for _, a := range slices.Backward(f.others) {
		if a.key() == key && !a.Relay.Draining {
			return a.Relay, true
		}
	}
	return Relay{}, false
}

// elsewhere returns the other managers that a relay is attached to.
func (f *fleet) elsewhere(key relayKey) map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := map[string]bool{}
	for _, a := range f.others {
		if a.key() == key {
			m[a.Manager] = true
		}
	}
	return m
}

// candidate is an outer relay that may get an entry.
type candidate struct {
	relay   Relay
	session *RelaySession // nil: it is attached to another manager
	status  RelayStatus
}

// candidates returns the outer relays that serve, in the order of their IDs.
func (f *fleet) candidates() []candidate {
	f.mu.Lock()
	defer f.mu.Unlock()
	byID := map[RelayID]candidate{}
	for _, a := range f.others { // the last of a relay wins
		if a.Relay.Kind == OuterRelay && !a.Relay.Draining {
			byID[a.Relay.ID] = candidate{relay: a.Relay, status: a.status()}
		}
	}
	for key, rs := range f.byRelay {
		if key.kind == OuterRelay {
			byID[key.id] = candidate{rs.relay, rs, rs.statusLocked()}
		}
	}
	out := slices.Collect(maps.Values(byID))
	slices.SortFunc(out, func(a, b candidate) int { return cmp.Compare(a.relay.ID, b.relay.ID) })
	return out
}

// beginRead numbers a read of the attachments in the store, before it is made.
func (f *fleet) beginRead() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return f.reads
}

// learn takes over what the store says, unless a read that began later was taken over
// already. What that one missed, a ChangeRelay tells. Sessions here of relays that have since attached
// to another manager end, or drain if that was another process.
func (f *fleet) learn(self string, read uint64, all []RelayAttachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if read < f.learnt {
		return
	}
	f.learnt = read
	f.others = slices.DeleteFunc(all, func(a RelayAttachment) bool { return a.Manager == self })
	for _, a := range f.others {
		if a.Relay.Draining {
			continue
		}
		rs, ok := f.byRelay[a.key()]
		switch {
		case !ok || rs.sequence == 0 || rs.sequence >= a.Sequence:
		case rs.relay.Instance == a.Relay.Instance:
			f.endLocked(rs, ErrReplaced)
		default: // another process, which serves already
			rs.draining = true
			delete(f.byRelay, a.key())
			f.supersedeLocked(rs)
			_, _ = f.enqueueLocked(rs, Command{Kind: CommandDrain}, nil) // as in supersedeLocked
		}
	}
}

// attachments returns the sessions here as the store keeps them.
func (f *fleet) attachments(now time.Time) []RelayAttachment {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]RelayAttachment, 0, len(f.sessions))
	for _, rs := range f.sessions {
		st := rs.statusLocked()
		a := RelayAttachment{
			Session: rs.id, Relay: rs.relay, Since: rs.since, Seen: now,
			Opened: st.Opened, Closed: st.Closed, Up: st.Up, Down: st.Down, Rate: st.Rate,
		}
		a.Relay.Live = st.Live
		// Until it serves, other managers shall use the process that it replaces.
		a.Relay.Draining = st.Draining || !rs.serving && f.replacesLocked(rs)
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b RelayAttachment) int { return cmp.Compare(a.Session, b.Session) }) // by age
	return out
}

// numbered takes over the sequences that the store gave.
func (f *fleet) numbered(self string, all []RelayAttachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range all {
		if rs, ok := f.sessions[a.Session]; ok && a.Manager == self {
			rs.sequence = a.Sequence
		}
	}
}

func (a RelayAttachment) key() relayKey { return relayKey{a.Relay.Kind, a.Relay.ID} }

func (a RelayAttachment) status() RelayStatus {
	r := a.Relay
	return RelayStatus{
		ID: r.ID, Kind: r.Kind, Address: r.Address, Region: r.Region, Manager: a.Manager, Draining: r.Draining, Since: a.Since,
		Live: r.Live, Opened: a.Opened, Closed: a.Closed, Up: a.Up, Down: a.Down, Rate: a.Rate,
	}
}

func (f *fleet) status() []RelayStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]RelayStatus, 0, len(f.sessions)+len(f.others))
	for _, rs := range f.sessions {
		out = append(out, rs.statusLocked())
	}
	for _, a := range f.others {
		out = append(out, a.status())
	}
	slices.SortFunc(out, func(a, b RelayStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), a.Since.Compare(b.Since))
	})
	return out
}
