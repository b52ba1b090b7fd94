package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/tun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	aAddrs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
	bAddrs = []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("10.9.9.9/32"), netip.MustParsePrefix("fd00::2/64")}
)

// pair joins two stacks with a wire and takes both down at the end of the test.
func pair(t *testing.T, mtu int) (a, b *Stack) {
	t.Helper()
	var wg sync.WaitGroup
	open := func(name string, addrs []netip.Prefix) *Stack {
		s, err := New(Config{Name: name, Addresses: addrs, MTU: mtu})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b = open("a", aAddrs), open("b", bAddrs)
	wire := func(from, to tun.Device) {
		const headroom = 8
		bufs := make([][]byte, from.BatchSize())
		for i := range bufs {
			bufs[i] = make([]byte, headroom+from.MTU())
		}
		sizes := make([]int, len(bufs))
		out := make([][]byte, len(bufs))
		for {
			n, err := from.Read(bufs, sizes, headroom)
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
				return
			}
			for i := range n {
				out[i] = bufs[i][:headroom+sizes[i]]
			}
			if _, err := to.Write(out[:n], headroom); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
		}
	}
	wg.Go(func() { wire(a, b) })
	wg.Go(func() { wire(b, a) })
	t.Cleanup(func() {
		a.Close()
		b.Close()
		wg.Wait()
	})
	return a, b
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestTCPBothWaysWithHalfClose(t *testing.T) {
	for _, addr := range []string{"10.0.0.2:80", "10.9.9.9:80", "[fd00::2]:80"} {
		t.Run(addr, func(t *testing.T) {
			a, b := pair(t, 1400)
			l, err := b.Listen("tcp", ":80")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			// The server reads to the end, then answers what it got: that needs the
			// client's half-close to arrive as EOF and the answer to flow after it.
			served := make(chan error, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					served <- err
					return
				}
				got, err := io.ReadAll(c)
				if err == nil {
					_, err = c.Write(got)
				}
				served <- errors.Join(err, c.Close())
			}()
			c, err := a.DialContext(deadline(t), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			want := make([]byte, 3<<20)
			rand.NewChaCha8([32]byte{1}).Read(want)
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got %d bytes back, want the same %d", len(got), len(want))
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	a, b := pair(t, 1500)
	if _, err := a.DialContext(deadline(t), "tcp", "10.0.0.2:81"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial to a closed port: %v, want ECONNREFUSED", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.DialContext(ctx, "tcp", "10.0.0.77:80"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial to an address nobody has: %v, want the context's error", err)
	}
	for _, bad := range []string{"example.org:80", "10.0.0.2", "10.0.0.2:http", ":80"} {
		if _, err := a.DialContext(deadline(t), "tcp", bad); err == nil {
			t.Errorf("dial %q: want an error", bad)
		}
	}
	if _, err := a.DialContext(deadline(t), "unix", "10.0.0.2:1"); err == nil {
		t.Error("dial on network unix: want an error")
	}
	if _, err := b.Listen("tcp", "10.0.0.99:80"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listen on a foreign address: %v, want EADDRNOTAVAIL", err)
	}
}

func TestReadAndAcceptErrors(t *testing.T) {
	a, b := pair(t, 1500)
	l, err := b.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.DialContext(deadline(t), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read past its deadline: %v, want os.ErrDeadlineExceeded", err)
	}
	c.SetReadDeadline(time.Time{})
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read across Close: %v, want net.ErrClosed", err)
	}
	if conn, err := l.Accept(); err != nil {
		t.Errorf("accept: %v", err)
	} else {
		conn.Close()
	}
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept across Close: %v, want net.ErrClosed", err)
	}
}

func TestUDPAndPing(t *testing.T) {
	a, b := pair(t, 1400)
	for _, dst := range []string{"10.0.0.2", "10.9.9.9", "fd00::2"} {
		addr := netip.MustParseAddr(dst)
		for _, size := range []int{0, 56, 4000} { // the last one in fragments
			if _, err := a.Ping(deadline(t), addr, size); err != nil {
				t.Errorf("ping %v with %d octets: %v", addr, size, err)
			}
		}
		// Not on ":53": an unbound socket answers from the stack's first address.
		p, err := b.ListenPacket("udp", netip.AddrPortFrom(addr, 53).String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.DialContext(deadline(t), "udp", netip.AddrPortFrom(addr, 53).String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		n, from, err := p.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "question" {
			t.Fatalf("%v: server got %q, %v", addr, buf[:n], err)
		}
		if _, err := p.WriteTo([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		if n, err = c.Read(buf); err != nil || string(buf[:n]) != "answer" {
			t.Errorf("%v: client got %q, %v", addr, buf[:n], err)
		}
		c.Close()
		p.Close()
	}
}

func TestAddressesComeAndGo(t *testing.T) {
	a, b := pair(t, 1500)
	extra := netip.MustParsePrefix("10.0.0.50/32")
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := a.Ping(ctx, extra.Addr(), 8)
		return err
	}
	if err := ping(); err == nil {
		t.Error("an address that nobody has answered")
	}
	if err := b.AddAddress(extra); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err != nil {
		t.Errorf("after AddAddress: %v", err)
	}
	if err := b.AddAddress(extra); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("AddAddress twice: %v, want EADDRINUSE", err)
	}
	if err := b.RemoveAddress(extra); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err == nil {
		t.Error("a removed address answered")
	}

	// Many addresses on one stack; DialContextFrom chooses which one speaks.
	for i := range 200 {
		if err := a.AddAddress(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 32)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := b.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := a.DialContextFrom(deadline(t), netip.MustParseAddrPort("10.1.0.123:0"), "tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.RemoteAddr().String(); !strings.HasPrefix(got, "10.1.0.123:") {
		t.Errorf("server sees %s, want 10.1.0.123", got)
	}
}

// A cut reaches the peer as a reset, an ordinary close as the end of the data; on
// either end, with data unread or not.
func TestLingerZeroResets(t *testing.T) {
	for name, tt := range map[string]struct {
		linger int
		server bool // closes
		unread bool // data from the peer waits at the closing end
		want   error
	}{
		"client cuts":             {linger: 0, want: syscall.ECONNRESET},
		"server cuts":             {linger: 0, server: true, want: syscall.ECONNRESET},
		"client cuts with data":   {linger: 0, unread: true, want: syscall.ECONNRESET},
		"client closes":           {linger: -1, want: io.EOF},
		"server closes":           {linger: -1, server: true, want: io.EOF},
		"close with linger above": {linger: 3, want: io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, 1400)
			l, err := b.Listen("tcp", ":80")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ends, other, err := dialAndAccept(t, a, l)
			if err != nil {
				t.Fatal(err)
			}
			if tt.server {
				ends, other = other, ends
			}
			defer other.Close()
			if tt.unread {
				if _, err := other.Write([]byte("xy")); err != nil {
					t.Fatal(err)
				}
				if _, err := ends.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			s, ok := ends.(interface{ SetLinger(sec int) error })
			if !ok {
				t.Fatalf("%T has no SetLinger", ends)
			}
			if err := s.SetLinger(tt.linger); err != nil {
				t.Fatal(err)
			}
			if err := ends.Close(); err != nil {
				t.Error(err)
			}
			other.SetDeadline(time.Now().Add(10 * time.Second))
			if n, err := other.Read(make([]byte, 1)); n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("the other end reads %d bytes, %v, want %v", n, err, tt.want)
			}
			if err := s.SetLinger(0); !errors.Is(err, net.ErrClosed) {
				t.Errorf("SetLinger after Close: %v, want net.ErrClosed", err)
			}
		})
	}
}

func dialAndAccept(t *testing.T, a *Stack, l net.Listener) (client, server net.Conn, err error) {
	client, err = a.DialContext(deadline(t), "tcp", "10.0.0.2:80")
	if err != nil {
		return nil, nil, err
	}
	server, err = l.Accept()
	return client, server, err
}

// Accept that waits ends when the listener closes.
// What was written belongs to the caller again, although the endpoint that sent it stays
// for its TIME-WAIT.
func TestWriteKeepsNothing(t *testing.T) {
	a, b := pair(t, 1400)
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := a.DialContext(deadline(t), "tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	collected := make(chan struct{})
	func() {
		buf := new([1 << 10]byte)
		runtime.AddCleanup(buf, func(c chan struct{}) { close(c) }, collected)
		if _, err := c.Write(buf[:]); err != nil {
			t.Fatal(err)
		}
	}()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, far); n != 1<<10 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	runtime.GC()
	select {
	case <-collected:
	case <-time.After(10 * time.Second):
		t.Error("the buffer is still held")
	}
	runtime.KeepAlive(c)
}

func TestListenerCloseEndsAccept(t *testing.T) {
	_, b := pair(t, 1400)
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: %v, want net.ErrClosed", err)
			}
		})
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, want net.ErrClosed", err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	a, b := pair(t, 1500)
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range 20 {
		c, err := a.DialContext(deadline(t), "tcp", "10.0.0.2:80")
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c, s)
	}
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("read from a closed stack succeeded")
			}
		})
	}
	a.Close()
	b.Close()
	wg.Wait() // and goleak sees to the rest
	if _, err := a.Read(make([][]byte, 1), make([]int, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read after Close: %v, want os.ErrClosed", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestWriteIgnoresWhatIsNotIP(t *testing.T) {
	a, _ := pair(t, 1500)
	n, err := a.Write([][]byte{nil, {0}, {0x45}, {0x60, 1}, bytes.Repeat([]byte{0xff}, 100)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n != 2 {
		t.Errorf("accepted %d, want the 2 that claim to be IP", n)
	}
}

// BenchmarkTCP is one bulk connection between two stacks in one process.
func BenchmarkTCP(b *testing.B) {
	const size = 64 << 10
	x, err := New(Config{Addresses: aAddrs, MTU: 1400})
	if err != nil {
		b.Fatal(err)
	}
	y, err := New(Config{Addresses: bAddrs, MTU: 1400})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wire := func(from, to *Stack) {
		bufs, sizes, out := make([][]byte, 64), make([]int, 64), make([][]byte, 64)
		for i := range bufs {
			bufs[i] = make([]byte, 1500)
		}
		for {
			n, err := from.Read(bufs, sizes, 0)
			if err != nil {
				return
			}
			for i := range n {
				out[i] = bufs[i][:sizes[i]]
			}
			to.Write(out[:n], 0)
		}
	}
	wg.Go(func() { wire(x, y) })
	wg.Go(func() { wire(y, x) })
	l, err := y.Listen("tcp", ":80")
	if err != nil {
		b.Fatal(err)
	}
	wg.Go(func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(io.Discard, c)
			c.Close()
		}
	})
	c, err := x.DialContext(context.Background(), "tcp", "10.0.0.2:80")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, size)
	b.SetBytes(int64(size))
	for b.Loop() {
		c.Write(buf)
	}
	c.Close()
	x.Close()
	y.Close()
	wg.Wait()
}
