package relay

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Socket is a kernel's TCP connection outside Go's poller, for an event loop. One
// goroutine owns it until it gives it to Relayer.Join, or ends it with Conn or Abort.
type Socket struct {
	fd    int32  // noFD: somebody else has it
	loop  *loop  // whose epoll knows fd; nil: none
	kept  keeper // of the connection, on which frames are spoken; nil: they are not
	ahead uint16 // bytes that come before the first frame
}

// NewSocket takes c, which must be OfKernel, out of Go's poller; c is closed then. false:
// it could not, and nothing has changed.
func NewSocket(c net.Conn) (*Socket, bool) {
	switch c := c.(type) {
	case *acceptedConn:
		return c.socket()
	case *net.TCPConn:
		if fd, ok := duplicate(c); ok {
			_ = c.Close() // before a loop's epoll gets the other descriptor of it
			return &Socket{fd: fd}, true
		}
	}
	return nil, false
}

// OfKernel reports whether c is a connection of the kernel's itself: not TLS over one, and
// not one of a userspace stack.
func OfKernel(c net.Conn) bool {
	switch c.(type) {
	case *acceptedConn, *net.TCPConn:
		return true
	}
	return false
}

// Conn puts the connection into Go's poller. What it returns speaks frames if they are
// spoken with an inner relay. If it fails the connection is gone.
func (s *Socket) Conn() (Conn, error) {
	if s.loop != nil { // or its place in that epoll would be the duplicate's
		epollControl(s.loop.epoll, unix.EPOLL_CTL_DEL, s.fd, &unix.EpollEvent{})
	}
	f := os.NewFile(uintptr(s.take()), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	t := c.(*net.TCPConn) // it was made as one
	if k, ok := s.kept.(*pool); ok {
		return &framedConn{Conn: t, tcp: t, loop: s.loop, pool: k, in: framing{framed: true}, out: framing{framed: true}}, nil
	}
	return t, nil
}

// Abort resets the connection.
func (s *Socket) Abort() { abortFD(s.take()) }

func (s *Socket) take() int32 {
	fd := s.fd
	s.fd = noFD
	return fd
}

// duplicate returns a second descriptor of a connection.
func duplicate(c *net.TCPConn) (fd int32, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return noFD, false
	}
	err = raw.Control(func(old uintptr) {
		n, err := unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
		fd, ok = int32(n), err == nil
	})
	return fd, ok && err == nil
}
