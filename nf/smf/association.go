package smf

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/wire/pfcp"
)

// assocState is where an association stands.
type assocState uint8

const (
	// assocIdle: no association; setup is tried without end (TS 29.244 clause 6.2.6).
	assocIdle assocState = iota
	// assocUp: associated, heartbeats answered.
	assocUp
	// assocLost: associated, but heartbeats went unanswered. Heartbeats go on: an
	// answer with the old recovery time means that only the path was away and
	// that the UPF kept its sessions, a new one that it restarted.
	assocLost
)

// String returns the name used in Status.
func (s assocState) String() string {
	return [...]string{"idle", "associated", "lost"}[s]
}

// assocEvent is what others tell an association. Exactly one field is set.
type assocEvent struct {
	setup     *pfcp.AssociationSetupRequest // by the UPF
	release   bool                          // by the UPF
	heartbeat *time.Time                    // recovery time in the UPF's own heartbeat
	refused   uint64                        // a session met "no association" in this epoch
	from      transaction                   // of setup and release
}

// association is the loop that owns one UPF's association.
type association struct {
	u     *upf
	table *upfTable
	n4    *n4
	t     Timers
	log   *slog.Logger
	tried func() // called once, when the first attempt is over

	token   int // of the request whose answer is awaited
	answers chan assocAnswer
}

type assocAnswer struct {
	token int
	m     pfcp.Message
	err   error
}

// run keeps the association until ctx ends.
func (a *association) run(ctx context.Context) {
	a.answers = make(chan assocAnswer)
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			a.token++
			token, m := a.token, a.next()
			tasks.Go(func() {
				r, err := a.n4.request(ctx, a.u.cfg.N4, 0, m)
				select {
				case a.answers <- assocAnswer{token, r, err}:
				case <-ctx.Done():
				}
			})
		case r := <-a.answers:
			// A setup that the UPF accepted counts even if something overtook it
			// here: it made the UPF drop its sessions.
			if _, setup := r.m.(*pfcp.AssociationSetupResponse); setup || r.token == a.token {
				a.token++
				timer.Reset(a.answer(r))
			}
		case <-a.u.inbox.ready:
			for _, ev := range a.u.inbox.take() {
				if at, ok := a.event(ev); ok {
					a.token++ // whatever was under way no longer matters
					timer.Reset(at)
				}
			}
		}
	}
}

// next is the request to send when the timer fires.
func (a *association) next() pfcp.Message {
	if a.state() == assocIdle {
		return &pfcp.AssociationSetupRequest{Node: a.n4.node, Recovery: a.n4.recovery}
	}
	return &pfcp.HeartbeatRequest{Recovery: a.n4.recovery}
}

// answer handles what came of a request and returns when the next one is due.
func (a *association) answer(r assocAnswer) time.Duration {
	switch m := r.m.(type) {
	case *pfcp.AssociationSetupResponse:
		defer a.tried()
		if m.Cause != pfcp.CauseAccepted {
			a.log.Warn("pfcp association refused", "upf", a.u.cfg.Name, "cause", m.Cause.String())
			return a.t.Retry
		}
		a.established(m.Node, m.Recovery)
		return a.t.Heartbeat
	case *pfcp.HeartbeatResponse:
		return a.heartbeatAnswered(m.Recovery)
	}
	if a.state() == assocIdle {
		a.tried()
		return a.t.Retry
	}
	return a.heartbeatMissed()
}

// event handles what others say; ok false leaves the timer alone.
func (a *association) event(ev assocEvent) (at time.Duration, ok bool) {
	switch {
	case ev.setup != nil:
		a.n4.respond(ev.from, 0, &pfcp.AssociationSetupResponse{Node: a.n4.node, Cause: pfcp.CauseAccepted, Recovery: a.n4.recovery})
		a.established(ev.setup.Node, ev.setup.Recovery)
		a.tried()
		return a.t.Heartbeat, true
	case ev.release:
		a.n4.respond(ev.from, 0, &pfcp.AssociationReleaseResponse{Node: a.n4.node, Cause: pfcp.CauseAccepted})
		a.down(assocIdle, "released by the UPF")
		return a.t.Retry, true
	case ev.heartbeat != nil:
		// An older time stamp is a request that was late (TS 23.007 clause 19A). Our own
		// heartbeats take any other one for a restart: they know their answers.
		if a.state() != assocIdle && ev.heartbeat.After(a.recovery()) {
			a.down(assocIdle, "restarted")
			return 0, true
		}
	case ev.refused != 0:
		a.table.mu.Lock()
		current := a.u.epoch == ev.refused && a.u.state != assocIdle
		a.table.mu.Unlock()
		if current {
			a.down(assocIdle, "the UPF knows no association")
			return 0, true
		}
	}
	return 0, false
}

// established starts a new epoch. An association setup makes the UPF drop the
// sessions of an earlier one (TS 29.244 clause 6.2.6.2.2), so each session is
// told to re-establish itself (TS 23.527 clause 4.3.3).
func (a *association) established(node pfcp.NodeID, recovery time.Time) {
	a.n4.forget(a.u.cfg.N4.Addr())
	a.table.mu.Lock()
	a.u.state, a.u.node, a.u.recovery = assocUp, node, recovery
	a.u.epoch++
	for s := range a.u.sessions {
		s.inbox.post(event{kind: evUPFRestarted, epoch: a.u.epoch, upf: a.u})
	}
	n := len(a.u.sessions)
	a.table.mu.Unlock()
	a.log.Info("pfcp association established", "upf", a.u.cfg.Name, "recovery", recovery, "sessions_to_restore", n)
}

// down marks the UPF so that new sessions avoid it, and tells its sessions.
func (a *association) down(to assocState, why string) {
	a.table.mu.Lock()
	was := a.u.state
	a.u.state = to
	if was == assocUp {
		a.u.losses++
		for s := range a.u.sessions {
			s.inbox.post(event{kind: evUPFLost, epoch: a.u.epoch, upf: a.u})
		}
	}
	a.table.mu.Unlock()
	if was == assocUp {
		a.log.Warn("pfcp association down", "upf", a.u.cfg.Name, "error", why)
	}
}

func (a *association) state() assocState {
	a.table.mu.Lock()
	defer a.table.mu.Unlock()
	return a.u.state
}

func (a *association) recovery() time.Time {
	a.table.mu.Lock()
	defer a.table.mu.Unlock()
	return a.u.recovery
}
