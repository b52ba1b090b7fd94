package outer

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultMaxConnections returns a third of the process's descriptors: a connection
// takes two, and open ports may take the rest.
func defaultMaxConnections() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > 3*unlimitedConnections {
		return unlimitedConnections
	}
	return max(int(l.Cur/3), 1)
}

// reuseAddress is a net.Dialer's Control: the kernel picks local ports from the range that
// entries are drawn from, too, and without the option a connection that is ending would
// hold its port against the listener of an entry for a minute.
func reuseAddress(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}

// readNow reads what has arrived without waiting; n is 0 if there is nothing, and also
// with an error, which is io.EOF at the end.
func readNow(c syscall.RawConn, buf []byte) (n int, err error) {
	cerr := c.Read(func(fd uintptr) bool {
		for n, err = unix.Read(int(fd), buf); errors.Is(err, unix.EINTR); {
			n, err = unix.Read(int(fd), buf)
		}
		return true
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case errors.Is(err, unix.EAGAIN):
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// hasRoom reports whether a write would find room; a connection that has failed has some.
func hasRoom(c syscall.RawConn) (ok bool) {
	cerr := c.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		ok = err == nil && n > 0
	})
	return cerr == nil && ok
}

// writeLast writes all of a few bytes and FIN if there is room, without waiting for that or
// for another who writes.
func writeLast(c syscall.RawConn, buf []byte) (ok bool) {
	cerr := c.Control(func(fd uintptr) {
		n, err := unix.Write(int(fd), buf)
		ok = err == nil && n == len(buf) && unix.Shutdown(int(fd), unix.SHUT_WR) == nil
	})
	return cerr == nil && ok
}
