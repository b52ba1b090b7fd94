//go:build !linux

package outer

import (
	"math"
	"syscall"
)

// defaultMaxEntries does not know the limit: opening fails when it is reached.
func defaultMaxEntries() int { return math.MaxInt32 }

// reuseAddress is a net.Dialer's Control.
func reuseAddress(_, _ string, _ syscall.RawConn) error { return nil }
