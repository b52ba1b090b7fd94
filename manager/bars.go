package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// barRetry is the pause before the store is asked again which SIMs are barred.
const barRetry = time.Second

// bars are the SIMs that are barred, as the store has them. The core ends their sessions once
// it has taken the change; until then, and while it is away, nobody shall reach them either.
type bars struct {
	again chan struct{} // capacity 1: which SIMs are barred must be read once more

	mu    sync.RWMutex // guards the rest
	said  map[ident.IMSI]bar
	stale uint64 // grows when what is kept may be wrong
	read  uint64 // the value of stale that all were read at; another one: the store must be asked
	lost  bool   // changes do not arrive: the store must be asked, too
}

// bar is what was said last of a SIM.
type bar struct {
	version int64 // SIM.Version
	barred  bool
}

func newBars() bars {
	return bars{again: make(chan struct{}, 1), said: map[ident.IMSI]bar{}, stale: 1}
}

// note keeps what a SIM's status of a version says, and reports whether that bars it anew.
// What is older than what is kept counts nothing.
func (b *bars) note(sim SIM) (anew bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was, known := b.said[sim.IMSI]
	if known && sim.Version < was.version {
		return false
	}
	is := bar{sim.Version, sim.Status.Barred()}
	b.said[sim.IMSI] = is
	return is.barred && !was.barred
}

// has reports whether a SIM is barred as far as is known.
func (b *bars) has(imsi ident.IMSI) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.said[imsi].barred
}

// believed is has; known is false if the store must be asked.
func (b *bars) believed(imsi ident.IMSI) (barred, known bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.said[imsi].barred, !b.lost && b.read == b.stale
}

// lose says that changes do not arrive, until a resync.
func (b *bars) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = true
}

// doubt says that what is kept may be wrong; resynced, that changes arrive again.
func (b *bars) doubt(resynced bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale++
	b.lost = b.lost && !resynced
}

// begin returns those that are barred as far as is known, and what to give settle once
// all have been read.
func (b *bars) begin() (barred []ident.IMSI, at uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for imsi, one := range b.said {
		if one.barred {
			barred = append(barred, imsi)
		}
	}
	return barred, b.stale
}

func (b *bars) settle(at uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read = max(b.read, at)
}

// barred reports whether a SIM is barred; from memory alone, if so told, or with
// errUnknownHere.
func (s *Service) barred(ctx context.Context, imsi ident.IMSI, memory bool) (bool, error) {
	barred, known := s.bars.believed(imsi)
	if known {
		return barred, nil
	}
	if memory {
		return false, errUnknownHere
	}
	sim, err := s.store.SIMByIMSI(ctx, imsi)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, AsError(fmt.Errorf("find SIM: %w", err))
	}
	return sim.Status.Barred(), nil
}

// bar notes whether a SIM is barred, and cuts the connections to one that is.
func (s *Service) bar(sim SIM) {
	anew := s.bars.note(sim)
	if d, ok := s.dir.(Barring); ok {
		d.Bar(sim.IMSI, sim.Version, sim.Status.Barred()) // who leaves is cut for that
		return
	}
	d, ok := s.dir.(Departures)
	if !anew || !ok {
		return
	}
	places, known := d.Places(sim.IMSI)
	for _, at := range places {
		s.deviceLeft(sim.IMSI, at)
	}
	if known {
		return
	}
	// Where it may be is not known here. The relays know where their connections lead.
	for _, rs := range s.fleet.outerSessions() {
		poke(rs.review)
	}
}

// barFrom is bar of a SIM that the store has changed, here or at another manager.
func (s *Service) barFrom(ctx context.Context, imsi ident.IMSI) {
	sim, err := s.store.SIMByIMSI(ctx, imsi)
	if err != nil {
		s.barLater(ctx, err)
		return
	}
	s.bar(sim)
}

// barAll is bar of all SIMs that may have been barred, or no longer are, unnoticed.
func (s *Service) barAll(ctx context.Context) {
	s.bars.doubt(true)
	if err := s.tryBarAll(ctx); err != nil {
		s.barLater(ctx, err)
	}
}

// barLater has barLoop read what could not be read.
func (s *Service) barLater(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.Error("not known which SIMs are barred; trying again", "error", err)
	s.bars.doubt(false)
	poke(s.bars.again)
}

// barLoop reads which SIMs are barred after it could not be read, until it can.
func (s *Service) barLoop(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-s.bars.again:
			pause.Reset(barRetry)
		case <-pause.C:
			if err := s.tryBarAll(ctx); err != nil {
				pause.Reset(barRetry)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) tryBarAll(ctx context.Context) error {
	barred, at := s.bars.begin()
	for _, imsi := range barred {
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
			if sim.Status.Barred() { // others would have been in the first list
				s.bar(sim)
			}
		}
		if len(sims) < coreBatch {
			s.bars.settle(at)
			return nil
		}
		after = sims[len(sims)-1].IMSI
	}
}
