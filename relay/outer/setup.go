package outer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// handle takes a connection that the ports accepted and returns at once.
func (r *Relay) handle(c net.Conn, nr uint16) {
	p := r.byPort[nr].Load()
	if p == nil {
		relay.Abort(c) // closed, or not yet told of
		return
	}
	p.accept(c)
}

// serve is every port's accept. ctx is the port's.
func (r *Relay) serve(ctx context.Context, p *port, raw net.Conn) {
	begin := time.Now()
	r.accepted.Add(1)
	r.metrics.accepted()
	c, full := r.newConn(p, remote(raw), p.opening.Many, func() { relay.Abort(raw) })
	r.setups.Go(func() {
		client, ok := raw.(relay.Conn)
		if !ok {
			c.audit(manager.AuditAccess, begin, "", 0, 0)
			c.turnAway(&denial{manager.CauseFailed, fmt.Errorf("%T cannot be half-closed", raw)})
			relay.Abort(raw)
			c.over()
			return
		}
		if p.opening.Many {
			r.serveMany(r.begun(ctx, c, spanCarrier, begin), c, client, begin, full)
			return
		}
		ctx := r.begun(ctx, c, spanAccess, begin)
		c.audit(manager.AuditAccess, begin, "", 0, 0)
		if err := r.setUp(ctx, c, client, begin, full); err != nil {
			c.over()
		}
	})
}

// setUp takes a client as far as the device's answer (R11 to R15), and begins to
// relay. If it fails, the client was told, but c is not over.
func (r *Relay) setUp(ctx context.Context, c *conn, client relay.Conn, begin time.Time, full bool) error {
	release := func() {}
	fail := func(tell func(relay.Conn, manager.Cause), err error) error {
		release() // telling may take a while
		d := denialOf(err, c.ended())
		c.turnAway(d)
		tell(client, d.cause)
		return d
	}
	free, err := r.admit(c, full)
	if err != nil {
		return fail(abort, err)
	}
	release = free
	defer release()
	r.metrics.stage(stageAdmit, begin)
	tell := abort
	if c.port.opening.TLS {
		tell = alertFirst
	}
	if known := c.port.ranges.Load(); known != nil {
		if err := c.allowed(*known); err != nil {
			return fail(tell, err)
		}
	}
	route, err := c.resolve(ctx, "")
	if err != nil {
		return fail(tell, err)
	}
	c.port.ranges.Store(&route.Ranges)
	var who peer
	var gen uint64
	if c.port.opening.TLS {
		var cred *credential
		if cred, gen, err = r.credential(ctx, c); err != nil {
			return fail(tell, err)
		}
		var secured *tlsConn
		_, span := r.tracer.Start(ctx, spanTLS)
		secured, who, err = r.handshake(c, client, cred)
		endSpan(span, err)
		if err != nil {
			return fail(afterHandshake(err), err)
		}
		client, tell = secured, secured.alertLast
	} else if t, ok := client.(*net.TCPConn); ok && !route.ProxyProtocol {
		c.from = t
	}
	device, err := r.reach(ctx, c, route, "")
	if err != nil {
		return fail(tell, err)
	}
	// Once it is relayed, its end may come at any time: the span is this function's.
	span := c.span
	if err := r.start(ctx, c, client, device, who, gen); err != nil {
		return fail(tell, err)
	}
	span.End()
	r.metrics.stage(stageTotal, begin)
	return nil
}

// start begins to relay, or closes device: c was cut, or its credential has changed
// since the handshake in generation gen and does not admit who any more.
func (r *Relay) start(ctx context.Context, c *conn, client, device relay.Conn, who peer, gen uint64) error {
	for !c.begin(client, device, who, gen) {
		err := c.ended()
		if err == nil {
			_, gen, err = r.recheckOne(ctx, who)
		}
		if err != nil {
			relay.Abort(device)
			return err
		}
	}
	return nil
}

// admit checks what bounds the connections of a public port. The function it returns
// lets go of what it took; it may be called twice.
func (r *Relay) admit(c *conn, full bool) (release func(), err error) {
	now := time.Now()
	p := c.port
	switch {
	case r.all.Load() > int64(r.cfg.MaxConnections):
		return nil, deny(manager.CauseOverloaded, nil)
	case !r.deps.Auditor.Accepting():
		return nil, deny(manager.CauseAuditUnavailable, nil)
	case !r.sources.allow(c.client.Addr(), now):
		return nil, deny(manager.CauseRateLimited, errSourceRate)
	}
	select {
	case r.slots <- struct{}{}:
	default:
		return nil, deny(manager.CauseOverloaded, nil)
	}
	held := true
	release = func() {
		if held {
			held = false
			<-r.slots
		}
	}
	// Sources that may not connect at all shall not use up what the others may.
	known := p.ranges.Load()
	switch {
	case known != nil && c.allowed(*known) != nil:
	case full:
		err = deny(manager.CauseTooManyConnections, nil)
	case p.rate != nil && !p.rate.AllowN(now, 1):
		err = deny(manager.CauseRateLimited, errEntryRate)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

var (
	errSourceRate = errors.New("of the source")
	errEntryRate  = errors.New("of the entry")
)

// askAgain are the pauses before the manager is asked again because the inner relay may
// have been replaced since it was named. A ticket is bound to one process of an inner
// relay, which alone knows that it was not used before: that of the former process is
// worth nothing at its successor, and must not be, or one that was stolen would be good
// for a second time there. So a client whose ticket met the successor gets another one.
// The pauses are for a manager that learns of the successor from another manager.
var askAgain = [...]time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond}

// wait reports whether ctx outlived d.
func wait(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reach connects to the device through the inner relay (R15), by asking the manager
// again if the inner relay may have been replaced meanwhile. target is as in
// manager.ResolveRequest.
func (r *Relay) reach(ctx context.Context, c *conn, route manager.Route, target string) (relay.Conn, error) {
	begin := time.Now()
	device, err := r.connect(ctx, c, route)
	for _, pause := range askAgain {
		d, ok := errors.AsType[*denial](err)
		if !ok || !passing(d.cause) || pause > 0 && d.cause != manager.CauseTicketInvalid || !wait(ctx, pause) {
			break
		}
		if again, rerr := c.resolve(ctx, target); rerr == nil {
			route = again
			device, err = r.connect(ctx, c, route)
		}
	}
	if err != nil {
		return nil, err
	}
	if route.ProxyProtocol {
		if err := greet(device, c.client, route.Device, r.cfg.DeviceTimeout); err != nil {
			relay.Abort(device)
			return nil, deny(manager.CauseInnerUnreachable, err)
		}
	}
	c.expireAt(route.Expires)
	r.metrics.stage(stageDevice, begin)
	return device, nil
}

// connect connects to the device of a route.
func (r *Relay) connect(ctx context.Context, c *conn, route manager.Route) (relay.Conn, error) {
	req := relay.Request{Target: route.Device, Ticket: route.Ticket}
	if !r.tracer.On() {
		return r.connectTo(ctx, c, route, req)
	}
	ctx, span := r.step(ctx, spanInner)
	span.Set(observe.RelayID.String(string(route.InnerID)))
	req.Trace = observe.Traceparent(ctx)
	device, err := r.connectTo(ctx, c, route, req)
	endSpan(span, err)
	return device, err
}

func (r *Relay) connectTo(ctx context.Context, from *conn, route manager.Route, req relay.Request) (relay.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.DeviceTimeout)
	defer cancel()
	raw, err := r.deps.DialInner(ctx, route.Inner)
	if err != nil {
		return nil, deny(innerCause(ctx, err, false), fmt.Errorf("connect to inner relay %s: %w", route.InnerID, err))
	}
	c, ok := raw.(relay.Conn)
	if !ok {
		relay.Abort(raw)
		return nil, deny(manager.CauseFailed, fmt.Errorf("%T cannot be half-closed", raw))
	}
	if r.inner != nil {
		if c, err = r.inner.handshake(ctx, c, route.InnerID); err != nil {
			relay.Abort(raw)
			return nil, deny(manager.CauseInnerUnreachable, fmt.Errorf("inner relay %s: %w", route.InnerID, err))
		}
	}
	req.Early = from.readEarly()
	err = relay.Connect(ctx, c, req)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		relay.Abort(c)
		return nil, deny(innerCause(ctx, err, true), err)
	}
	return c, nil
}

// greet tells the device who the client is, in a PROXY protocol header of version 2.
func greet(device net.Conn, client, to netip.AddrPort, limit time.Duration) error {
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(to))
	_ = device.SetWriteDeadline(time.Now().Add(limit)) // fails only on a closed connection, as will the write
	if _, err := h.WriteTo(device); err != nil {
		return fmt.Errorf("PROXY protocol header: %w", err)
	}
	return device.SetWriteDeadline(time.Time{})
}

// abort tells a client by a reset.
func abort(c relay.Conn, _ manager.Cause) { relay.Abort(c) }
