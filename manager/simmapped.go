package manager

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// mappedTimes are the times at which entries were made that are not stored yet: making
// an entry does not wait for them, and thousands go into one transaction.
type mappedTimes struct {
	mu      sync.Mutex // guards the maps
	waiting map[ident.IMSI]time.Time
	storing map[ident.IMSI]time.Time // never changes; nil: none
	wake    chan struct{}            // capacity 1
}

func newMappedTimes() *mappedTimes {
	return &mappedTimes{waiting: map[ident.IMSI]time.Time{}, wake: make(chan struct{}, 1)}
}

// unstoredTimes are those that waited to be stored at a moment.
type unstoredTimes struct{ waiting, storing map[ident.IMSI]time.Time }

// unstored is called before SIMs are read: what is stored in between is in both.
func (m *mappedTimes) unstored() unstoredTimes {
	m.mu.Lock()
	defer m.mu.Unlock()
	return unstoredTimes{maps.Clone(m.waiting), m.storing}
}

// at returns the time for a device; the zero time: none.
func (u unstoredTimes) at(imsi ident.IMSI) time.Time {
	if t, ok := u.waiting[imsi]; ok {
		return t
	}
	return u.storing[imsi]
}

// notePortMapping says that an entry was made for a device. It does not block.
func (s *Service) notePortMapping(imsi ident.IMSI, at time.Time) {
	m := s.sims.mapped
	m.mu.Lock()
	m.waiting[imsi] = at
	m.mu.Unlock()
	poke(m.wake)
}

// notePortMappings is notePortMapping for the devices of an entry.
func (s *Service) notePortMappings(e Entry) {
	if e.IMSI != "" {
		s.notePortMapping(e.IMSI, e.Created)
	}
	for _, t := range e.Targets {
		s.notePortMapping(t.IMSI, e.Created)
	}
}

// mappedLoop stores what waits, and at the end what is left.
func (s *Service) mappedLoop(ctx context.Context) {
	for done := false; !done; {
		select {
		case <-s.sims.mapped.wake:
		case <-ctx.Done():
			done = true
		}
		s.storeMapped(ctx)
	}
}

func (s *Service) storeMapped(ctx context.Context) {
	m := s.sims.mapped
	m.mu.Lock()
	m.storing, m.waiting = m.waiting, map[ident.IMSI]time.Time{}
	batch := m.storing
	m.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	// They are lost if the store fails, which fails the making of entries, too.
	if err := s.store.NotePortMappings(ctx, batch); err != nil {
		s.log.Error("times of port mappings not stored", "error", err)
	}
	m.mu.Lock()
	m.storing = nil
	m.mu.Unlock()
}
