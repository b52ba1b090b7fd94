package memnet

import (
	"net"
	"net/netip"
)

// IPConn is a raw IP socket of a Network: it carries what follows the IP header.
// Its method set is the packet carrier that internal/sctp takes, so that SCTP
// over memory shows in a tap as the packets a real link would carry.
type IPConn struct {
	s *socket
}

// ListenIP binds addr for one IP protocol number (ProtocolSCTP). Errors are
// ListenUDP's.
func (n *Network) ListenIP(addr netip.Addr, protocol uint8) (*IPConn, error) {
	s, err := n.bind(protocol, netip.AddrPortFrom(addr, 0))
	if err != nil {
		return nil, err
	}
	return &IPConn{s}, nil
}

// ReadPacket waits for a packet and returns its length in b, its sender (whose
// port is zero) and the address it was sent to. After Close: net.ErrClosed.
func (c *IPConn) ReadPacket(b []byte) (n int, src netip.AddrPort, dst netip.Addr, err error) {
	_, err = c.s.read(1, nil, func(_ int, p *packet) { n, src = copy(b, p.buf), p.src })
	return n, src, c.s.key.addr.Addr(), err
}

// WritePacket sends b to dst, whose port must be zero. There is only one source
// address, so src is ignored.
func (c *IPConn) WritePacket(b []byte, _ netip.Addr, dst netip.AddrPort) error {
	if isClosed(c.s.done) {
		return net.ErrClosed
	}
	return c.s.net.send(c.s.key, netip.AddrPortFrom(dst.Addr(), 0), b)
}

// LocalAddr is the bound address.
func (c *IPConn) LocalAddr() netip.Addr { return c.s.key.addr.Addr() }

// Close wakes the reader. Closing twice returns net.ErrClosed.
func (c *IPConn) Close() error {
	if !c.s.close() {
		return net.ErrClosed
	}
	return nil
}
