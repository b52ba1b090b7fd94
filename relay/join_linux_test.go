package relay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pairOf is two sockets that may be joined, with the far end of each.
type pairOf struct {
	name string
	make func(t testing.TB, g *tasks) (a, b *Socket, client, device *net.TCPConn)
}

func loose(t testing.TB) (*Socket, *net.TCPConn) {
	t.Helper()
	near, far := tcpPair(t)
	s, ok := NewSocket(near)
	if !ok {
		t.Fatal("no descriptor")
	}
	far.SetDeadline(time.Now().Add(soon))
	return s, far
}

// called returns a Socket of a loop with its far end.
func (g *tasks) called(t testing.TB) (*Socket, *net.TCPConn) {
	t.Helper()
	to, accept := listen(t, "127.0.0.1:0")
	_, answers := g.begin(Call{To: to})
	inner := accept()
	readRequest(t, inner)
	send(t, inner, accepted)
	a := next(t, "the answer", answers)
	if a.err != nil {
		t.Fatal(a.err)
	}
	return a.device, inner
}

var pairs = []pairOf{
	{"of no loop", func(t testing.TB, _ *tasks) (a, b *Socket, client, device *net.TCPConn) {
		a, client = loose(t)
		b, device = loose(t)
		return a, b, client, device
	}},
	{"as an outer relay has them", func(t testing.TB, g *tasks) (a, b *Socket, client, device *net.TCPConn) {
		a, client = loose(t)
		b, device = g.called(t)
		return a, b, client, device
	}},
	{"the other way round", func(t testing.TB, g *tasks) (a, b *Socket, client, device *net.TCPConn) {
		a, client = g.called(t)
		b, device = loose(t)
		return a, b, client, device
	}},
	{"as an inner relay has them", func(t testing.TB, g *tasks) (a, b *Socket, client, device *net.TCPConn) {
		to1, accept := listen(t, "127.0.0.1:0")
		client, over := g.greet(Greeting{}, to(to1))
		send(t, client, request)
		e := next(t, "the device", over)
		if e.why != "" {
			t.Fatalf("%+v", e)
		}
		expect(t, client, accepted, "the answer")
		return e.outer, e.device, client, accept()
	}},
	{"both of a call", func(t testing.TB, g *tasks) (a, b *Socket, client, device *net.TCPConn) {
		a, client = g.called(t)
		b, device = g.called(t)
		if a.loop != b.loop {
			t.Fatal("one loop was asked for")
		}
		return a, b, client, device
	}},
}

// What came to either socket before they are joined goes on: bytes, FIN and reset.
func TestJoin(t *testing.T) {
	for _, p := range pairs {
		for _, end := range []string{"", "FIN", "FIN of both", "reset of a", "reset of b", "reset of a after bytes"} {
			t.Run(p.name+" "+end, func(t *testing.T) {
				g := newTasks(t, 1)
				bell := newBell(t, g.loops[0])
				a, b, client, device := p.make(t, g)
				up, down := strings.Repeat("up", 10_000), strings.Repeat("down", 10_000)
				if !strings.HasPrefix(end, "reset") || end == "reset of a after bytes" {
					send(t, client, up)
					send(t, device, down)
				}
				switch end {
				case "FIN":
					fin(client)
				case "FIN of both":
					fin(client)
					fin(device)
				case "reset of a", "reset of a after bytes":
					reset(client)
				case "reset of b":
					reset(device)
				}
				bell.ring(t) // the loop knows, if it ever will
				_, ended := g.join(a, b, 7)
				switch end {
				case "":
					expect(t, device, up, "what the client said before")
					expect(t, client, down, "what the device said before")
					send(t, client, "and on")
					expect(t, device, "and on", "up")
					send(t, device, "and on")
					expect(t, client, "and on", "down")
					client.Close()
					device.Close()
				case "FIN", "FIN of both":
					expect(t, device, up, "what the client said before")
					expect(t, client, down, "what the device said before")
					expectEOF(t, device, "FIN of the client")
					if end == "FIN" {
						send(t, device, "more")
						expect(t, client, "more", "after the client's FIN")
						fin(device)
					}
					expectEOF(t, client, "FIN of the device")
				case "reset of b":
					expectReset(t, client, end)
				default:
					expectReset(t, device, end)
				}
				r := next(t, "the end", ended)
				want := map[string]Cause{"reset of a": ResetA, "reset of a after bytes": ResetA, "reset of b": ResetB}[end]
				switch {
				case want == 0 && end != "" && (r.Cause != Closed || r.AToB != uint64(len(up)+7) || r.BToA < uint64(len(down))):
					t.Errorf("%+v; want all bytes of both sides", r)
				case want != 0 && r.Cause != want:
					t.Errorf("%+v; want %v", r, want)
				}
			})
		}
	}
}

// A link of sockets that the loops do not take any more ends at once.
func TestJoinAfterTheEnd(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			g := newTasks(t, 1)
			a, b, client, device := p.make(t, g)
			g.stop()
			_, ended := g.join(a, b, 0)
			if r := next(t, "the end", ended); r.Cause != Cut || r.Err != ErrStopped {
				t.Errorf("%+v; want cut", r)
			}
			expectReset(t, client, "after the end")
			expectReset(t, device, "after the end")
		})
	}
}

// watched returns how many sockets a loop's epoll knows.
func watched(t testing.TB, l *loop) int {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", l.epoll))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(info), "tfd:") - 1 // without the one that wakes it
}

// heir is a task that has a slot and no socket: no event is for it.
type heir struct {
	begun chan uint32
	over  chan struct{}
	steps atomic.Int32
}

func (h *heir) begin(_ *loop, i uint32, _ *pair) { h.begun <- i }
func (h *heir) step(*loop, uint32, *pair)        { h.steps.Add(1) }
func (h *heir) fail(l *loop, i uint32, p *pair, _ error) {
	l.endTask(i, p)
	close(h.over)
}
func (h *heir) refuse(error) {}

// A Socket that leaves its loop takes its place in epoll along: whoever has its slot then
// hears nothing of it.
func TestSocketLeavesItsLoop(t *testing.T) {
	g := newTasks(t, 1)
	l := g.loops[0]
	b := newBell(t, l)
	b.ring(t)
	for range 20 {
		s, inner := g.called(t)
		abort, other := g.called(t)
		if n := watched(t, l); n != 3 {
			t.Errorf("%d sockets are watched; want the bell's and two", n)
		}
		c := plain(t, s)
		abort.Abort()
		expectReset(t, other, "aborted")
		if n := watched(t, l); n != 1 {
			t.Errorf("%d sockets are watched; want the bell's", n)
		}
		var heirs []*heir // of the two slots, and of no other
		var links []*Link
		for range 2 {
			h := &heir{begun: make(chan uint32, 1), over: make(chan struct{})}
			heirs, links = append(heirs, h), append(links, l.newLink(&Link{task: h}))
			links[len(links)-1].Begin()
			if i := next(t, "a slot", h.begun); i > 2 {
				t.Errorf("slot %d; want one that was used before", i)
			}
		}
		send(t, inner, "for Go's poller")
		expect(t, c, "for Go's poller", "down")
		send(t, c, "and up")
		expect(t, inner, "and up", "up")
		Abort(inner)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v; want a reset", err)
		}
		b.ring(t)
		for i, h := range heirs {
			if n := h.steps.Load(); n != 0 {
				t.Errorf("%d events came to who has the slot now", n)
			}
			links[i].Cut(nil)
			next(t, "the end", h.over)
		}
	}
}
