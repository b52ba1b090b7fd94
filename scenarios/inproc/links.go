package inproc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/simreach/simreach/internal/capture"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/netstack"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
)

// links are the networks of a topology: N2, N3 and N4 in memory, N6 a userspace
// stack for each UPF and DNN, and everything that is TCP on loopback.
type links struct {
	n2, n3, n4 *memnet.Network
	loopback   [3]byte // first octets of this run's addresses in 127.0.0.0/8
	files      []*capture.File
	n6Files    map[string]*capture.File // by UPF
}

// newLinks makes the networks; dir takes a capture of each that carries packets.
func newLinks(s *spec.Spec, dir string) (*links, error) {
	l := &links{
		n2: memnet.New(memnet.Config{}), n3: memnet.New(memnet.Config{Queue: 8192}), n4: memnet.New(memnet.Config{}),
		// Runs side by side on one machine take different corners of loopback, in all
		// likelihood: there are 32768.
		loopback: [3]byte{127, byte(64 + rand.N(128)), byte(rand.N(256))},
		n6Files:  map[string]*capture.File{},
	}
	if dir == "" {
		return l, nil
	}
	for name, n := range map[string]*memnet.Network{plan.N2: l.n2, plan.N3: l.n3, plan.N4: l.n4} {
		f, err := capture.CreateIP(filepath.Join(dir, name+".pcap"))
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.files = append(l.files, f)
		n.Tap(func(m memnet.Frame) {
			if m.Protocol == memnet.ProtocolUDP {
				f.UDP(m.Time, m.Src, m.Dst, m.Payload)
				return
			}
			f.IP(m.Time, m.Src.Addr(), m.Dst.Addr(), m.Protocol, m.Payload)
		})
	}
	for _, u := range s.UPFs {
		f, err := capture.CreateIP(filepath.Join(dir, plan.N6Of(u.Name)+".pcap"))
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.files = append(l.files, f)
		l.n6Files[u.Name] = f
	}
	return l, nil
}

func (l *links) close() error {
	errs := []error{l.n2.Close(), l.n3.Close(), l.n4.Close()}
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// host returns the loopback address that stands for a node on a TCP network.
func (l *links) host(s *spec.Spec, node, network string) netip.Addr {
	// The last two octets of a planned address are unique on the networks that carry
	// TCP: each run turns them into others with its corner.
	a := plan.On(s, node, network).As4()
	return netip.AddrFrom4([4]byte{l.loopback[0], l.loopback[1], l.loopback[2] ^ a[2], a[3]})
}

// dialFrom opens TCP from one loopback address to another.
func dialFrom(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	return d.DialContext(ctx, "tcp", to.String())
}

// n6 is the data-network side of a UPF: a userspace stack per DNN, on which the
// inner relay stands.
type n6 struct {
	stacks []n6Stack
}

type n6Stack struct {
	dnn   string
	pools []netip.Prefix
	stack *netstack.Stack
	dev   tun.Device // the stack, or a tap on it
}

// openN6 makes the stacks of a UPF.
func (l *links) openN6(s *spec.Spec, u spec.UPF) (*n6, error) {
	n := &n6{}
	relay := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 19, 255, 1}), 24)
	if r, ok := s.InnerOf(u.Name); ok {
		relay = netip.PrefixFrom(plan.On(s, r.Name, plan.N6Of(u.Name)), 24)
	}
	for _, p := range u.Pools {
		i := slices.IndexFunc(n.stacks, func(x n6Stack) bool { return x.dnn == p.DNN })
		if i < 0 {
			st, err := netstack.New(netstack.Config{Name: "n6-" + p.DNN, Addresses: []netip.Prefix{relay}, MTU: spec.DefaultMTU})
			if err != nil {
				return nil, errors.Join(fmt.Errorf("N6 of %s: %w", u.Name, err), n.close())
			}
			i = len(n.stacks)
			n.stacks = append(n.stacks, n6Stack{dnn: p.DNN, stack: st, dev: l.tapped(u.Name, st)})
		}
		n.stacks[i].pools = append(n.stacks[i].pools, p.Prefix())
	}
	return n, nil
}

func (n *n6) close() error {
	var errs []error
	for _, x := range n.stacks {
		errs = append(errs, x.stack.Close())
	}
	return errors.Join(errs...)
}

// dial opens TCP to a UE from the stack whose pools have its address.
func (n *n6) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	st, ok := n.towards(to.Addr())
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: errNoRoute}
	}
	return st.DialContext(ctx, "tcp", to.String())
}

// towards returns the stack whose pools have a UE's address.
func (n *n6) towards(device netip.Addr) (*netstack.Stack, bool) {
	for _, x := range n.stacks {
		for _, p := range x.pools {
			if p.Contains(device) {
				return x.stack, true
			}
		}
	}
	return nil, false
}

var errNoRoute = errors.New("no UPF behind this relay has the address in a pool")

// tapped returns dev, recorded in the UPF's N6 capture if there is one.
func (l *links) tapped(upf string, dev tun.Device) tun.Device {
	f, ok := l.n6Files[upf]
	if !ok {
		return dev
	}
	return tap{Device: dev, file: f}
}
