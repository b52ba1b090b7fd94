// Package dgram is the seam between GTP-U or PFCP and UDP: a Conn moves
// datagrams in batches. Its forms are a kernel socket (recvmmsg and sendmmsg)
// and, in internal/memnet, memory. It starts no goroutine.
package dgram

import "net/netip"

// Datagram is one UDP payload with its peer. Buf is the caller's; N is how many
// of its bytes count.
type Datagram struct {
	Buf  []byte
	N    int
	Addr netip.AddrPort // the sender on Read, the destination on Write
}

// Conn is a bound UDP socket. One goroutine reads; any number may write.
type Conn interface {
	// ReadBatch fills ds[i].Buf, N and Addr from the front, blocks until there is
	// at least one datagram and returns how many it filled. After Close it
	// returns net.ErrClosed. Transient errors (ICMP port unreachable) are not
	// returned.
	ReadBatch(ds []Datagram) (int, error)
	// WriteBatch sends ds[i].Buf[:N] to ds[i].Addr and returns how many were sent.
	WriteBatch(ds []Datagram) (int, error)
	LocalAddr() netip.AddrPort
	Close() error
}
