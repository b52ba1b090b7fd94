//go:build unix

package rpc

import (
	"net"
	"syscall"
)

// atOnce writes to a connection what the kernel takes without waiting. It belongs to one
// goroutine at a time, and so does writing to the connection.
type atOnce struct {
	conn  syscall.RawConn
	write func(fd uintptr) bool // made once: it would be allocated with every call

	b   []byte
	n   int
	err error
}

// newAtOnce returns nil for a connection that is more than the kernel's, as with TLS.
func newAtOnce(conn net.Conn) *atOnce {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	w := &atOnce{conn: raw}
	w.write = func(fd uintptr) bool {
		w.n, w.err = syscall.Write(int(fd), w.b)
		return true // false would wait
	}
	return w
}

// Write implements io.Writer, but that the kernel has no room for all of b is no error.
func (w *atOnce) Write(b []byte) (int, error) {
	w.b = b
	err := w.conn.Write(w.write)
	w.b = nil
	switch {
	case err != nil: // it did not get that far
		return 0, err
	case w.err == syscall.EAGAIN || w.err == syscall.EINTR:
		return 0, nil
	}
	return max(w.n, 0), w.err
}
