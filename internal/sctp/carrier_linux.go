package sctp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawCarrier is a raw socket for IP protocol 132. While it is open the kernel
// does not answer such packets with ICMP protocol unreachable: it does that only
// when no raw socket took a copy. Where the kernel speaks SCTP itself, both would
// answer, so openRaw refuses.
type rawCarrier struct {
	*socketCarrier
	inode string
}

func openRaw(ctx context.Context, local netip.Addr) (*rawCarrier, error) {
	if _, err := os.Stat("/proc/net/sctp"); err == nil {
		return nil, fmt.Errorf("%w: raw IP: the kernel's own SCTP is active here and would answer too", ErrUnavailable)
	}
	network := "ip4:132"
	if local.Is6() {
		network = "ip6:132"
	}
	c, err := openSocket(ctx, network, local.String(), local)
	if err != nil {
		return nil, fmt.Errorf("%w: raw IP (needs CAP_NET_RAW): %w", ErrUnavailable, err)
	}
	r := &rawCarrier{socketCarrier: c}
	if sc, ok := c.conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { // without an inode Exclusive says no
				var st unix.Stat_t
				if unix.Fstat(int(fd), &st) == nil {
					r.inode = strconv.FormatUint(st.Ino, 10)
				}
			})
		}
	}
	return r, nil
}

// Exclusive looks in the kernel's list for another socket that gets packets of
// protocol 132 to our address. The list is that of the calling thread's network
// namespace: a socket opened in another one does not find itself there, and the
// answer is no.
func (r *rawCarrier) Exclusive() bool {
	name := "/proc/thread-self/net/raw"
	if r.local.Is6() {
		name += "6"
	}
	b, err := os.ReadFile(name)
	if err != nil || r.inode == "" {
		return false
	}
	return exclusive(b, r.inode)
}

// exclusive reads a /proc/net/raw: true if the socket with inode is in it and no
// other of protocol 132 has the same or no local address.
func exclusive(list []byte, inode string) bool {
	var own []byte
	var others [][]byte
	for s := bufio.NewScanner(bytes.NewReader(list)); s.Scan(); {
		f := bytes.Fields(s.Bytes())
		if len(f) < 10 {
			continue
		}
		addr, protocol, ok := bytes.Cut(f[1], []byte(":"))
		switch {
		case !ok || string(protocol) != "0084":
		case string(f[9]) == inode:
			own = bytes.Clone(addr)
		default:
			others = append(others, bytes.Clone(addr))
		}
	}
	if own == nil {
		return false
	}
	wild := func(a []byte) bool { return len(bytes.Trim(a, "0")) == 0 }
	for _, o := range others {
		if wild(own) || wild(o) || bytes.Equal(own, o) {
			return false
		}
	}
	return true
}

// socketOptions lets packets above the path MTU be fragmented, since nobody
// discovers it for us, and asks for a large receive buffer.
func socketOptions(network, _ string, raw syscall.RawConn) error {
	var operr error
	err := raw.Control(func(fd uintptr) {
		level, opt := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		if strings.HasPrefix(network, "udp6") || strings.HasPrefix(network, "ip6") {
			level, opt = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
		}
		operr = os.NewSyscallError("setsockopt MTU_DISCOVER", unix.SetsockoptInt(int(fd), level, opt, unix.IP_PMTUDISC_DONT))
		const buffer = 4 << 20
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
		}
	})
	if err != nil {
		return err
	}
	return operr
}
