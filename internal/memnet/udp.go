package memnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/simreach/simreach/internal/dgram"
)

var errTimeout = os.ErrDeadlineExceeded

// UDPConn is a UDP socket of a Network. Any goroutine may read or write.
type UDPConn struct {
	s *socket
}

var _ dgram.Conn = (*UDPConn)(nil)

// ListenUDP binds addr, which must name an address; port 0 chooses a free one.
// A taken address fails with syscall.EADDRINUSE, a closed Network with
// net.ErrClosed.
func (n *Network) ListenUDP(addr netip.AddrPort) (*UDPConn, error) {
	s, err := n.bind(ProtocolUDP, addr)
	if err != nil {
		return nil, err
	}
	return &UDPConn{s}, nil
}

// ReadBatch is dgram.Conn's. A datagram longer than its Buf is cut, as a kernel
// does.
func (c *UDPConn) ReadBatch(ds []dgram.Datagram) (int, error) {
	if len(ds) == 0 {
		return 0, nil
	}
	return c.s.read(len(ds), nil, func(i int, p *packet) {
		ds[i].N = copy(ds[i].Buf, p.buf)
		ds[i].Addr = p.src
	})
}

// WriteBatch is dgram.Conn's. A datagram that is too large is skipped; the error
// is that of the first one.
func (c *UDPConn) WriteBatch(ds []dgram.Datagram) (int, error) {
	if isClosed(c.s.done) {
		return 0, net.ErrClosed
	}
	sent := 0
	var first error
	for i := range ds {
		err := c.s.net.send(c.s.key, ds[i].Addr, ds[i].Buf[:ds[i].N])
		switch {
		case err == nil:
			sent++
		case errors.Is(err, net.ErrClosed):
			return sent, err
		case first == nil:
			first = err
		}
	}
	return sent, first
}

// LocalAddr is the bound address.
func (c *UDPConn) LocalAddr() netip.AddrPort { return c.s.key.addr }

// Close wakes readers. Closing twice returns net.ErrClosed.
func (c *UDPConn) Close() error {
	if !c.s.close() {
		return net.ErrClosed
	}
	return nil
}

// PacketConn is the same socket behind the standard interface, with read
// deadlines, for libraries that want one.
func (c *UDPConn) PacketConn() net.PacketConn { return &packetConn{c: c} }

type packetConn struct {
	c  *UDPConn
	rd deadline
}

func (p *packetConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	var src netip.AddrPort
	_, err = p.c.s.read(1, p.rd.channel(), func(_ int, pk *packet) {
		n, src = copy(b, pk.buf), pk.src
	})
	if err != nil {
		return 0, nil, &net.OpError{Op: "read", Net: "udp", Source: p.LocalAddr(), Err: err}
	}
	return n, net.UDPAddrFromAddrPort(src), nil
}

func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	ua, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: addr, Err: net.InvalidAddrError("not a *net.UDPAddr")}
	}
	if _, err := p.c.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: ua.AddrPort()}}); err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: addr, Err: err}
	}
	return len(b), nil
}

func (p *packetConn) Close() error {
	p.rd.set(time.Time{})
	return p.c.Close()
}
func (p *packetConn) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(p.c.LocalAddr()) }
func (p *packetConn) SetDeadline(t time.Time) error      { return p.SetReadDeadline(t) }
func (p *packetConn) SetReadDeadline(t time.Time) error  { p.rd.set(t); return nil }
func (p *packetConn) SetWriteDeadline(_ time.Time) error { return nil } // a write never blocks
