package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/simreach/simreach/internal/ident"
)

// subscriberCache remembers who owns which SIM. What it keeps never changes once a SIM
// has an owner, so nothing needs to invalidate it; SIMs without an owner are not kept.
//
// It has two generations: when the young one is full it becomes the old one and the
// one before is forgotten. What is in use moves to the young one. An entry costs about
// 200 bytes, so that the cache stays below 60 MB.
type subscriberCache struct {
	mu         sync.Mutex // guards the maps
	young, old generation
}

const maxGeneration = 128 << 10

type generation struct {
	byIMSI map[ident.IMSI]Subscriber
	bySIM  map[string]ident.IMSI
}

func newGeneration() generation {
	return generation{map[ident.IMSI]Subscriber{}, map[string]ident.IMSI{}}
}

func newSubscriberCache() *subscriberCache {
	return &subscriberCache{young: newGeneration(), old: newGeneration()}
}

func (c *subscriberCache) byIMSI(imsi ident.IMSI) (Subscriber, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byIMSILocked(imsi)
}

func (c *subscriberCache) byIMSILocked(imsi ident.IMSI) (Subscriber, bool) {
	if s, ok := c.young.byIMSI[imsi]; ok {
		return s, true
	}
	s, ok := c.old.byIMSI[imsi]
	if ok {
		c.addLocked(s)
	}
	return s, ok
}

func (c *subscriberCache) bySIM(id string) (Subscriber, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	imsi, ok := c.young.bySIM[id]
	if !ok {
		if imsi, ok = c.old.bySIM[id]; !ok {
			return Subscriber{}, false
		}
	}
	return c.byIMSILocked(imsi)
}

func (c *subscriberCache) add(s Subscriber) {
	if s.OperatorID == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(s)
}

func (c *subscriberCache) addLocked(s Subscriber) {
	if len(c.young.byIMSI) >= maxGeneration {
		c.old, c.young = c.young, newGeneration()
	}
	c.young.byIMSI[s.IMSI] = s
	if s.SIMID != "" {
		c.young.bySIM[s.SIMID] = s.IMSI
	}
}

// subscriberByIMSI returns whose SIM an IMSI is. Errors: CodeUnknownSubscriber,
// CodeInternal.
func (s *Service) subscriberByIMSI(ctx context.Context, imsi ident.IMSI) (Subscriber, error) {
	if sub, ok := s.sims.cache.byIMSI(imsi); ok {
		return sub, nil
	}
	sim, err := s.store.SIMByIMSI(ctx, imsi)
	return s.found(sim, err, NewError(CodeUnknownSubscriber, string(imsi)))
}

// subscriberBySIM returns the SIM with an ID. Errors: CodeUnknownSIM, CodeInternal.
func (s *Service) subscriberBySIM(ctx context.Context, id string) (Subscriber, error) {
	if sub, ok := s.sims.cache.bySIM(id); ok {
		return sub, nil
	}
	sim, err := s.store.SIMByID(ctx, id)
	return s.found(sim, err, NewError(CodeUnknownSIM, id))
}

func (s *Service) found(sim SIM, err error, unknown *Error) (Subscriber, error) {
	switch {
	case errors.Is(err, ErrNotFound):
		return Subscriber{}, unknown
	case err != nil:
		return Subscriber{}, AsError(fmt.Errorf("find SIM: %w", err))
	}
	sub := Subscriber{IMSI: sim.IMSI, SIMID: sim.SIMID, OperatorID: sim.OperatorID}
	s.sims.cache.add(sub)
	return sub, nil
}
