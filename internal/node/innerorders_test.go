package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/inner"
)

// ordering is a manager that commands an inner relay.
type ordering struct {
	commands chan manager.Command
	answers  chan manager.Acknowledgement
}

func (o ordering) Next(ctx context.Context) (manager.Command, error) {
	select {
	case c := <-o.commands:
		return c, nil
	case <-ctx.Done():
		return manager.Command{}, ctx.Err()
	}
}
func (o ordering) Acknowledge(a manager.Acknowledgement) { o.answers <- a }

// ordered runs orders whose relay pings with f.
func ordered(t *testing.T, f func(context.Context, inner.PingRequest) (inner.PingResult, error), test func(o ordering, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		o := ordering{make(chan manager.Command), make(chan manager.Acknowledgement, 2*maxPings)}
		ready := make(chan struct{})
		close(ready)
		orders := &innerOrders{log: slog.New(slog.DiscardHandler), control: o, ping: f, ready: ready}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := orders.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		stop := func() { cancel(); wg.Wait() }
		defer stop()
		<-orders.Ready()
		test(o, stop)
	})
}

var pinged = manager.Ping{Device: netip.MustParseAddr("10.0.0.1"), Count: 3, Timeout: 2 * time.Second}

func TestInnerRelayPings(t *testing.T) {
	failing := false
	f := func(_ context.Context, q inner.PingRequest) (inner.PingResult, error) {
		if failing {
			return inner.PingResult{}, errors.New("no sockets left")
		}
		if q.Device != pinged.Device || q.Count != 3 || q.Timeout != 2*time.Second {
			t.Errorf("asked for %+v, want %+v", q, pinged)
		}
		return inner.PingResult{Sent: 3, Received: 2, RTT: time.Millisecond}, nil
	}
	ordered(t, f, func(o ordering, _ func()) {
		o.commands <- manager.Command{Session: "s", ID: 1, Kind: manager.CommandPing, Ping: pinged}
		if a := <-o.answers; a.Session != "s" || a.ID != 1 || a.Ping == nil || *a.Ping != (manager.PingResult{Sent: 3, Received: 2, RTT: time.Millisecond}) {
			t.Errorf("answer %+v; want what the relay found", a)
		}
		failing = true
		o.commands <- manager.Command{Session: "s", ID: 2, Kind: manager.CommandPing, Ping: pinged}
		if a := <-o.answers; a.ID != 2 || a.Ping != nil {
			t.Errorf("answer %+v; want a failure", a)
		}
		o.commands <- manager.Command{Session: "s", ID: 3, Kind: manager.CommandSnapshot}
		if a := <-o.answers; a.ID != 3 || len(a.Failures) != 0 {
			t.Errorf("answer %+v; want commands for other relays to be taken", a)
		}
	})
}

// Devices that keep silent hold up neither other pings nor the end.
func TestInnerRelayPingsManyAtOnce(t *testing.T) {
	silent := func(ctx context.Context, _ inner.PingRequest) (inner.PingResult, error) {
		<-ctx.Done()
		return inner.PingResult{}, ctx.Err()
	}
	ordered(t, silent, func(o ordering, stop func()) {
		for id := range uint64(maxPings) {
			o.commands <- manager.Command{ID: id, Kind: manager.CommandPing, Ping: pinged}
		}
		synctest.Wait()
		if len(o.answers) != 0 {
			t.Errorf("%d answers; want all to wait", len(o.answers))
		}
		o.commands <- manager.Command{ID: 1000, Kind: manager.CommandPing, Ping: pinged}
		if a := <-o.answers; a.ID != 1000 || a.Ping != nil {
			t.Errorf("answer %+v; want the one too many to fail", a)
		}
		stop()
	})
}
