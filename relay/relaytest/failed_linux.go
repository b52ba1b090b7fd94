package relaytest

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// failed reports whether a socket has been reset, without touching it; known is false
// where there is no telling, as of a userspace stack.
func failed(c net.Conn) (bad, known bool) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false, false
	}
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		bad = err == nil && n == 1 && p[0].Revents&unix.POLLERR != 0
	})
	return bad, err == nil
}
