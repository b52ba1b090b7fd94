package outer

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// newLimiter returns a token bucket, or nil for no bound.
func newLimiter(perSecond float64, burst int) *rate.Limiter {
	if perSecond < 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), burst)
}

// maxSources bounds the sources that are remembered, in each of two generations.
const maxSources = 1 << 15

// sources bounds how often each source address connects. It remembers those of late:
// a source that comes back in the present generation or the one before finds its
// bucket as it left it; others start with a full one. A generation lasts as long as an
// empty bucket takes to fill, or until there are maxSources, so that an attacker with
// very many addresses gains a burst for each and no memory of ours.
type sources struct {
	rate     float64
	burst    int
	lifetime time.Duration

	mu       sync.Mutex // guards the rest
	now, old map[netip.Addr]*rate.Limiter
	since    time.Time
}

func newSources(perSecond float64, burst int) *sources {
	return &sources{
		rate: perSecond, burst: burst, now: map[netip.Addr]*rate.Limiter{},
		lifetime: max(time.Duration(float64(burst)/max(perSecond, 0.001)*float64(time.Second)), time.Second),
	}
}

// allow takes a token of the source that addr belongs to.
func (s *sources) allow(addr netip.Addr, now time.Time) bool {
	if s.rate < 0 {
		return true
	}
	key := addr.WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil { // what one subscriber gets, RFC 6177
			key = p.Addr()
		}
	}
	return s.bucket(key, now).AllowN(now, 1)
}

func (s *sources) bucket(key netip.Addr, now time.Time) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.now[key]; ok {
		return b
	}
	if now.Sub(s.since) > s.lifetime || len(s.now) >= maxSources {
		if now.Sub(s.since) > 2*s.lifetime {
			s.now = nil // all of them are full again
		}
		s.old, s.now, s.since = s.now, map[netip.Addr]*rate.Limiter{}, now
	}
	b, ok := s.old[key]
	if !ok {
		b = rate.NewLimiter(rate.Limit(s.rate), s.burst)
	}
	s.now[key] = b
	return b
}
