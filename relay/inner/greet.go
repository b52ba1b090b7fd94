package inner

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/relay"
)

// requestWait is how long an outer relay may keep a connection without another request.
// Outer relays end it earlier.
const requestWait = 2 * time.Minute

// guest is a connection of an outer relay that an event loop sets up, as serve does, for
// one client after the other. But for the first greeting it belongs to the loop.
type guest struct {
	*Relay
	life context.Context
	from netip.AddrPort
	link *relay.Link // in Relay.waiting; nil: it is not
}

// greet has an event loop set a connection up; false means that it cannot be.
func (r *Relay) greet(life context.Context, c *net.TCPConn) bool {
	if !r.occupy() {
		return false
	}
	if r.cfg.TCP.Apply(c) != nil { // it has gone
		<-r.slots
		return false
	}
	g := &guest{Relay: r, life: life, from: addressOf(c)}
	link := r.relayer.Greet(c, g.greeting(time.Now()))
	if link == nil {
		<-r.slots
	}
	return link != nil
}

// occupy takes a slot for a connection that is set up.
func (r *Relay) occupy() bool {
	select {
	case r.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// greeting returns what is done for one client. began is when that began, for which there
// is a slot then; zero: with the request.
func (g *guest) greeting(began time.Time) relay.Greeting {
	var t ticket
	var dialed time.Time // when that began
	var all, dial observe.Span
	slot := !began.IsZero()
	return relay.Greeting{
		Timeout: g.cfg.HandshakeTimeout, Wait: requestWait, DialTimeout: g.cfg.DialTimeout, TCP: g.cfg.TCP, Again: g.again,
		Requested: func(req relay.Request) (netip.AddrPort, relay.Refusal) {
			g.awaited()
			if !slot {
				if slot = g.occupy(); !slot {
					return netip.AddrPort{}, relay.Overloaded
				}
				began = time.Now()
			}
			var why relay.Refusal
			if t, why = g.judge(req, g.from); why != "" {
				return netip.AddrPort{}, why
			}
			var ctx context.Context
			ctx, all = g.begun(g.life, req.Trace, t, began)
			_, dial = g.tracer.Start(ctx, spanDial)
			dialed = time.Now()
			return t.Device, ""
		},
		Ended: func(outer, device *relay.Socket, why relay.Refusal, err error) {
			g.awaited()
			if slot {
				<-g.slots
			}
			end(dial, why)
			end(all, why)
			switch {
			case why != "":
				g.count(why)
				g.refuse(g.from, t, why, err)
			case outer == nil: // nothing was asked
				g.gone()
			default:
				g.metrics.dialed.Observe(time.Since(dialed).Seconds())
				g.relayed(g.life, t, func(done func(relay.Result)) { g.relayer.Join(outer, device, 0, &g.counters, done) })
			}
		},
	}
}

// again waits for another request on the connection.
func (g *guest) again(s *relay.Socket) {
	g.conns.Add(1)
	g.all.Add(1)
	link := g.relayer.GreetAgain(s, g.greeting(time.Time{}))
	g.mu.Lock()
	g.waiting[link] = struct{}{}
	g.mu.Unlock()
	if g.link = link; g.isDraining() { // dismiss may have been here before
		link.Cut(relay.ErrDismissed)
	}
}

// awaited notes that the connection waits for no request any more.
func (g *guest) awaited() {
	if g.link == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, g.link)
	g.link = nil
}

// dismiss tells the outer relays that no request is read any more on the connections that
// have none.
func (r *Relay) dismiss() {
	r.mu.Lock()
	links := make([]*relay.Link, 0, len(r.waiting))
	for l := range r.waiting {
		links = append(links, l)
	}
	r.mu.Unlock()
	relay.CutAll(links, relay.ErrDismissed)
}

// makeRoom does so with one of them; false: there is none.
func (r *Relay) makeRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.waiting {
		delete(r.waiting, l)
		l.Cut(relay.ErrDismissed)
		return true
	}
	return false
}
