package relay

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guests is an inner relay with one connection of an outer relay's, which is the test's.
type guests struct {
	*tasks
	outer   *net.TCPConn
	device  netip.AddrPort
	accept  func() *net.TCPConn
	tunnel  int32 // the relay's descriptor of it
	request Request
	stops   atomic.Bool // the relay stops when a link has ended
	waiting chan *Link
	ended   chan greeted
	over    chan Result
}

func newGuests(t *testing.T, connect func(testing.TB) (near, outer *net.TCPConn)) *guests {
	g := &guests{
		tasks: newTasks(t, 1), waiting: make(chan *Link, 9), ended: make(chan greeted, 9), over: make(chan Result, 9),
		request: Request{Target: netip.MustParseAddrPort("10.60.0.7:22"), Ticket: "t", frames: true},
	}
	near, outer := connect(t)
	g.outer = outer
	g.device, g.accept = listen(t, "127.0.0.1:0")
	outer.SetDeadline(time.Now().Add(soon))
	g.Greet(near, g.greeting())
	return g
}

func (g *guests) greeting() Greeting {
	told := g.once("Greet")
	return Greeting{
		Timeout: soon, Wait: 10 * soon, DialTimeout: soon, Requested: to(g.device),
		Again: func(s *Socket) {
			if g.stops.Load() {
				g.loops[0].stop()
			}
			g.waiting <- g.GreetAgain(s, g.greeting())
		},
		Ended: func(outer, device *Socket, why Refusal, err error) {
			told()
			if outer == nil {
				g.ended <- greeted{why: why, err: err}
				return
			}
			g.tunnel = outer.fd
			g.Join(outer, device, 0, nil, func(r Result) { g.over <- r })
		},
	}
}

// The inner relay says that it reads another request also if its fin had to wait for room
// while the other direction ended.
func TestKeptFreeBehindLateFin(t *testing.T) {
	g := newGuests(t, func(t testing.TB) (near, outer *net.TCPConn) {
		to, accept := listenNarrow(t)
		d, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		return d.(*net.TCPConn), accept()
	})
	send(t, g.outer, string(g.request.head()))
	device := g.accept()
	expect(t, g.outer, acceptedFramed, "the answer")
	b := newBell(t, g.loops[0])
	b.ring(t)
	unix.SetsockoptInt(int(g.tunnel), unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	filled := 0
	for full := 0; full < 3; {
		n, e := sendNow(g.tunnel, make([]byte, 1000))
		if e == unix.EAGAIN {
			full++
			b.ring(t)
			continue
		}
		full, filled = 0, filled+n
	}
	device.CloseWrite()
	b.ring(t)
	send(t, g.outer, tail(frameFin))
	expectEOF(t, device, "the client's end")
	expect(t, g.outer, strings.Repeat("\x00", filled), "what filled the connection")
	expect(t, g.outer, tail(frameFin, frameFree), "the device's end, and another may come")
	next(t, "it waits again", g.waiting)
	send(t, g.outer, string(g.request.head()))
	expect(t, g.outer, acceptedFramed, "the answer to another")
}

// After a direction that was raw there is no other request, and nothing of the kind is said.
func TestKeptNoFreeBehindRaw(t *testing.T) {
	g := newGuests(t, tcpPair)
	send(t, g.outer, string(g.request.head())+tail(frameRaw)+"raw")
	g.outer.CloseWrite()
	device := g.accept()
	expect(t, device, "raw", "what the client sends")
	expectEOF(t, device, "the client's end")
	device.Close()
	expect(t, g.outer, acceptedFramed+tail(frameFin), "the device's end")
	expectEOF(t, g.outer, "no other client comes")
	next(t, "the end", g.over)
}

// serve has a client served, after which the connection waits.
func (g *guests) serve(t *testing.T) (waiting *Link) {
	t.Helper()
	send(t, g.outer, string(g.request.head()))
	g.accept().Close()
	expect(t, g.outer, acceptedFramed+tail(frameFin), "the device's end")
	send(t, g.outer, tail(frameFin))
	expect(t, g.outer, tail(frameFree), "another may come")
	return next(t, "it waits again", g.waiting)
}

// A connection may wait for long, but not for the rest of a request.
func TestGreetAgainSlowly(t *testing.T) {
	g := newGuests(t, tcpPair)
	g.serve(t)
	b := newBell(t, g.loops[0])
	later := func() {
		free := block(t, g.loops[0])
		g.loops[0].born = g.loops[0].born.Add(-2 * soon)
		free()
		b.ring(t)
	}
	later()
	g.serve(t)
	for _, c := range string(g.request.head()[:20]) {
		send(t, g.outer, string(c))
		b.ring(t)
	}
	later()
	expect(t, g.outer, string(BadRequest.head()), "too late")
	if e := next(t, "the end", g.ended); e.why != BadRequest {
		t.Errorf("%+v; want %s", e, BadRequest)
	}
}

// What ends in order while the relay stops is not told that a request was refused: there was
// none.
func TestGreetAgainStopped(t *testing.T) {
	g := newGuests(t, tcpPair)
	g.stops.Store(true)
	send(t, g.outer, string(g.request.head()))
	g.accept().Close()
	expect(t, g.outer, acceptedFramed+tail(frameFin), "the device's end")
	send(t, g.outer, tail(frameFin))
	expect(t, g.outer, tail(frameFree, frameBye), "the farewell")
	if e := next(t, "the end", g.ended); e.why != "" || e.err != nil {
		t.Errorf("%+v", e)
	}
}
