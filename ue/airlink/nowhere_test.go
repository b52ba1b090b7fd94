package airlink

import (
	"net"
	"net/netip"

	"github.com/simreach/simreach/internal/dgram"
)

// nowhere takes every datagram.
type nowhere struct{}

func (nowhere) ReadBatch([]dgram.Datagram) (int, error)     { return 0, net.ErrClosed }
func (nowhere) WriteBatch(ds []dgram.Datagram) (int, error) { return len(ds), nil }
func (nowhere) LocalAddr() netip.AddrPort                   { return clientAddr }
func (nowhere) Close() error                                { return nil }
