package node

import (
	"context"
	"log/slog"
	"sync"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/inner"
)

// maxPings is how many devices an inner relay pings at one time. A ping takes up to 15 s
// and a goroutine; who asks for more is told at once that it failed.
const maxPings = 64

// innerControl is what orders needs of the connection to the managers.
type innerControl interface {
	Next(ctx context.Context) (manager.Command, error)
	Acknowledge(a manager.Acknowledgement)
}

// innerOrders carries out what the manager wants of an inner relay: somebody has to take
// every command, or the connection to the manager would stand still.
type innerOrders struct {
	log     *slog.Logger
	control innerControl
	ping    func(ctx context.Context, q inner.PingRequest) (inner.PingResult, error)
	drain   func()
	ready   chan struct{}
}

func newInnerOrders(log *slog.Logger, control innerControl, r *inner.Relay) *innerOrders {
	ready := make(chan struct{})
	close(ready)
	return &innerOrders{log: log, control: control, ping: r.Ping, drain: r.Drain, ready: ready}
}

// Ready implements component: there is nothing to wait for.
func (o *innerOrders) Ready() <-chan struct{} { return o.ready }

// Run implements component. It returns nil when ctx has ended and every ping with it.
func (o *innerOrders) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxPings)
	for {
		c, err := o.control.Next(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		answer := manager.Acknowledgement{Session: c.Session, ID: c.ID}
		if c.Kind == manager.CommandDrain {
			o.drain()
		}
		if c.Kind != manager.CommandPing {
			o.control.Acknowledge(answer)
			continue
		}
		select {
		case slots <- struct{}{}:
		default: // an answer without a result is a failure
			o.log.Warn("ping refused: too many at one time", "device", c.Ping.Device)
			o.control.Acknowledge(answer)
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			res, err := o.ping(ctx, inner.PingRequest{Device: c.Ping.Device, Count: c.Ping.Count, Timeout: c.Ping.Timeout})
			if err != nil {
				o.log.Warn("ping failed", "device", c.Ping.Device, "error", err)
			} else {
				answer.Ping = &manager.PingResult{Sent: res.Sent, Received: res.Received, RTT: res.RTT}
			}
			o.control.Acknowledge(answer)
		})
	}
}
