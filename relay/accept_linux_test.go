package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// acceptor returns an Acceptor that listens.
func acceptor(t testing.TB, at string) (*Acceptor, string) {
	t.Helper()
	f, address := listening(t, at)
	a, err := NewAcceptor(f)
	if err != nil {
		t.Fatal(errors.Join(err, f.Close()))
	}
	t.Cleanup(func() { a.Close() })
	return a, address
}

// newcomer returns a connection of an Acceptor, and the client's end.
func newcomer(t testing.TB) (c *acceptedConn, client *net.TCPConn) {
	t.Helper()
	a, at := acceptor(t, "127.0.0.1:0")
	accepted, client := pairBy(t, at, a.Accept)
	_ = client.SetDeadline(time.Now().Add(10 * time.Second)) // a test that hangs says where
	return accepted.(*acceptedConn), client
}

// An Acceptor's connection is one of package net's to whoever uses it so.
func TestAcceptorConnection(t *testing.T) {
	c, client := newcomer(t)
	if l, r := c.LocalAddr().String(), c.RemoteAddr().String(); l != client.RemoteAddr().String() || r != client.LocalAddr().String() {
		t.Errorf("it is from %s to %s; want %s and %s", r, l, client.LocalAddr(), client.RemoteAddr())
	}
	for _, o := range []struct{ level, option, want int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		if v, err := unix.GetsockoptInt(int(c.fd), o.level, o.option); err != nil || v != o.want {
			t.Errorf("option %d of level %d is %d, %v; want %d as package net has it", o.option, o.level, v, err, o.want)
		}
	}
	send(t, client, "hello")
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read after its deadline: %v", err)
	}
	if _, err := c.Write([]byte("world")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); err != nil || string(got) != "world" {
		t.Errorf("the client read %q, %v", got, err)
	}
	in, err := InPoller(c)
	if again, err := InPoller(c); err != nil || again != in {
		t.Errorf("once it is in the poller it is %v, then %v, %v", in, again, err)
	}
	if tcp, ok := in.(*net.TCPConn); !ok || err != nil {
		t.Errorf("in the poller it is a %T, %v", tcp, err)
	}
}

// However a connection is ended or given away, it is nobody's afterwards, and its
// descriptor is closed once.
func TestAcceptorConnectionEnds(t *testing.T) {
	for name, end := range map[string]struct {
		do    func(t *testing.T, c *acceptedConn)
		reset bool
	}{
		"close": {do: func(_ *testing.T, c *acceptedConn) { c.Close() }},
		"abort": {do: func(_ *testing.T, c *acceptedConn) { Abort(c) }, reset: true},
		"socket": {do: func(t *testing.T, c *acceptedConn) {
			s, ok := NewSocket(c)
			if !ok {
				t.Fatal("no socket")
			}
			s.Abort()
		}, reset: true},
	} {
		for _, polled := range []bool{false, true} {
			t.Run(map[bool]string{false: name, true: name + "/polled"}[polled], func(t *testing.T) {
				c, client := newcomer(t)
				if polled {
					if _, err := InPoller(c); err != nil {
						t.Fatal(err)
					}
				}
				end.do(t, c)
				if _, err := client.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNRESET) != end.reset || !end.reset && err != io.EOF {
					t.Errorf("the client read %v", err)
				}
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
					t.Errorf("a read afterwards: %v", err)
				}
				if err := c.Close(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("a close afterwards: %v", err)
				}
				if _, ok := NewSocket(c); ok {
					t.Error("it can be given away afterwards")
				}
				if Arrived(c, 1) != nil {
					t.Error("something has arrived afterwards")
				}
				Abort(c)
			})
		}
	}
}

// A connection that nobody has waited for goes to an event loop with what has come early.
func TestAcceptorConnectionIsRelayed(t *testing.T) {
	r := onLoop.relayer(t, Config{})
	c, client := newcomer(t)
	near, device := tcpPair(t)
	device.SetDeadline(time.Now().Add(10 * time.Second))
	if !OfKernel(c) || !OfKernel(near) || OfKernel(struct{ net.Conn }{near}) {
		t.Error("the wrong connections are the kernel's")
	}
	if b := Arrived(c, 100); b != nil {
		t.Errorf("before anything was sent %q has arrived", b)
	}
	send(t, client, "hello")
	if err := awaitArrival(c.fd); err != nil {
		t.Fatal(err)
	}
	early := Arrived(c, 4)
	if string(early) != "hell" {
		t.Fatalf("%q has arrived; want as much as asked for", early)
	}
	send(t, near, string(early))
	a, ok1 := NewSocket(c)
	b, ok2 := NewSocket(near)
	if !ok1 || !ok2 {
		t.Fatal("no sockets")
	}
	ended := make(chan Result, 1)
	r.Join(a, b, len(early), nil, func(res Result) { ended <- res })
	client.CloseWrite()
	if got, err := io.ReadAll(device); err != nil || string(got) != "hello" {
		t.Errorf("the device got %q, %v", got, err)
	}
	device.Close()
	if res := <-ended; res.Cause != Closed || res.AToB != 5 {
		t.Errorf("%+v", res)
	}
}

func awaitArrival(fd int32) error {
	fds := []unix.PollFd{{Fd: fd, Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, 10_000); err != unix.EINTR {
			return err
		}
	}
}

// A deadline and a close end the wait for a connection, as of a net.TCPListener.
func TestAcceptorStops(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	failed := make(chan error)
	accept := func() { _, err := a.Accept(); failed <- err }
	go accept()
	a.SetDeadline(time.Unix(1, 0))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	a.SetDeadline(time.Time{})
	if err := a.Control(func(uintptr) {}); err != nil {
		t.Error(err)
	}
	go accept()
	a.Close()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the close: %v", err)
	}
	if err := a.Control(func(uintptr) {}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("control of a closed one: %v", err)
	}
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("it listens after the close")
	}
}

// Addresses are those that package net says, IPv4 that comes in by IPv6 being IPv4.
func TestAcceptorAddresses(t *testing.T) {
	for _, x := range []struct{ listen, dial, want string }{
		{"[::1]:0", "::1", "::1"},
		{"[::]:0", "127.0.0.1", "127.0.0.1"},
	} {
		t.Run(x.listen, func(t *testing.T) {
			a, at := acceptor(t, x.listen)
			port := netip.MustParseAddrPort(at).Port()
			c, client := pairBy(t, netip.AddrPortFrom(netip.MustParseAddr(x.dial), port).String(), a.Accept)
			if f := c.(*acceptedConn); f.local != netip.AddrPortFrom(netip.MustParseAddr(x.want), port) || f.remote.Addr().String() != x.want || f.remote.String() != client.LocalAddr().String() {
				t.Errorf("from %s to %s", f.remote, f.local)
			}
		})
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: netip.MustParseAddr("fe80::1").As16(), Scope_id: 1 << 30}
	if got := addrPort(&sa).Addr().String(); got != "fe80::1%1073741824" {
		t.Errorf("a link-local address is %s; want its interface's number as the zone", got)
	}
}
