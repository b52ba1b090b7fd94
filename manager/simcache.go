package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unique"

	"github.com/simreach/simreach/internal/ident"
)

// subscriberCache remembers who owns which SIM. What it keeps never changes once a SIM
// has an owner, so nothing needs to invalidate it; SIMs without an owner are not kept.
//
// It has two generations: when the young one is full it becomes the old one and the
// one before is forgotten. What is in use moves to the young one. A SIM costs about 50
// bytes, and 120 if it is asked for by its ID, so that the cache stays below 32 MB.
type subscriberCache struct {
	mu         sync.Mutex // guards the maps
	young, old generation
}

const maxGeneration = 128 << 10

type generation struct {
	byIMSI map[ident.IMSI]unique.Handle[OperatorID]
	bySIM  map[string]ident.IMSI // those that were asked for so
}

func newGeneration() generation {
	return generation{map[ident.IMSI]unique.Handle[OperatorID]{}, map[string]ident.IMSI{}}
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
	op, ok := c.young.byIMSI[imsi]
	if !ok {
		if op, ok = c.old.byIMSI[imsi]; !ok {
			return Subscriber{}, false
		}
		// A copy, as below: the caller's may be a piece of a whole request.
		c.addLocked(ident.IMSI(strings.Clone(string(imsi))), op)
	}
	return Subscriber{imsi, op.Value()}, true
}

func (c *subscriberCache) bySIM(id string) (Subscriber, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	imsi, ok := c.young.bySIM[id]
	if !ok {
		if imsi, ok = c.old.bySIM[id]; !ok {
			return Subscriber{}, false
		}
		c.young.bySIM[strings.Clone(id)] = imsi
	}
	return c.byIMSILocked(imsi)
}

// add keeps whose a SIM is, and its ID unless that is empty.
func (c *subscriberCache) add(s Subscriber, id string) {
	if s.OperatorID == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(s.IMSI, unique.Make(s.OperatorID))
	if id != "" {
		c.young.bySIM[id] = s.IMSI
	}
}

func (c *subscriberCache) addLocked(imsi ident.IMSI, op unique.Handle[OperatorID]) {
	if len(c.young.byIMSI) >= maxGeneration {
		c.old, c.young = c.young, newGeneration()
	}
	c.young.byIMSI[imsi] = op
}

// subscriberByIMSI returns whose SIM an IMSI is. Errors: CodeUnknownSubscriber,
// CodeInternal.
func (s *Service) subscriberByIMSI(ctx context.Context, imsi ident.IMSI) (Subscriber, error) {
	if sub, ok := s.sims.cache.byIMSI(imsi); ok {
		return sub, nil
	}
	sim, err := s.store.SIMByIMSI(ctx, imsi)
	return s.found(sim, "", err, NewError(CodeUnknownSubscriber, string(imsi)))
}

// subscriberBySIM returns the SIM with an ID. Errors: CodeUnknownSIM, CodeInternal.
func (s *Service) subscriberBySIM(ctx context.Context, id string) (Subscriber, error) {
	if sub, ok := s.sims.cache.bySIM(id); ok {
		return sub, nil
	}
	sim, err := s.store.SIMByID(ctx, id)
	return s.found(sim, sim.SIMID, err, NewError(CodeUnknownSIM, id))
}

// found is what the store said of a SIM, which is kept, with its ID unless that is empty.
func (s *Service) found(sim SIM, id string, err error, unknown *Error) (Subscriber, error) {
	switch {
	case errors.Is(err, ErrNotFound):
		return Subscriber{}, unknown
	case err != nil:
		return Subscriber{}, AsError(fmt.Errorf("find SIM: %w", err))
	}
	sub := Subscriber{IMSI: sim.IMSI, OperatorID: sim.OperatorID}
	s.sims.cache.add(sub, id)
	return sub, nil
}
