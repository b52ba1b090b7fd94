package relay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Acceptor accepts on a socket that listens. Go's poller does not get to know its
// connections before somebody reads or writes: most go to an event loop, which has a
// poller of its own. To enter Go's and to leave it again takes nine system calls.
type Acceptor struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool
}

// NewAcceptor owns f, a socket that does not block, unless it fails. Connections inherit
// the options that package net gives them from it.
func NewAcceptor(f *os.File) (*Acceptor, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var e syscall.Errno
	if err := raw.Control(func(fd uintptr) { e = TCPOptions{}.set(int32(fd)) }); err != nil {
		return nil, err
	}
	if e != 0 {
		return nil, callError("setsockopt", e)
	}
	return &Acceptor{file: f, raw: raw}, nil
}

// Accept waits for a connection as a net.Listener does, and has its errors.
func (a *Acceptor) Accept() (net.Conn, error) {
	var c *acceptedConn
	var e syscall.Errno
	err := a.raw.Read(func(fd uintptr) bool {
		c, e = acceptNow(fd)
		return e != unix.EAGAIN
	})
	switch {
	case err != nil && a.closed.Load():
		return nil, net.ErrClosed
	case err != nil:
		return nil, err
	case e != 0:
		return nil, callError("accept4", e)
	}
	return c, nil
}

// SetDeadline is as of a net.TCPListener.
func (a *Acceptor) SetDeadline(t time.Time) error { return a.file.SetReadDeadline(t) }

// Control runs f on the socket. After Close it fails with net.ErrClosed.
func (a *Acceptor) Control(f func(fd uintptr)) error {
	err := a.raw.Control(f)
	if err != nil && a.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// Close has Accept fail with net.ErrClosed.
func (a *Acceptor) Close() error {
	a.closed.Store(true)
	return a.file.Close()
}

func acceptNow(listener uintptr) (*acceptedConn, syscall.Errno) {
	var from, to unix.RawSockaddrInet6 // which have room for IPv4, too
	for {
		size := uint32(unsafe.Sizeof(from))
		n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, listener, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if e == unix.EINTR || e == unix.ECONNABORTED { // the second: it has gone while it waited
			continue
		}
		if e != 0 {
			return nil, e
		}
		size = uint32(unsafe.Sizeof(to))
		if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, n, uintptr(unsafe.Pointer(&to)), uintptr(unsafe.Pointer(&size))); e != 0 {
			closeFD(int32(n))
			return nil, e
		}
		return &acceptedConn{fd: int32(n), local: addrPort(&to), remote: addrPort(&from)}, 0
	}
}

// addrPort returns an address as package net has it, but for IPv4 in IPv6, which is IPv4.
func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:]) // at the same place in both
	if sa.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	}
	a := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 && a.Is6() {
		zone := strconv.Itoa(int(sa.Scope_id))
		if i, err := net.InterfaceByIndex(int(sa.Scope_id)); err == nil {
			zone = i.Name
		}
		a = a.WithZone(zone)
	}
	return netip.AddrPortFrom(a, port)
}

// acceptedConn is a connection of an Acceptor. What needs Go's poller puts it there.
type acceptedConn struct {
	local, remote netip.AddrPort

	mu   sync.Mutex // guards the rest
	fd   int32      // noFD: somebody else has it, or it is closed
	conn *net.TCPConn
}

// InPoller returns c, or what stands for it from now on, as package net has it.
func InPoller(c Conn) (Conn, error) {
	if f, ok := c.(*acceptedConn); ok {
		return f.inPoller()
	}
	return c, nil
}

func (c *acceptedConn) inPoller() (*net.TCPConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return c.conn, nil
	}
	s, ok := c.takeLocked()
	if !ok {
		return nil, net.ErrClosed
	}
	conn, err := s.Conn()
	if err != nil {
		return nil, err
	}
	c.conn = conn.(*net.TCPConn) // no frames are spoken on it
	return c.conn, nil
}

// takeLocked takes the descriptor away from c; false: it has none.
func (c *acceptedConn) takeLocked() (*Socket, bool) {
	s := &Socket{fd: c.fd}
	c.fd = noFD
	return s, s.fd != noFD
}

// socket takes the connection away from c; false: it could not.
func (c *acceptedConn) socket() (*Socket, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return NewSocket(c.conn)
	}
	return c.takeLocked()
}

func (c *acceptedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return c.conn.Close()
	}
	s, ok := c.takeLocked()
	if !ok {
		return net.ErrClosed
	}
	closeFD(s.fd)
	return nil
}

// abort is a close with a reset.
func (c *acceptedConn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		Abort(c.conn)
	} else if s, ok := c.takeLocked(); ok {
		s.Abort()
	}
}

func (c *acceptedConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *acceptedConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *acceptedConn) Read(b []byte) (int, error) {
	t, err := c.inPoller()
	if err != nil {
		return 0, err
	}
	return t.Read(b)
}

func (c *acceptedConn) Write(b []byte) (int, error) {
	t, err := c.inPoller()
	if err != nil {
		return 0, err
	}
	return t.Write(b)
}

// then does something that needs the poller.
func (c *acceptedConn) then(do func(*net.TCPConn) error) error {
	t, err := c.inPoller()
	if err != nil {
		return err
	}
	return do(t)
}

func (c *acceptedConn) CloseWrite() error { return c.then((*net.TCPConn).CloseWrite) }

func (c *acceptedConn) SetDeadline(at time.Time) error {
	return c.then(func(t *net.TCPConn) error { return t.SetDeadline(at) })
}

func (c *acceptedConn) SetReadDeadline(at time.Time) error {
	return c.then(func(t *net.TCPConn) error { return t.SetReadDeadline(at) })
}

func (c *acceptedConn) SetWriteDeadline(at time.Time) error {
	return c.then(func(t *net.TCPConn) error { return t.SetWriteDeadline(at) })
}
