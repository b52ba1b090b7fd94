package inproc

import (
	"context"
	"net/netip"
	"time"

	"github.com/simreach/simreach/relay/inner"
)

// pingSize is the data of an echo request, octets: what ping(8) sends.
const pingSize = 56

// pinger is a userspace stack.
type pinger interface {
	Ping(ctx context.Context, dst netip.Addr, size int) (time.Duration, error)
}

// ping is inner.Deps.Ping on a userspace stack: like inner.KernelPing, a device that does
// not answer is no error.
func ping(ctx context.Context, st pinger, q inner.PingRequest) (inner.PingResult, error) {
	var res inner.PingResult
	var total time.Duration
	for range q.Count {
		once, cancel := context.WithTimeout(ctx, q.Timeout)
		rtt, err := st.Ping(once, q.Device, pingSize)
		cancel()
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		res.Sent++
		if err == nil {
			res.Received++
			total += rtt
		}
	}
	if res.Received > 0 {
		res.RTT = total / time.Duration(res.Received)
	}
	return res, nil
}
