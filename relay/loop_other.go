//go:build !linux

package relay

import (
	"net"
	"time"
)

// loop is an event loop, which only Linux has.
type loop struct{}

func newLoop(time.Duration) *loop { return nil }

func (*loop) start(*Link, *net.TCPConn, *net.TCPConn) bool { return false }
func (*loop) cut(*Link, error)                             {}
func (*loop) prepare() error                               { return nil }
func (*loop) run() error                                   { return nil }
func (*loop) stop()                                        {}
func (*loop) close()                                       {}
