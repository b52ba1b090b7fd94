package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

// greeted is what Greeting.Ended is told.
type greeted struct {
	outer, device *Socket
	why           Refusal
	err           error
}

// greet greets an outer relay, whose end of the connection is returned.
func (g *tasks) greet(q Greeting, leads func(Request) (netip.AddrPort, Refusal)) (outer *net.TCPConn, over <-chan greeted) {
	g.t.Helper()
	near, far := tcpPair(g.t)
	far.SetDeadline(time.Now().Add(soon))
	ended, told := make(chan greeted, 2), g.once("Greet")
	q.Requested = leads
	q.Ended = func(outer, device *Socket, why Refusal, err error) {
		told()
		ended <- greeted{outer, device, why, err}
	}
	if q.Timeout == 0 {
		q.Timeout = soon
	}
	if q.DialTimeout == 0 {
		q.DialTimeout = soon
	}
	if g.Greet(near, q) == nil {
		g.t.Fatal("not greeted")
	}
	return far, ended
}

// greetMeanwhile greets an outer relay to which something happens after it has said what it
// wants, before a device is dialled. accept returns the device's connection.
func (g *tasks) greetMeanwhile(says string, happens func(outer *net.TCPConn)) (outer *net.TCPConn, over <-chan greeted, accept func() *net.TCPConn) {
	g.t.Helper()
	device, accept := listen(g.t, "127.0.0.1:0")
	asked, happened := make(chan struct{}), make(chan struct{})
	outer, over = g.greet(Greeting{}, func(Request) (netip.AddrPort, Refusal) {
		close(asked)
		<-happened
		return device, ""
	})
	send(g.t, outer, says)
	<-asked
	happens(outer)
	close(happened)
	return outer, over, accept
}

// to leads every request to a device.
func to(device netip.AddrPort) func(Request) (netip.AddrPort, Refusal) {
	return func(Request) (netip.AddrPort, Refusal) { return device, "" }
}

var request = string(Request{Target: netip.MustParseAddrPort("10.60.0.7:22"), Ticket: "the.ticket"}.head())

// join relays between two sockets and returns how it ends.
func (g *tasks) join(a, b *Socket, n int) (*Link, <-chan Result) {
	ended, told := make(chan Result, 2), g.once("Join")
	return g.Join(a, b, n, nil, func(r Result) { told(); ended <- r }), ended
}

// expectRefusal reads the answer to a request, and the end.
func expectRefusal(t testing.TB, outer *net.TCPConn, want Refusal) {
	t.Helper()
	text, err := io.ReadAll(outer)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // what it had sent and nobody read
		t.Fatal(err)
	}
	if _, err := parseResponse(text); !errors.Is(err, want) {
		t.Errorf("told %q; want %s", text, want)
	}
}

// A request that comes in any pieces is read to its end and no further: what follows is the
// device's.
func TestGreet(t *testing.T) {
	const early = "early\r\n\r\nbytes"
	for _, size := range []int{1, 2, 7, len(request) - 1, len(request), len(request) + 3, 1000} {
		for network, address := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0", "IPv4 in IPv6": "127.0.0.1:0"} {
			t.Run(network, func(t *testing.T) {
				g := newTasks(t, 1)
				b := newBell(t, g.loops[0])
				device, accept := listen(t, address)
				if network == "IPv4 in IPv6" {
					device = netip.AddrPortFrom(netip.AddrFrom16(device.Addr().As16()), device.Port())
				}
				outer, over := g.greet(Greeting{}, func(r Request) (netip.AddrPort, Refusal) {
					if r.Ticket != "the.ticket" || r.Early != nil {
						t.Errorf("request %+v", r)
					}
					return device, ""
				})
				for rest := request + early; rest != ""; {
					n := min(size, len(rest))
					send(t, outer, rest[:n])
					b.ring(t)
					rest = rest[n:]
				}
				e := next(t, "the device", over)
				if e.why != "" || e.err != nil {
					t.Fatalf("%+v", e)
				}
				_, ended := g.join(e.outer, e.device, 0)
				expect(t, outer, accepted, "the answer")
				c := accept()
				expect(t, c, early, "what came with the request")
				send(t, c, "hello")
				expect(t, outer, "hello", "what the device says")
				outer.CloseWrite()
				expectEOF(t, c, "FIN")
				c.Close()
				if r := next(t, "the end", ended); r.AToB != uint64(len(early)) || r.BToA != 5 || r.Cause != Closed {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

// What is no request is refused, and what never becomes one.
func TestGreetBadRequests(t *testing.T) {
	for _, c := range []struct {
		name, text string
		end        func(*net.TCPConn)
		want       error
		silent     bool // nobody can be told
	}{
		{name: "silence", want: os.ErrDeadlineExceeded},
		{name: "half", text: request[:20], want: os.ErrDeadlineExceeded},
		{name: "a browser", text: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", want: ErrMalformed},
		{name: "an empty line", text: "\r\n\r\n", want: ErrMalformed},
		{name: "too large", text: strings.Repeat("a", MaxHead), want: ErrHeadTooLarge},
		{name: "larger", text: strings.Repeat("a", 4*MaxHead), want: ErrHeadTooLarge},
		{name: "nothing but FIN", end: fin, want: io.ErrUnexpectedEOF},
		{name: "half and FIN", text: request[:20], end: fin, want: io.ErrUnexpectedEOF},
		{name: "almost and FIN", text: request[:len(request)-1], end: fin, want: io.ErrUnexpectedEOF},
		{name: "nothing but reset", end: reset, want: syscall.ECONNRESET, silent: true},
		{name: "half and reset", text: request[:20], end: reset, silent: true},
		{name: "all and reset", text: request, end: reset, want: syscall.ECONNRESET, silent: true},
	} {
		for _, atOnce := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				g := newTasks(t, 1)
				silent := testenv.SilentAddress(t) // it is given up before anybody there answers
				b := newBell(t, g.loops[0])
				free := func() {}
				if atOnce {
					free = block(t, g.loops[0])
				}
				timeout := soon
				if c.want == os.ErrDeadlineExceeded {
					timeout = 200 * time.Millisecond
				}
				outer, over := g.greet(Greeting{Timeout: timeout}, to(silent))
				if c.text != "" {
					send(t, outer, c.text)
				}
				if !atOnce {
					b.ring(t)
				}
				if c.end != nil {
					c.end(outer)
				}
				free()
				e := next(t, c.name, over)
				if e.why != BadRequest || c.want != nil && !errors.Is(e.err, c.want) || e.outer != nil || e.device != nil {
					t.Errorf("%+v, %v; want bad-request, %v", e, e.err, c.want)
				}
				if !c.silent {
					expectRefusal(t, outer, BadRequest)
				}
			})
		}
	}
}

// Whatever keeps a request from its device is told in its own word.
func TestGreetRefusals(t *testing.T) {
	for why := range refusals {
		g := newTasks(t, 1)
		outer, over := g.greet(Greeting{}, func(Request) (netip.AddrPort, Refusal) { return netip.AddrPort{}, why })
		send(t, outer, request+"early")
		expectRefusal(t, outer, why)
		if e := next(t, string(why), over); e.why != why || e.err != nil || e.outer != nil || e.device != nil {
			t.Errorf("%+v; want %s", e, why)
		}
	}
	full := testenv.SilentAddress(t)
	for name, c := range map[string]struct {
		device netip.AddrPort
		want   Refusal
	}{
		"nobody listens": {testenv.FreePort(t), DeviceRefused},
		"no way":         {group, DeviceUnreachable},
		"silence":        {full, DeviceTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTasks(t, 1)
			d := soon
			if c.want == DeviceTimeout {
				d = 1100 * time.Millisecond // a turn of the wheel is less
			}
			outer, over := g.greet(Greeting{DialTimeout: d}, to(c.device))
			send(t, outer, request+"early")
			try := func() { expectRefusal(t, outer, c.want) }
			if c.want == DeviceTimeout {
				expectIn(t, d, try)
			} else {
				try()
			}
			if e := next(t, name, over); e.why != c.want || e.err == nil {
				t.Errorf("%+v; want %s", e, c.want)
			}
		})
	}
}

// Nobody dials for an outer relay that has gone; one that has said all it will say is still
// there.
func TestGreetOuterEnds(t *testing.T) {
	t.Run("reset while the device is silent", func(t *testing.T) {
		g := newTasks(t, 1)
		b := newBell(t, g.loops[0])
		outer, over := g.greet(Greeting{}, to(testenv.SilentAddress(t)))
		send(t, outer, request)
		b.ring(t)
		reset(outer)
		if e := next(t, "the dial is given up", over); e.why != BadRequest || !errors.Is(e.err, syscall.ECONNRESET) {
			t.Errorf("%+v", e)
		}
	})
	t.Run("reset before the device answers", func(t *testing.T) {
		g := newTasks(t, 1)
		_, over, accept := g.greetMeanwhile(request, reset)
		if e := next(t, "the device is given up", over); e.why != BadRequest || e.err == nil {
			t.Errorf("%+v", e)
		}
		expectReset(t, accept(), "nobody wants the device")
	})
	t.Run("FIN while dialling", func(t *testing.T) {
		g := newTasks(t, 1)
		outer, over, accept := g.greetMeanwhile(request+"all", fin)
		e := next(t, "the device", over)
		if e.why != "" {
			t.Fatalf("%+v", e)
		}
		_, ended := g.join(e.outer, e.device, 0)
		c := accept()
		expect(t, c, "all", "what was said before FIN")
		expectEOF(t, c, "FIN")
		send(t, c, "answer")
		c.Close()
		expect(t, outer, accepted+"answer", "what the device says")
		if r := next(t, "the end", ended); r.Cause != Closed {
			t.Errorf("%+v", r)
		}
	})
}

// A relayer that stops refuses what it has begun, in every phase.
func TestGreetStops(t *testing.T) {
	for phase, bytes := range map[string]string{"before a word": "", "half a request": request[:20], "dialling": request} {
		t.Run(phase, func(t *testing.T) {
			g := newTasks(t, 1)
			b := newBell(t, g.loops[0])
			outer, over := g.greet(Greeting{}, to(testenv.SilentAddress(t)))
			if bytes != "" {
				send(t, outer, bytes)
			}
			b.ring(t)
			g.stop()
			expectRefusal(t, outer, Draining)
			if e := next(t, phase, over); e.why != Draining || !errors.Is(e.err, ErrStopped) {
				t.Errorf("%+v", e)
			}
			outer, over = g.greet(Greeting{}, to(testenv.FreePort(t)))
			expectReset(t, outer, "after the end")
			if e := next(t, "after the end", over); e.why != Draining || !errors.Is(e.err, ErrStopped) {
				t.Errorf("%+v", e)
			}
		})
	}
	near, far := tcpPair(t)
	if (&Relayer{}).Greet(near, Greeting{}) != nil {
		t.Fatal("greeted without loops")
	}
	send(t, near, "untouched")
	expect(t, far, "untouched", "nothing happened")
}

// The connection to a device has the options that it shall have.
func TestGreetOptions(t *testing.T) {
	g := newTasks(t, 1)
	device, _ := listen(t, "127.0.0.1:0")
	option := func(s *Socket, level, name int) int {
		v, err := unix.GetsockoptInt(int(s.fd), level, name)
		if err != nil {
			t.Error(err)
		}
		return v
	}
	for _, c := range []struct {
		o                                 TCPOptions
		alive, idle, interval, count, max int
	}{
		{TCPOptions{}, 1, 15, 15, 9, 0},
		{TCPOptions{KeepAliveIdle: 7 * time.Second, KeepAliveInterval: 1500 * time.Millisecond, KeepAliveCount: 3, UserTimeout: 2500 * time.Microsecond}, 1, 7, 2, 3, 3},
		{TCPOptions{KeepAliveIdle: -1}, 0, 0, 0, 0, 0},
	} {
		outer, over := g.greet(Greeting{TCP: c.o}, to(device))
		send(t, outer, request)
		e := next(t, "the device", over)
		if e.why != "" {
			t.Fatalf("%+v", e)
		}
		alive := option(e.device, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		idle, interval := option(e.device, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE), option(e.device, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
		count, limit := option(e.device, unix.IPPROTO_TCP, unix.TCP_KEEPCNT), option(e.device, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if alive != c.alive || limit != c.max || alive == 1 && (idle != c.idle || interval != c.interval || count != c.count) {
			t.Errorf("%+v: keepalive %d after %d s every %d s, %d times, %d ms", c.o, alive, idle, interval, count, limit)
		}
		if option(e.device, unix.IPPROTO_TCP, unix.TCP_NODELAY) != 1 {
			t.Error("small segments wait")
		}
		e.outer.Abort()
		e.device.Abort()
	}
}

// The answer and what follows it are as they would be without a loop.
func TestGreetAndCallEachOther(t *testing.T) {
	g := newTasks(t, 2)
	device, accept := listen(t, "127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	for range 20 {
		_, answers := g.begin(Call{To: l.Addr().(*net.TCPAddr).AddrPort(), Early: func() []byte { return data[:8192] }})
		in, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		over := make(chan greeted, 1)
		if g.Greet(in.(*net.TCPConn), Greeting{
			Timeout: soon, DialTimeout: soon, Requested: to(device),
			Ended: func(outer, device *Socket, why Refusal, err error) { over <- greeted{outer, device, why, err} },
		}) == nil {
			t.Fatal("not greeted")
		}
		e, a := next(t, "the device", over), next(t, "the answer", answers)
		if e.why != "" || a.err != nil {
			t.Fatalf("%+v, %+v", e, a)
		}
		near, client := tcpPair(t)
		s, _ := NewSocket(near)
		_, inner := g.join(e.outer, e.device, 0)
		_, outer := g.join(s, a.device, 8192)
		c := accept()
		var wg sync.WaitGroup
		wg.Go(func() { client.Write(data[8192:]); client.CloseWrite() })
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(data))
		}
		c.Close()
		wg.Wait()
		if i, o := next(t, "the inner end", inner), next(t, "the outer end", outer); i.AToB != uint64(len(data)) || o.AToB != i.AToB || o.Cause != Closed {
			t.Errorf("inner %+v, outer %+v", i, o)
		}
		client.Close()
	}
}
