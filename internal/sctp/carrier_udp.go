package sctp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// PortUDP is the port of SCTP over UDP, RFC 6951.
const PortUDP = 9899

// socketCarrier is a raw IP or UDP socket with the control messages that tell,
// and choose, the local address. Exactly one of v4 and v6 is set.
type socketCarrier struct {
	conn  net.PacketConn
	v4    *ipv4.PacketConn
	v6    *ipv6.PacketConn
	local netip.Addr
	udp   bool
}

// openUDP binds a UDP socket for encapsulated SCTP.
func openUDP(ctx context.Context, local netip.Addr, port uint16) (*socketCarrier, error) {
	network := "udp4"
	if local.Is6() {
		network = "udp6"
	}
	return openSocket(ctx, network, netip.AddrPortFrom(local, port).String(), local)
}

func openSocket(ctx context.Context, network, address string, local netip.Addr) (*socketCarrier, error) {
	lc := net.ListenConfig{Control: socketOptions}
	conn, err := lc.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("sctp: %w", err)
	}
	c := &socketCarrier{conn: conn, local: local}
	_, c.udp = conn.(*net.UDPConn)
	if local.Is4() {
		c.v4 = ipv4.NewPacketConn(conn)
		err = c.v4.SetControlMessage(ipv4.FlagDst, true)
	} else {
		c.v6 = ipv6.NewPacketConn(conn)
		err = c.v6.SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("sctp: ask for destination addresses: %w", err)
	}
	return c, nil
}

func (c *socketCarrier) ReadPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	var (
		n   int
		src net.Addr
		dst net.IP
		err error
	)
	if c.v4 != nil {
		var cm *ipv4.ControlMessage
		if n, cm, src, err = c.v4.ReadFrom(b); cm != nil {
			dst = cm.Dst
		}
	} else {
		var cm *ipv6.ControlMessage
		if n, cm, src, err = c.v6.ReadFrom(b); cm != nil {
			dst = cm.Dst
		}
	}
	if err != nil {
		if errors.Is(err, net.ErrClosed) {
			err = net.ErrClosed
		}
		return 0, netip.AddrPort{}, netip.Addr{}, err
	}
	to, _ := netip.AddrFromSlice(dst)
	return n, addrPortOf(src), to.Unmap(), nil
}

func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort()
	case *net.IPAddr:
		ip, _ := netip.AddrFromSlice(a.IP)
		return netip.AddrPortFrom(ip.Unmap().WithZone(a.Zone), 0)
	}
	return netip.AddrPort{}
}

func (c *socketCarrier) WritePacket(b []byte, src netip.Addr, dst netip.AddrPort) error {
	var to net.Addr = &net.IPAddr{IP: dst.Addr().AsSlice(), Zone: dst.Addr().Zone()}
	if c.udp {
		to = net.UDPAddrFromAddrPort(dst)
	}
	choose := c.local.IsUnspecified() && src.IsValid() && !src.IsUnspecified()
	var err error
	switch {
	case c.v4 != nil && choose:
		_, err = c.v4.WriteTo(b, &ipv4.ControlMessage{Src: src.AsSlice()}, to)
	case c.v4 != nil:
		_, err = c.v4.WriteTo(b, nil, to)
	case choose:
		_, err = c.v6.WriteTo(b, &ipv6.ControlMessage{Src: src.AsSlice()}, to)
	default:
		_, err = c.v6.WriteTo(b, nil, to)
	}
	return err
}

func (c *socketCarrier) LocalAddr() netip.Addr { return c.local }
func (c *socketCarrier) Close() error          { return c.conn.Close() }
