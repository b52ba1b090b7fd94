//go:build !linux

package outer

import "syscall"

// defaultMaxConnections does not know the limit.
func defaultMaxConnections() int { return unlimitedConnections }

// reuseAddress is a net.Dialer's Control.
func reuseAddress(_, _ string, _ syscall.RawConn) error { return nil }

// readNow would read without waiting; here it finds nothing, which is always right.
func readNow(syscall.RawConn, []byte) (int, error) { return 0, nil }

// hasRoom is not known here.
func hasRoom(syscall.RawConn) bool { return false }

// writeLast would write without waiting; here it does not.
func writeLast(syscall.RawConn, []byte) bool { return false }
