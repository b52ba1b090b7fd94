package ports_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/relay/ports"
)

// TestMain is also the second process of the tests that need one.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

const deadline = 20 * time.Second

// Ports of the tests lie below those that the kernel hands out.
const first, last = 20000, 20999

var nextAddress atomic.Uint32

// address returns a loopback address that no other test uses, nor another run.
func address() netip.Addr {
	n := nextAddress.Add(1)
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(100 + n), byte(pid >> 8), byte(pid&0xfe + 1)})
}

// hit is a connection that Handle got.
type hit struct {
	conn net.Conn
	port uint16
}

// served are Ports that run.
type served struct {
	*ports.Ports
	t       testing.TB
	address netip.Addr
	hits    chan hit
	stop    func() error // ends Run and returns its error; may be called again
}

// serve runs Ports until the test ends. handle nil sends to hits.
func serve(t testing.TB, cfg ports.Config, handle func(net.Conn, uint16)) *served {
	t.Helper()
	s := &served{t: t, address: cfg.Address, hits: make(chan hit, 100000)}
	if handle == nil {
		handle = func(c net.Conn, port uint16) { s.hits <- hit{c, port} }
	}
	if cfg.First == 0 {
		cfg.First, cfg.Last = first, last
	}
	p, err := ports.New(cfg, ports.Deps{Handle: handle})
	if err != nil {
		t.Fatal(err)
	}
	s.Ports = p
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var rerr error
	go func() {
		defer close(ended)
		rerr = p.Run(ctx)
	}()
	s.stop = func() error {
		cancel()
		<-ended
		return rerr
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		for {
			select {
			case h := <-s.hits:
				h.conn.Close()
			default:
				return
			}
		}
	})
	select {
	case <-p.Ready():
	case <-ended:
		t.Fatal(rerr)
	}
	if got := p.Status().Mode; cfg.Mode != ports.ModeAuto && got != cfg.Mode {
		t.Fatalf("mode %q, want %q", got, cfg.Mode)
	}
	return s
}

func (s *served) open(port uint16) {
	s.t.Helper()
	if err := s.Open(port); err != nil {
		s.t.Fatal(err)
	}
}

func (s *served) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.address, port) }

// hit returns the next connection.
func (s *served) hit() hit {
	s.t.Helper()
	select {
	case h := <-s.hits:
		s.t.Cleanup(func() { h.conn.Close() })
		return h
	case <-time.After(deadline):
		s.t.Fatal("no connection was handled")
		return hit{}
	}
}

func dial(at netip.AddrPort) (net.Conn, error) {
	return net.DialTimeout("tcp", at.String(), deadline)
}

func mustDial(t testing.TB, at netip.AddrPort) net.Conn {
	t.Helper()
	c, err := dial(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wantRefused says that a client is answered with RST.
func wantRefused(t testing.TB, at netip.AddrPort) {
	t.Helper()
	c, err := dial(at)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to %s: %v, want connection refused", at, err)
	}
}

// greet is a Handle that tells clients who serves them, and waits for their end.
func greet(name byte) func(net.Conn, uint16) {
	return func(c net.Conn, _ uint16) {
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(deadline))
			if _, err := c.Write([]byte{name}); err == nil {
				_, _ = io.Copy(io.Discard, c)
			}
		}()
	}
}

// greeting connects and returns who answered. The connection is reset then, which
// leaves nothing waiting on either side.
func greeting(at netip.AddrPort) (byte, error) {
	c, err := dial(at)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		return 0, err
	}
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		return 0, err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	return b[0], nil
}

// The second process serves one port of an address with the name '1' until it is
// killed, and says on standard output that it does. Standard input that ends ends it.
const childVariable = "SIMREACH_PORTS_CHILD" // "mode address port"

func child() int {
	var mode, at string
	if _, err := fmt.Sscan(os.Getenv(childVariable), &mode, &at); err != nil {
		return 2
	}
	to, err := netip.ParseAddrPort(at)
	if err != nil {
		return 2
	}
	p, err := ports.New(ports.Config{Address: to.Addr(), Mode: mode, First: first, Last: last}, ports.Deps{Handle: blockFrom(2)})
	if err != nil {
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case <-p.Ready():
	case err := <-ended:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := p.Open(to.Port()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready " + strconv.Itoa(os.Getpid()))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// blockFrom greets as '1' but blocks the acceptor from the nth connection on, so
// that the following ones wait in the kernel's queue.
func blockFrom(n int) func(net.Conn, uint16) {
	greet := greet('1')
	return func(c net.Conn, port uint16) {
		if n--; n <= 0 {
			select {}
		}
		greet(c, port)
	}
}

func mustListen(t testing.TB, at netip.AddrPort) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
