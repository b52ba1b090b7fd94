package datapath

import "sync/atomic"

// meter holds packets to a bit rate. It is a token bucket written down as one
// number, the time at which the bucket would be full again (generic cell rate
// algorithm, ITU-T I.371), so that any number of goroutines share it without lock.
type meter struct {
	rate  uint64 // bit/s, not 0
	burst int64  // ticks of credit
	full  atomic.Int64
}

// ticksPerNano makes the cost of a small packet at a high rate exact enough: 64
// bytes at 100 Gbit/s are 328 ticks. Time runs out after 4.5 years.
const ticksPerNano = 64

const ticksPerSecond = ticksPerNano * 1_000_000_000

// A bucket holds 100 ms of its rate, but never less than a TCP sender needs to get
// going on a slow link.
const (
	burstTicks = ticksPerSecond / 10
	minBurst   = 32 << 10 // bytes
)

// newMeter returns a meter with a full bucket of at least minBytes.
func newMeter(rate, minBytes uint64) *meter {
	return &meter{rate: rate, burst: max(burstTicks, cost(int(minBytes), rate))}
}

func cost(bytes int, rate uint64) int64 {
	return int64(uint64(bytes) * 8 * ticksPerSecond / rate)
}

// allow takes a packet of n bytes at time now (nanoseconds) out of the bucket, or
// reports that it does not fit. n is at most 65535.
func (m *meter) allow(n int, now int64) bool {
	c := cost(n, m.rate)
	t := now * ticksPerNano
	for {
		full := m.full.Load()
		next := max(full, t) + c
		if next-t > m.burst {
			return false
		}
		if m.full.CompareAndSwap(full, next) {
			return true
		}
	}
}
