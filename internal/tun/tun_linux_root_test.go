//go:build linux

package tun

import (
	"bytes"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inNetns runs f on a thread of its own in a fresh network namespace. The thread is
// not unlocked, so the runtime destroys it and the namespace goes with it. f must
// not call t.Fatal, which would end another goroutine than the test's.
func inNetns(t *testing.T, f func() error) {
	t.Helper()
	entered, done := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			entered <- err
			return
		}
		close(entered)
		done <- f()
	}()
	testenv.Require(t, "netns", <-entered)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// openUp returns a TUN named "n6" with address 10.1.0.1/24, up, in a namespace of
// its own, and a UDP socket there.
func openUp(t *testing.T, mtu int) (Device, *net.UDPConn) {
	t.Helper()
	_, err := os.Stat("/dev/net/tun")
	testenv.Require(t, "tun", err)
	var dev Device
	var conn *net.UDPConn
	var openErr error
	inNetns(t, func() error {
		if dev, openErr = Open(Config{Name: "n6", MTU: mtu}); openErr != nil {
			return nil
		}
		if err := configure("n6"); err != nil {
			return err
		}
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1), Port: 7})
		return err
	})
	if errors.Is(openErr, os.ErrPermission) {
		testenv.Require(t, "tun", openErr)
	} else if openErr != nil {
		t.Fatal(openErr)
	}
	t.Cleanup(func() {
		conn.Close()
		dev.Close()
	})
	return dev, conn
}

// configure does what package netns does elsewhere: address, mask, up.
func configure(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	type ifreq struct {
		name [unix.IFNAMSIZ]byte
		data [24]byte
	}
	do := func(req uint, data []byte) error {
		var r ifreq
		copy(r.name[:], name)
		copy(r.data[:], data)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), uintptr(req), uintptr(unsafe.Pointer(&r))); errno != 0 {
			return os.NewSyscallError("ioctl", errno)
		}
		return nil
	}
	sockaddr := func(ip ...byte) []byte { return append([]byte{unix.AF_INET, 0, 0, 0}, ip...) }
	return errors.Join(
		do(unix.SIOCSIFADDR, sockaddr(10, 1, 0, 1)),
		do(unix.SIOCSIFNETMASK, sockaddr(255, 255, 255, 0)),
		do(unix.SIOCSIFFLAGS, []byte{unix.IFF_UP | unix.IFF_RUNNING}),
	)
}

// reader returns a function that reads the UDP payloads of one batch; IPv6 router
// solicitations and the like are left out.
func reader(dev Device) func() ([][]byte, error) {
	const offset = 16
	bufs, sizes := make([][]byte, dev.BatchSize()), make([]int, dev.BatchSize())
	for i := range bufs {
		bufs[i] = make([]byte, offset+dev.MTU())
	}
	return func() ([][]byte, error) {
		for {
			n, err := dev.Read(bufs, sizes, offset)
			if err != nil {
				return nil, err
			}
			var out [][]byte
			for i := range n {
				if p := bufs[i][offset : offset+sizes[i]]; len(p) >= 28 && p[0] == 0x45 && p[9] == unix.IPPROTO_UDP {
					out = append(out, bytes.Clone(p[28:]))
				}
			}
			if len(out) > 0 {
				return out, nil
			}
		}
	}
}

func TestRootLinuxReadsBatchesAndWrites(t *testing.T) {
	dev, conn := openUp(t, 1456)
	if dev.Name() != "n6" || dev.MTU() != 1456 {
		t.Errorf("name %q, mtu %d", dev.Name(), dev.MTU())
	}
	// 40 packets wait: one wake-up should bring several.
	peer := &net.UDPAddr{IP: net.IPv4(10, 1, 0, 2), Port: 9}
	const total = 40
	for i := range total {
		if _, err := conn.WriteToUDP([]byte{byte(i)}, peer); err != nil {
			t.Fatal(err)
		}
	}
	read := reader(dev)
	var got [][]byte
	calls := 0
	for len(got) < total {
		batch, err := read()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, batch...)
		calls++
	}
	for i, p := range got {
		if len(p) != 1 || p[0] != byte(i) {
			t.Fatalf("packet %d is % x", i, p)
		}
	}
	if calls == total {
		t.Error("every Read brought one packet, want batches")
	}

	// Back: the same packet with the addresses exchanged, and rubbish around it that
	// must not hold it up.
	udp := make([]byte, 28+5)
	udp[0], udp[3], udp[8], udp[9] = 0x45, byte(len(udp)), 64, unix.IPPROTO_UDP
	copy(udp[12:], []byte{10, 1, 0, 2, 10, 1, 0, 1})
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(udp[i])<<8 | uint32(udp[i+1])
	}
	sum = sum>>16 + sum&0xffff
	udp[10], udp[11] = byte(^sum>>8), byte(^sum)
	copy(udp[20:], []byte{0, 9, 0, 7, 0, 13, 0, 0})
	copy(udp[28:], "hello")
	n, err := dev.Write([][]byte{{0xff, 0xff}, append([]byte{1, 2}, udp...)}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if n != 1 {
		t.Errorf("accepted %d packets, want the one that is IP", n)
	}
	buf := make([]byte, 64)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	k, from, err := conn.ReadFromUDP(buf)
	if err != nil || string(buf[:k]) != "hello" || !from.IP.Equal(peer.IP) {
		t.Errorf("socket got %q from %v, %v", buf[:k], from, err)
	}
}

func TestRootLinuxCloseWakesReader(t *testing.T) {
	dev, _ := openUp(t, 0)
	if dev.MTU() != DefaultMTU {
		t.Errorf("mtu %d, want %d", dev.MTU(), DefaultMTU)
	}
	read := reader(dev)
	done := make(chan error)
	go func() {
		_, err := read()
		done <- err
	}()
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read across Close: %v, want os.ErrClosed", err)
	}
	if _, err := dev.Write([][]byte{{0x45}}, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: %v, want os.ErrClosed", err)
	}
	if err := dev.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestRootLinuxDoesNotAllocatePerPacket(t *testing.T) {
	dev, conn := openUp(t, 1456)
	peer := &net.UDPAddr{IP: net.IPv4(10, 1, 0, 2), Port: 9}
	bufs, sizes := make([][]byte, 64), make([]int, 64)
	for i := range bufs {
		bufs[i] = make([]byte, 2000)
	}
	out := [][]byte{bytes.Repeat([]byte{0x45}, 100)}
	base := testing.AllocsPerRun(100, func() { conn.WriteToUDP([]byte("x"), peer) })
	if n := testing.AllocsPerRun(100, func() {
		conn.WriteToUDP([]byte("x"), peer)
		dev.Read(bufs, sizes, 0)
		dev.Write(out, 0)
	}); n > base+0.5 { // half: the pool may be emptied by a collection
		t.Errorf("%v allocations, want the %v of the socket", n, base)
	}
}
