package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// DialContext connects to addr, an IP address and port. network is "tcp" or "udp",
// with or without "4" or "6". A TCP connection has CloseWrite, CloseRead and SetLinger.
// Errors are *net.OpError and wrap what a kernel socket gives: syscall.ECONNREFUSED,
// EHOSTUNREACH, ETIMEDOUT, or the error of ctx.
func (s *Stack) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.DialContextFrom(ctx, netip.AddrPort{}, network, addr)
}

// DialContextFrom is DialContext from a given local address, which the stack must
// own. An invalid address or port 0 leaves the choice to the stack.
func (s *Stack) DialContextFrom(ctx context.Context, local netip.AddrPort, network, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: stringAddr{network, addr}, Err: err}
	}
	remote, err := parse(network, addr)
	if err != nil {
		return fail(err)
	}
	if !remote.Addr().IsValid() {
		return fail(fmt.Errorf("address %q: an IP address is needed", addr))
	}
	proto := protocolOf(remote.Addr())
	if strings.HasPrefix(network, "udp") {
		var laddr *tcpip.FullAddress
		if local.Addr().IsValid() || local.Port() != 0 {
			laddr = full(local)
		}
		c, err := gonet.DialUDP(s.stack, laddr, full(remote), proto)
		if err != nil {
			return fail(retype(err, new(atomic.Bool)))
		}
		return &packetConn{UDPConn: c}, nil
	}
	c, err := s.dialTCP(ctx, local, remote, proto)
	if err != nil {
		return fail(err)
	}
	return c, nil
}

func (s *Stack) dialTCP(ctx context.Context, local, remote netip.AddrPort, proto tcpip.NetworkProtocolNumber) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	wq := new(waiter.Queue)
	ep, terr := s.stack.NewEndpoint(tcp.ProtocolNumber, proto, wq)
	if terr != nil {
		return nil, asError(terr)
	}
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if local.Addr().IsValid() || local.Port() != 0 {
		if terr := ep.Bind(*full(local)); terr != nil {
			ep.Close()
			return nil, asError(terr)
		}
	}
	terr = ep.Connect(*full(remote))
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-writable:
			terr = ep.LastError()
		case <-ctx.Done():
			ep.Close()
			return nil, ctx.Err()
		}
	}
	if terr != nil {
		ep.Close()
		return nil, asError(terr)
	}
	// The peer of this stack is another process's socket: small writes go out at
	// once, as package net does it.
	ep.SocketOptions().SetDelayOption(false)
	return newConn(wq, ep), nil
}

// Listen accepts TCP connections on addr, "IP:port" or ":port" for every address and
// both families; port 0 chooses one.
func (s *Stack) Listen(network, addr string) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: stringAddr{network, addr}, Err: err}
	}
	if !strings.HasPrefix(network, "tcp") {
		return fail(net.UnknownNetworkError(network))
	}
	local, err := parse(network, addr)
	if err != nil {
		return fail(err)
	}
	wq := new(waiter.Queue)
	ep, terr := s.stack.NewEndpoint(tcp.ProtocolNumber, listenProtocol(network, local.Addr()), wq)
	if terr != nil {
		return fail(asError(terr))
	}
	ep.SocketOptions().SetReuseAddress(true)
	if terr := ep.Bind(*full(local)); terr != nil {
		ep.Close()
		return fail(asError(terr))
	}
	if terr := ep.Listen(128); terr != nil {
		ep.Close()
		return fail(asError(terr))
	}
	return &listener{TCPListener: gonet.NewTCPListener(s.stack, wq, ep), wq: wq, ep: ep}, nil
}

// ListenPacket opens a UDP socket on addr, as Listen does for TCP.
func (s *Stack) ListenPacket(network, addr string) (net.PacketConn, error) {
	fail := func(err error) (net.PacketConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: stringAddr{network, addr}, Err: err}
	}
	if !strings.HasPrefix(network, "udp") {
		return fail(net.UnknownNetworkError(network))
	}
	local, err := parse(network, addr)
	if err != nil {
		return fail(err)
	}
	wq := new(waiter.Queue)
	ep, terr := s.stack.NewEndpoint(udp.ProtocolNumber, listenProtocol(network, local.Addr()), wq)
	if terr != nil {
		return fail(asError(terr))
	}
	if terr := ep.Bind(*full(local)); terr != nil {
		ep.Close()
		return fail(asError(terr))
	}
	return &packetConn{UDPConn: gonet.NewUDPConn(wq, ep)}, nil
}

// listenProtocol is IPv6 for "any": such a socket serves both families.
func listenProtocol(network string, a netip.Addr) tcpip.NetworkProtocolNumber {
	switch {
	case a.IsValid():
		return protocolOf(a)
	case strings.HasSuffix(network, "4"):
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// parse reads "IP:port" or ":port"; an unspecified IP comes back as invalid if the
// network does not tell the family.
func parse(network, addr string) (netip.AddrPort, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return netip.AddrPort{}, net.UnknownNetworkError(network)
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, &net.AddrError{Err: "port is not a number 0 to 65535", Addr: addr}
	}
	var a netip.Addr
	if host != "" {
		if a, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, &net.AddrError{Err: "host is not an IP address", Addr: addr}
		}
		a = a.Unmap()
	}
	if a.IsValid() && (strings.HasSuffix(network, "4") && !a.Is4() || strings.HasSuffix(network, "6") && !a.Is6()) {
		return netip.AddrPort{}, &net.AddrError{Err: "address is not of network " + network, Addr: addr}
	}
	if a.IsUnspecified() {
		a = netip.Addr{}
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

func full(ap netip.AddrPort) *tcpip.FullAddress {
	return &tcpip.FullAddress{Addr: address(ap.Addr()), Port: ap.Port()}
}

type stringAddr struct{ network, addr string }

func (a stringAddr) Network() string { return a.network }
func (a stringAddr) String() string  { return a.addr }

// conn is a TCP connection whose errors have the types of package net.
type conn struct {
	*gonet.TCPConn
	ep     tcpip.Endpoint // that of TCPConn
	closed atomic.Bool
}

func newConn(wq *waiter.Queue, ep tcpip.Endpoint) *conn {
	return &conn{TCPConn: gonet.NewTCPConn(wq, borrower{ep}), ep: ep}
}

// borrower is an endpoint that gives back what it was given to write. The stack's own
// keeps its last reader, and with that the caller's buffer, until TIME-WAIT is over.
type borrower struct{ tcpip.Endpoint }

func (b borrower) Write(p tcpip.Payloader, opts tcpip.WriteOptions) (int64, tcpip.Error) {
	l := &loan{p}
	defer func() { l.Payloader = nil }()
	return b.Endpoint.Write(l, opts)
}

type loan struct{ tcpip.Payloader }

// SetLinger is *net.TCPConn's: with 0 seconds Close discards what was not sent and
// resets the connection, so that the peer learns that it was cut; otherwise Close
// returns at once and the stack delivers the rest.
func (c *conn) SetLinger(sec int) error {
	if c.closed.Load() {
		return &net.OpError{Op: "set", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: net.ErrClosed}
	}
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: sec >= 0, Timeout: time.Duration(max(sec, 0)) * time.Second})
	return nil
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if err != nil {
		err = retype(err, &c.closed)
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, retype(err, &c.closed)
}

func (c *conn) CloseWrite() error { return retype(c.TCPConn.CloseWrite(), &c.closed) }
func (c *conn) CloseRead() error  { return retype(c.TCPConn.CloseRead(), &c.closed) }

func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	return c.TCPConn.Close()
}

type listener struct {
	*gonet.TCPListener
	wq     *waiter.Queue
	ep     tcpip.Endpoint
	closed atomic.Bool
}

// Accept is not the adapter's: its connections do not lead to their endpoints.
func (l *listener) Accept() (net.Conn, error) {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, terr := l.ep.Accept(nil)
		switch terr.(type) {
		case nil:
			return newConn(wq, ep), nil
		case *tcpip.ErrWouldBlock:
			<-readable
		default:
			err := asError(terr)
			if l.closed.Load() {
				err = net.ErrClosed
			}
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: err}
		}
	}
}

func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return net.ErrClosed
	}
	l.TCPListener.Shutdown()
	return l.TCPListener.Close()
}

// packetConn is a UDP socket whose errors have the types of package net.
type packetConn struct {
	*gonet.UDPConn
	closed atomic.Bool
}

func (c *packetConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	return n, retype(err, &c.closed)
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(b)
	return n, from, retype(err, &c.closed)
}

func (c *packetConn) Write(b []byte) (int, error) {
	n, err := c.UDPConn.Write(b)
	return n, retype(err, &c.closed)
}

func (c *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: &net.AddrError{Err: "not a UDP address", Addr: fmt.Sprint(to)}}
	}
	if v4 := u.IP.To4(); v4 != nil {
		// The stack tells the families apart by length.
		u = &net.UDPAddr{IP: v4, Port: u.Port}
	}
	n, err := c.UDPConn.WriteTo(b, u)
	return n, retype(err, &c.closed)
}

func (c *packetConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	return c.UDPConn.Close()
}
