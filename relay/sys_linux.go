package relay

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block: their descriptors do not, or their flags say so. They
// are made without telling the Go scheduler. It would take a splice of a megabyte for
// a blocked call and give the processor to another thread, and the loop would have to
// queue for it again. A call that it is told of also wakes its monitor thread, which then
// polls for milliseconds: one such call for each connection cost 2 % of two processors.
// They return an errno, 0 for none, because an error value is an allocation.

const (
	// bufferedMax is the size of a loop's buffer: what one recv takes at most.
	bufferedMax = 64 << 10
	// sendFlags: no signal when the peer is gone.
	sendFlags   = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
)

func receiveNow(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func sendNow(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), sendFlags, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func writeNow(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

func spliceNow(from, to int32, n int) (int, syscall.Errno) {
	for {
		m, _, e := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceFlags)
		if e != unix.EINTR {
			return int(m), e
		}
	}
}

// peekNow is receiveNow that leaves the bytes where they are.
func peekNow(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_PEEK, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// arrivedNow is Arrived on a descriptor.
func arrivedNow(fd int32, limit int) []byte {
	waiting, e := queued(fd, unix.SIOCINQ)
	if e != 0 || waiting <= 0 {
		return nil
	}
	b := make([]byte, min(waiting, limit))
	n, e := receiveNow(fd, b)
	if e != 0 {
		return nil
	}
	return b[:n]
}

// queued returns how much there is in a queue of a socket: SIOCINQ or SIOCOUTQ (tcp(7)).
func queued(fd int32, which uintptr) (int, syscall.Errno) {
	var n int32
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), which, uintptr(unsafe.Pointer(&n)))
	return int(n), e
}

// dialNow begins to connect, without waiting. call is the one that failed. With
// SO_REUSEADDR, because the kernel picks local ports from the range that entries are
// drawn from, too: without, a connection that is ending would hold its port against the
// listener of an entry for a minute.
func dialNow(to netip.AddrPort, o TCPOptions) (fd int32, call string, e syscall.Errno) {
	family := uintptr(unix.AF_INET6)
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	n, _, e := unix.RawSyscall(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if e != 0 {
		return noFD, "socket", e
	}
	fd = int32(n)
	if e = setNow(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); e == 0 {
		e = o.set(fd)
	}
	if e != 0 {
		closeFD(fd)
		return noFD, "setsockopt", e
	}
	if e := connectNow(fd, to); e != 0 && e != unix.EINPROGRESS {
		closeFD(fd)
		return noFD, "connect", e
	}
	return fd, "", 0
}

func setNow(fd int32, level, option, value int) syscall.Errno {
	v := int32(value)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return e
}

// Go's own options of a connection.
const (
	defaultKeepAlive      = 15 * time.Second
	defaultKeepAliveCount = 9
)

// set gives a new socket the options that o says, and for the rest those that package net
// gives.
func (o TCPOptions) set(fd int32) (e syscall.Errno) {
	apply := func(level, option, value int) {
		if e == 0 {
			e = setNow(fd, level, option, value)
		}
	}
	seconds := func(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
	apply(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if o.KeepAliveIdle >= 0 {
		apply(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		apply(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(cmp.Or(o.KeepAliveIdle, defaultKeepAlive)))
		apply(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(cmp.Or(o.KeepAliveInterval, defaultKeepAlive)))
		apply(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, cmp.Or(o.KeepAliveCount, defaultKeepAliveCount))
	}
	if o.UserTimeout > 0 {
		apply(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int((o.UserTimeout+time.Millisecond-1)/time.Millisecond))
	}
	return e
}

func connectNow(fd int32, to netip.AddrPort) (e syscall.Errno) {
	port := binary.NativeEndian.Uint16([]byte{byte(to.Port() >> 8), byte(to.Port())}) // in network order
	if to.Addr().Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: to.Addr().As4()}
		_, _, e = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
		return e
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: to.Addr().As16()}
	_, _, e = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	return e
}

// toItself reports whether a socket is connected to itself (RFC 9293 clause 3.5,
// simultaneous open): if the other end is of this machine, the kernel may pick the port
// that is connected to for the local one.
func toItself(fd int32) bool {
	var ends [2]unix.RawSockaddrInet6 // which has room for IPv4, too
	for i, call := range [...]uintptr{unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME} {
		size := uint32(unsafe.Sizeof(ends[i]))
		if _, _, e := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&ends[i])), uintptr(unsafe.Pointer(&size))); e != 0 {
			return false // it has been reset meanwhile
		}
	}
	return ends[0] == ends[1]
}

func epollControl(ep, op int, fd int32, ev *unix.EpollEvent) syscall.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(ep), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(ev)), 0, 0)
	return e
}

// finishNow sends FIN.
func finishNow(fd int32) syscall.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return e
}

// allTaken reports whether the peer's kernel has acknowledged all that was sent to it.
func allTaken(fd int32) bool {
	n, e := queued(fd, unix.SIOCOUTQ)
	return e == 0 && n == 0
}

func closeFD(fd int32) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// epollNow returns the events that wait, without blocking.
func epollNow(ep int, events []unix.EpollEvent) (int, syscall.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	return int(n), e
}

// abortFD closes a socket with a reset; noFD is passed over.
func abortFD(fd int32) {
	if fd == noFD {
		return
	}
	on := unix.Linger{Onoff: 1}
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0) // fails only on what is no socket
	closeFD(fd)
}

// resetNow resets a connection and leaves its socket open: half of what closing it
// costs. It reports whether it could.
func resetNow(fd int32) bool {
	unspecified := unix.RawSockaddr{Family: unix.AF_UNSPEC} // connect(2): dissolves the association
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspecified)), unsafe.Sizeof(unspecified))
	return e == 0
}

// socketError takes a socket's pending error; 0 for none.
func socketError(fd int32) syscall.Errno {
	var pending int32
	size := uint32(unsafe.Sizeof(pending))
	if _, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&pending)), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		return e
	}
	return syscall.Errno(pending)
}

func callError(call string, e syscall.Errno) error { return os.NewSyscallError(call, e) }
