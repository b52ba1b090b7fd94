package outer

import (
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultMaxEntries returns half of the process's descriptors: every open port takes
// one, and the rest belongs to the connections, which take two each.
func defaultMaxEntries() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return max(int(l.Cur/2), 1)
}

// reuseAddress is a net.Dialer's Control.
func reuseAddress(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}
