package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/relay/inner"
)

// watched runs a role with the telemetry that its configuration asks for, which ends
// after the role, so that the role's last spans are in it.
func watched(ctx context.Context, cfg telemetry.Config, service, instance string, log *slog.Logger, ready func(),
	run func(context.Context, *slog.Logger, *telemetry.Telemetry, func()) error,
) error {
	d := telemetry.Deps{Log: log, Service: service, Instance: instance}
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Listen != "" {
		at, err := netip.ParseAddrPort(cfg.Listen)
		if err != nil {
			return fmt.Errorf("telemetry: %w", err)
		}
		if d.Listener, err = listen(ctx, at); err != nil {
			return fmt.Errorf("telemetry: %w", err)
		}
	}
	tel, err := telemetry.New(cfg, d)
	if err != nil {
		if d.Listener != nil {
			err = errors.Join(err, d.Listener.Close())
		}
		return err
	}
	if !cfg.Enabled() {
		return run(ctx, log, tel, ready)
	}
	longer, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- tel.Run(longer)
		cancel() // who asked to watch the role would not know that nobody does
	}()
	select {
	case <-tel.Ready():
		err = run(ctx, log, tel, func() { tel.Healthy(); ready() })
	case <-ctx.Done():
	}
	stop()
	return errors.Join(err, <-done)
}

// reportEvery is how often an inner relay's load is looked at, and reportAtLeast how
// often the manager is told of it in any case.
const (
	reportEvery   = 500 * time.Millisecond
	reportAtLeast = 5 * time.Second
)

// reporter tells the manager how an inner relay fares: the relay itself knows no manager.
type reporter struct {
	relay   *inner.Relay
	control *rpc.Client
}

// Ready implements component.
func (r reporter) Ready() <-chan struct{} { return r.relay.Ready() }

// Run implements component.
func (r reporter) Run(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var last manager.RelayLoad
	for {
		if next := r.load(time.Now()); changedLoad(last, next) || next.At.Sub(last.At) >= reportAtLeast {
			r.control.Load(next)
			last = next
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (r reporter) load(now time.Time) manager.RelayLoad {
	s := r.relay.Status()
	l := manager.RelayLoad{Live: s.Live, Opened: s.Relayed, Accepted: s.Relayed, Denied: s.Refused, Up: s.Up, Down: s.Down, Draining: s.Draining, At: now}
	for _, n := range s.Refused {
		l.Accepted += n
	}
	return l
}

// changedLoad compares what a reporter tells. Whatever was refused was accepted before.
func changedLoad(a, b manager.RelayLoad) bool {
	return a.Live != b.Live || a.Opened != b.Opened || a.Accepted != b.Accepted || a.Up != b.Up || a.Down != b.Down || a.Draining != b.Draining
}
