package ports

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultMaxOpen returns half of the process's descriptors: the rest belongs to the
// connections.
func defaultMaxOpen() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxUint16
	}
	return max(int(l.Cur/2), 1)
}

// control runs f on a socket and names the system call if it fails.
func control(c controlled, call string, f func(fd int) error) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError(call, err)
}

// reusePort is a net.ListenConfig's Control. Package net itself sets SO_REUSEADDR:
// without it connections that are ending would hold a port against its listener.
func reusePort(_, _ string, c syscall.RawConn) error {
	return control(c, "setsockopt", func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// listen opens a listener that shares its port. backlog 0 is the kernel's bound.
func listen(ctx context.Context, at netip.AddrPort, backlog int) (*Listener, error) {
	l, err := listenTCP(ctx, net.ListenConfig{Control: reusePort}, at)
	if err != nil {
		return nil, err
	}
	if backlog > 0 {
		if err := control(l, "listen", func(fd int) error { return unix.Listen(fd, backlog) }); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if err := preferNewest(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// preferNewest has the kernel give new connections to the second socket that
// listens on l's port rather than to one by hash (socket(7), SO_ATTACH_REUSEPORT_CBPF).
// Sockets are numbered from 0 in the order of listening, and the last takes the
// number of one that closes. Where there is no second socket the number is invalid,
// and the hash finds the only one.
func preferNewest(l *Listener) error {
	second := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 1}}
	return control(l, "setsockopt", func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(second)), Filter: &second[0]})
	})
}

// refuseSYN has l drop SYN silently: the client sends another one a second later,
// which meets whoever listens then, or RST. Handshakes that have begun go on.
// Connections inherit the filter, which does not touch them.
func refuseSYN(l controlled) error {
	const flags, syn, ack = 13, 0x02, 0x10 // of the TCP header (RFC 9293 section 3.1)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: syn | ack},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: syn, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
	}
	return control(l, "setsockopt", func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// waiting returns how many connections wait to be accepted (tcp(7): TCP_INFO of a
// listening socket has it in tcpi_unacked).
func waiting(l controlled) (n int, err error) {
	err = control(l, "getsockopt", func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Unacked)
		}
		return err
	})
	return n, err
}

const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL

// settle returns when packets that the kernel was looking at have found their
// socket: it waits for an RCU grace period (membarrier(2), MEMBARRIER_CMD_GLOBAL).
// A kernel that refuses has at most microseconds of them left.
func settle() {
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
}

// pollMin and pollMax are how often drain asks: the kernel tells nobody that a
// listener's queue has become empty.
const (
	pollMin = time.Millisecond
	pollMax = 20 * time.Millisecond
)

// blindWait is how long half-way handshakes get where the kernel does not list
// them: two retransmissions of a lost SYN-ACK come within it (RFC 6298).
const blindWait = 3 * time.Second

// refuseNew has ls take no new connections. Those that are closed already are passed over.
func refuseNew(ls []controlled) error {
	for _, l := range ls {
		if err := refuseSYN(l); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("refuse new connections: %w", err)
		}
	}
	return nil
}

// finish waits until the handshakes of now have ended and ls have nobody waiting.
// Whoever calls has seen to it that no new ones come to ls.
func finish(ctx context.Context, address netip.Addr, ports map[uint16]bool, ls []controlled) error {
	settle()
	pause := pollMin
	timer := time.NewTimer(pause)
	defer timer.Stop()
	wait := func() error {
		timer.Reset(pause)
		pause = min(2*pause, pollMax)
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Another process may have begun to serve the same ports. Its handshakes look
	// like ours, but those of before are all that we have to wait for.
	ours, err := halfOpen(address, ports)
	if err == nil {
		// A list of a moving table can miss one.
		var again map[handshake]bool
		again, err = halfOpen(address, ports)
		for h := range again {
			ours[h] = true
		}
	}
	if err != nil {
		pause = blindWait
		if err := wait(); err != nil {
			return err
		}
		pause = pollMin
	}
	for len(ours) > 0 {
		if err := wait(); err != nil {
			return err
		}
		now, err := halfOpen(address, ports)
		if err != nil {
			return err
		}
		for h := range ours {
			if !now[h] {
				delete(ours, h)
			}
		}
	}
	settle() // those that ended a moment ago are on their way to the queue
	pause = pollMin
	for _, l := range ls {
		for {
			n, err := waiting(l)
			if errors.Is(err, net.ErrClosed) || (err == nil && n == 0) {
				break
			}
			if err != nil {
				return err
			}
			if err := wait(); err != nil {
				return err
			}
		}
	}
	return nil
}
