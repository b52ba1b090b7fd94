package ports_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/relay/ports"
)

// suite is what both modes must do.
var suite = []struct {
	name string
	run  func(t *testing.T, mode string)
}{
	{"OpenPortsTakeConnections", openPortsTakeConnections},
	{"ClosedPortsAnswerReset", closedPortsAnswerReset},
	{"OpenSaysWhatIsWrong", openSaysWhatIsWrong},
	{"ForeignListenersKeepTheirPorts", foreignListenersKeepTheirPorts},
	{"AddressesOfOthersFail", addressesOfOthersFail},
	{"IPv6", ipv6},
	{"TheWholeRange", theWholeRange},
	{"ReopenedPortsGetNoOldConnections", reopenedPortsGetNoOldConnections},
	{"OpenAndCloseRace", openAndCloseRace},
	{"DrainWaitsForHalfWayHandshakes", drainWaitsForHalfWayHandshakes},
	{"DrainEndsWithItsContext", drainEndsWithItsContext},
	{"RunEndsADrain", runEndsADrain},
	{"HandOverUnderLoadLosesNothing", handOverUnderLoadLosesNothing},
	{"DrainUnderLoadLosesNothing", drainUnderLoadLosesNothing},
	{"NothingIsLeft", nothingIsLeft},
}

func TestPorts(t *testing.T) {
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) { s.run(t, ports.ModeListen) })
	}
}

func openPortsTakeConnections(t *testing.T, mode string) {
	s := serve(t, ports.Config{Address: address(), Mode: mode}, nil)
	for port := uint16(first); port < first+20; port++ {
		s.open(port)
		c := mustDial(t, s.at(port))
		h := s.hit()
		if h.port != port || h.conn.LocalAddr().String() != s.at(port).String() {
			t.Fatalf("handled port %d at %s, want %s", h.port, h.conn.LocalAddr(), s.at(port))
		}
		if h.conn.RemoteAddr().String() != c.LocalAddr().String() {
			t.Fatalf("client %s, want %s", h.conn.RemoteAddr(), c.LocalAddr())
		}
	}
	if st := s.Status(); st.Open != 20 || st.Accepted != 20 || st.Refused != 0 {
		t.Errorf("status %+v", st)
	}
	wantRefused(t, netip.AddrPortFrom(address(), first)) // another address of the machine
}

func closedPortsAnswerReset(t *testing.T, mode string) {
	s := serve(t, ports.Config{Address: address(), Mode: mode}, nil)
	for _, port := range []uint16{first, first + 5, last} {
		s.open(port)
	}
	for _, port := range []uint16{first, last} {
		s.Close(port)
		s.Close(port) // again does nothing
	}
	for port := uint16(first - 1); port <= last+1; port++ {
		if port != first+5 {
			wantRefused(t, s.at(port))
		}
	}
	mustDial(t, s.at(first+5))
	c := s.hit().conn
	s.Close(first + 5)
	wantRefused(t, s.at(first+5))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("a connection that was handled ends with its port: %v", err)
	}
}

func openSaysWhatIsWrong(t *testing.T, mode string) {
	p, err := ports.New(ports.Config{Address: address(), Mode: mode}, ports.Deps{Handle: func(net.Conn, uint16) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Open(first); !errors.Is(err, ports.ErrNotRunning) {
		t.Errorf("before Run: %v", err)
	}
	p.Close(first)
	s := serve(t, ports.Config{Address: address(), Mode: mode, MaxOpen: 2}, nil)
	s.open(first)
	if err := s.Open(first); !errors.Is(err, ports.ErrOpen) {
		t.Errorf("twice: %v", err)
	}
	if err := s.Open(last + 1); !errors.Is(err, ports.ErrRange) {
		t.Errorf("outside the range: %v", err)
	}
	s.open(last)
	if err := s.Open(first + 1); !errors.Is(err, ports.ErrLimit) {
		t.Errorf("a third of two: %v", err)
	}
	s.Close(last)
	s.open(first + 1)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if err := s.Open(first + 2); !errors.Is(err, ports.ErrNotRunning) {
		t.Errorf("after Run: %v", err)
	}
	if err := s.Drain(t.Context()); !errors.Is(err, ports.ErrNotRunning) {
		t.Errorf("drain after Run: %v", err)
	}
	s.Close(first)
}

func foreignListenersKeepTheirPorts(t *testing.T, mode string) {
	a := address()
	for _, at := range []string{netip.AddrPortFrom(a, last+1).String(), netip.AddrPortFrom(a, first+7).String(), "0.0.0.0:20008"} {
		l, err := net.Listen("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	s := serve(t, ports.Config{Address: a, Mode: mode}, nil)
	for _, port := range []uint16{first + 7, first + 8} {
		if err := s.Open(port); !errors.Is(err, ports.ErrInUse) {
			t.Errorf("port %d, on which another listens: %v", port, err)
		}
		mustDial(t, s.at(port)) // reaches the other listener
	}
	s.open(first + 1)
	mustDial(t, s.at(first+1))
	s.hit()
	if n := s.Status().Accepted; n != 1 {
		t.Errorf("%d connections were handled, want 1", n)
	}
}

func addressesOfOthersFail(t *testing.T, mode string) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		p, err := ports.New(ports.Config{Address: netip.MustParseAddr(a), Mode: mode}, ports.Deps{Handle: func(net.Conn, uint16) {}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Run(t.Context()); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("%s: %v, want address not available", a, err)
		}
	}
}

func ipv6(t *testing.T, mode string) {
	s := serve(t, ports.Config{Address: netip.IPv6Loopback(), Mode: mode, First: 21000, Last: 21100}, nil)
	s.open(21003)
	mustDial(t, s.at(21003))
	if h := s.hit(); h.port != 21003 || h.conn.LocalAddr().String() != "[::1]:21003" {
		t.Errorf("handled %d at %s", h.port, h.conn.LocalAddr())
	}
	wantRefused(t, s.at(21000))
	wantRefused(t, netip.MustParseAddrPort("127.0.0.1:21003"))
	s.Close(21003)
	wantRefused(t, s.at(21003))
	if err := s.stop(); err != nil {
		t.Error(err)
	}

	all := serve(t, ports.Config{Address: netip.IPv6Unspecified(), Mode: mode, First: 21000, Last: 21100}, nil)
	all.open(21005)
	for _, at := range []string{"[::1]:21005", "127.0.0.1:21005"} {
		mustDial(t, netip.MustParseAddrPort(at))
		if h := all.hit(); h.port != 21005 || h.conn.LocalAddr().String() != at {
			t.Errorf("handled %d at %s, want %s", h.port, h.conn.LocalAddr(), at)
		}
	}
	wantRefused(t, netip.MustParseAddrPort("127.0.0.1:21000"))
	wantRefused(t, netip.MustParseAddrPort("[::1]:21000"))
}

// theWholeRange has no port beside it for the socket of sk_lookup.
func theWholeRange(t *testing.T, mode string) {
	s := serve(t, ports.Config{Address: address(), Mode: mode, First: 1, Last: 65535}, nil)
	for _, port := range []uint16{65535, 65534, 40000} {
		wantRefused(t, s.at(port))
		s.open(port)
		mustDial(t, s.at(port))
		if h := s.hit(); h.port != port {
			t.Errorf("port %d was handled as %d", port, h.port)
		}
		s.Close(port)
		wantRefused(t, s.at(port))
	}
}

// reopenedPortsGetNoOldConnections: what connected before Close is handled before
// it returns, or reset; nothing of it meets the port's next life.
func reopenedPortsGetNoOldConnections(t *testing.T, mode string) {
	var handled atomic.Int64
	s := serve(t, ports.Config{Address: address(), Mode: mode}, func(c net.Conn, _ uint16) {
		handled.Add(1)
		c.Close()
	})
	for range 30 {
		s.open(first + 3)
		conns := make([]net.Conn, 20)
		for i := range conns {
			conns[i] = mustDial(t, s.at(first+3))
		}
		s.Close(first + 3)
		before := handled.Load()
		s.open(first + 3)
		for _, c := range conns {
			if err := c.SetReadDeadline(time.Now().Add(deadline)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("old connection: %v, want an end", err)
			}
			c.Close()
		}
		if n := handled.Load() - before; n != 0 {
			t.Fatalf("%d old connections reached the reopened port", n)
		}
		s.Close(first + 3)
	}
}

func openAndCloseRace(t *testing.T, mode string) {
	const width = 4
	var open [width]atomic.Bool // false: no connection may be handled
	s := serve(t, ports.Config{Address: address(), Mode: mode}, func(c net.Conn, port uint16) {
		defer c.Close()
		if !open[port-first].Load() {
			t.Errorf("port %d was handled while it was closed", port)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range uint16(width) {
		wg.Go(func() {
			for ctx.Err() == nil {
				open[i].Store(true)
				if err := s.Open(first + i); err != nil {
					t.Error(err)
					return
				}
				s.Status()
				s.Close(first + i)
				open[i].Store(false)
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				if c, err := dial(s.at(first + i)); err == nil {
					_ = c.(*net.TCPConn).SetLinger(0)
					c.Close()
				}
			}
		})
	}
	wg.Wait()
	for i := range uint16(width) {
		wantRefused(t, s.at(first+i))
	}
}

func drainEndsWithItsContext(t *testing.T, mode string) {
	block := make(chan struct{})
	entered := make(chan struct{}, 10)
	s := serve(t, ports.Config{Address: address(), Mode: mode}, func(c net.Conn, _ uint16) {
		entered <- struct{}{}
		<-block
		c.Close()
	})
	s.open(first)
	mustDial(t, s.at(first))
	<-entered
	mustDial(t, s.at(first)) // waits in the queue
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// Not before the drain has seen who waits, on a busy machine, too.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, func() { close(block) }) })()
	if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v, want deadline exceeded", err)
	}
	wantRefused(t, s.at(first))
	if err := s.Open(first + 1); !errors.Is(err, ports.ErrNotRunning) {
		t.Errorf("open after drain: %v", err)
	}
}

func runEndsADrain(t *testing.T, mode string) {
	s := serve(t, ports.Config{Address: address(), Mode: mode}, nil)
	s.open(first)
	half := beginHandshake(t, s.at(first))
	defer half.close()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(context.Background()) }()
	for err := error(nil); !errors.Is(err, ports.ErrNotRunning); { // until the drain has begun
		err = s.Open(first)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if err := <-drained; !errors.Is(err, ports.ErrNotRunning) {
		t.Errorf("drain: %v, want that nothing is served", err)
	}
}
