package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Conn is a TCP connection, of the kernel or of a userspace stack: both its
// directions end separately.
type Conn interface {
	net.Conn
	// CloseWrite sends FIN: no more data will follow, the other direction goes on.
	CloseWrite() error
}

// Abort closes c with a reset where the implementation can (SetLinger, as
// *net.TCPConn has it), else as Close does. The peer's next read or write fails
// at once.
//
// Of a connection over another (NetConn, as *tls.Conn has it) the one below is
// aborted: no alert is sent, which could block.
func Abort(c net.Conn) {
	if a, ok := c.(interface{ abort() }); ok {
		a.abort()
		return
	}
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		Abort(over.NetConn())
		return
	}
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // fails only on a connection that is gone
	}
	_ = c.Close()
}

// Holder is a Conn over a socket that may hold bytes which have left that socket.
type Holder interface {
	// Holds reports whether the next Read may have something without the socket. The
	// goroutine that reads calls it.
	Holds() bool
}

// socketOf returns the kernel's socket that c is, or stands on; nil if there is none.
func socketOf(c net.Conn) *net.TCPConn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	t, _ := c.(*net.TCPConn)
	return t
}

// TCPOptions are how soon the kernel notices a peer that has gone without a word. The
// zero value leaves the system's or Go's defaults. TCP_NODELAY is Go's default and stays.
type TCPOptions struct {
	// KeepAliveIdle is for how long nothing has come when the kernel begins to ask
	// whether the peer is there. 0: 15 s. Negative: it never asks.
	KeepAliveIdle time.Duration `yaml:"keepalive_idle"`
	// KeepAliveInterval is the time between two questions. 0: 15 s.
	KeepAliveInterval time.Duration `yaml:"keepalive_interval"`
	// KeepAliveCount is how many questions go unanswered before the connection fails.
	// 0: 9.
	KeepAliveCount int `yaml:"keepalive_count"`
	// UserTimeout is how long sent bytes may stay unacknowledged (RFC 5482 as Linux
	// has it in TCP_USER_TIMEOUT). It also ends connections to a peer which answers
	// but has had no room for so long. 0: the system's number of retransmissions
	// decides, some 15 minutes.
	UserTimeout time.Duration `yaml:"user_timeout"`
}

// Validate reports what is wrong with o.
func (o TCPOptions) Validate() error {
	if o.KeepAliveInterval < 0 || o.KeepAliveCount < 0 || o.UserTimeout < 0 {
		return errors.New("tcp options: only keepalive_idle may be negative")
	}
	return nil
}

// Apply sets the options on c, or on what c stands on. On connections that are not the
// kernel's it does nothing.
func (o TCPOptions) Apply(c net.Conn) error {
	t := socketOf(c)
	if t == nil {
		return nil
	}
	if o.KeepAliveIdle != 0 || o.KeepAliveInterval != 0 || o.KeepAliveCount != 0 {
		err := t.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: o.KeepAliveIdle >= 0, Idle: o.KeepAliveIdle, Interval: o.KeepAliveInterval, Count: o.KeepAliveCount,
		})
		if err != nil {
			return fmt.Errorf("keepalive: %w", err)
		}
	}
	if o.UserTimeout > 0 {
		return setUserTimeout(t, o.UserTimeout)
	}
	return nil
}

// bound makes reads and writes on c fail when ctx ends. The returned function
// lifts that; the deadlines of c are clear afterwards.
func bound(ctx context.Context, c net.Conn) (lift func()) {
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d) // fails only on a closed connection, as will the I/O
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(1, 0))
		close(ended)
	})
	return func() {
		if !stop() {
			<-ended
		}
		_ = c.SetDeadline(time.Time{})
	}
}
