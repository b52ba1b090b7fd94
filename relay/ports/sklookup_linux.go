package ports

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/relay"
)

// steering is the backend of one listening socket and an sk_lookup program
// (Documentation/bpf/prog_sk_lookup.rst).
type steering struct {
	p        *Ports
	max      int
	listener *relay.Acceptor
	objects  []interface{ Close() error } // freed in reverse order
	ports    *ebpf.Map                    // 1 for every open port

	// closed has the ports whose former connections may still wait to be accepted.
	closed  map[uint16]bool
	catchUp chan chan<- struct{} // for the acceptor, which also needs a kick
	gone    chan struct{}        // closed when the acceptor has returned
	stopped bool
}

// newSteering opens the listening socket and attaches the program. Errors of the
// kernel's BPF side are *steeringError.
func (p *Ports) newSteering(ctx context.Context) (_ backend, err error) {
	b := &steering{p: p, max: p.cfg.MaxOpen, closed: map[uint16]bool{}, catchUp: make(chan chan<- struct{}, 1), gone: make(chan struct{})}
	if b.max == 0 {
		b.max = 1 << 16
	}
	fd, anchor, err := bindAnchor(p.cfg)
	if err != nil {
		return nil, err
	}
	socket := os.NewFile(uintptr(fd), "listener")
	if b.listener, err = relay.NewAcceptor(socket); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop(nil))
		}
	}()
	// The program is there before the socket listens: its port is not open.
	spec, err := loadSteer()
	if err != nil {
		return nil, &steeringError{err}
	}
	sockets, err := b.attach(spec, fd, anchor)
	if err != nil {
		return nil, &steeringError{err}
	}
	if err := unix.Listen(fd, p.cfg.Backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	if err := b.bequeath(spec, fd); err != nil {
		p.log.Debug("connections that wait are lost if this process crashes", "error", err)
	}
	if err := sockets.Put(uint32(0), uint64(fd)); err != nil {
		return nil, &steeringError{fmt.Errorf("store the listening socket: %w", err)}
	}
	p.tasks.Go(func() {
		defer close(b.gone)
		b.accept(ctx)
	})
	return b, nil
}

// anchors is how many ports on either side of the range are tried for the
// listening socket.
const anchors = 16

// candidates returns the ports for the listening socket, best first. Beside the
// range it is in nobody's way. Two processes that bind the same one form a reuseport
// group, between whose members the kernel can move connections. 0, the last, lets
// the kernel choose, which costs only the group.
func candidates(first, last uint16) (out []uint16) {
	for port := int(last) + 1; port <= min(int(last)+anchors, math.MaxUint16); port++ {
		out = append(out, uint16(port))
	}
	for port := int(first) - 1; port >= max(int(first)-anchors, 1024); port-- {
		out = append(out, uint16(port))
	}
	beside := len(out)
	for port := int(last); beside == 0 && port > int(last)-anchors && port >= int(first); port-- {
		out = append(out, uint16(port))
	}
	return append(out, 0)
}

// bindAnchor makes the listening socket and binds it to an address where nobody
// reaches it.
func bindAnchor(c Config) (fd int, port uint16, err error) {
	for _, port = range candidates(c.First, c.Last) {
		fd, err = bound(c.Address, port)
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if err != nil || port != 0 {
		return fd, port, err
	}
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fd, uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return fd, uint16(sa.Port), nil
	}
	return -1, 0, errors.Join(os.NewSyscallError("getsockname", err), unix.Close(fd))
}

// bound returns a TCP socket that is bound to the port as those of listen are.
func bound(address netip.Addr, port uint16) (fd int, err error) {
	domain := unix.AF_INET6
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: address.As16(), Port: int(port)}
	if address.Is4() {
		domain = unix.AF_INET
		sa = &unix.SockaddrInet4{Addr: address.As4(), Port: int(port)}
	}
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	call := "setsockopt"
	if domain == unix.AF_INET6 {
		only := 1
		if address.IsUnspecified() {
			only = 0
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1)
		}
	}
	if err == nil {
		call, err = "bind", unix.Bind(fd, sa)
	}
	if err != nil {
		return -1, errors.Join(os.NewSyscallError(call, err), unix.Close(fd))
	}
	return fd, nil
}

// attach loads the program and attaches it to the network namespace of the socket.
// It returns the map for the socket.
func (b *steering) attach(spec *ebpf.CollectionSpec, fd int, anchor uint16) (*ebpf.Map, error) {
	if err := describe(spec, b.p.cfg.Address, anchor); err != nil {
		return nil, err
	}
	var o struct {
		steerMaps
		Steer *ebpf.Program `ebpf:"steer"`
	}
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		return nil, err
	}
	b.objects = append(b.objects, o.Listener, o.OpenPorts, o.Steer)
	b.ports = o.OpenPorts
	ns, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return nil, fmt.Errorf("find the socket's network namespace: %w", err)
	}
	defer unix.Close(ns)
	l, err := link.AttachNetNs(ns, o.Steer)
	if err != nil {
		return nil, err
	}
	b.objects = append(b.objects, l)
	return o.Listener, nil
}

// describe sets the program's constants.
func describe(spec *ebpf.CollectionSpec, address netip.Addr, anchor uint16) error {
	var family, anyAddress uint32
	var words [4]uint32
	a := address.AsSlice()
	for i := range len(a) / 4 {
		words[i] = binary.NativeEndian.Uint32(a[4*i:]) // as it is on the wire
	}
	switch {
	case address.Is4():
		family = unix.AF_INET
	case !address.IsUnspecified():
		family = unix.AF_INET6
	}
	if address.IsUnspecified() {
		anyAddress = 1
	}
	for name, v := range map[string]any{
		steerVarFamily: family, steerVarAny: anyAddress, steerVarAddress: words, steerVarAnchor: uint32(anchor),
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// bequeath has the kernel move what waits in the socket's queue to another process
// that serves the address, should this one end without a drain.
func (b *steering) bequeath(spec *ebpf.CollectionSpec, fd int) error {
	var o struct {
		Inherit *ebpf.Program `ebpf:"inherit"`
	}
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		return err
	}
	b.objects = append(b.objects, o.Inherit)
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, o.Inherit.FD()))
}

func (b *steering) limit() int { return b.max }

func (b *steering) open(port uint16, publish func(*opening)) error {
	// The program would take the port from whoever listens on it, so look first.
	probe, err := bound(b.p.cfg.Address, port)
	if err != nil {
		return classify(err)
	}
	if err := unix.Close(probe); err != nil {
		return os.NewSyscallError("close", err)
	}
	if b.closed[port] {
		if err := b.flush(); err != nil {
			return err
		}
	}
	o := &opening{}
	publish(o)
	if err := b.ports.Put(uint32(port), uint8(1)); err != nil {
		b.p.unpublish(port)
		return fmt.Errorf("store port: %w", err)
	}
	return nil
}

func (b *steering) close(port uint16, _ *opening) {
	b.closed[port] = true
	if err := b.ports.Put(uint32(port), uint8(0)); err != nil && !b.stopped {
		b.p.fail(fmt.Errorf("close port %d: %w", port, err))
	}
}

// flushLimit is how long flush waits: longer only if the acceptor gets no descriptors.
const flushLimit = time.Second

// flush returns when the connections to all closed ports have been reset.
func (b *steering) flush() error {
	settle()
	done := make(chan struct{})
	select {
	case <-b.catchUp: // of a flush that gave up
	default:
	}
	b.catchUp <- done
	_ = b.listener.SetDeadline(time.Unix(1, 0)) // fails only on a closed listener
	limit := time.NewTimer(flushLimit)
	defer limit.Stop()
	select {
	case <-done:
		clear(b.closed)
		return nil
	case <-b.gone:
		return ErrNotRunning
	case <-limit.C:
		return fmt.Errorf("%w: connections to the port's former self still wait to be accepted", ErrLimit)
	}
}

// accept takes clients until the listener is closed.
func (b *steering) accept(ctx context.Context) {
	var behind chan<- struct{} // closed when left more have been delivered
	left := 0
	b.p.accept(ctx, b.listener.Accept, func(c net.Conn) {
		b.deliver(c)
		if left--; left == 0 && behind != nil {
			close(behind)
			behind = nil
		}
	}, func() {
		_ = b.listener.SetDeadline(time.Time{}) // fails only on a closed listener
		select {
		case done := <-b.catchUp:
			n, err := waiting(b.listener)
			if err != nil || n == 0 {
				close(done)
				return
			}
			behind, left = done, n
		default:
		}
	})
}

func (b *steering) deliver(c net.Conn) {
	a, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		relay.Abort(c)
		return
	}
	b.p.deliver(c, uint16(a.Port), nil)
}

func (b *steering) refuse(open map[uint16]*opening) error {
	for port := range open {
		if err := b.ports.Put(uint32(port), uint8(0)); err != nil {
			return fmt.Errorf("close port %d: %w", port, err)
		}
	}
	return nil
}

func (b *steering) drain(ctx context.Context, open map[uint16]*opening) error {
	return finish(ctx, b.p.cfg.Address, keys(open), []controlled{b.listener})
}

func (b *steering) stop(map[uint16]*opening) error {
	if b.stopped {
		return nil
	}
	b.stopped = true
	err := b.listener.Close()
	for _, o := range slices.Backward(b.objects) {
		err = errors.Join(err, o.Close())
	}
	return err
}
