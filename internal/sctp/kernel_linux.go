package sctp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's SCTP, one-to-one sockets (RFC 6458 clause 4).

// Socket options and control messages of RFC 6458 as Linux numbers them
// (include/uapi/linux/sctp.h); x/sys does not have them.
const (
	optRTOInfo     = 0
	optAssocInfo   = 1
	optInitMsg     = 2
	optNoDelay     = 3
	optPeerParams  = 9
	optEvents      = 11
	optRecvRcvInfo = 32

	cmsgSndInfo = 2
	cmsgRcvInfo = 3

	msgNotification = 0x8000
	noteAssocChange = 0x8001
	stateLost       = 1 // SCTP_COMM_LOST
	stateRestart    = 2 // SCTP_RESTART
	stateShutdown   = 3 // SCTP_SHUTDOWN_COMP

	sndInfoLen = 16
	rcvInfoLen = 28
)

// kernelSocket opens a one-to-one socket with our options set.
func kernelSocket(cfg Config) (int, error) {
	domain := unix.AF_INET
	if cfg.Local.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return -1, fmt.Errorf("%w: kernel: %w", ErrUnavailable, os.NewSyscallError("socket", err))
	}
	if err := kernelOptions(fd, cfg); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func kernelOptions(fd int, cfg Config) error {
	sc := cfg.stack().withDefaults()
	ne := binary.NativeEndian
	set := func(name string, opt int, value []byte) error {
		return wrapSys("setsockopt "+name, unix.SetsockoptString(fd, unix.IPPROTO_SCTP, opt, string(value)))
	}
	u16, u32 := ne.AppendUint16, ne.AppendUint32
	// struct sctp_initmsg
	initmsg := u16(u16(u16(u16(nil, uint16(sc.Streams)), maxInStreams), uint16(sc.MaxInit)), 0)
	// struct sctp_rtoinfo: association, initial, max, min (zero: unchanged)
	rto := u32(u32(u32(u32(nil, 0), 0), uint32(sc.RTOMax.Milliseconds())), 0)
	// struct sctp_assocparams: association, maxrxt, peers, rwnds, cookie life
	params := u32(u32(u32(u16(u16(u32(nil, 0), uint16(min(sc.MaxRetrans, 65535))), 0), 0), 0), 0)
	one := u32(nil, 1)
	events := []byte{1, 1} // struct sctp_event_subscribe: data_io, association
	var errs []error
	errs = append(errs,
		set("SCTP_INITMSG", optInitMsg, initmsg),
		set("SCTP_NODELAY", optNoDelay, one),
		set("SCTP_RTOINFO", optRTOInfo, rto),
		set("SCTP_ASSOCINFO", optAssocInfo, params),
		set("SCTP_RECVRCVINFO", optRecvRcvInfo, one),
		set("SCTP_EVENTS", optEvents, events),
		set("SCTP_PEER_ADDR_PARAMS", optPeerParams, peerParams(cfg.Heartbeat)),
	)
	return errors.Join(errs...)
}

// peerParams builds the packed struct sctp_paddrparams: heartbeat interval for
// all peers of the socket.
func peerParams(heartbeat time.Duration) []byte {
	const (
		size    = 156 // as of Linux 4.19 with ipv6_flowlabel and dscp
		storage = 128 // sockaddr_storage
		enable  = 1   // SPP_HB_ENABLE
		disable = 2   // SPP_HB_DISABLE
	)
	b := make([]byte, size)
	switch {
	case heartbeat < 0:
		binary.NativeEndian.PutUint32(b[4+storage+4+2+4+4:], disable)
	default:
		if heartbeat == 0 {
			heartbeat = 30 * time.Second
		}
		binary.NativeEndian.PutUint32(b[4+storage:], uint32(heartbeat.Milliseconds()))
		binary.NativeEndian.PutUint32(b[4+storage+4+2+4+4:], enable)
	}
	return b
}

func wrapSys(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sctp: kernel: %w", os.NewSyscallError(op, err))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// polled puts a non-blocking socket under the runtime's poller.
func polled(fd int) (*os.File, syscall.RawConn, error) {
	f := os.NewFile(uintptr(fd), "sctp")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("sctp: kernel: %w", err)
	}
	return f, raw, nil
}

type kernelListener struct {
	file *os.File
	raw  syscall.RawConn
	addr netip.AddrPort
	one  chan struct{} // token: one Accept at a time sets the deadline
}

func listenKernel(cfg Config) (Listener, error) {
	fd, err := kernelSocket(cfg)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // a restart finds the port free
	err = wrapSys("bind", unix.Bind(fd, sockaddr(cfg.Local)))
	if err == nil {
		err = wrapSys("listen", unix.Listen(fd, backlog))
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(fd)
		err = wrapSys("getsockname", err)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	f, raw, err := polled(fd)
	if err != nil {
		return nil, err
	}
	l := &kernelListener{file: f, raw: raw, addr: addrPort(sa), one: make(chan struct{}, 1)}
	l.one <- struct{}{}
	return l, nil
}

func (l *kernelListener) Accept(ctx context.Context) (Conn, error) {
	select {
	case <-l.one:
		defer func() { l.one <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		var nfd int
		var operr error
		err := await(ctx, l.file.SetReadDeadline, func() error {
			return l.raw.Read(func(fd uintptr) bool {
				nfd, _, operr = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				return operr != unix.EAGAIN //nolint:errorlint // an errno
			})
		})
		switch {
		case err != nil:
			return nil, err
		case errors.Is(operr, unix.ECONNABORTED), errors.Is(operr, unix.EINTR):
			continue
		case operr != nil:
			return nil, wrapSys("accept", operr)
		}
		return newKernelConn(nfd)
	}
}

func (l *kernelListener) Addr() netip.AddrPort { return l.addr }

// Close lets the kernel abort what was not accepted.
func (l *kernelListener) Close() error {
	if err := l.file.Close(); err != nil {
		return ErrClosed
	}
	return nil
}

// await runs f, which waits in the poller, until ctx ends.
func await(ctx context.Context, setDeadline func(time.Time) error, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = setDeadline(time.Unix(1, 0))
		close(stopped)
	})
	err := f()
	if !stop() {
		<-stopped
		_ = setDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if ctx.Err() == nil { // somebody else's deadline: Close's
			return ErrClosed
		}
		return ctx.Err()
	case errors.Is(err, os.ErrClosed):
		return ErrClosed
	}
	return err
}

// kernelDialer opens sockets in the network namespace in which it was made.
type kernelDialer struct {
	cfg   Config
	netns *os.File
}

func newKernelDialer(cfg Config) (DialCloser, error) {
	fd, err := kernelSocket(cfg) // to know that it works
	if err != nil {
		return nil, err
	}
	_ = unix.Close(fd)
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("sctp: network namespace: %w", err)
	}
	return &kernelDialer{cfg: cfg, netns: ns}, nil
}

func (d *kernelDialer) Close() error { return d.netns.Close() }

// socket opens a socket in the dialer's namespace. The thread is given up if it
// cannot go back.
func (d *kernelDialer) socket() (int, error) {
	type result struct {
		fd  int
		err error
	}
	got := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		here, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			got <- result{-1, fmt.Errorf("sctp: network namespace: %w", err)}
			runtime.UnlockOSThread()
			return
		}
		defer here.Close()
		if sameFile(here, d.netns) {
			fd, err := kernelSocket(d.cfg)
			got <- result{fd, err}
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Setns(int(d.netns.Fd()), unix.CLONE_NEWNET); err != nil {
			got <- result{-1, wrapSys("setns", err)}
			runtime.UnlockOSThread()
			return
		}
		fd, err := kernelSocket(d.cfg)
		if unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the runtime ends the thread with this goroutine
		got <- result{fd, err}
	}()
	r := <-got
	return r.fd, r.err
}

func sameFile(a, b *os.File) bool {
	ai, aerr := a.Stat()
	bi, berr := b.Stat()
	return aerr == nil && berr == nil && os.SameFile(ai, bi)
}

func (d *kernelDialer) Dial(ctx context.Context, addr netip.AddrPort) (Conn, error) {
	c, err := d.dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("sctp: dial %s: %w", addr, err)
	}
	return c, nil
}

func (d *kernelDialer) dial(ctx context.Context, addr netip.AddrPort) (Conn, error) {
	fd, err := d.socket()
	if err != nil {
		return nil, err
	}
	if !d.cfg.Local.Addr().IsUnspecified() {
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(d.cfg.Local.Addr(), 0))); err != nil {
			_ = unix.Close(fd)
			return nil, wrapSys("bind", err)
		}
	}
	err = unix.Connect(fd, sockaddr(addr))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return nil, kernelError("connect", err)
	}
	f, raw, err := polled(fd)
	if err != nil {
		return nil, err
	}
	var operr error
	err = await(ctx, f.SetWriteDeadline, func() error {
		return raw.Write(func(fd uintptr) bool {
			e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
			if err != nil {
				operr = err
				return true
			}
			if e != 0 {
				operr = syscall.Errno(e)
				return true
			}
			_, err = unix.Getpeername(int(fd))
			return err == nil // else not yet: not connected
		})
	})
	if err == nil && operr != nil {
		err = kernelError("connect", operr)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return wrapKernel(f, raw)
}

// kernelError gives errno the meaning that the contract has for it.
func kernelError(op string, err error) error {
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.ECONNABORTED):
		return &AbortError{Reason: AbortByPeer}
	case errors.Is(err, unix.ETIMEDOUT):
		if op == "connect" {
			return &AbortError{Reason: AbortTimeout}
		}
		return &AbortError{Reason: AbortLost}
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ESHUTDOWN):
		return ErrShutdown
	}
	return wrapSys(op, err)
}
