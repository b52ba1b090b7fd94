package ports

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/simreach/simreach/relay"
)

// listening is the backend of one ordinary listener per port.
type listening struct {
	max     int
	address netip.Addr
	listen  func(port uint16) (*Listener, error)
	serve   func(l *Listener, port uint16, o *opening) // starts an acceptor
}

// newListening makes the backend; acceptors that wait for descriptors give up when
// ctx ends.
func (p *Ports) newListening(ctx context.Context) (*listening, error) {
	b := &listening{
		max: p.cfg.MaxOpen, address: p.cfg.Address,
		listen: func(port uint16) (*Listener, error) {
			return listen(ctx, netip.AddrPortFrom(p.cfg.Address, port), p.cfg.Backlog)
		},
		serve: func(l *Listener, port uint16, o *opening) {
			p.tasks.Go(func() { p.accept(ctx, l.Accept, func(c net.Conn) { p.deliver(c, port, o) }, nil) })
		},
	}
	if b.max == 0 {
		b.max = defaultMaxOpen()
	}
	// An address that is not ours shall fail here and not with the first port.
	l, err := b.listen(0)
	if err != nil {
		return nil, err
	}
	return b, l.Close()
}

func (b *listening) limit() int { return b.max }

func (b *listening) open(port uint16, publish func(*opening)) error {
	l, err := b.listen(port)
	if err != nil {
		return classify(err)
	}
	o := &opening{listener: l}
	publish(o)
	b.serve(l, port, o)
	return nil
}

// classify wraps what the kernel says about a port in our errors.
func classify(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: %w", ErrInUse, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("%w: %w", ErrLimit, err)
	}
	return err
}

func (b *listening) close(_ uint16, o *opening) {
	_ = o.listener.Close() // fails only if it is closed
}

func (b *listening) refuse(open map[uint16]*opening) error {
	return refuseNew(listeners(open))
}

func (b *listening) drain(ctx context.Context, open map[uint16]*opening) error {
	return finish(ctx, b.address, keys(open), listeners(open))
}

func listeners(open map[uint16]*opening) []controlled {
	out := make([]controlled, 0, len(open))
	for _, o := range open {
		out = append(out, o.listener)
	}
	return out
}

// keys returns the set of open ports.
func keys(open map[uint16]*opening) map[uint16]bool {
	out := make(map[uint16]bool, len(open))
	for port := range open {
		out[port] = true
	}
	return out
}

func (b *listening) stop(open map[uint16]*opening) error {
	for port, o := range open {
		b.close(port, o)
	}
	return nil
}

// accept takes clients by next, the Accept of a listener, until that is closed, and calls
// kicked when the listener's deadline passes, if somebody sets one. ctx says when not to
// wait for descriptors any more.
func (p *Ports) accept(ctx context.Context, next func() (net.Conn, error), take func(net.Conn), kicked func()) {
	for {
		c, err := next()
		switch {
		case err == nil:
			take(c)
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && kicked != nil:
			kicked()
		case relay.TemporaryAccept(err) && p.pause(ctx):
		case ctx.Err() != nil:
			return
		default:
			p.fail(fmt.Errorf("accept: %w", err))
			return
		}
	}
}

func (p *Ports) pause(ctx context.Context) bool {
	p.starved.Add(1)
	return relay.Pause(ctx)
}
