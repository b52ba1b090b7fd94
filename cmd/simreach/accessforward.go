package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/simreach/simreach/relay"
	"github.com/simreach/simreach/relay/outer/manyclient"
)

// patienceDial bounds connecting to a relay, and the TLS handshake.
const patienceDial = 30 * time.Second

// reach makes a connection to a device. Its error may be a relay's refusal.
type reach func(context.Context) (party, error)

// direct reaches the device of an access; t is nil for plain TCP.
func direct(endpoint string, t *tls.Config) reach {
	return func(ctx context.Context) (party, error) {
		ctx, cancel := context.WithTimeout(ctx, patienceDial)
		defer cancel()
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", endpoint)
		if err != nil {
			return nil, err
		}
		if t == nil {
			return conn{c.(*net.TCPConn)}, nil
		}
		over := tls.Client(c, t)
		if err := over.HandshakeContext(ctx); err != nil {
			relay.Abort(c)
			return nil, withPort(conn{over}, fmt.Errorf("TLS handshake with %s: %w", endpoint, err))
		}
		return conn{over}, nil
	}
}

// portError is a failure of a connection with its local port, by which relays note it.
type portError struct {
	port int
	err  error
}

// Error implements error.
func (e *portError) Error() string { return e.err.Error() }

// Unwrap returns the failure.
func (e *portError) Unwrap() error { return e.err }

// withPort adds p's local port to a failure of it.
func withPort(p party, err error) error {
	if c, ok := p.(conn); ok && err != nil {
		if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
			return &portError{a.Port, err}
		}
	}
	return err
}

// carrier reaches the devices of an access for several of them: one connection to the
// relay carries a stream for each connection. When it breaks the next stream has a new
// one made.
type carrier struct {
	config manyclient.Config

	mu      sync.Mutex           // guards clients
	clients []*manyclient.Client // the last is in use; those before it end their streams
}

// connection returns the connection to the relay, which it makes if need be.
func (c *carrier) connection(ctx context.Context) (*manyclient.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.clients); n > 0 && c.clients[n-1].Err() == nil {
		return c.clients[n-1], nil
	}
	ctx, cancel := context.WithTimeout(ctx, patienceDial)
	defer cancel()
	made, err := manyclient.Dial(ctx, c.config)
	if err != nil {
		return nil, err
	}
	c.clients = append(c.clients, made)
	return made, nil
}

// to reaches one of the devices.
func (c *carrier) to(d device) reach {
	target := manyclient.BySIM(d.sim, d.port)
	if d.imsi != "" {
		target = manyclient.ByIMSI(d.imsi, d.port)
	}
	return func(ctx context.Context) (party, error) {
		cl, err := c.connection(ctx)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, patienceDial)
		defer cancel()
		s, err := cl.Connect(ctx, target)
		if err != nil {
			return nil, err
		}
		return stream{s}, nil
	}
}

// close ends the connections and all streams.
func (c *carrier) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.clients {
		_ = cl.Close()
	}
}

// stream is a stream of a carrier as a party.
type stream struct{ *manyclient.Stream }

// Abort implements party.
func (s stream) Abort() { _ = s.Close() }

// forward carries connections to a local port on to a device.
type forward struct {
	listener net.Listener
	reach    reach
	report   func(client net.Addr, begin time.Time, err error)
}

// run serves until ctx ends, cuts the connections then, and returns when all are over.
func (f *forward) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = f.listener.Close() })
	defer stop()
	for {
		c, err := f.listener.Accept()
		switch {
		case err == nil:
			conns.Go(func() { f.serve(ctx, c.(*net.TCPConn)) })
		case ctx.Err() != nil:
			return nil
		case !relay.TemporaryAccept(err):
			return fmt.Errorf("accept on %s: %w", f.listener.Addr(), err)
		case !relay.Pause(ctx):
			return nil
		}
	}
}

func (f *forward) serve(ctx context.Context, c *net.TCPConn) {
	begin := time.Now()
	remote, err := f.reach(ctx)
	if err != nil {
		relay.Abort(c)
	} else {
		err = withPort(remote, join(ctx, conn{c}, remote))
	}
	cut, ok := errors.AsType[*cutError](err)
	if err == nil || ctx.Err() != nil || ok && cut.side == sideLocal {
		return
	}
	f.report(c.RemoteAddr(), begin, err)
}
