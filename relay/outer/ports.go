package outer

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// loop owns the table of ports: it alone opens and closes them.
type loop struct {
	*Relay
	expiries expiries
	unopened unopened
	synced   bool
}

// serve carries out commands until ctx ends or the stream fails. life is the
// context of connections.
func (l *loop) serve(ctx, life context.Context, commands <-chan manager.Command, failed <-chan error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		timer.Reset(min(l.expire(now), l.retry(life, now)))
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case c := <-commands:
			l.apply(life, c)
		case <-timer.C:
		}
	}
}

// drain closes all ports, waits for their connections and cuts those that take
// longer than DrainTimeout or expire.
func (l *loop) drain(cut context.CancelCauseFunc) {
	for _, p := range l.ports {
		p.listener.Close()
	}
	idle := make(chan struct{})
	l.tasks.Go(func() {
		l.acceptors.Wait()
		close(idle)
	})
	limit := time.NewTimer(l.cfg.DrainTimeout)
	defer limit.Stop()
	expiry := time.NewTimer(time.Hour)
	defer expiry.Stop()
	for {
		expiry.Reset(l.expire(time.Now()))
		select {
		case <-idle:
			for _, p := range l.ports {
				l.close(p, errStopped)
			}
			return
		case <-limit.C:
			cut(errStopped)
		case <-expiry.C:
		}
	}
}

// apply carries out one command and answers it.
func (l *loop) apply(life context.Context, c manager.Command) {
	ack := manager.Acknowledgement{Session: c.Session, ID: c.ID}
	switch c.Kind {
	case manager.CommandSnapshot:
		want := make(map[manager.EntryID]bool, len(c.Openings))
		for _, o := range c.Openings {
			want[o.EntryID] = true
		}
		for id, p := range l.ports {
			if !want[id] {
				l.close(p, errRevoked)
			}
		}
		ack.Failures = l.openAll(life, c.Openings)
		l.unopened.keep(c.Openings, ack.Failures, time.Now())
		l.log.Info("ports opened as the manager has them", "entries", len(c.Openings), "failures", len(ack.Failures))
		if !l.synced {
			l.synced = true
			close(l.ready)
		}
	case manager.CommandOpen:
		ack.Failures = l.openAll(life, c.Openings)
	case manager.CommandClose:
		l.unopened.forget(c.EntryID)
		if p, ok := l.ports[c.EntryID]; ok {
			why := errRevoked
			if c.Reason == manager.ReasonExpired {
				why = errExpired
			}
			l.close(p, why)
			// The answer means that nothing of the entry lives any more.
			l.tasks.Go(func() {
				<-p.gone
				l.deps.Control.Acknowledge(ack)
			})
			return
		}
	}
	l.deps.Control.Acknowledge(ack)
}

func (l *loop) openAll(life context.Context, os []manager.Opening) (failures []manager.OpenFailure) {
	for _, o := range os {
		if err := l.open(life, o); err != nil {
			failures = append(failures, manager.OpenFailure{EntryID: o.EntryID, Err: err})
		}
	}
	return failures
}

func (l *loop) open(life context.Context, o manager.Opening) error {
	if _, ok := l.ports[o.EntryID]; ok {
		return nil
	}
	if !time.Now().Before(o.Expires) {
		return errExpired
	}
	if len(l.ports) >= l.cfg.MaxEntries {
		return fmt.Errorf("%w: %d", errFull, l.cfg.MaxEntries)
	}
	ln, err := l.deps.Listen(netip.AddrPortFrom(l.cfg.Listen, o.Address.Port()))
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: %w", manager.ErrPortInUse, err)
	}
	if err != nil {
		return fmt.Errorf("listen on port %d: %w", o.Address.Port(), err)
	}
	ctx, end := context.WithCancelCause(life)
	p := &port{opening: o, listener: ln, end: end, gone: make(chan struct{})}
	l.mu.Lock()
	l.ports[o.EntryID] = p
	l.mu.Unlock()
	heap.Push(&l.expiries, o)
	l.acceptors.Go(func() { l.accept(ctx, p) })
	return nil
}

// close closes the port and cuts its connections, without waiting for them.
func (l *loop) close(p *port, why error) {
	p.listener.Close()
	p.end(why)
	l.mu.Lock()
	delete(l.ports, p.opening.EntryID)
	l.mu.Unlock()
}

// expire closes the ports whose time has come (R16) and returns how long to wait
// for the next.
func (l *loop) expire(now time.Time) time.Duration {
	for len(l.expiries) > 0 {
		next := l.expiries[0]
		p, open := l.ports[next.EntryID]
		if open && now.Before(next.Expires) {
			return next.Expires.Sub(now)
		}
		heap.Pop(&l.expiries)
		if open {
			l.close(p, errExpired)
		}
	}
	return time.Hour
}

// expiries is a heap of openings, the next to expire first. Entries that were
// closed early are dropped when their turn comes.
type expiries []manager.Opening

func (h expiries) Len() int           { return len(h) }
func (h expiries) Less(i, j int) bool { return h[i].Expires.Before(h[j].Expires) }
func (h expiries) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *expiries) Push(x any)        { *h = append(*h, x.(manager.Opening)) }
func (h *expiries) Pop() any {
	last := len(*h) - 1
	o := (*h)[last]
	*h = (*h)[:last]
	return o
}

// accept takes clients of one port until it is closed, and returns when the last of
// its connections has ended. ctx is the port's.
func (l *loop) accept(ctx context.Context, p *port) {
	defer close(p.gone)
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := p.listener.Accept()
		switch {
		case err == nil:
			l.accepted.Add(1)
			conns.Go(func() { l.handle(ctx, p, c) })
		case relay.TemporaryAccept(err) && relay.Pause(ctx):
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return
		default:
			l.log.Error("port no longer accepts", "entry", p.opening.EntryID, "address", p.opening.Address, "error", err)
			return
		}
	}
}
