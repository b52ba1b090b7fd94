package outer

import (
	"context"
	"fmt"
	"net"
	"time"

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
	client, ok := raw.(relay.Conn)
	if p.opening.Many && ok {
		c, full := r.newConn(p, remote(raw), true, func() { relay.Abort(raw) })
		r.setups.Go(func() { r.serveMany(r.begun(ctx, c, spanCarrier, begin), c, client, begin, full) })
		return
	}
	s := &setup{client: client, began: begin}
	var full bool
	s.conn, full = r.newConn(p, remote(raw), false, s.steps.interrupt)
	s.ctx = r.begun(ctx, s.conn, spanAccess, begin)
	s.audit(manager.AuditAccess, begin, "", 0, 0)
	if !ok {
		s.client = unusable{raw}
		s.fail(deny(manager.CauseFailed, fmt.Errorf("%T cannot be half-closed", raw)))
		return
	}
	s.run(full)
}

// unusable is a connection that can only be ended.
type unusable struct{ net.Conn }

func (unusable) CloseWrite() error { return net.ErrClosed }

// setup takes one connection of a client as far as its device's answer (R11 to R15). Its
// steps follow each other on whichever goroutine has the news: the acceptor's, the one
// that reads the manager's answers, an event loop's. None of them is held up: what has to
// wait goes on a worker. If a step fails the client is told, and the connection is over.
type setup struct {
	*conn

	ctx    context.Context // the port's, with the span of the access
	client relay.Conn
	began  time.Time
	steps  steps
	tell   func(relay.Conn, manager.Cause) // tells the client why not, and may wait; nil: abort does
	slot   func()                          // lets go of what admit took; nil: nothing
	route  manager.Route
	who    peer
	gen    uint64
}

// run takes the first step.
func (s *setup) run(full bool) {
	r := s.relay
	free, err := r.admit(s.conn, full)
	if err != nil {
		s.fail(err)
		return
	}
	s.slot = free
	r.metrics.stage(stageAdmit, s.began)
	if s.port.opening.TLS {
		s.tell = alertFirst
	}
	if known := s.port.ranges.Load(); known != nil {
		if err := s.allowed(*known); err != nil {
			s.fail(err)
			return
		}
	}
	s.ask(s.ctx, &s.steps, "", s.resolved)
}

func (s *setup) resolved(route manager.Route, err error) {
	if err != nil {
		s.fail(err)
		return
	}
	s.route = route
	ranges := route.Ranges // of route nothing else is kept
	s.port.ranges.Store(&ranges)
	if s.port.opening.TLS {
		s.relay.setups.Go(s.secure)
		return
	}
	s.reach()
}

// secure has the client speak TLS. It waits.
func (s *setup) secure() {
	r := s.relay
	raw := s.client // which changes below
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if !s.steps.begin(func() { relay.Abort(raw); cancel() }) {
		s.fail(nil)
		return
	}
	cred, gen, err := r.credential(ctx, s.conn)
	if err == nil {
		s.tell = nil
		_, span := r.tracer.Start(s.ctx, spanTLS)
		var secured *tlsConn
		if secured, s.who, err = r.handshake(s.conn, s.client, cred); err != nil {
			s.tell = afterHandshake(err)
		} else {
			s.client, s.tell, s.gen = secured, secured.alertLast, gen
		}
		endSpan(span, err)
	}
	s.steps.end()
	if err != nil {
		s.fail(err)
		return
	}
	s.reach()
}

func (s *setup) reach() {
	x := &reaching{conn: s.conn, ctx: s.ctx, steps: &s.steps, route: s.route, done: s.reached}
	if relay.OfKernel(s.client) { // over TLS, bytes are for the device when they are decrypted
		x.from = s.client
	}
	x.run()
}

// reached begins to relay.
func (s *setup) reached(d endpoint, err error) {
	if err != nil {
		s.fail(err)
		return
	}
	// Once it is relayed, its end may come at any time: the span is this function's.
	span := s.span
	began, err := s.begin(s.client, d, s.who, s.gen)
	switch {
	case began:
		s.relaying(span)
	case err == nil && s.ended() == nil:
		s.relay.setups.Go(func() { // the credential has changed
			ctx, cancel := context.WithCancel(s.ctx)
			defer cancel()
			s.steps.begin(cancel) // if it was interrupted before, start says so
			err := s.relay.start(ctx, s.conn, s.client, d, s.who, s.gen)
			s.steps.end()
			if err != nil {
				s.fail(err)
				return
			}
			s.relaying(span)
		})
	default:
		d.abort()
		s.fail(err)
	}
}

func (s *setup) relaying(span interface{ End() }) {
	s.slot()
	span.End()
	s.relay.metrics.stage(stageTotal, s.began)
}

// fail ends it.
func (s *setup) fail(err error) {
	if s.slot != nil {
		s.slot() // telling may take a while
	}
	d := denialOf(err, s.ended())
	s.turnAway(d)
	if s.tell == nil {
		abort(s.client, d.cause)
		s.over()
		return
	}
	s.relay.setups.Go(func() {
		s.tell(s.client, d.cause)
		s.over()
	})
}

// start is begin, and asks again if the credential of who has changed since the
// handshake in generation gen. If the client is not let in any more d is closed.
func (r *Relay) start(ctx context.Context, c *conn, client relay.Conn, d endpoint, who peer, gen uint64) error {
	for {
		began, err := c.begin(client, d, who, gen)
		if began {
			return nil
		}
		if err == nil {
			err = c.ended()
		}
		if err == nil {
			_, gen, err = r.recheckOne(ctx, who)
		}
		if err != nil {
			d.abort()
			return err
		}
	}
}

// abort tells a client by a reset.
func abort(c relay.Conn, _ manager.Cause) { relay.Abort(c) }
