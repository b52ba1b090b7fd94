//go:build !linux

package relay

import (
	"net"
	"time"
)

// loop is an event loop, which only Linux has.
type loop struct{}

func newLoop(time.Duration, int) *loop { return nil }

func (*loop) cut([]*Link, error) {}
func (*loop) prepare() error     { return nil }
func (*loop) run() error         { return nil }
func (*loop) stop()              {}
func (*loop) close()             {}

func (r *Relayer) startOnLoop(Conn, Conn, int, *Counters, func(Result)) *Link { return nil }

type task any

// Socket is a connection on its way between event loops.
type Socket struct{}

// NewSocket makes none here.
func NewSocket(net.Conn) (*Socket, bool) { return nil, false }

// OfKernel reports whether c is a connection of the kernel's itself.
func OfKernel(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}

// InPoller returns c.
func InPoller(c Conn) (Conn, error) { return c, nil }

// Conn is never called.
func (*Socket) Conn() (Conn, error) { return nil, net.ErrClosed }

// Abort is never called.
func (*Socket) Abort() {}

// Call does nothing here.
func (r *Relayer) Call(Call) *Link { return nil }

// Begin is never called.
func (*Link) Begin() {}

// Waiting returns 0.
func (r *Relayer) Waiting() int { return 0 }

type keeper any

// GreetAgain does nothing here.
func (r *Relayer) GreetAgain(*Socket, Greeting) *Link { return nil }

// Greet does nothing here.
func (r *Relayer) Greet(*net.TCPConn, Greeting) *Link { return nil }

// Join is never called.
func (r *Relayer) Join(a, b *Socket, n int, total *Counters, done func(Result)) *Link { return nil }
