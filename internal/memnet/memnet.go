// Package memnet is a network in memory: UDP and raw IP datagrams between
// addresses of one Network, with delay, loss, reordering and duplication, and
// with taps from which a caller can write a capture. It works inside synctest
// bubbles and starts no goroutine of its own; delayed datagrams are delivered by
// a timer, which Close stops. It has no TCP, no routes, no fragmentation and no
// ICMP: a datagram to an address that nobody bound is counted and dropped.
package memnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// IP protocol numbers seen in a Frame.
const (
	ProtocolUDP  uint8 = 17
	ProtocolSCTP uint8 = 132
)

// Config describes a Network and how it maltreats datagrams. The zero value is
// a perfect network.
type Config struct {
	Delay     time.Duration `yaml:"delay"`      // one way; zero: delivered before the send returns
	Jitter    time.Duration `yaml:"jitter"`     // up to this much more delay, uniform; zero: none. It reorders
	Loss      float64       `yaml:"loss"`       // probability 0..1 that a datagram is lost
	Reorder   float64       `yaml:"reorder"`    // probability 0..1 that a datagram is held back by ReorderBy
	ReorderBy time.Duration `yaml:"reorder_by"` // zero: 1 ms where Reorder is set
	Duplicate float64       `yaml:"duplicate"`  // probability 0..1 that a datagram arrives twice
	Queue     int           `yaml:"queue"`      // datagrams a socket holds before it drops; zero: 1024
	MTU       int           `yaml:"mtu"`        // largest payload in bytes; zero: 65535. Larger ones fail with EMSGSIZE
	Seed      uint64        `yaml:"seed"`       // of the generator behind the probabilities; same seed, same fate
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	for name, p := range map[string]float64{"loss": c.Loss, "reorder": c.Reorder, "duplicate": c.Duplicate} {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("memnet: %s %v is not a probability", name, p)
		}
	}
	if c.Delay < 0 || c.Jitter < 0 || c.ReorderBy < 0 || c.Queue < 0 || c.MTU < 0 {
		return errors.New("memnet: negative value")
	}
	return nil
}

// Frame is one datagram as a tap sees it. The ports of SCTP are inside the
// payload, which starts with the SCTP common header; the ports of Src and Dst
// are zero then. Payload is valid only during the call.
type Frame struct {
	Time     time.Time
	Src, Dst netip.AddrPort
	Protocol uint8
	Payload  []byte
}

// Stats counts datagrams of a Network.
type Stats struct {
	Sent        uint64
	Delivered   uint64
	Lost        uint64 // by Loss
	Duplicated  uint64
	Reordered   uint64
	Overflowed  uint64 // the receiver's queue was full
	Unreachable uint64 // nobody had bound the destination
}

type counters struct {
	sent, delivered, lost, duplicated, reordered, overflowed, unreachable atomic.Uint64
}

// key names a socket: ports are zero for raw IP.
type key struct {
	protocol uint8
	addr     netip.AddrPort
}

// Network connects sockets. All methods may be called from any goroutine.
type Network struct {
	cfg   Config
	count counters
	taps  atomic.Pointer[[]*tap]
	tapMu sync.Mutex // serialises tap calls and changes of taps

	mu      sync.Mutex // guards what follows
	impair  Config     // what is in force; SetImpairments changes it
	rng     *rand.Rand
	sockets map[key]*socket
	next    uint16 // ephemeral port to try next
	late    lateQueue
	closed  bool
}

type tap struct{ f func(Frame) }

const firstEphemeral = 49152

// New returns a network; cfg is checked by Validate and taken as it is.
func New(cfg Config) *Network {
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	if cfg.MTU == 0 {
		cfg.MTU = 65535
	}
	return &Network{
		cfg:     cfg,
		impair:  cfg,
		rng:     rand.New(rand.NewPCG(cfg.Seed, 0x6d656d6e6574)),
		sockets: make(map[key]*socket),
		next:    firstEphemeral,
	}
}

// SetImpairments replaces delay, jitter, loss, reordering and duplication from
// now on; the other fields of cfg are ignored.
func (n *Network) SetImpairments(cfg Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.impair = cfg
}

// Tap calls f for each datagram as it is sent, before the network loses or
// delays it, one call at a time and in order of sending per sender. f must not
// send on the network. The returned function removes the tap; no call of f is
// under way once it has returned.
func (n *Network) Tap(f func(Frame)) (remove func()) {
	t := &tap{f: f}
	n.change(func(old []*tap) []*tap { return append(old, t) })
	return func() {
		n.change(func(old []*tap) []*tap {
			kept := old[:0]
			for _, o := range old {
				if o != t {
					kept = append(kept, o)
				}
			}
			return kept
		})
	}
}

func (n *Network) change(f func([]*tap) []*tap) {
	n.tapMu.Lock()
	defer n.tapMu.Unlock()
	var old []*tap
	if p := n.taps.Load(); p != nil {
		old = append(old, *p...)
	}
	taps := f(old)
	n.taps.Store(&taps)
}

// Stats is a copy of the counters.
func (n *Network) Stats() Stats {
	c := &n.count
	return Stats{
		Sent: c.sent.Load(), Delivered: c.delivered.Load(), Lost: c.lost.Load(),
		Duplicated: c.duplicated.Load(), Reordered: c.reordered.Load(),
		Overflowed: c.overflowed.Load(), Unreachable: c.unreachable.Load(),
	}
}

// Close closes every socket and forgets delayed datagrams.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	n.late.stop()
	open := make([]*socket, 0, len(n.sockets))
	for _, s := range n.sockets {
		open = append(open, s)
	}
	clear(n.sockets)
	n.mu.Unlock()
	for _, s := range open {
		s.shut()
	}
	return nil
}

// bind registers a socket. Port 0 of UDP chooses a free one.
func (n *Network) bind(protocol uint8, addr netip.AddrPort) (*socket, error) {
	ip := addr.Addr().Unmap()
	if !ip.IsValid() || ip.IsUnspecified() {
		return nil, fmt.Errorf("memnet: bind %s: %w: every socket here needs its own address", addr, syscall.EADDRNOTAVAIL)
	}
	addr = netip.AddrPortFrom(ip, addr.Port())
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, net.ErrClosed
	}
	k := key{protocol, addr}
	if protocol == ProtocolUDP && addr.Port() == 0 {
		for range 1 << 16 {
			k.addr = netip.AddrPortFrom(ip, n.next)
			if n.next++; n.next < firstEphemeral {
				n.next = firstEphemeral
			}
			if _, taken := n.sockets[k]; !taken {
				break
			}
		}
	}
	if _, taken := n.sockets[k]; taken {
		return nil, fmt.Errorf("memnet: bind %s: %w", addr, syscall.EADDRINUSE)
	}
	s := newSocket(n, k, n.cfg.Queue)
	n.sockets[k] = s
	return s, nil
}

func (n *Network) unbind(s *socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[s.key] == s {
		delete(n.sockets, s.key)
	}
}

// send carries one datagram from src. It copies payload.
func (n *Network) send(src key, dst netip.AddrPort, payload []byte) error {
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if len(payload) > n.cfg.MTU {
		return fmt.Errorf("memnet: %d bytes to %s: %w", len(payload), dst, syscall.EMSGSIZE)
	}
	n.count.sent.Add(1)
	if taps := n.taps.Load(); taps != nil && len(*taps) > 0 {
		n.tap(Frame{Time: time.Now(), Src: src.addr, Dst: dst, Protocol: src.protocol, Payload: payload})
	}
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return net.ErrClosed
	}
	to := key{src.protocol, dst}
	copies := 1
	if n.chance(n.impair.Loss) {
		n.count.lost.Add(1)
		copies = 0
	} else if n.chance(n.impair.Duplicate) {
		n.count.duplicated.Add(1)
		copies = 2
	}
	var now [2]*socket
	for i := range copies {
		if d := n.holdBack(); d > 0 {
			n.late.add(n, d, to, src.addr, payload)
		} else {
			now[i] = n.sockets[to]
			if now[i] == nil {
				n.count.unreachable.Add(1)
			}
		}
	}
	n.mu.Unlock()
	for _, s := range now {
		if s != nil {
			s.deliver(src.addr, payload)
		}
	}
	return nil
}

func (n *Network) tap(f Frame) {
	n.tapMu.Lock()
	defer n.tapMu.Unlock()
	for _, t := range *n.taps.Load() {
		t.f(f)
	}
}

func (n *Network) chance(p float64) bool { return p > 0 && n.rng.Float64() < p }

// holdBack draws the delay of one datagram.
func (n *Network) holdBack() time.Duration {
	d := n.impair.Delay
	if n.impair.Jitter > 0 {
		d += time.Duration(n.rng.Int64N(int64(n.impair.Jitter)))
	}
	if n.chance(n.impair.Reorder) {
		n.count.reordered.Add(1)
		if n.impair.ReorderBy == 0 {
			d += time.Millisecond
		}
		d += n.impair.ReorderBy
	}
	return d
}
