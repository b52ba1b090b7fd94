package manager

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"
)

// commandQueue is how many commands may wait for a relay to take them. A relay
// that falls further behind loses its session and starts over with a snapshot.
const commandQueue = 4096

// RelaySession is one attachment of a relay: from AttachRelay until End, until the
// relay attaches again or until the manager stops. Next must be called from one
// goroutine; all other methods from any.
type RelaySession struct {
	svc      *Service
	id       string
	relay    Relay
	since    time.Time
	commands chan Command
	review   chan struct{} // capacity 1: a CommandReview is to be sent
	done     chan struct{} // closed when the session ends; cause is set before

	snapshotSent bool // owned by the caller of Next

	// The rest is guarded by fleet.mu.
	cause    error
	lastID   uint64
	pending  map[uint64]chan Acknowledgement
	live     int
	draining bool
	load     RelayLoad
	rate     float64 // bytes per second
	sequence int64   // RelayAttachment.Sequence; 0: not in the store yet
	// serving is whether the relay accepts what this session is told: an inner relay does
	// when it attaches, an outer one when it has carried out its snapshot.
	serving bool
	// before is the session of an earlier process of the relay, which goes on until this
	// one is serving; nil: none.
	before *RelaySession
}

// AttachRelay registers a relay and starts its session. An earlier session of the
// same process ends with ErrReplaced. That of another process with the same ID, which is
// being replaced, gets no new entries; once the new one serves, it is told to drain, and
// lives beside it until its process goes. Should the new one go before it serves, the
// earlier one takes its place again. One that drains replaces only an earlier session of
// the same process.
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
		commands: make(chan Command, commandQueue), review: make(chan struct{}, 1),
		done:     make(chan struct{}),
		pending:  map[uint64]chan Acknowledgement{},
		draining: r.Draining, serving: r.Kind == InnerRelay,
	}
	f, key := &s.fleet, rs.key()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, NewError(CodeNotReady)
	}
	replaced := false
	for _, old := range f.ownLocked(key) {
		switch {
		case old.relay.Instance == r.Instance:
			replaced = f.endLocked(old, ErrReplaced) || replaced
		case !old.draining && !r.Draining:
			if old.before != nil { // it has never served
				rs.before, old.before = old.before, nil
				f.endLocked(old, ErrReplaced)
				continue
			}
			old.draining, rs.before, replaced = true, old, true
		}
	}
	f.sessions[rs.id] = rs
	if r.Draining {
		rs.snapshotSent = true // it opens nothing any more
	} else {
		f.byRelay[key] = rs
		if rs.serving {
			f.supersedeLocked(rs)
		}
	}
	f.movedLocked()
	f.mu.Unlock()
	if r.Draining {
		s.repeatRevocations(rs)
		if r.Kind == OuterRelay {
			poke(rs.review)
		}
	}
	s.log.Info("relay attached", "relay", r.ID, "kind", r.Kind, "address", r.Address, "draining", r.Draining, "replaced", replaced)
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

// Keys returns the keys that check tickets for the relay's process: an inner relay's has
// some, an outer one's has none.
func (rs *RelaySession) Keys() []TicketKey {
	if rs.relay.Kind != InnerRelay {
		return nil
	}
	key, err := rs.svc.signer.Load().ticketKey(rs.relay.ID, rs.relay.Instance)
	if err != nil { // only for keys of some kilobytes
		return nil
	}
	return []TicketKey{key}
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
			return Command{}, AsError(fmt.Errorf("snapshot for relay %s: %w", rs.relay.ID, err))
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
	case <-rs.review:
		return rs.nextReview(), nil
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
		rs.svc.fleet.serves(rs)
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

// hint queues a command if the queue is not nearly full; false if it is. It is for what
// the relay does, or asks for, by itself, too: thousands of entries that expire at one time
// must not cost it its session.
func (rs *RelaySession) hint(c Command) bool {
	if len(rs.commands) >= commandQueue/2 {
		return false
	}
	rs.post(c)
	return true
}

// call queues a command and waits for the answer, ctx or the session's end.
func (rs *RelaySession) call(ctx context.Context, c Command) (Acknowledgement, error) {
	return rs.begin(c)(ctx)
}

// begin queues a command and returns a function, to be called once, that waits for the
// answer, its context or the session's end.
func (rs *RelaySession) begin(c Command) func(context.Context) (Acknowledgement, error) {
	answer := make(chan Acknowledgement, 1)
	id, err := rs.enqueue(c, answer)
	return func(ctx context.Context) (Acknowledgement, error) {
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
}

func (rs *RelaySession) enqueue(c Command, answer chan Acknowledgement) (uint64, error) {
	f := &rs.svc.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.enqueueLocked(rs, c, answer)
}

func (f *fleet) enqueueLocked(rs *RelaySession, c Command, answer chan Acknowledgement) (uint64, error) {
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

func (rs *RelaySession) key() relayKey { return relayKey{rs.relay.Kind, rs.relay.ID} }

func (rs *RelaySession) statusLocked() RelayStatus {
	st := RelayStatus{
		ID: rs.relay.ID, Kind: rs.relay.Kind, Address: rs.relay.Address, Region: rs.relay.Region, Manager: rs.svc.instance, Draining: rs.draining,
		Since: rs.since, Live: rs.live,
		Rate: uint64(rs.rate), Load: rs.load,
	}
	if l := rs.load; !l.At.IsZero() {
		st.Load.Denied = maps.Clone(l.Denied)
		st.Opened, st.Closed, st.Denied, st.Up, st.Down = l.Opened, l.Opened-min(l.Opened, uint64(max(l.Live, 0))), maps.Clone(l.Denied), l.Up, l.Down
	}
	return st
}
