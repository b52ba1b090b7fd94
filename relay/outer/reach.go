package outer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// endpoint is a connection to a device: of an event loop, or any other.
type endpoint struct {
	socket *relay.Socket
	conn   relay.Conn
	early  int // bytes of the client's that it has got already
}

// plain returns it as package net has it.
func (d endpoint) plain() (relay.Conn, error) {
	if d.socket == nil {
		return d.conn, nil
	}
	c, err := d.socket.Conn()
	if err != nil {
		return nil, deny(innerCause(err, false), err)
	}
	return c, nil
}

func (d endpoint) abort() {
	if d.socket != nil {
		d.socket.Abort()
	} else {
		relay.Abort(d.conn)
	}
}

// askAgain are the pauses before the manager is asked again because the inner relay may
// have been replaced since it was named. A ticket is bound to one process of an inner
// relay, which alone knows that it was not used before: that of the former process is
// worth nothing at its successor, and must not be, or one that was stolen would be good
// for a second time there. So a client whose ticket met the successor gets another one.
// The pauses are for a manager that learns of the successor from another manager.
var askAgain = [...]time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond}

// reaching connects to a device through the inner relay (R15), and asks the manager again
// if the inner relay may have been replaced meanwhile.
type reaching struct {
	*conn

	ctx    context.Context
	steps  *steps
	route  manager.Route
	from   relay.Conn // where bytes for the device may be read from before it is reached; nil: nowhere
	sent   []byte     // those that were
	target string     // as in manager.ResolveRequest
	tries  int        // to find another way
	began  time.Time
	done   func(endpoint, error) // called once
}

func (x *reaching) run() {
	x.began = time.Now()
	x.connect()
}

// connect connects to the device of the route.
func (x *reaching) connect() {
	req := relay.Request{Target: x.route.Device, Ticket: x.route.Ticket}
	ctx, span := x.relay.step(x.ctx, spanInner)
	if span.Recording() {
		span.Set(observe.RelayID.String(string(x.route.InnerID)))
	}
	req.Trace = observe.Traceparent(ctx)
	answered := func(d endpoint, err error) {
		x.steps.end()
		endSpan(span, err)
		x.connected(d, err)
	}
	if !x.relay.onLoop {
		x.connectOnWorker(ctx, req, answered)
		return
	}
	link := x.relay.relayer.Call(relay.Call{
		To: x.route.Inner, Request: req, Early: x.early, Timeout: x.relay.cfg.DeviceTimeout,
		Fresh: x.tries > 0, // one that waits may lead to the predecessor of an inner relay
		Answered: func(s *relay.Socket, asked bool, err error) {
			if err != nil {
				err = deny(innerCause(err, asked), fmt.Errorf("inner relay %s: %w", x.route.InnerID, err))
			}
			answered(endpoint{socket: s}, err)
		},
	})
	if !x.steps.begin(func() { link.Cut(errInterrupted) }) {
		answered(endpoint{}, errInterrupted)
		return
	}
	link.Begin()
}

var errInterrupted = errors.New("interrupted")

// maxEarly is how much of what a client sends is read before its device is reached.
const maxEarly = 8 << 10

// early is what goes to the device right behind the request to the inner relay: a header
// of the PROXY protocol, version 2, if the entry wants one, and what the client has sent so
// far. What has been read once goes with every further request, too.
func (x *reaching) early() []byte {
	if x.from != nil && len(x.sent) == 0 {
		x.sent = relay.Arrived(x.from, maxEarly)
	}
	if !x.route.ProxyProtocol {
		return x.sent
	}
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(x.client), net.TCPAddrFromAddrPort(x.route.Device))
	header, err := h.Format()
	if err != nil { // it has no fields that could be wrong
		x.relay.log.Error("no PROXY protocol header", "conn", x.id, "error", err)
	}
	return append(header, x.sent...)
}

// connectOnWorker connects over TLS, or over a network that is not the kernel's.
func (x *reaching) connectOnWorker(ctx context.Context, req relay.Request, answered func(endpoint, error)) {
	ctx, cancel := context.WithTimeout(ctx, x.relay.cfg.DeviceTimeout)
	if !x.steps.begin(cancel) {
		cancel()
		answered(endpoint{}, errInterrupted)
		return
	}
	x.relay.setups.Go(func() {
		defer cancel()
		c, err := x.connectTo(ctx, req)
		answered(endpoint{conn: c}, err)
	})
}

func (x *reaching) connectTo(ctx context.Context, req relay.Request) (relay.Conn, error) {
	r := x.relay
	raw, err := r.deps.DialInner(ctx, x.route.Inner)
	if err != nil {
		return nil, deny(innerCause(err, false), fmt.Errorf("connect to inner relay %s: %w", x.route.InnerID, err))
	}
	c, ok := raw.(relay.Conn)
	if !ok {
		relay.Abort(raw)
		return nil, deny(manager.CauseFailed, fmt.Errorf("%T cannot be half-closed", raw))
	}
	if r.inner != nil {
		if c, err = r.inner.handshake(ctx, c, x.route.InnerID); err != nil {
			relay.Abort(raw)
			return nil, deny(manager.CauseInnerUnreachable, fmt.Errorf("inner relay %s: %w", x.route.InnerID, err))
		}
	}
	req.Early = x.early()
	if err = relay.Connect(ctx, c, req); err == nil {
		err = ctx.Err()
	}
	if err != nil {
		relay.Abort(c)
		if ctx.Err() != nil {
			err = os.ErrDeadlineExceeded // or it was cut, which counts more
		}
		return nil, deny(innerCause(err, true), err)
	}
	return c, nil
}

// connected goes on with the connection, or tries again.
func (x *reaching) connected(d endpoint, err error) {
	if err == nil {
		x.expireAt(x.route.Expires)
		x.relay.metrics.stage(stageDevice, x.began)
		d.early = len(x.sent)
		x.done(d, nil)
		return
	}
	x.again(err)
}

// again asks the manager for another way after err, unless that is no help.
func (x *reaching) again(err error) {
	denied, ok := errors.AsType[*denial](err)
	if !ok || !passing(denied.cause) || x.tries == len(askAgain) {
		x.done(endpoint{}, err)
		return
	}
	pause := askAgain[x.tries]
	if pause > 0 && denied.cause != manager.CauseTicketInvalid {
		x.done(endpoint{}, err)
		return
	}
	x.tries++
	answered := func(route manager.Route, rerr error) {
		if rerr != nil {
			x.again(err)
			return
		}
		x.route = route
		x.connect()
	}
	if pause == 0 {
		x.ask(x.ctx, x.steps, x.target, answered)
		return
	}
	if !x.steps.begin(func() { x.done(endpoint{}, err) }) {
		x.done(endpoint{}, err)
		return
	}
	time.AfterFunc(pause, func() { // not before begin: it may be due at once
		if x.steps.end() {
			x.ask(x.ctx, x.steps, x.target, answered)
		}
	})
}

// reach is reaching for who can wait. target is as in manager.ResolveRequest.
func (r *Relay) reach(ctx context.Context, c *conn, route manager.Route, target string) (relay.Conn, error) {
	type result struct {
		d   endpoint
		err error
	}
	over := make(chan result, 1)
	s := &steps{}
	stop := context.AfterFunc(ctx, s.interrupt)
	defer stop()
	x := &reaching{conn: c, ctx: ctx, steps: s, route: route, target: target, done: func(d endpoint, err error) { over <- result{d, err} }}
	x.run()
	res := <-over
	if res.err != nil {
		return nil, res.err
	}
	return res.d.plain()
}

func dialTCP(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: reuseAddress}
	return d.DialContext(ctx, "tcp", a.String())
}
