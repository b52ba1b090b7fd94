package relay

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block: their descriptors do not, or their flags say so. They
// are made without telling the Go scheduler. It would take a splice of a megabyte for
// a blocked call and give the processor to another thread, and the loop would have to
// queue for it again. They return an errno, 0 for none, because an error value is an
// allocation.

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

// socketError takes a socket's pending error; 0 for none.
func socketError(fd int32) syscall.Errno {
	e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return unix.EBADF
	}
	return syscall.Errno(e)
}

func callError(call string, e syscall.Errno) error { return os.NewSyscallError(call, e) }
