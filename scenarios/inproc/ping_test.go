package inproc

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/relay/inner"
)

// scripted answers each echo request with the next time; a negative one: not at all.
type scripted struct{ rtts []time.Duration }

func (s *scripted) Ping(ctx context.Context, _ netip.Addr, size int) (time.Duration, error) {
	rtt := s.rtts[0]
	s.rtts = s.rtts[1:]
	if rtt < 0 || size != pingSize {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return rtt, nil
}

func TestPingCountsWhatComesBack(t *testing.T) {
	q := inner.PingRequest{Device: netip.MustParseAddr("10.0.0.1"), Count: 3, Timeout: 2 * time.Second}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		got, err := ping(t.Context(), &scripted{[]time.Duration{time.Millisecond, -1, 3 * time.Millisecond}}, q)
		if want := (inner.PingResult{Sent: 3, Received: 2, RTT: 2 * time.Millisecond}); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		if d := time.Since(begin); d != 2*time.Second {
			t.Errorf("took %v; want the time-out of the one that was lost", d)
		}
		got, err = ping(t.Context(), &scripted{[]time.Duration{-1, -1, -1}}, q)
		if want := (inner.PingResult{Sent: 3}); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v and no error", got, err, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := ping(ctx, &scripted{[]time.Duration{-1, -1, -1}}, q); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v; want the context's error", err)
		}
	})
}
