package relay

import (
	"context"
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
func Abort(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // fails only on a connection that is gone
	}
	_ = c.Close()
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
