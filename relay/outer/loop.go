package outer

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/ports"
)

// drainByCommand bounds the wait for half-way handshakes of clients when the manager
// asks for a drain; the kernel gives them up earlier.
const drainByCommand = 2 * time.Minute

// errNoCertificate is why an entry that requires TLS is not opened.
var errNoCertificate = errors.New("this relay has no certificate for TLS")

// loop carries out commands: it alone opens and closes ports.
type loop struct {
	*Relay
	commands chan manager.Command
	failed   chan error
	expiries expiries
	unopened unopened
	synced   bool
	// devices are the open entries by device; of the empty IMSI, those for several.
	devices map[ident.IMSI]map[*port]struct{}
	reviews chan struct{} // capacity 1: a review is due; nil: there was none
	// drained is closed when the ports have taken the last connection; nil before
	// drain was called.
	drained chan struct{}
}

func (l *loop) fail(err error) {
	select {
	case l.failed <- err:
	default: // another one was first
	}
}

// receive passes commands on until ctx ends or the stream breaks.
func (l *loop) receive(ctx context.Context) {
	for {
		c, err := l.deps.Control.Next(ctx)
		if err != nil {
			l.fail(err)
			return
		}
		select {
		case l.commands <- c:
		case <-ctx.Done():
			return
		}
	}
}

// run works, life being the context of connections, until ctx has ended and the drain that follows is over, or something
// that the relay cannot do without has failed.
func (l *loop) run(ctx, life context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	stop := ctx.Done()
	var limit <-chan time.Time // of the drain
	var idle <-chan struct{}
	for {
		now := time.Now()
		timer.Reset(min(l.expire(now), l.retry(life, now)))
		select {
		case <-stop:
			if l.cfg.DrainTimeout == 0 {
				l.draining.Store(true)
				return nil
			}
			stop, limit = nil, time.After(l.cfg.DrainTimeout)
			l.drain(life, l.cfg.DrainTimeout)
			idle = l.idle()
		case <-idle:
			return nil
		case <-limit:
			return nil
		case err := <-l.failed:
			if ctx.Err() == nil {
				return err
			}
			// While it drains, the relay can do without.
		case c := <-l.commands:
			l.apply(life, c)
		case <-timer.C:
		}
	}
}

// drain has the ports take nothing new.
func (l *loop) drain(life context.Context, limit time.Duration) {
	if l.drained != nil {
		return
	}
	l.drained = make(chan struct{})
	l.draining.Store(true)
	l.log.Info("draining", "connections", l.all.Load())
	l.tasks.Go(func() {
		defer close(l.drained)
		ctx, cancel := context.WithTimeout(life, limit)
		defer cancel()
		if err := l.ports.Drain(ctx); err != nil {
			l.log.Warn("ports not drained in order", "error", err)
		}
	})
}

// idle returns a channel that is closed when the last connection has ended after a
// drain.
func (l *loop) idle() <-chan struct{} {
	idle := make(chan struct{})
	l.tasks.Go(func() {
		<-l.drained
		l.conns.Wait()
		close(idle)
	})
	return idle
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
		for id, p := range l.entries {
			if !want[id] {
				l.close(p, errRevoked)
			}
		}
		ack.Failures = l.openAll(life, c.Openings)
		l.unopened.keep(c.Openings, ack.Failures, time.Now())
		l.log.Info("ports opened as the manager has them", "entries", len(c.Openings), "failures", len(ack.Failures))
		// What changed while the relay was away was not told to it.
		l.credentials.forgetAll()
		l.tasks.Go(func() { l.recheck(life, l.inUse()...) })
		l.review(life)
		if !l.synced {
			l.synced = true
			close(l.ready)
		}
	case manager.CommandOpen:
		ack.Failures = l.openAll(life, c.Openings)
	case manager.CommandClose:
		l.unopened.forget(c.EntryID)
		if p, ok := l.entries[c.EntryID]; ok {
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
	case manager.CommandCredential:
		l.credentials.forget(c.CredentialID)
		l.tasks.Go(func() {
			l.recheck(life, c.CredentialID)
			l.deps.Control.Acknowledge(ack)
		})
		return
	case manager.CommandDrain:
		l.drain(life, drainByCommand)
	case manager.CommandCut:
		l.cutDevice(c.IMSI, c.Device)
	case manager.CommandReview:
		l.review(life)
	}
	l.deps.Control.Acknowledge(ack)
}

func (l *loop) openAll(life context.Context, os []manager.Opening) (failures []manager.OpenFailure) {
	for _, o := range os {
		span := l.opened(life, o)
		err := l.open(life, o)
		endSpan(span, err)
		if err != nil {
			failures = append(failures, manager.OpenFailure{EntryID: o.EntryID, Err: err})
		}
	}
	return failures
}

func (l *loop) open(life context.Context, o manager.Opening) error {
	if _, ok := l.entries[o.EntryID]; ok {
		return nil
	}
	nr := o.Address.Port()
	switch {
	case !time.Now().Before(o.Expires):
		return errExpired
	case l.draining.Load():
		return errDraining
	case o.TLS && l.server == nil:
		return errNoCertificate
	case l.byPort[nr].Load() != nil:
		return fmt.Errorf("%w: by another entry", manager.ErrPortInUse)
	}
	p := newPort(life, o, l.cfg, l.serve)
	l.byPort[nr].Store(p) // a client may be accepted before Open returns
	if err := l.ports.Open(nr); err != nil {
		l.byPort[nr].Store(nil)
		l.tasks.Go(func() { p.close(errRevoked) })
		if errors.Is(err, ports.ErrInUse) {
			err = fmt.Errorf("%w: %w", manager.ErrPortInUse, err)
		}
		return err
	}
	l.mu.Lock()
	l.entries[o.EntryID] = p
	l.mu.Unlock()
	heap.Push(&l.expiries, o)
	if l.devices == nil {
		l.devices = map[ident.IMSI]map[*port]struct{}{}
	}
	if l.devices[o.IMSI] == nil {
		l.devices[o.IMSI] = map[*port]struct{}{}
	}
	l.devices[o.IMSI][p] = struct{}{}
	return nil
}

// close closes the port and cuts its connections, without waiting for them.
func (l *loop) close(p *port, why error) {
	nr := p.opening.Address.Port()
	l.ports.Close(nr) // nothing is handed over any more
	l.byPort[nr].Store(nil)
	l.mu.Lock()
	delete(l.entries, p.opening.EntryID)
	l.closing[p] = struct{}{}
	l.mu.Unlock()
	of := p.opening.IMSI
	if delete(l.devices[of], p); len(l.devices[of]) == 0 {
		delete(l.devices, of)
	}
	l.tasks.Go(func() {
		p.close(why)
		<-p.gone
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.closing, p)
		l.up += p.counters.AToB.Load()
		l.down += p.counters.BToA.Load()
	})
}

// cutAll cuts everything that lives, at the end of Run.
func (l *loop) cutAll(why error) {
	for _, p := range l.entries {
		p.close(why)
	}
}

// expire closes the ports whose time has come (R16) and returns how long to wait
// for the next.
func (l *loop) expire(now time.Time) time.Duration {
	for len(l.expiries) > 0 {
		next := l.expiries[0]
		p, open := l.entries[next.EntryID]
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
