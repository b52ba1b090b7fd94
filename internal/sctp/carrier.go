package sctp

import "net/netip"

// Carrier moves whole SCTP packets, common header first, between addresses. Its
// forms are a raw IP socket, a UDP socket (RFC 6951), and memory
// (internal/memnet's IPConn). Ports in its addresses are those of UDP, zero
// where there is none.
type Carrier interface {
	// ReadPacket waits for a packet; dst is the address it was sent to, invalid
	// where the carrier cannot tell. One goroutine reads. After Close it returns
	// net.ErrClosed; any other error is taken as passing.
	ReadPacket(b []byte) (n int, src netip.AddrPort, dst netip.Addr, err error)
	// WritePacket sends b to dst, from src if that is valid and the carrier has a
	// choice. Any goroutine may write. A lost packet is not an error.
	WritePacket(b []byte, src netip.Addr, dst netip.AddrPort) error
	// LocalAddr is the bound address, unspecified where all are bound.
	LocalAddr() netip.Addr
	Close() error
}

// sharedCarrier is implemented by carriers on which other users of the same
// address may listen: there, a packet for an unknown port may be theirs.
type sharedCarrier interface {
	// Exclusive tells whether this carrier is at this moment the only receiver.
	Exclusive() bool
}
