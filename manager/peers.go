package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

const (
	// lapse is how many heartbeats a manager may miss before its attachments count as
	// gone.
	lapse = 5
	// rememberRevoked is for how long a relay that drains learns what was revoked while
	// it was not attached: it gets no snapshot.
	rememberRevoked = time.Minute
	maxRevoked      = 4096
)

// errMissed ends sessions of relays that may not have been told of changes.
var errMissed = fmt.Errorf("%w: changes may have been missed", ErrSessionEnded)

// peers is what this manager and the others on the store have to do with each other.
type peers struct {
	mu       sync.Mutex                // guards the rest
	answers  map[EntryID][]chan Change // who waits for ChangeEntryAnswered, or ChangePingAnswered by the ID of the ping
	direct   map[EntryID]bool          // what this manager tells its relays by itself, until its own change comes by
	revoked  []revocation              // in the order of time
	watched  sync.WaitGroup            // goroutines that Run joins
	synced   chan struct{}             // closed at the first ChangeResync
	syncOnce sync.Once
}

type revocation struct {
	at    time.Time
	id    EntryID
	relay RelayID
}

func newPeers() *peers {
	return &peers{answers: map[EntryID][]chan Change{}, direct: map[EntryID]bool{}, synced: make(chan struct{})}
}

// expect returns a channel with the answers about an entry, and what to call when they
// are no longer expected.
func (p *peers) expect(id EntryID) (<-chan Change, func()) {
	ch := make(chan Change, 8)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[id] = append(p.answers[id], ch)
	return ch, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		left := p.answers[id][:0]
		for _, other := range p.answers[id] {
			if other != ch {
				left = append(left, other)
			}
		}
		if p.answers[id] = left; len(left) == 0 {
			delete(p.answers, id)
		}
	}
}

func (p *peers) answered(c Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ch := range p.answers[EntryID(c.ID)] {
		select {
		case ch <- c:
		default: // nobody waits for that many
		}
	}
}

// begin notes that this manager tells its relays of an entry by itself.
func (p *peers) begin(id EntryID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.direct[id] = true
}

// isDirect reports whether begin was called, and forgets it.
func (p *peers) isDirect(id EntryID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	is := p.direct[id]
	delete(p.direct, id)
	return is
}

// forget drops what begin noted: the changes may not come by. Those that do are then
// followed twice, which changes nothing.
func (p *peers) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.direct)
}

func (p *peers) remember(r revocation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := 0
	for old < len(p.revoked) && (r.at.Sub(p.revoked[old].at) > rememberRevoked || len(p.revoked)-old >= maxRevoked) {
		old++
	}
	p.revoked = append(p.revoked[old:], r)
}

func (p *peers) revokedOf(relay RelayID) (ids []EntryID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.revoked {
		if r.relay == relay {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// repeatRevocations tells a relay that drains what was revoked lately.
func (s *Service) repeatRevocations(rs *RelaySession) {
	for _, id := range s.peers.revokedOf(rs.relay.ID) {
		rs.hint(Command{Kind: CommandClose, EntryID: id, Reason: ReasonRevoked})
	}
}

// follow takes up a change in the store. Commands are queued in the order of the changes; their
// answers are waited for elsewhere.
func (s *Service) follow(ctx context.Context, c Change) {
	switch c.Kind {
	case ChangeResync:
		s.resync(ctx)
	case ChangeLost:
		s.table.lost()
		s.bars.lose()
		s.log.Warn("changes in the store do not arrive; entries are read from it for every connection")
	case ChangeEntryCreated:
		s.table.use(c.Address)
		s.entryCreated(ctx, c)
	case ChangeEntryDeleted:
		s.table.remove(c.Address, EntryID(c.ID))
		s.entryDeleted(ctx, c)
	case ChangeEntryAnswered, ChangePingAnswered:
		s.peers.answered(c)
	case ChangeRelay:
		if c.Origin != s.instance {
			s.learnFleet(ctx)
		}
	case ChangePing:
		s.pingHere(ctx, c)
	case ChangeRelayDrain:
		s.drainHere(c)
	case ChangeSIM:
		s.barFrom(ctx, ident.IMSI(c.ID))
	case ChangeCredential:
		s.credentialChanged(CredentialID(c.ID))
	}
	for _, f := range s.listeners {
		f(ctx, c)
	}
}

// resync reads what changes would have told. Relays that may have missed commands
// attach again and get a snapshot.
func (s *Service) resync(ctx context.Context) {
	if n := s.fleet.endOuters(errMissed); n > 0 {
		s.log.Warn("changes in the store were missed; outer relays attach again", "relays", n)
	}
	if err := s.table.load(ctx, now()); err != nil && ctx.Err() == nil {
		s.log.Error("entries not read; each is read when it is asked for", "error", err)
	}
	s.credentialChanged("")
	s.barAll(ctx)
	s.peers.forget()
	if s.heartbeat > 0 {
		s.learnFleet(ctx)
	}
	s.peers.syncOnce.Do(func() { close(s.peers.synced) })
}

func (s *Service) learnFleet(ctx context.Context) {
	read := s.fleet.beginRead()
	all, err := s.store.Attachments(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("attachments of other managers not read", "error", err)
		}
		return
	}
	s.fleet.learn(s.instance, read, s.fresh(all))
}

// fresh leaves out the attachments of managers that seem dead.
func (s *Service) fresh(all []RelayAttachment) []RelayAttachment {
	from, out := s.lapsed(), all[:0]
	for _, a := range all {
		if !a.Seen.Before(from) {
			out = append(out, a)
		}
	}
	return out
}

func (s *Service) lapsed() time.Time { return now().Add(-lapse * s.heartbeat) }

// entryCreated opens, on a relay that is attached here, an entry that another manager
// made.
func (s *Service) entryCreated(ctx context.Context, c Change) {
	if s.peers.isDirect(EntryID(c.ID)) {
		return
	}
	rs, ok := s.fleet.session(relayKey{OuterRelay, c.Relay})
	if !ok {
		return
	}
	e, err := s.table.find(ctx, c.Address)
	if err != nil || e.ID != EntryID(c.ID) { // deleted meanwhile, or the store fails: whoever waits learns in time
		return
	}
	wait := rs.begin(Command{Kind: CommandOpen, Openings: []Opening{e.opening()}})
	s.answer(ctx, c, func(ctx context.Context) error { return s.opened(ctx, e.ID, wait) })
}

// entryDeleted closes an entry that has ended on the relays that are attached here.
func (s *Service) entryDeleted(ctx context.Context, c Change) {
	id, sessions := EntryID(c.ID), s.fleet.own(relayKey{OuterRelay, c.Relay})
	if c.Data == ReasonExpired.String() {
		for _, rs := range sessions {
			rs.hint(Command{Kind: CommandClose, EntryID: id, Reason: ReasonExpired})
		}
		return
	}
	s.peers.remember(revocation{time.Now(), id, c.Relay})
	if s.peers.isDirect(id) {
		// Again, because an opening that another manager asked for may have crossed it.
		for _, rs := range sessions {
			rs.hint(Command{Kind: CommandClose, EntryID: id, Reason: ReasonRevoked})
		}
		return
	}
	if len(sessions) > 0 {
		wait := s.beginClose(sessions, id)
		s.answer(ctx, c, func(ctx context.Context) error { wait(ctx); return nil })
	}
}

// beginClose has relays close an entry and returns a function that waits for them.
func (s *Service) beginClose(sessions []*RelaySession, id EntryID) (wait func(context.Context)) {
	waits := make([]func(context.Context) (Acknowledgement, error), len(sessions))
	for i, rs := range sessions {
		waits[i] = rs.begin(Command{Kind: CommandClose, EntryID: id, Reason: ReasonRevoked})
	}
	return func(ctx context.Context) {
		for i, rs := range sessions {
			if _, err := waits[i](ctx); errors.Is(err, context.DeadlineExceeded) {
				// A relay that does not cut when told to must not keep its session: the
				// snapshot of the next one tells it again.
				rs.end(ErrRelayStalled)
			}
		}
	}
}

// answer waits for a relay in a goroutine of its own and then tells the other managers.
func (s *Service) answer(ctx context.Context, c Change, wait func(context.Context) error) {
	s.peers.watched.Go(func() {
		waiting, cancel := context.WithTimeout(ctx, s.cfg.RelayTimeout)
		defer cancel()
		a := Change{Kind: ChangeEntryAnswered, ID: c.ID, Origin: s.instance}
		switch err := wait(waiting); {
		case errors.Is(err, ErrPortInUse):
			a.Data = ErrPortInUse.Error()
		case err != nil:
			a.Data = fmt.Sprintf("%.256s", err)
		}
		if err := s.store.Notify(ctx, a); err != nil && ctx.Err() == nil {
			s.log.Error("answer of a relay not passed on", "entry", c.ID, "error", err)
		}
	})
}

// answerError is what an answer says.
func answerError(c Change) error {
	switch c.Data {
	case "":
		return nil
	case ErrPortInUse.Error():
		return ErrPortInUse
	}
	return errors.New(c.Data)
}

// attachLoop keeps the attachments here in the store, so that other managers know of
// them, and learns of theirs.
func (s *Service) attachLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			// The others learn at once that the relays are gone.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.RelayTimeout)
			defer cancel()
			if _, err := s.store.SyncAttachments(last, s.instance, nil, time.Time{}); err != nil {
				s.log.Warn("attachments not withdrawn; they lapse", "error", err)
			}
			return
		case <-timer.C:
		case <-s.fleet.moved:
		}
		err := s.syncFleet(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Error("attachments not stored; trying again", "error", err)
		}
		failing = err != nil
		timer.Reset(s.heartbeat)
	}
}

// syncFleet stores the attachments here and takes over those of other managers.
func (s *Service) syncFleet(ctx context.Context) error {
	read := s.fleet.beginRead()
	all, err := s.store.SyncAttachments(ctx, s.instance, s.fleet.attachments(now()), s.lapsed())
	if err == nil {
		s.fleet.numbered(s.instance, all)
		s.fleet.learn(s.instance, read, all)
	}
	return err
}
