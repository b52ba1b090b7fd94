//go:build !linux

package relay

import (
	"net"
	"time"
)

func (d *direction) copyTCP(r *Relayer, _, _ *net.TCPConn) error { return d.copyBuffered(r) }

func peekHead(c *net.TCPConn) ([]byte, error) { return stepHead(c) }

// arrival leaves it to Read to wait.
func arrival(Conn) func() error { return nil }

// Arrived reads nothing here.
func Arrived(net.Conn, int) []byte { return nil }

// setUserTimeout does nothing here.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }

// watchReset notices nothing here: the reset shows with the next write.
func watchReset(Conn) error { return nil }

// resetOf knows nothing: the reset shows with the next read.
func resetOf(Conn) error { return nil }

// disconnect is left to closing with a reset.
func disconnect(Conn) {}
