package manager

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// commandQueue is how many commands may wait for a relay to take them. A relay
// that falls further behind loses its session and starts over with a snapshot.
const commandQueue = 4096

type relayKey struct {
	kind RelayKind
	id   RelayID
}

// fleet is the set of attached relays.
type fleet struct {
	mu       sync.Mutex // guards the maps and every session's pending, lastID, live, counters
	sessions map[string]*RelaySession
	byRelay  map[relayKey]*RelaySession
	closed   bool // Run has ended
}

// RelaySession is one attachment of a relay: from AttachRelay until End, until the
// relay attaches again or until the manager stops. Next must be called from one
// goroutine; all other methods from any.
type RelaySession struct {
	svc      *Service
	id       string
	relay    Relay
	since    time.Time
	commands chan Command
	done     chan struct{} // closed when the session ends; cause is set before

	snapshotSent bool // owned by the caller of Next

	// The rest is guarded by fleet.mu.
	cause    error
	lastID   uint64
	pending  map[uint64]chan Acknowledgement
	live     int
	opened   uint64
	closed   uint64
	denied   map[string]uint64
	up, down uint64
}

// RelayStatus describes an attached relay.
type RelayStatus struct {
	ID       RelayID
	Kind     RelayKind
	Address  netip.AddrPort
	Region   string
	Since    time.Time
	Live     int               // connections alive now
	Opened   uint64            // connections that reached their device in this session
	Closed   uint64            // of those, how many ended
	Denied   map[string]uint64 // connections refused in this session, by cause
	Up, Down uint64            // bytes of the connections that ended, from and to clients
}

// AttachRelay registers a relay and starts its session. An earlier session of the
// same relay ends with ErrReplaced.
//
// Errors: CodeBadRelay, CodeNotReady.
func (s *Service) AttachRelay(r Relay) (*RelaySession, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	r.Address = netip.AddrPortFrom(r.Address.Addr().Unmap(), r.Address.Port())
	if s.signer.Load() == nil {
		return nil, NewError(CodeNotReady)
	}
	rs := &RelaySession{
		svc: s, id: newID(time.Now()), relay: r, since: now(), live: r.Live,
		commands: make(chan Command, commandQueue),
		done:     make(chan struct{}),
		pending:  map[uint64]chan Acknowledgement{},
		denied:   map[string]uint64{},
	}
	f, key := &s.fleet, relayKey{r.Kind, r.ID}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, NewError(CodeNotReady)
	}
	old := f.byRelay[key]
	if old != nil {
		f.endLocked(old, ErrReplaced)
	}
	f.sessions[rs.id], f.byRelay[key] = rs, rs
	f.mu.Unlock()
	s.log.Info("relay attached", "relay", r.ID, "kind", r.Kind, "address", r.Address, "replaced", old != nil)
	return rs, nil
}

// Session returns the session with an ID that AttachRelay gave, while it lasts.
func (s *Service) Session(id string) (*RelaySession, bool) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	rs, ok := s.fleet.sessions[id]
	return rs, ok
}

// ID returns the session's ID: unpredictable in part, so that it can stand for
// the attachment in later requests.
func (rs *RelaySession) ID() string { return rs.id }

// Relay returns what the relay said about itself.
func (rs *RelaySession) Relay() Relay { return rs.relay }

// Keys returns the keys that check tickets.
func (rs *RelaySession) Keys() []VerificationKey {
	return []VerificationKey{rs.svc.signer.Load().verificationKey()}
}

// Done is closed when the session ends.
func (rs *RelaySession) Done() <-chan struct{} { return rs.done }

// Next blocks until there is a command. The first command of an outer relay is
// its snapshot; inner relays get none. It returns ErrSessionEnded (or an error
// that wraps it), ctx's error, or CodeInternal if the store fails.
func (rs *RelaySession) Next(ctx context.Context) (Command, error) {
	if rs.relay.Kind == OuterRelay && !rs.snapshotSent {
		// The session is registered already: what changes after this read follows
		// as a command, and commands from before it are harmless repetitions.
		es, err := rs.svc.store.RelayEntries(ctx, rs.relay.ID, now())
		if err != nil {
			return Command{}, &Error{Code: CodeInternal, Err: fmt.Errorf("snapshot for relay %s: %w", rs.relay.ID, err)}
		}
		rs.snapshotSent = true
		c := Command{Session: rs.id, Kind: CommandSnapshot, Openings: make([]Opening, len(es))} // ID 0
		for i, e := range es {
			c.Openings[i] = e.opening()
		}
		return c, nil
	}
	select {
	case <-rs.done: // before commands that nobody waits for any more
		return Command{}, rs.err()
	default:
	}
	select {
	case c := <-rs.commands:
		return c, nil
	case <-rs.done:
		return Command{}, rs.err()
	case <-ctx.Done():
		return Command{}, ctx.Err()
	}
}

// Acknowledge delivers the relay's answer to a command. Answers of another session
// or that nobody waits for are ignored.
func (rs *RelaySession) Acknowledge(a Acknowledgement) {
	if a.Session != rs.id {
		return
	}
	if a.ID == 0 {
		if len(a.Failures) > 0 { // they may be thousands, for one reason
			f := a.Failures[0]
			rs.svc.log.Warn("relay could not open entries again yet", "relay", rs.relay.ID, "entries", len(a.Failures), "first", f.EntryID, "error", f.Err)
		}
		return
	}
	f := &rs.svc.fleet
	f.mu.Lock()
	ch := rs.pending[a.ID]
	delete(rs.pending, a.ID)
	f.mu.Unlock()
	if ch != nil {
		ch <- a // capacity 1, and only one answer gets here
	}
}

// Report counts a connection event.
func (rs *RelaySession) Report(e ConnectionEvent) {
	f := &rs.svc.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	rs.live = e.Live
	switch e.Kind {
	case ConnectionOpened:
		rs.opened++
	case ConnectionClosed:
		rs.closed++
		rs.up += e.Up
		rs.down += e.Down
	case ConnectionDenied:
		cause := e.Cause
		if _, known := rs.denied[cause]; !known && len(rs.denied) >= 64 {
			cause = "other" // a relay cannot grow this map without bound
		}
		rs.denied[cause]++
	}
}

// End ends the session: the relay went away. Ending twice is harmless.
func (rs *RelaySession) End() { rs.end(ErrSessionEnded) }

func (rs *RelaySession) end(cause error) {
	f := &rs.svc.fleet
	f.mu.Lock()
	ended := f.endLocked(rs, cause)
	f.mu.Unlock()
	if ended {
		rs.svc.log.Info("relay detached", "relay", rs.relay.ID, "kind", rs.relay.Kind, "error", cause)
	}
}

func (rs *RelaySession) err() error {
	rs.svc.fleet.mu.Lock()
	defer rs.svc.fleet.mu.Unlock()
	return rs.cause
}

// post queues a command without waiting for the answer.
func (rs *RelaySession) post(c Command) {
	rs.enqueue(c, nil)
}

// hint queues a command if the queue is not nearly full. It is for what the relay does
// by itself, too: thousands of entries that expire at one time must not cost it its
// session.
func (rs *RelaySession) hint(c Command) {
	if len(rs.commands) < commandQueue/2 {
		rs.post(c)
	}
}

// call queues a command and waits for the answer, ctx or the session's end.
func (rs *RelaySession) call(ctx context.Context, c Command) (Acknowledgement, error) {
	answer := make(chan Acknowledgement, 1)
	id, err := rs.enqueue(c, answer)
	if err != nil {
		return Acknowledgement{}, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-rs.done:
		return Acknowledgement{}, rs.err()
	case <-ctx.Done():
		f := &rs.svc.fleet
		f.mu.Lock()
		delete(rs.pending, id)
		f.mu.Unlock()
		return Acknowledgement{}, ctx.Err()
	}
}

func (rs *RelaySession) enqueue(c Command, answer chan Acknowledgement) (uint64, error) {
	f := &rs.svc.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if rs.cause != nil {
		return 0, rs.cause
	}
	rs.lastID++
	c.Session, c.ID = rs.id, rs.lastID
	select {
	case rs.commands <- c: // under the lock, so that IDs leave in order
	default:
		f.endLocked(rs, ErrRelayStalled)
		return 0, rs.cause
	}
	if answer != nil {
		rs.pending[c.ID] = answer
	}
	return c.ID, nil
}

func (f *fleet) endLocked(rs *RelaySession, cause error) bool {
	if rs.cause != nil {
		return false
	}
	rs.cause = cause
	clear(rs.pending)
	delete(f.sessions, rs.id)
	if key := (relayKey{rs.relay.Kind, rs.relay.ID}); f.byRelay[key] == rs {
		delete(f.byRelay, key)
	}
	close(rs.done)
	return true
}

func (f *fleet) endAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, rs := range f.sessions {
		f.endLocked(rs, ErrSessionEnded)
	}
}

func (f *fleet) session(key relayKey) (*RelaySession, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rs, ok := f.byRelay[key]
	return rs, ok
}

// outers returns the attached outer relays in the order of their IDs.
func (f *fleet) outers() []*RelaySession {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*RelaySession
	for _, rs := range f.byRelay {
		if rs.relay.Kind == OuterRelay {
			out = append(out, rs)
		}
	}
	slices.SortFunc(out, func(a, b *RelaySession) int { return cmp.Compare(a.relay.ID, b.relay.ID) })
	return out
}

func (rs *RelaySession) status() RelayStatus {
	rs.svc.fleet.mu.Lock()
	defer rs.svc.fleet.mu.Unlock()
	return rs.statusLocked()
}

func (rs *RelaySession) statusLocked() RelayStatus {
	return RelayStatus{
		ID: rs.relay.ID, Kind: rs.relay.Kind, Address: rs.relay.Address, Region: rs.relay.Region, Since: rs.since,
		Live: rs.live, Opened: rs.opened, Closed: rs.closed, Denied: maps.Clone(rs.denied), Up: rs.up, Down: rs.down,
	}
}

func (f *fleet) status() []RelayStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]RelayStatus, 0, len(f.byRelay))
	for _, rs := range f.byRelay {
		out = append(out, rs.statusLocked())
	}
	slices.SortFunc(out, func(a, b RelayStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return out
}
