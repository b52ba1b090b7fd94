package inner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/relay"
)

// way is how connections are set up.
type way struct {
	name string
	dial func(context.Context, netip.AddrPort) (net.Conn, error) // Deps.Dial
}

var ways = []way{{"on a loop", nil}, {"on goroutines", dialKernel}}

// bothWays runs a test for connections that are set up on loops and on goroutines.
func bothWays(t *testing.T, f func(t *testing.T, w way)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { f(t, w) })
	}
}

// start is startWith for an inner relay that must leave nothing behind.
func (w way) start(t *testing.T, cfg Config) *rig {
	t.Helper()
	g := start(t, cfg, w.dial)
	if loops := w.dial == nil; g.onLoop != loops {
		t.Fatalf("set up on a loop: %t; want %t", g.onLoop, loops)
	}
	t.Cleanup(func() {
		g.stop()
		if all, live, slots := g.all.Load(), g.live.Load(), len(g.slots); all != 0 || live != 0 || slots != 0 {
			t.Errorf("%d connections, %d of them live, %d handshakes", all, live, slots)
		}
	})
	return g
}

// echoing is a device at an address of this machine.
func echoing(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) // without the pipe of package net
				c.Close()
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// dialRelay connects as an outer relay does and sends what is given.
func (g *rig) dialRelay(t *testing.T, text string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// turnedAway returns how a connection that nobody serves ends: the reset may come while it
// is still made.
func (g *rig) turnedAway() error {
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	_, err = c.Read(make([]byte, 1))
	return err
}

// reach is ask for a device, with a good ticket but for some changes.
func (g *rig) reach(t *testing.T, device netip.AddrPort, changes map[string]any) (*net.TCPConn, error) {
	t.Helper()
	c := g.dialRelay(t, "")
	all := map[string]any{"dev": device.String()}
	maps.Copy(all, changes)
	err := relay.Connect(t.Context(), c, relay.Request{Target: device, Ticket: sign(t, all)})
	c.SetDeadline(time.Now().Add(time.Minute))
	return c, err
}

// asks returns the text of a good request.
func asks(t *testing.T, device netip.AddrPort) string {
	return fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Bearer %s\r\n\r\n", device, device, sign(t, map[string]any{"dev": device.String()}))
}

func TestEitherWayRelays(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			device := echoing(t, address)
			g := w.start(t, Config{})
			c, err := g.reach(t, device, nil)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, c)
			ticket := map[string]any{"jti": "once", "exp": time.Now().Add(15 * time.Second).Unix()}
			if _, err := g.reach(t, device, ticket); err != nil {
				t.Fatal(err)
			}
			if _, err := g.reach(t, device, ticket); !errors.Is(err, relay.TicketInvalid) {
				t.Errorf("the same ticket again: %v; want ticket-invalid", err)
			}
			roundTrip(t, c)
			c.CloseWrite()
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after both ended: %v; want EOF", err)
			}
			testenv.Eventually(t, "it is over", func() bool { s := g.Status(); return s.Live == 1 && s.Refused["ticket-invalid"] == 1 })
			if s := g.Status(); s.Relayed != 2 || s.Up != 8 || s.Down != 8 || s.Refused["ticket-invalid"] != 1 || s.Ended["closed"] != 1 {
				t.Errorf("status %+v", s)
			}
			g.stop()
			if s := g.Status(); s.Live != 0 || s.Ended["cut"] != 1 {
				t.Errorf("status %+v; want the second one cut", s)
			}
		}
	})
}

// What comes right behind the request is the device's.
func TestEitherWayEarlyBytes(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		g := w.start(t, Config{})
		c := g.dialRelay(t, asks(t, echoing(t, "127.0.0.1:0"))+"early")
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "HTTP/1.1 200 Connection established\r\n\r\nearly" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestEitherWayRefusals(t *testing.T) {
	now := time.Now()
	bothWays(t, func(t *testing.T, w way) {
		good := echoing(t, "127.0.0.1:0")
		for _, c := range []struct {
			name    string
			device  netip.AddrPort
			changes map[string]any
			want    relay.Refusal
		}{
			{"nobody listens", testenv.FreePort(t), nil, relay.DeviceRefused},
			{"no way", netip.MustParseAddrPort("224.0.0.1:9"), nil, relay.DeviceUnreachable},
			{"silence", testenv.SilentAddress(t), nil, relay.DeviceTimeout},
			{"for another device", good, map[string]any{"dev": "127.0.0.1:1"}, relay.TicketInvalid},
			{"for another relay", good, map[string]any{"aud": "inner2"}, relay.TicketInvalid},
			{"for another process", good, map[string]any{"inst": "before"}, relay.TicketInvalid},
			{"expired", good, map[string]any{"iat": now.Unix() - 60, "exp": now.Unix() - 45}, relay.TicketInvalid},
			{"by an unknown key", good, map[string]any{"kid": "k2"}, relay.TicketInvalid},
		} {
			t.Run(c.name, func(t *testing.T) {
				g := w.start(t, Config{DialTimeout: 100 * time.Millisecond})
				if _, err := g.reach(t, c.device, c.changes); !errors.Is(err, c.want) {
					t.Errorf("%v; want %s", err, c.want)
				}
				g.stop()
				if got := g.Status().Refused; !maps.Equal(got, map[string]uint64{string(c.want): 1}) {
					t.Errorf("counted %v", got)
				}
			})
		}
		t.Run("too many tickets", func(t *testing.T) {
			g := w.start(t, Config{TicketRate: 1})
			for i := range int(rememberedFor/time.Second) + 1 {
				want := error(nil)
				if i == int(rememberedFor/time.Second) {
					want = relay.Overloaded
				}
				if _, err := g.reach(t, good, nil); !errors.Is(err, want) {
					t.Fatalf("ticket %d: %v; want %v", i, err, want)
				}
			}
		})
	})
}

func TestEitherWayStrangers(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		g := w.start(t, Config{HandshakeTimeout: 100 * time.Millisecond})
		all := []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", "CONNECT 10.60.0.7:22 HT", strings.Repeat("a", 2*relay.MaxHead), "\x16\x03\x01\x02\x00\x01"}
		for _, head := range all {
			for _, half := range []bool{false, true} {
				c := g.dialRelay(t, head)
				if half {
					c.CloseWrite()
				}
				b, err := io.ReadAll(c)
				if err != nil && !errors.Is(err, syscall.ECONNRESET) || !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
					t.Errorf("%.20q, half-closed %t: answered %q, %v; want 400", head, half, b, err)
				}
				c.Close()
				relay.Abort(g.dialRelay(t, head))
			}
		}
		testenv.Eventually(t, "all are counted", func() bool { return g.Status().Refused["bad-request"] == uint64(4*len(all)) })
	})
}

func TestEitherWayLimits(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		g := w.start(t, Config{MaxHandshakes: 1, MaxConnections: 3})
		device := echoing(t, "127.0.0.1:0")
		first := g.dialRelay(t, "")
		testenv.Eventually(t, "the first is being set up", func() bool { return len(g.slots) == 1 })
		if _, err := g.reach(t, device, nil); !errors.Is(err, relay.Overloaded) {
			t.Errorf("a second handshake: %v; want overloaded", err)
		}
		testenv.Eventually(t, "the second is forgotten", func() bool { return g.all.Load() == 1 })
		if err := relay.Connect(t.Context(), first, relay.Request{Target: device, Ticket: sign(t, map[string]any{"dev": device.String()})}); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, first)
		for range 2 { // live connections do not count as handshakes
			c, err := g.reach(t, device, nil)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, c)
		}
		if err := g.turnedAway(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("beyond all connections: %v; want a reset", err)
		}
	})
}

// A relay that stops refuses what it has begun to set up, and cuts what lives after its
// drain time.
func TestEitherWayStops(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for phase, device := range map[string]netip.AddrPort{"before a word": {}, "dialling": testenv.SilentAddress(t)} {
			for _, drain := range []time.Duration{0, 100 * time.Millisecond} {
				g := w.start(t, Config{DrainTimeout: drain})
				text := ""
				if device.IsValid() {
					text = asks(t, device)
				}
				c := g.dialRelay(t, text)
				testenv.Eventually(t, "it is being set up", func() bool { return len(g.slots) == 1 })
				begin := time.Now()
				g.stop()
				if took := time.Since(begin); took < drain || took > drain+2*time.Second {
					t.Errorf("%s: stopped after %s; the drain time is %s", phase, took, drain)
				}
				b, err := io.ReadAll(c)
				if err != nil && !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(string(b), string(relay.Draining)) && err == nil {
					t.Errorf("%s: told %q, %v; want draining", phase, b, err)
				}
				if n := g.Status().Refused["draining"]; n != 1 {
					t.Errorf("%s: refused %v", phase, g.Status().Refused)
				}
			}
		}
	})
}

func TestEitherWayDrain(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		device := echoing(t, "127.0.0.1:0")
		g := w.start(t, Config{})
		live, err := g.reach(t, device, nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := g.dialRelay(t, "")
		testenv.Eventually(t, "the second is being set up", func() bool { return len(g.slots) == 1 })
		g.Drain()
		testenv.Eventually(t, "nothing new is taken", func() bool {
			c, err := net.Dial("tcp", g.addr)
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
		roundTrip(t, live)
		if err := relay.Connect(t.Context(), begun, relay.Request{Target: device, Ticket: sign(t, map[string]any{"dev": device.String()})}); err != nil {
			t.Errorf("what was begun before the drain: %v", err)
		} else {
			roundTrip(t, begun)
		}
	})
}

// A device is not dialled for an outer relay that has gone. On goroutines nobody looks.
func TestLoopGivesTheDialUp(t *testing.T) {
	g := ways[0].start(t, Config{DialTimeout: time.Minute})
	silent := testenv.SilentAddress(t)
	for range 20 {
		c := g.dialRelay(t, asks(t, silent))
		relay.Abort(c) // perhaps before the relay has looked at it
	}
	testenv.Eventually(t, "all are given up", func() bool { return g.Status().Refused["bad-request"] == 20 })
}

// spied is a listener whose connections the test has a second descriptor of.
type spied struct {
	net.Listener
	files chan *os.File
}

func (s spied) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			return nil, err
		}
		s.files <- f
	}
	return c, err
}

// The options are those of both connections, with outer relays and with devices.
func TestEitherWayOptions(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		device, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		spy := spied{l, make(chan *os.File, 1)}
		r, err := New(Config{ID: "inner1", TCP: relay.TCPOptions{KeepAliveIdle: 7 * time.Second, UserTimeout: 1234 * time.Millisecond}},
			Deps{Listener: spy, Control: control{}, Dial: w.dial})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		g := &rig{Relay: r, addr: l.Addr().String()}
		addr := device.Addr().(*net.TCPAddr).AddrPort()
		if _, err := g.reach(t, addr, nil); err != nil {
			t.Fatal(err)
		}
		f := <-spy.files
		defer f.Close()
		raw, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			idle, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			limit, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
			if idle != 7 || limit != 1234 {
				t.Errorf("the outer relay is asked after %d s, and has %d ms; want 7 and 1234", idle, limit)
			}
		})
	})
}

// On a loop a connection that is being set up costs no goroutine, and neither does one
// that is relayed.
func TestLoopTakesNoGoroutine(t *testing.T) {
	g := ways[0].start(t, Config{DialTimeout: time.Minute})
	device, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	silent, addr := testenv.SilentAddress(t), device.Addr().(*net.TCPAddr).AddrPort()
	if _, err := g.reach(t, addr, nil); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 30 {
		g.dialRelay(t, "")
		g.dialRelay(t, asks(t, silent))
		if _, err := g.reach(t, addr, nil); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, "all are under way", func() bool { return len(g.slots) == 60 })
	testenv.Eventually(t, "there are as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before+3 })
}
