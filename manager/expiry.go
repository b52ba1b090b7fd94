package manager

import (
	"context"
	"math"
	"time"
)

const (
	expiryBatch = 500
	// expiryRetry is the pause after a failure of the store.
	expiryRetry = time.Second
	// expiryIdle bounds the wait when nothing is due: with several managers on
	// one store, entries made by another one wake nobody here.
	expiryIdle = time.Minute
)

// pokeExpiry makes the expiry loop look at the store again if an entry was added that
// expires before it would look by itself.
func (s *Service) pokeExpiry(expires time.Time) {
	if expires.UnixMilli() >= s.nextLook.Load() {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// expireLoop removes entries when their time has come; their relays are told as the
// change comes by. The relays cut on their own clocks as well (R16), so nothing depends
// on the message being in time.
func (s *Service) expireLoop(ctx context.Context) {
	s.nextLook.Store(math.MaxInt64)
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	var purged time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if time.Since(purged) >= expiryIdle {
			purged = time.Now()
			s.purgeQuarantine(ctx)
		}
		s.nextLook.Store(math.MaxInt64) // an entry that comes while it looks wakes it again
		wait, err := s.expire(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Error("expired entries not removed; trying again", "error", err)
		}
		failing = err != nil
		s.nextLook.Store(time.Now().Add(wait).UnixMilli())
		timer.Reset(wait)
	}
}

// purgeQuarantine forgets ports that may be given out again: those of entries that were
// deleted, too, of which none need ever expire.
func (s *Service) purgeQuarantine(ctx context.Context) {
	for {
		n, err := s.store.PurgeQuarantine(ctx, time.Now(), expiryBatch)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Error("old quarantine not forgotten; trying again later", "error", err)
			}
			return
		}
		if n < expiryBatch {
			return
		}
	}
}

// expire removes what has expired and returns how long to wait for the next.
func (s *Service) expire(ctx context.Context) (time.Duration, error) {
	for {
		next, err := s.store.NextExpiry(ctx)
		if err != nil {
			return expiryRetry, err
		}
		// Not truncated: an entry must not be found just after its millisecond
		// and left until the next look.
		t := time.Now().UTC()
		switch {
		case next.IsZero():
			return expiryIdle, nil
		case next.After(t):
			return min(next.Sub(t), expiryIdle), nil
		}
		gone, err := s.store.DeleteExpired(ctx, t, t.Add(s.cfg.Quarantine), expiryBatch)
		if err != nil {
			return expiryRetry, err
		}
		for _, e := range gone {
			s.expired.Add(1)
			s.log.Info("entry expired", "entry", e.ID, "operator", e.OperatorID, "imsi", e.IMSI, "relay", e.RelayID, "address", e.Address)
		}
	}
}
