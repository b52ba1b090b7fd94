package outer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// conn is one connection of a client to one device: what the audit log has a
// connection ID for. All but the fields under mu belongs to the goroutine that sets
// it up, and to relay.Link's done afterwards. There are many, and most are idle: what only
// setting up needs is in setup and reaching, and small fields stand together.
type conn struct {
	relay  *Relay
	port   *port
	id     string
	client netip.AddrPort
	lapse  *time.Timer  // cuts it before its entry expires; nil: nothing does
	span   observe.Span // of setting it up; nothing when it is relayed

	told atomic.Pointer[ending] // why it is cut, of a TLS client that is told so first; nil: it was not

	// Known at the latest when the manager has answered, which is written under mu.
	imsi       ident.IMSI
	simID      string
	inner      manager.RelayID // which leads to it
	device     netip.AddrPort
	devicePort uint16

	// carries is whether it is a client's connection that carries streams, which are
	// connections of their own here.
	carries bool

	mu sync.Mutex // guards the rest
	// asking is whether the manager is being asked for the way. The answer may be older
	// than what happened since: left are the places that their devices have left, and stale
	// is whether there may be others.
	asking, stale bool
	left          []manager.Place // without Inner

	why   error  // it was cut
	reset func() // interrupts setting up; nil: relayed
	link  *relay.Link
	last  func(alert byte) bool // tells a TLS client why it is cut; nil: there is nothing to tell
	peer  peer                  // whom the client proved to be; zero: nobody asked
}

// maxLeft bounds conn.left.
const maxLeft = 64

// newConn makes a connection that reset interrupts while it is being set up. It must
// come to an end by over.
func (r *Relay) newConn(p *port, client netip.AddrPort, carries bool, reset func()) (c *conn, full bool) {
	r.conns.Add(1)
	r.all.Add(1)
	o := &p.opening
	c = &conn{
		relay: r, port: p, id: newID(time.Now()), client: client, reset: reset,
		imsi: o.IMSI, simID: o.SIMID, devicePort: o.DevicePort, carries: carries,
	}
	return c, p.add(c)
}

// newID returns a ULID. It names things and is no secret.
func newID(now time.Time) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(now)) // fails only after the year 10889
	a, b := rand.Uint64(), rand.Uint32()
	for i := range 8 {
		id[6+i] = byte(a >> (8 * i))
	}
	id[14], id[15] = byte(b), byte(b>>8)
	return id.String()
}

// over forgets c when nothing of it lives any more.
func (c *conn) over() {
	if c.lapse != nil {
		c.lapse.Stop()
	}
	c.port.remove(c)
	c.relay.all.Add(-1)
	c.relay.conns.Done()
}

// cut ends c at once, for why; only the first call counts.
func (c *conn) cut(why error) { cutAll([]*conn{c}, why) }

// cutAll is cut of many, at once. Those that carry others are cut after them, so that each
// is cut for a reason of its own.
func cutAll(cs []*conn, why error) {
	links := make([]*relay.Link, 0, len(cs))
	var carriers []*conn
	for _, c := range cs {
		if c.carries {
			carriers = append(carriers, c)
		} else if link := c.condemn(why); link != nil {
			links = append(links, link)
		}
	}
	relay.CutAll(links, why)
	for _, c := range carriers {
		c.condemn(why) // they have no link
	}
}

// condemn is cut, but for the link, if there is one, which is left to the caller.
func (c *conn) condemn(why error) *relay.Link {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return nil
	}
	c.why = why
	link, reset, last := c.link, c.reset, c.last
	c.mu.Unlock()
	switch {
	case link != nil:
		if e, ok := errors.AsType[ending](why); ok && last != nil {
			c.told.Store(&e) // before the client can answer by a reset
			last(alertFor(manager.Cause(e)))
		}
	case reset != nil:
		reset()
	}
	return link
}

// leads reports whether c leads to a device at an address, or is being led there. If its
// way is being asked for, that place is no answer.
func (c *conn) leads(imsi ident.IMSI, at netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asking {
		if len(c.left) < maxLeft {
			c.left = append(c.left, manager.Place{IMSI: imsi, Address: at})
		} else {
			c.stale = true
		}
		return false
	}
	return c.imsi == imsi && c.device.Addr() == at
}

// place returns where c leads, or is being led; false: nowhere yet, and if its way is being
// asked for, the answer under way is none.
func (c *conn) place() (manager.Place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asking {
		c.stale = true
		return manager.Place{}, false
	}
	return manager.Place{IMSI: c.imsi, Inner: c.inner, Address: c.device.Addr()}, c.device.IsValid()
}

// ended returns why c was cut, if it was.
func (c *conn) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// beginAsking notes that the manager is asked for the way.
func (c *conn) beginAsking() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking, c.stale, c.left = true, false, nil
}

// endAsking takes over what the manager said about the way; nil: nothing. false: the device
// may have left since it was asked, and nothing was taken over.
func (c *conn) endAsking(route *manager.Route) (fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = false
	if route == nil {
		return true
	}
	if c.stale || slices.Contains(c.left, manager.Place{IMSI: cmp.Or(route.IMSI, c.imsi), Address: route.Device.Addr()}) {
		return false
	}
	// What is kept is copied: a part of the answer would keep all of it, with the ticket.
	c.inner, c.device = manager.RelayID(strings.Clone(string(route.InnerID))), route.Device
	if route.IMSI != "" && route.IMSI != c.imsi {
		c.imsi = ident.IMSI(strings.Clone(string(route.IMSI)))
	}
	if route.SIMID != "" && route.SIMID != c.simID {
		c.simID = strings.Clone(route.SIMID)
	}
	if p := route.Device.Port(); p != 0 {
		c.devicePort = p
	}
	return true
}

// audit records one event of c (N7).
func (c *conn) audit(t manager.AuditType, now time.Time, cause manager.Cause, up, down uint64) {
	o := &c.port.opening
	c.relay.deps.Auditor.Record(manager.AuditRecord{
		Type: t, At: now.UTC().Truncate(time.Millisecond),
		OperatorID: o.OperatorID, EntryID: o.EntryID, ConnectionID: c.id, IMSI: c.imsi, SIMID: c.simID,
		RelayID: c.relay.cfg.ID, Source: c.client, Destination: c.device, DevicePort: c.devicePort, TLS: o.TLS,
		Cause: cause, Up: up, Down: down,
	})
}

// turnAway records that c is denied or refused. Telling the client is the caller's.
func (c *conn) turnAway(d *denial) {
	now := time.Now()
	c.relay.tally(c.relay.denied, d.cause)
	c.relay.metrics.denied(d.cause)
	c.relay.log.Debug("client turned away", "entry", c.port.opening.EntryID, "conn", c.id, "client", c.client, "cause", d.cause, "error", d.err)
	c.audit(d.cause.Denial(), now, d.cause, 0, 0)
	c.audit(manager.AuditClosed, now, d.cause, 0, 0)
	endSpan(c.span, d)
}

// begin relays between the client and the device, whom c.peer may reach, and owns
// both from then on. It does nothing if c was cut meanwhile, or if credentials changed
// since generation gen, or, which is an error, if there are no descriptors for it.
func (c *conn) begin(client relay.Conn, d endpoint, who peer, gen uint64) (began bool, err error) {
	r := c.relay
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil || !r.credentials.still(who, gen) {
		return false, nil
	}
	start, err := r.link(client, d, &c.port.counters)
	if err != nil {
		return false, err
	}
	c.peer, c.reset, c.span, c.left = who, nil, observe.Span{}, nil
	if t, ok := client.(*tlsConn); ok {
		c.last = t.wire.last
	}
	now := time.Now()
	c.audit(manager.AuditConnected, now, "", 0, 0)
	r.opened.Add(1)
	r.live.Add(1)
	c.port.live.Add(1)
	// done takes neither c.mu nor anything else that is held here.
	c.link = start(func(res relay.Result) {
		c.finish(res)
		c.over()
	})
	return true, nil
}

// link returns what begins to relay between a client and a device, and owns both then.
func (r *Relay) link(client relay.Conn, d endpoint, total *relay.Counters) (func(done func(relay.Result)) *relay.Link, error) {
	if d.socket != nil && relay.OfKernel(client) {
		a, ok := relay.NewSocket(client)
		if !ok {
			return nil, deny(manager.CauseOverloaded, nil)
		}
		return func(done func(relay.Result)) *relay.Link { return r.relayer.Join(a, d.socket, d.early, total, done) }, nil
	}
	client, err := relay.InPoller(client)
	if err != nil {
		return nil, deny(manager.CauseOverloaded, err)
	}
	b, err := d.plain()
	if err != nil {
		return nil, err
	}
	return func(done func(relay.Result)) *relay.Link {
		return r.relayer.StartAfter(client, b, d.early, total, done)
	}, nil
}

func (c *conn) finish(res relay.Result) {
	r := c.relay
	c.port.live.Add(-1)
	r.live.Add(-1)
	cause := endCause(res)
	if e := c.told.Load(); e != nil { // whatever the client made of it
		cause = manager.Cause(*e)
	}
	r.tally(r.ended, cause)
	r.metrics.ended(cause)
	c.audit(manager.AuditClosed, time.Now(), cause, res.AToB, res.BToA)
	r.log.Debug("connection ended", "entry", c.port.opening.EntryID, "conn", c.id, "client", c.client, "cause", cause, "up", res.AToB, "down", res.BToA, "error", res.Err)
}

// expireAt cuts c at a time that is earlier than its entry's expiry: devices of an
// entry for several may have one of their own.
func (c *conn) expireAt(at time.Time) {
	if !at.IsZero() && at.Before(c.port.opening.Expires) {
		c.lapse = time.AfterFunc(time.Until(at), func() { c.cut(errExpired) })
	}
}

func remote(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

const (
	lingerTime    = time.Second
	lingerBytes   = 64 << 10
	lingerRelayed = 8 << 20 // as much as a client that sends fast has under way
)

// linger closes c so that what was written last arrives: a close while bytes of the
// peer wait unread is a reset, which may overtake it. So that many of them are read, within
// lingerTime.
func linger(c relay.Conn, bytes int64) {
	if c.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c, bytes) // ends with the peer's FIN at the latest
	}
	_ = c.Close()
}

// allowed checks the source ranges (R13).
func (c *conn) allowed(ranges []netip.Prefix) error {
	if !(manager.Route{Ranges: ranges}).Allows(c.client.Addr()) {
		return deny(manager.CauseSourceDenied, nil)
	}
	return nil
}

// ask asks the manager for the way (R11, R12), without waiting, as a step of steps.
func (c *conn) ask(ctx context.Context, steps *steps, target string, answer func(manager.Route, error)) {
	c.askSince(ctx, steps, target, time.Now(), answer)
}

// askSince is ask since a time, which ResolveTimeout counts from.
func (c *conn) askSince(ctx context.Context, steps *steps, target string, begin time.Time, answer func(manager.Route, error)) {
	r := c.relay
	step, span := r.step(ctx, spanResolve)
	if !steps.begin(func() { answer(manager.Route{}, errInterrupted) }) {
		endSpan(span, errInterrupted)
		answer(manager.Route{}, errInterrupted)
		return
	}
	c.beginAsking()
	q := manager.ResolveRequest{ConnectionID: c.id, Hit: c.port.opening.Address, Client: c.client, Target: target}
	r.asker.Ask(q, observe.Traceparent(step), begin.Add(r.cfg.ResolveTimeout), func(route manager.Route, err error) {
		if err != nil {
			err = deny(resolveCause(err), fmt.Errorf("resolve: %w", err))
		}
		endSpan(span, err)
		if !steps.end() {
			return // the interruption has answered
		}
		switch {
		case err != nil:
			c.endAsking(nil)
		case route.EntryID != c.port.opening.EntryID:
			c.endAsking(nil)
			err = deny(manager.CauseUnknownEntry, nil) // the port has a new entry of which the command is under way
		case !c.endAsking(&route):
			c.askSince(ctx, steps, target, begin, answer)
			return
		default:
			r.metrics.stage(stageResolve, begin)
			err = c.allowed(route.Ranges)
		}
		answer(route, err)
	})
}

// resolve is ask for who can wait.
func (c *conn) resolve(ctx context.Context, target string) (manager.Route, error) {
	type answer struct {
		route manager.Route
		err   error
	}
	answered := make(chan answer, 1)
	s := &steps{}
	stop := context.AfterFunc(ctx, s.interrupt)
	defer stop()
	c.ask(ctx, s, target, func(route manager.Route, err error) { answered <- answer{route, err} })
	a := <-answered
	return a.route, a.err
}
