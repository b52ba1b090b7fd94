// Package netstack is a userspace TCP/IP stack that is also a tun.Device: Read takes
// the packets that the stack sends, Write hands it packets it receives. Dial, Listen
// and ListenPacket are its sockets. It gives UEs and data networks an IP end without
// root, without a TUN and any number of times in one process. One Stack may own
// many addresses, IPv4 and IPv6; it answers ICMP echo and resets TCP to closed ports.
//
// The stack's own goroutines (gVisor's) start with New and end with Close. They park
// in ways that testing/synctest does not count as idle: use tuntest in bubbles.
// The package resolves no names, forwards no packets between addresses and does no
// neighbour or router discovery.
package netstack

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/simreach/simreach/internal/tun"
)

const (
	nic = tcpip.NICID(1)

	defaultMTU         = 1500
	defaultQueueLength = 1024
	batchSize          = 64

	minBuffer     = 4 << 10
	defaultBuffer = 512 << 10
	maxBuffer     = 4 << 20
)

// Config describes a Stack. The zero value is usable.
type Config struct {
	// Name is what Name returns; empty means "netstack".
	Name string
	// Addresses the stack owns from the start. The prefix length is kept for show:
	// everything else is reached through the device.
	Addresses []netip.Prefix
	// MTU in bytes; 0 means 1500, at least 1280 if there are IPv6 addresses.
	MTU int
	// QueueLength is how many packets may wait for Read; more are dropped, as on
	// any interface. 0 means 1024.
	QueueLength int
}

// Validate reports the first field that is out of range.
func (c Config) Validate() error {
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		return fmt.Errorf("netstack: mtu %d: want 576 to 65535", c.MTU)
	}
	if c.QueueLength < 0 {
		return fmt.Errorf("netstack: queue length %d: want at least 0", c.QueueLength)
	}
	for _, a := range c.Addresses {
		if !a.IsValid() {
			return errors.New("netstack: invalid address")
		}
	}
	return nil
}

// Stack is a TCP/IP stack. All methods may be called from any goroutine, but Read
// only from one at a time.
type Stack struct {
	name   string
	mtu    int
	stack  *stack.Stack
	link   *channel.Endpoint
	ready  chan struct{} // one token: there may be packets to Read
	closed chan struct{}
	once   sync.Once
}

var _ tun.Device = (*Stack)(nil)

// New returns a running stack.
func New(cfg Config) (*Stack, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	// The library would log to standard error about packets that it does not like: they
	// are answered or dropped.
	log.SetTarget(&log.MultiEmitter{})
	s := &Stack{
		name:   cfg.Name,
		mtu:    cfg.MTU,
		ready:  make(chan struct{}, 1),
		closed: make(chan struct{}),
	}
	if s.name == "" {
		s.name = "netstack"
	}
	if s.mtu == 0 {
		s.mtu = defaultMTU
	}
	queue := cfg.QueueLength
	if queue == 0 {
		queue = defaultQueueLength
	}
	s.link = channel.New(queue, uint32(s.mtu), "")
	s.link.AddNotify(notify(s.ready))
	s.stack = stack.New(stack.Options{
		// Without duplicate address detection an address serves at once; the
		// session management function has seen to its uniqueness.
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocolWithOptions(ipv6.Options{})},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        true,
	})
	if err := s.setUp(cfg.Addresses); err != nil {
		s.Close()
		return nil, fmt.Errorf("netstack %s: %w", s.name, err)
	}
	return s, nil
}

func (s *Stack) setUp(addrs []netip.Prefix) error {
	if err := s.stack.CreateNIC(nic, s.link); err != nil {
		return asError(err)
	}
	s.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	sack := tcpip.TCPSACKEnabled(true)
	// Without RACK: with it the last segment of a short connection, if it is lost, is sent
	// again after 8 s and more now and then.
	recovery := tcpip.TCPRecovery(0)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	cubic := tcpip.CongestionControlOption("cubic")
	recv := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &moderate, &cubic, &recv, &send} {
		if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("%T: %w", o, asError(err))
		}
	}
	for _, a := range addrs {
		if err := s.AddAddress(a); err != nil {
			return err
		}
	}
	return nil
}

// notify wakes the reader; it never blocks.
type notify chan struct{}

// WriteNotify implements channel.Notification.
func (n notify) WriteNotify() {
	select {
	case n <- struct{}{}:
	default:
	}
}

// AddAddress makes the stack own the address of p.
func (s *Stack) AddAddress(p netip.Prefix) error {
	err := s.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol: protocolOf(p.Addr()),
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address:   address(p.Addr()),
			PrefixLen: p.Bits(),
		},
	}, stack.AddressProperties{})
	if err != nil {
		return fmt.Errorf("add address %v: %w", p, asError(err))
	}
	return nil
}

// RemoveAddress ends the ownership of the address of p. Connections on it starve:
// close them first.
func (s *Stack) RemoveAddress(p netip.Prefix) error {
	if err := s.stack.RemoveAddress(nic, address(p.Addr())); err != nil {
		return fmt.Errorf("remove address %v: %w", p, asError(err))
	}
	return nil
}

// Read implements tun.Device: it returns packets that the stack sends.
func (s *Stack) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		select {
		case <-s.closed:
			return 0, os.ErrClosed
		default:
		}
		n := 0
		for n < min(len(bufs), len(sizes), batchSize) {
			pkt := s.link.Read()
			if pkt == nil {
				break
			}
			sizes[n] = copyOut(bufs[n][offset:], pkt)
			pkt.DecRef()
			n++
		}
		if n > 0 || len(bufs) == 0 {
			return n, nil
		}
		select {
		case <-s.ready:
		case <-s.closed:
			return 0, os.ErrClosed
		}
	}
}

func copyOut(b []byte, pkt *stack.PacketBuffer) int {
	n := 0
	for _, part := range pkt.AsSlices() {
		n += copy(b[n:], part)
	}
	return n
}

// Write implements tun.Device: it hands packets to the stack. Those that are not IP
// are dropped.
func (s *Stack) Write(bufs [][]byte, offset int) (int, error) {
	select {
	case <-s.closed:
		return 0, os.ErrClosed
	default:
	}
	n := 0
	for _, b := range bufs {
		p := b[offset:]
		var proto tcpip.NetworkProtocolNumber
		switch header.IPVersion(p) {
		case header.IPv4Version:
			proto = header.IPv4ProtocolNumber
		case header.IPv6Version:
			proto = header.IPv6ProtocolNumber
		default:
			continue
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
		s.link.InjectInbound(proto, pkt)
		pkt.DecRef()
		n++
	}
	return n, nil
}

// MTU implements tun.Device.
func (s *Stack) MTU() int { return s.mtu }

// Name implements tun.Device.
func (s *Stack) Name() string { return s.name }

// BatchSize implements tun.Device.
func (s *Stack) BatchSize() int { return batchSize }

// Close aborts every connection, ends the stack's goroutines and wakes Read.
func (s *Stack) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.stack.Close()
		s.link.Close()
		s.stack.Wait()
	})
	return nil
}

// address turns a into the stack's form; the zero Addr is "any".
func address(a netip.Addr) tcpip.Address {
	if !a.IsValid() {
		return tcpip.Address{}
	}
	return tcpip.AddrFromSlice(a.Unmap().AsSlice())
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Unmap().Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}
