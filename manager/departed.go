package manager

import (
	"context"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// barRetry is the pause before the store is asked again which SIMs are barred.
const barRetry = time.Second

// watchDepartures has connections cut whose device has left, until stop is called.
func (s *Service) watchDepartures() (stop func()) {
	d, ok := s.dir.(Departures)
	if !ok {
		return func() {}
	}
	d.Departed(s.deviceLeft)
	return func() { d.Departed(nil) }
}

// deviceLeft has the outer relays that are attached here cut their connections to a device
// that is no longer where it was: because its SIM was suspended or terminated, is locked to
// another device, or for any other reason that the core has to end a session. Nothing else
// would end them: what is sent to the device vanishes. Other managers tell their relays, for
// each has a directory. A relay that is not attached asks when it is (RelaySession.Departed).
func (s *Service) deviceLeft(imsi ident.IMSI, was Attachment) {
	for _, rs := range s.fleet.outerSessions() {
		rs.cut(Command{Kind: CommandCut, IMSI: imsi, Device: was.Address})
	}
}

// cut queues a CommandCut. If that would fill the queue, so that the relay lost its
// session, a CommandReview stands for it and all others that find no room.
func (rs *RelaySession) cut(c Command) {
	if !rs.hint(c) {
		poke(rs.review)
	}
}

// nextReview is the CommandReview that Next returns.
func (rs *RelaySession) nextReview() Command {
	f := &rs.svc.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	rs.lastID++
	return Command{Session: rs.id, ID: rs.lastID, Kind: CommandReview}
}

// Departed returns those of the places that their devices have left. Errors:
// CodeRelayNotAttached, CodeNotReady while the directory has yet to learn where devices are.
func (rs *RelaySession) Departed(_ context.Context, places []Place) ([]Place, error) {
	if rs.ended() || rs.relay.Kind != OuterRelay {
		return nil, NewError(CodeRelayNotAttached)
	}
	s := rs.svc
	d, ok := s.dir.(Departures)
	if !ok {
		return nil, nil // nobody leaves
	}
	var left []Place
	for _, p := range places {
		at, known := d.Places(p.IMSI)
		if !known {
			return nil, NewError(CodeNotReady)
		}
		if !slices.ContainsFunc(at, func(a Attachment) bool {
			return a.Address == p.Address && s.registry.innerOf[a.UPF] == p.Inner
		}) {
			left = append(left, p)
		}
	}
	return left, nil
}

// bar tells a directory that no core tells (Barring) whether a SIM is barred.
func (s *Service) bar(sim SIM) {
	if d, ok := s.dir.(Barring); ok {
		d.Bar(sim.IMSI, sim.Version, sim.Status.Barred())
	}
}

// barFrom is bar of a SIM that the store has changed, here or at another manager.
func (s *Service) barFrom(ctx context.Context, imsi ident.IMSI) {
	if _, ok := s.dir.(Barring); !ok {
		return
	}
	sim, err := s.store.SIMByIMSI(ctx, imsi)
	if err != nil {
		s.barLater(ctx, err)
		return
	}
	s.bar(sim)
}

// barAll is bar of all SIMs that may have been barred, or no longer are, unnoticed.
func (s *Service) barAll(ctx context.Context) {
	if d, ok := s.dir.(Barring); ok {
		if err := s.tryBarAll(ctx, d); err != nil {
			s.barLater(ctx, err)
		}
	}
}

// barLater is barAll in a goroutine, until it succeeds or ctx ends.
func (s *Service) barLater(ctx context.Context, err error) {
	d, ok := s.dir.(Barring)
	if !ok || ctx.Err() != nil {
		return
	}
	s.log.Error("not known which SIMs are barred; trying again", "error", err)
	s.peers.watched.Go(func() {
		tick := time.NewTicker(barRetry)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if s.tryBarAll(ctx, d) == nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

func (s *Service) tryBarAll(ctx context.Context, d Barring) error {
	for _, imsi := range d.Barred() {
		sim, err := s.store.SIMByIMSI(ctx, imsi)
		if err != nil {
			return err
		}
		s.bar(sim)
	}
	for after := ident.IMSI(""); ; {
		sims, err := s.store.SupervisedSIMs(ctx, after, coreBatch)
		if err != nil {
			return err
		}
		for _, sim := range sims {
			s.bar(sim)
		}
		if len(sims) < coreBatch {
			return nil
		}
		after = sims[len(sims)-1].IMSI
	}
}
