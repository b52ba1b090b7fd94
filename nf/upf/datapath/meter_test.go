package datapath

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
)

func TestMeterHoldsItsRate(t *testing.T) {
	for _, rate := range []uint64{64_000, 1_000_000, 1_000_000_000, 100_000_000_000} {
		const size, seconds = 1400, 2
		m := newMeter(rate, minBurst)
		// Offer four times the rate.
		gap := float64(size) * 8 * 1e9 / float64(rate) / 4
		passed, n := 0, min(int(seconds*1e9/gap), 4_000_000)
		for i := range n {
			if m.allow(size, int64(float64(i)*gap)) {
				passed += size
			}
		}
		elapsed := float64(n) * gap / 1e9
		burst := float64(m.burst) / ticksPerSecond * float64(rate) / 8
		want := min(elapsed*float64(rate)/8+burst, float64(n*size))
		if math.Abs(float64(passed)-want) > want/50+size {
			t.Errorf("%d bit/s: %d octets passed in %.3f s, want about %.0f", rate, passed, elapsed, want)
		}
	}
}

func TestMeterIsSharedSafely(t *testing.T) {
	m := newMeter(8_000_000, minBurst)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if m.allow(1000, 0) {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 100 { // 100 ms of 8 Mbit/s
		t.Errorf("%d packets passed at time 0, want the bucket's 100", n)
	}
}
