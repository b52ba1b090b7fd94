package outer

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// port is an open entry and its connections. Any goroutine may use it.
type port struct {
	opening manager.Opening
	// accept takes a client's connection and returns at once.
	accept   func(c net.Conn)
	end      context.CancelCauseFunc // of what is being set up
	rate     *rate.Limiter           // nil: no bound
	max      int                     // connections
	gone     chan struct{}           // closed when it is closed and its last connection has ended
	live     atomic.Int64            // connections relayed now
	counters relay.Counters
	// ranges are those of the last Route: entries are immutable, so that a source can
	// be denied without asking again. nil: not asked yet, or an entry for several.
	ranges atomic.Pointer[[]netip.Prefix]

	mu    sync.Mutex // guards the rest
	conns map[*conn]struct{}
	why   error // it is closed
}

// newPort makes a port; serve gets its connections, with a context whose cause says
// why the entry ended.
func newPort(life context.Context, o manager.Opening, cfg Config, serve func(context.Context, *port, net.Conn)) *port {
	p := &port{
		opening: o, rate: newLimiter(cfg.EntryRate, cfg.EntryBurst), max: cfg.MaxEntryConnections,
		gone: make(chan struct{}), conns: map[*conn]struct{}{},
	}
	ctx, end := context.WithCancelCause(life)
	p.end, p.accept = end, func(c net.Conn) { serve(ctx, p, c) }
	return p
}

// add makes c one of p's connections; full is whether there are as many already as
// there may be. A connection of a closed port is cut.
func (p *port) add(c *conn) (full bool) {
	p.mu.Lock()
	full = len(p.conns) >= p.max
	p.conns[c] = struct{}{}
	why := p.why
	p.mu.Unlock()
	if why != nil {
		c.cut(why)
	}
	return full
}

func (p *port) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	if p.why != nil && len(p.conns) == 0 {
		close(p.gone)
	}
}

// close cuts all connections; p is gone when the last of them has ended. Only the
// first call counts.
func (p *port) close(why error) {
	p.mu.Lock()
	if p.why != nil {
		p.mu.Unlock()
		return
	}
	p.why = why
	if len(p.conns) == 0 {
		close(p.gone)
	}
	p.mu.Unlock()
	cs, carriers := p.list()
	cutAll(append(cs, carriers...), why)
	p.end(why) // what fails of that must know why
}

// busy reports whether there are connections.
func (p *port) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) > 0
}

// list returns the connections; carriers are those that carry others.
func (p *port) list() (cs, carriers []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cs = make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		if c.carries {
			carriers = append(carriers, c)
		} else {
			cs = append(cs, c)
		}
	}
	return cs, carriers
}
