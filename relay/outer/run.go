package outer

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/simreach/simreach/manager"
)

const (
	loadInterval = 200 * time.Millisecond // at most so often
	loadAtLeast  = 5 * time.Second        // at least so often
)

// Run carries out the manager's commands and relays until ctx ends. It then accepts
// nothing new, without losing a connection that the kernel has taken already, and
// gives live connections DrainTimeout, during which their conditions still hold. It
// returns an error if the stream of commands or the ports break for good.
func (r *Relay) Run(ctx context.Context) error {
	// Connections, and what serves them, outlive ctx by the drain time.
	base := context.WithoutCancel(ctx)
	life, cut := context.WithCancelCause(base)
	defer cut(nil)
	services, stopServices := context.WithCancel(base)
	defer stopServices()
	unregister, err := r.metrics.register(r.deps.Metrics)
	if err != nil {
		return fmt.Errorf("outer relay %s: metrics: %w", r.cfg.ID, err)
	}
	defer unregister()

	l := loop{Relay: r, commands: make(chan manager.Command), failed: make(chan error, 3)}
	var ports, wg sync.WaitGroup
	wg.Go(func() {
		if err := r.relayer.Run(services); err != nil {
			l.fail(err)
		}
	})
	<-r.relayer.Ready() // which does not take long, whatever comes of it
	wg.Go(func() { r.many.run(services) })
	wg.Go(func() { r.tell(services) })
	serving, stopServing := context.WithCancel(base)
	defer stopServing()
	ports.Go(func() {
		if err := r.ports.Run(serving); err != nil {
			l.fail(err)
		}
	})
	receiving, stopReceiving := context.WithCancel(base)
	defer stopReceiving()
	select {
	case <-r.ports.Ready():
		wg.Go(func() { l.receive(receiving) })
		err = l.run(ctx, life)
	case err = <-l.failed:
	case <-ctx.Done():
	}
	stopServing()
	ports.Wait() // nothing is handed over any more
	l.cutAll(errStopped)
	cut(errStopped) // what fails of that must know why
	r.conns.Wait()
	stopReceiving()
	stopServices()
	r.tasks.Wait()
	r.giveUp()
	r.setups.Close()
	wg.Wait()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("outer relay %s: %w", r.cfg.ID, err)
	}
	return nil
}

// tell keeps the manager informed about the relay's load until ctx ends.
func (r *Relay) tell(ctx context.Context) {
	tick := time.NewTicker(loadInterval)
	defer tick.Stop()
	var last manager.RelayLoad
	for {
		now := time.Now()
		if next := r.load(now); now.Sub(last.At) >= loadAtLeast || changed(last, next) {
			r.deps.Control.Load(next)
			last = next
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Relay) load(now time.Time) manager.RelayLoad {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := manager.RelayLoad{
		Live: int(r.live.Load()), Accepted: r.accepted.Load(), Opened: r.opened.Load(), Denied: maps.Clone(r.denied),
		Entries: len(r.entries), Draining: r.draining.Load(), At: now,
	}
	l.Up, l.Down = r.bytesLocked()
	l.Unaudited = r.unaudited()
	return l
}

// unaudited returns how many records were lost, if the Auditor counts them.
func (r *Relay) unaudited() uint64 {
	if a, ok := r.deps.Auditor.(interface{ Lost() uint64 }); ok {
		return a.Lost()
	}
	return 0
}

// changed compares all but the times. What was denied was accepted before.
func changed(a, b manager.RelayLoad) bool {
	return a.Live != b.Live || a.Accepted != b.Accepted || a.Opened != b.Opened || a.Up != b.Up || a.Down != b.Down ||
		a.Entries != b.Entries || a.Draining != b.Draining || a.Unaudited != b.Unaudited || !maps.Equal(a.Denied, b.Denied)
}
