package manager

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// ContractAPIAudit is the option that records every call of the API and keeps it for
// LongRetention. Without it only logins are recorded, for ShortRetention.
const ContractAPIAudit = "apiAudit"

const (
	// maxQueuedCalls bounds the calls that wait to be stored; more are lost and counted.
	maxQueuedCalls = 20_000
	callBatch      = 1000
	// maxCallText bounds the texts of a call, in bytes: paths may be as long as requests.
	maxCallText    = 512
	purgeCallBatch = 2000
)

// callLog gathers calls.
type callLog struct {
	wake chan struct{} // capacity 1: there is a batch

	mu     sync.Mutex // guards the rest
	queued []APICall
	lost   uint64
}

// RecordCall notes a call for the API audit log; ID and At are set if they are not. It
// does not wait for the store: what the last second brought is lost if the process dies.
func (s *Service) RecordCall(c APICall) {
	if c.Principal.OperatorID == "" {
		return // nobody could read it
	}
	if c.At.IsZero() {
		c.At = now()
	}
	if c.ID == "" {
		c.ID = newID(c.At)
	}
	// A path that the store does not take must not hold up the calls of others.
	for _, text := range []*string{&c.API, &c.Path, &c.Source, &c.Principal.UserName} {
		*text = storable((*text)[:min(len(*text), maxCallText)])
	}
	l := &s.accounts.calls
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queued) >= maxQueuedCalls {
		l.lost++
		return
	}
	l.queued = append(l.queued, c)
	if len(l.queued) >= callBatch {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// unstorable reports whether text is what ErrBadText refuses.
func unstorable(text string) bool { return storable(text) != text }

// storable returns text without what ErrBadText refuses.
func storable(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
}

// flushCalls stores what is queued, as far as the operators' contracts want it.
func (a *accounts) flushCalls(ctx context.Context) error {
	l := &a.calls
	l.mu.Lock()
	calls, lost := l.queued, l.lost
	l.queued, l.lost = nil, 0
	l.mu.Unlock()
	if lost > 0 {
		a.log.Error("API calls lost: they come faster than they can be recorded", "calls", lost)
	}
	if len(calls) == 0 {
		return nil
	}
	keep, err := a.recorded(ctx, calls)
	if err == nil && len(keep) > 0 {
		err = a.store.AddAPICalls(ctx, keep)
	}
	if err != nil { // once more, later
		l.mu.Lock()
		l.queued = append(calls, l.queued...)
		if over := len(l.queued) - maxQueuedCalls; over > 0 {
			l.queued, l.lost = l.queued[:maxQueuedCalls], l.lost+uint64(over)
		}
		l.mu.Unlock()
	}
	return err
}

func (a *accounts) recorded(ctx context.Context, calls []APICall) ([]APICall, error) {
	all := map[OperatorID]bool{}
	var keep []APICall
	for _, c := range calls {
		op := c.Principal.OperatorID
		if _, asked := all[op]; !asked {
			names, err := a.store.Contracts(ctx, op)
			if err != nil {
				return nil, err
			}
			all[op] = slices.Contains(names, ContractAPIAudit)
		}
		if all[op] || strings.HasPrefix(c.API, "Auth:") {
			keep = append(keep, c)
		}
	}
	return keep, nil
}

// APICalls lists calls of the API, newest first, as far back as the operator's contract
// goes. The only error is CodeInternal.
func (s *Service) APICalls(ctx context.Context, q APICallQuery) ([]APICall, error) {
	if err := s.accounts.flushCalls(ctx); err != nil {
		return nil, faultIn(ctx, "API calls", err)
	}
	oldest, err := s.accounts.callsFrom(ctx, q.OperatorID)
	if err != nil {
		return nil, faultIn(ctx, "API calls", err)
	}
	if q.From.Before(oldest) {
		q.From = oldest
	}
	calls, err := s.store.APICalls(ctx, q)
	return calls, faultIn(ctx, "API calls", err)
}

// callsFrom returns since when an operator's calls are kept.
func (a *accounts) callsFrom(ctx context.Context, op OperatorID) (time.Time, error) {
	names, err := a.store.Contracts(ctx, op)
	if err != nil {
		return time.Time{}, err
	}
	if slices.Contains(names, ContractAPIAudit) {
		return now().Add(-LongRetention), nil
	}
	return now().Add(-ShortRetention), nil
}

// purgeCalls removes calls that are older than they are kept.
func (a *accounts) purgeCalls(ctx context.Context) error {
	ops, err := a.store.Operators(ctx)
	if err != nil {
		return err
	}
	for _, op := range ops {
		before, err := a.callsFrom(ctx, op)
		if err != nil {
			return err
		}
		for n := purgeCallBatch; n == purgeCallBatch; {
			if n, err = a.store.PurgeAPICalls(ctx, op, before, purgeCallBatch); err != nil {
				return err
			}
		}
	}
	return nil
}
