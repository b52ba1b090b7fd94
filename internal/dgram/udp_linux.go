package dgram

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketBuffer is what is asked for as SO_RCVBUF and SO_SNDBUF, in bytes. The
// kernel cuts it to net.core.rmem_max and wmem_max unless the process has
// CAP_NET_ADMIN, in which case the forced form goes past them.
const socketBuffer = 4 << 20

// maxBatch is how many datagrams one system call moves at most; a longer batch
// takes several.
const maxBatch = 256

// UDP is a Conn on a kernel socket. It stays in the network namespace in which
// it was opened, whichever thread uses it later.
type UDP struct {
	conn  *net.UDPConn
	raw   syscall.RawConn
	local netip.AddrPort
	inet6 bool // the socket's family: decides the form of socket addresses

	rd      *vector // the one reader's
	writers sync.Pool

	icmp    atomic.Uint64
	dropped atomic.Uint64
}

// Stats counts what the contract does not return.
type Stats struct {
	Unreachable uint64 // ICMP errors swallowed on read or write
	Unsent      uint64 // datagrams that the kernel refused
}

var _ Conn = (*UDP)(nil)

// Listen opens a socket bound to addr; port 0 lets the kernel choose, an
// unspecified address binds all of its family. Both forms of socket error, busy
// address and missing address, come back as *net.OpError.
func Listen(ctx context.Context, addr netip.AddrPort) (*UDP, error) {
	network := "udp4"
	if addr.Addr().Unmap().Is6() {
		network = "udp6"
	}
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, network, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).String())
	if err != nil {
		return nil, fmt.Errorf("dgram: listen %s: %w", addr, err)
	}
	c, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close()
		return nil, fmt.Errorf("dgram: listen %s: unexpected %T", addr, pc)
	}
	return FromUDP(c)
}

// FromUDP takes over a socket opened elsewhere, for instance in another network
// namespace. On error c is closed.
func FromUDP(c *net.UDPConn) (*UDP, error) {
	fail := func(err error) (*UDP, error) {
		_ = c.Close()
		return nil, fmt.Errorf("dgram: %w", err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fail(err)
	}
	u := &UDP{conn: c, raw: raw}
	var domain int
	var operr error
	if err := raw.Control(func(fd uintptr) {
		domain, operr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		for opt, force := range map[int]int{unix.SO_RCVBUF: unix.SO_RCVBUFFORCE, unix.SO_SNDBUF: unix.SO_SNDBUFFORCE} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, force, socketBuffer) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, socketBuffer) // best effort: a smaller buffer works too
			}
		}
	}); err != nil {
		return fail(err)
	}
	if operr != nil {
		return fail(os.NewSyscallError("getsockopt SO_DOMAIN", operr))
	}
	u.inet6 = domain == unix.AF_INET6
	la, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return fail(fmt.Errorf("unexpected local address %v", c.LocalAddr()))
	}
	ap := la.AddrPort()
	u.local = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	u.rd = newVector()
	u.writers.New = func() any { return newVector() }
	return u, nil
}

// ReadBatch is Conn's; it receives with recvmmsg and does not allocate.
func (u *UDP) ReadBatch(ds []Datagram) (int, error) {
	if len(ds) == 0 {
		return 0, nil
	}
	ds = ds[:min(len(ds), maxBatch)]
	v := u.rd
	v.forRead(ds)
	for {
		if err := u.raw.Read(v.recv); err != nil {
			return 0, closedError("read", err)
		}
		switch {
		case v.errno == 0:
			for i := range v.n {
				ds[i].N = int(v.hdrs[i].Len)
				ds[i].Addr = v.names[i].addrPort()
			}
			return v.n, nil
		case isICMP(v.errno):
			u.icmp.Add(1)
		case v.errno == unix.EINTR, v.errno == unix.ENOBUFS, v.errno == unix.ENOMEM:
		default:
			return 0, fmt.Errorf("dgram: read %s: %w", u.local, os.NewSyscallError("recvmmsg", v.errno))
		}
		v.forRead(ds)
	}
}

// WriteBatch is Conn's; it sends with sendmmsg and does not allocate. A datagram
// that the kernel refuses is skipped and the rest still goes out: the count is
// then short, and the error is that of the first one refused, unless that was
// ICMP's, which is nil.
func (u *UDP) WriteBatch(ds []Datagram) (int, error) {
	v, ok := u.writers.Get().(*vector)
	if !ok {
		v = newVector()
	}
	defer u.writers.Put(v)
	sent := 0
	var first error
	refused := false // the head was already tried again after an ICMP error
	for len(ds) > 0 {
		chunk := ds[:min(len(ds), maxBatch)]
		if err := v.forWrite(chunk, u.inet6); err != nil {
			if first == nil {
				first = err
			}
			u.dropped.Add(1)
			ds = ds[1:]
			continue
		}
		if err := u.raw.Write(v.send); err != nil {
			return sent, closedError("write", err)
		}
		if v.errno == 0 {
			sent += v.n
			ds = ds[v.n:]
			refused = false
			continue
		}
		if v.errno == unix.EINTR {
			continue
		}
		if isICMP(v.errno) {
			u.icmp.Add(1)
			if !refused { // the error may belong to an earlier datagram
				refused = true
				continue
			}
		} else if first == nil {
			first = fmt.Errorf("dgram: write to %s: %w", ds[0].Addr, os.NewSyscallError("sendmmsg", v.errno))
		}
		u.dropped.Add(1)
		ds = ds[1:]
		refused = false
	}
	return sent, first
}

// LocalAddr is the bound address, unmapped.
func (u *UDP) LocalAddr() netip.AddrPort { return u.local }

// Close wakes the reader. Closing twice returns net.ErrClosed.
func (u *UDP) Close() error {
	if err := u.conn.Close(); err != nil {
		return closedError("close", err)
	}
	return nil
}

// Stats is a copy of the counters.
func (u *UDP) Stats() Stats {
	return Stats{Unreachable: u.icmp.Load(), Unsent: u.dropped.Load()}
}

func closedError(op string, err error) error {
	if errors.Is(err, net.ErrClosed) {
		return net.ErrClosed
	}
	return fmt.Errorf("dgram: %s: %w", op, err)
}

// isICMP tells the errors by which a socket reports an ICMP message about some
// earlier datagram, and routing failures, which are as transient.
func isICMP(e syscall.Errno) bool {
	switch e {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN,
		unix.ENETDOWN, unix.ENOPROTOOPT, unix.EPROTO, unix.ENONET:
		return true
	}
	return false
}
