package manager

import (
	"context"
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

// pokeExpiry makes the expiry loop look at the store again: an entry was added
// that may be the next to expire.
func (s *Service) pokeExpiry() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// expireLoop removes entries when their time has come and tells their relays. The
// relays cut on their own clocks as well (R16), so nothing depends on the message
// being in time.
func (s *Service) expireLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		wait, err := s.expire(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Error("expired entries not removed; trying again", "error", err)
		}
		failing = err != nil
		timer.Reset(wait)
	}
}

// expire removes what has expired and returns how long to wait for the next.
func (s *Service) expire(ctx context.Context) (time.Duration, error) {
	for {
		// Not truncated: an entry must not be found just after its millisecond
		// and left until the next look.
		t := time.Now().UTC()
		gone, err := s.store.DeleteExpired(ctx, t, t.Add(s.cfg.Quarantine), expiryBatch)
		if err != nil {
			return expiryRetry, err
		}
		for _, e := range gone {
			s.expired.Add(1)
			s.log.Info("entry expired", "entry", e.ID, "operator", e.OperatorID, "imsi", e.IMSI, "relay", e.RelayID, "address", e.Address)
			if relay, ok := s.fleet.session(relayKey{OuterRelay, e.RelayID}); ok {
				relay.hint(Command{Kind: CommandClose, EntryID: e.ID, Reason: ReasonExpired})
			}
		}
		if len(gone) == expiryBatch {
			continue
		}
		next, err := s.store.NextExpiry(ctx)
		if err != nil {
			return expiryRetry, err
		}
		if next.IsZero() {
			return expiryIdle, nil
		}
		return min(max(time.Until(next), 0), expiryIdle), nil
	}
}
