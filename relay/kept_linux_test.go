package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rig is an outer relay between a client and an inner relay that is the test's.
type rig struct {
	*tasks
	t      *testing.T
	to     netip.AddrPort
	accept func() *net.TCPConn
	narrow bool // little goes to the inner relay at once
	over   bool // the client's connection is over another, as TLS is: its link is on goroutines
}

// overTCP is a connection over another.
type overTCP struct{ *net.TCPConn }

func (c overTCP) NetConn() net.Conn { return c.TCPConn }

// bothKept runs f with rigs whose links are on event loops, and on goroutines.
func bothKept(t *testing.T, f func(t *testing.T, newRig func(*testing.T) *rig)) {
	for name, over := range map[string]bool{"on a loop": false, "on goroutines": true} {
		t.Run(name, func(t *testing.T) {
			f(t, func(t *testing.T) *rig {
				r := newRig(t)
				r.over = over
				return r
			})
		})
	}
}

func newRig(t *testing.T) *rig {
	to, accept := listen(t, "127.0.0.1:0")
	return &rig{tasks: newTasks(t, 1), t: t, to: to, accept: accept}
}

// serve has inner, or the next connection that comes if it is nil, answer the request of a
// client. The request must have early behind it.
func (r *rig) serve(inner *net.TCPConn, c Call, early string) (client, _ *net.TCPConn, ended <-chan Result) {
	r.t.Helper()
	c.To = r.to
	if early != "" {
		c.Early = func() []byte { return []byte(early) }
	}
	_, answers := r.begin(c)
	if inner == nil {
		inner = r.accept()
	}
	r.request(inner, early)
	send(r.t, inner, acceptedFramed)
	a := next(r.t, "the answer", answers)
	if a.err != nil {
		r.t.Fatal(a.err)
	}
	if r.narrow {
		unix.SetsockoptInt(int(a.device.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	}
	if r.over {
		return r.relayOver(a.device, inner, len(early))
	}
	s, client := loose(r.t)
	_, ended = r.join(s, a.device, len(early))
	return client, inner, ended
}

func (r *rig) relayOver(s *Socket, inner *net.TCPConn, early int) (client, _ *net.TCPConn, ended <-chan Result) {
	r.t.Helper()
	device, err := s.Conn()
	if err != nil {
		r.t.Fatal(err)
	}
	near, client := tcpPair(r.t)
	client.SetDeadline(time.Now().Add(soon))
	over, told := make(chan Result, 2), r.once("StartAfter")
	r.StartAfter(overTCP{near}, device, early, nil, func(res Result) { told(); over <- res })
	return client, inner, over
}

// request reads the request of a client.
func (r *rig) request(inner *net.TCPConn, early string) {
	r.t.Helper()
	if q := readRequest(r.t, inner); !q.frames || int(q.ahead) != len(early) || q.Ticket != "the.ticket" {
		r.t.Fatalf("request %+v", q)
	}
	expect(r.t, inner, early, "what the client sent early")
}

// settle waits until the loop has handled what came.
func (r *rig) settle() { newBell(r.t, r.loops[0]).ring(r.t) }

// A connection to an inner relay serves one client after the other, whoever ends first.
func TestKept(t *testing.T) { bothKept(t, testKept) }

func testKept(t *testing.T, newRig func(*testing.T) *rig) {
	r := newRig(t)
	var inner *net.TCPConn
	for name, end := range map[string]func(client *net.TCPConn){
		"the client first": func(client *net.TCPConn) {
			client.CloseWrite()
			expect(t, inner, tail(frameFin), "the client's end")
			send(t, inner, framed("late")+tail(frameFin, frameFree))
			expect(t, client, "late", "what comes after the client's end")
			expectEOF(t, client, "the device's end")
		},
		"the device first": func(client *net.TCPConn) {
			send(t, inner, framed("late")+tail(frameFin))
			expect(t, client, "late", "what comes before the device's end")
			expectEOF(t, client, "the device's end")
			send(t, client, "later")
			client.Close()
			expect(t, inner, framed("later")+tail(frameFin), "the client's end")
			send(t, inner, tail(frameFree))
		},
		"in small pieces": func(client *net.TCPConn) {
			client.CloseWrite()
			expect(t, inner, tail(frameFin), "the client's end")
			for _, b := range []byte(framed("la", "te") + tail(frameFin)) {
				send(t, inner, string([]byte{b}))
				r.settle()
			}
			send(t, inner, tail(frameFree))
			expect(t, client, "late", "what comes after the client's end")
			expectEOF(t, client, "the device's end")
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, early := range []string{"", "early"} {
				var client *net.TCPConn
				var ended <-chan Result
				client, inner, ended = r.serve(inner, Call{}, early)
				send(t, client, "hello")
				expect(t, inner, framed("hello"), "what the client sends")
				send(t, inner, framed("hi"))
				expect(t, client, "hi", "what the device sends")
				end(client)
				up := uint64(len(early) + 5)
				if name == "the device first" {
					up += 5
				}
				if e := next(t, "the end", ended); e.Cause != Closed || e.AToB != up || e.BToA != 6 {
					t.Errorf("%+v; want %d and 6 bytes", e, up)
				}
				r.settle()
			}
		})
	}
}

// Long directions are raw, and what was raw is not used again.
func TestKeptRaw(t *testing.T) { bothKept(t, testKeptRaw) }

func testKeptRaw(t *testing.T, newRig func(*testing.T) *rig) {
	long := strings.Repeat("0123456789abcdef", 2048)
	for name, talk := range map[string]func(t *testing.T, client, inner *net.TCPConn){
		"of the client": func(t *testing.T, client, inner *net.TCPConn) {
			send(t, client, "short")
			expect(t, inner, framed("short"), "what is short")
			send(t, client, long)
			client.CloseWrite()
			b := readAll(t, inner)
			if begin, rest, ok := strings.Cut(b, tail(frameRaw)); !ok || !strings.HasSuffix(long, rest) || len(begin) > frameMax+2*frameHead {
				t.Errorf("%d bytes, raw after %d: %v", len(b), len(begin), ok)
			}
			send(t, inner, framed("end")+tail(frameFin))
			expect(t, client, "end", "the other direction")
			expectEOF(t, client, "its end")
		},
		"of the device": func(t *testing.T, client, inner *net.TCPConn) {
			send(t, inner, framed("short")+tail(frameRaw)+long)
			inner.CloseWrite()
			expect(t, client, "short"+long, "what the device sends")
			expectEOF(t, client, "the device's end")
			client.Close()
			expect(t, inner, tail(frameFin), "the client's end")
			expectEOF(t, inner, "no other client comes")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			client, inner, ended := r.serve(nil, Call{}, "")
			talk(t, client, inner)
			if e := next(t, "the end", ended); e.Cause != Closed {
				t.Errorf("%+v", e)
			}
			r.serve(nil, Call{}, "")
		})
	}
}

func readAll(t *testing.T, c *net.TCPConn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Without frames the client's connection would look ended in order: an inner relay that
// dies is a reset, and so is one that speaks otherwise than agreed.
func TestKeptFails(t *testing.T) { bothKept(t, testKeptFails) }

func testKeptFails(t *testing.T, newRig func(*testing.T) *rig) {
	for name, c := range map[string]struct {
		happens func(t *testing.T, inner *net.TCPConn)
		want    syscall.Errno
	}{
		"FIN without fin":      {func(_ *testing.T, c *net.TCPConn) { fin(c) }, syscall.ECONNRESET},
		"FIN in a frame":       {func(t *testing.T, c *net.TCPConn) { send(t, c, framed("hello")[:4]); fin(c) }, syscall.ECONNRESET},
		"reset":                {func(_ *testing.T, c *net.TCPConn) { reset(c) }, syscall.ECONNRESET},
		"no frame":             {func(t *testing.T, c *net.TCPConn) { send(t, c, "HTTP/1.1 200 OK\r\n\r\n") }, syscall.EPROTO},
		"free before the end":  {func(t *testing.T, c *net.TCPConn) { send(t, c, tail(frameFree)) }, syscall.EPROTO},
		"bytes behind the end": {func(t *testing.T, c *net.TCPConn) { send(t, c, tail(frameFin)+framed("x")) }, syscall.EPROTO},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			client, inner, ended := r.serve(nil, Call{}, "")
			c.happens(t, inner)
			expectReset(t, client, name)
			if e := next(t, "the end", ended); e.Cause != ResetB || !errors.Is(e.Err, c.want) {
				t.Errorf("%+v; want %v", e, c.want)
			}
			r.serve(nil, Call{}, "")
		})
	}
	t.Run("the client is reset", func(t *testing.T) {
		r := newRig(t)
		client, inner, ended := r.serve(nil, Call{}, "")
		reset(client)
		expectReset(t, inner, "the client's reset")
		if e := next(t, "the end", ended); e.Cause != ResetA {
			t.Errorf("%+v", e)
		}
		r.serve(nil, Call{}, "")
	})
}

// waits has a connection wait for a client.
func (r *rig) waits() (inner *net.TCPConn) {
	r.t.Helper()
	client, inner, ended := r.serve(nil, Call{}, "")
	client.CloseWrite()
	expect(r.t, inner, tail(frameFin), "the client's end")
	send(r.t, inner, tail(frameFin, frameFree))
	next(r.t, "the end", ended)
	r.settle()
	return inner
}

// A request that crosses the inner relay's farewell goes another way, as it is.
func TestKeptBye(t *testing.T) {
	for _, behind := range []string{"", "with a reset behind it"} {
		t.Run(behind, func(t *testing.T) {
			r := newRig(t)
			old := r.waits()
			free := block(t, r.loops[0])
			_, answers := r.begin(Call{To: r.to, Early: func() []byte { return []byte("early") }})
			send(t, old, tail(frameBye))
			if behind != "" {
				reset(old)
			}
			free()
			if behind == "" {
				r.request(old, "early")
			}
			inner := r.accept()
			r.request(inner, "early")
			send(t, inner, acceptedFramed)
			a := next(t, "the answer", answers)
			if a.err != nil || !a.asked {
				t.Fatalf("%+v", a)
			}
			a.device.Abort()
		})
	}
}

// A request that may have had an effect is not made twice.
func TestKeptDies(t *testing.T) {
	for name, die := range map[string]func(*net.TCPConn){"FIN": func(c *net.TCPConn) { c.Close() }, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			old := r.waits()
			_, answers := r.begin(Call{To: r.to})
			r.request(old, "")
			die(old)
			if a := next(t, "the answer", answers); a.err == nil || !a.asked {
				t.Errorf("%+v; want an error of one that was asked", a)
			}
		})
	}
}

// An inner relay whose kernel does not take the request in all the time is not there, and
// another one may be asked; one that is silent has it.
func TestKeptSilent(t *testing.T) {
	for _, c := range []struct {
		early int
		asked bool
	}{{0, true}, {1 << 20, false}} {
		r := newRig(t)
		r.waits()
		_, answers := r.begin(Call{To: r.to, Timeout: 300 * time.Millisecond, Early: func() []byte { return make([]byte, c.early) }})
		if a := next(t, "the answer", answers); !errors.Is(a.err, os.ErrDeadlineExceeded) || a.asked != c.asked {
			t.Errorf("with %d early bytes: %+v; want the deadline, asked: %t", c.early, a, c.asked)
		}
	}
}

// A client's reset is noticed while the inner relay has no room for the end that the client
// had sent before.
func TestKeptEndBlocked(t *testing.T) {
	for size := 3000; size < 4000; size += 50 { // with some the end alone finds no room
		r := newRig(t)
		r.over = true
		r.to, r.accept = listenNarrow(t)
		r.narrow, r.stallCheck = true, 20*time.Millisecond
		client, _, ended := r.serve(nil, Call{}, "")
		send(t, client, strings.Repeat("x", size))
		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
		client.CloseWrite()
		pause.Reset(20 * time.Millisecond)
		<-pause.C
		reset(client)
		if res := next(t, "the end", ended); res.Cause != ResetA {
			t.Errorf("%d bytes: %+v; want a reset by the client", size, res)
		}
	}
}

// What a client sent last arrives though the event loop on which its connection would have
// waited has stopped.
func TestKeptLoopStops(t *testing.T) {
	r := newRig(t)
	r.to, r.accept = listenNarrow(t)
	r.narrow, r.over = true, true
	client, inner, ended := r.serve(nil, Call{}, "")
	send(t, inner, tail(frameFin))
	if _, err := io.ReadAll(client); err != nil {
		t.Fatal(err)
	}
	r.loops[0].stop()
	const n = 15_000
	send(t, client, strings.Repeat("x", n))
	client.CloseWrite()
	got, err := io.ReadAll(inner)
	if err != nil || len(got) < n {
		t.Errorf("the inner relay read %d bytes, %v; want %d and what frames need", len(got), err, n)
	}
	if res := next(t, "the end", ended); res.Cause != Closed {
		t.Errorf("%+v; want closed", res)
	}
}

// What waits is given up when the inner relay ends it, or says what nobody asked for, and
// after a while.
func TestKeptIsGivenUp(t *testing.T) { bothKept(t, testKeptIsGivenUp) }

func testKeptIsGivenUp(t *testing.T, newRig func(*testing.T) *rig) {
	for name, happens := range map[string]func(*rig, *net.TCPConn){
		"FIN":   func(_ *rig, c *net.TCPConn) { fin(c) },
		"reset": func(_ *rig, c *net.TCPConn) { reset(c) },
		"bye":   func(r *rig, c *net.TCPConn) { send(r.t, c, tail(frameBye)) },
		"free":  func(r *rig, c *net.TCPConn) { send(r.t, c, tail(frameFree)) },
		"time": func(r *rig, _ *net.TCPConn) {
			free := block(r.t, r.loops[0])
			l := r.loops[0]
			l.born = l.born.Add(-keptFor - time.Second)
			free()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			old := r.waits()
			happens(r, old)
			if name != "reset" {
				expectEOF(t, old, name)
			} else {
				r.settle()
			}
			r.serve(nil, Call{}, "")
		})
	}
	t.Run("fresh", func(t *testing.T) {
		r := newRig(t)
		old := r.waits()
		client, inner, _ := r.serve(nil, Call{Fresh: true}, "")
		client.Close()
		expect(t, inner, tail(frameFin), "the client's end")
		r.serve(old, Call{}, "")
	})
}

// No more than the bound wait.
func TestKeptBound(t *testing.T) {
	r := newRig(t)
	r.loops[0].kept = 1
	first, one, _ := r.serve(nil, Call{}, "")
	second, two, _ := r.serve(nil, Call{}, "")
	for _, c := range []struct{ client, inner *net.TCPConn }{{first, one}, {second, two}} {
		c.client.Close()
		expect(t, c.inner, tail(frameFin), "the client's end")
		send(t, c.inner, tail(frameFin, frameFree))
		r.settle()
	}
	expectEOF(t, two, "one too many")
	if n := r.Waiting(); n != 1 {
		t.Errorf("%d connections wait; want 1", n)
	}
	r.serve(one, Call{}, "")
	if n := r.Waiting(); n != 0 {
		t.Errorf("%d connections wait for a second client; want 0", n)
	}
	r.loops[0].kept = 0
	_, answers := r.begin(Call{To: r.to})
	inner := r.accept()
	if q := readRequest(t, inner); q.frames {
		t.Error("frames asked for that are no use")
	}
	send(t, inner, accepted)
	a := next(t, "the answer", answers)
	if a.err != nil {
		t.Fatal(a.err)
	}
	a.device.Abort()
}

// Those that the inner relay has not released yet are within the bound, too.
func TestKeptBoundUnreleased(t *testing.T) { bothKept(t, testKeptBoundUnreleased) }

func testKeptBoundUnreleased(t *testing.T, newRig func(*testing.T) *rig) {
	r := newRig(t)
	r.loops[0].kept = 1
	var inner *net.TCPConn
	for range 2 {
		var client *net.TCPConn
		var ended <-chan Result
		client, inner, ended = r.serve(nil, Call{}, "")
		client.Close()
		expect(t, inner, tail(frameFin), "the client's end")
		send(t, inner, tail(frameFin)) // but not free
		next(t, "the end", ended)
		r.settle()
	}
	expectEOF(t, inner, "one too many")
}

// What a destination does not take at once is sent later, frames and all.
func TestKeptNarrow(t *testing.T) {
	r := newRig(t)
	r.to, r.accept = listenNarrow(t)
	r.narrow = true
	client, inner, ended := r.serve(nil, Call{}, "")
	text := strings.Repeat("0123456789abcde", 1000)
	send(t, client, text)
	client.CloseWrite()
	var f framing
	f.framed = true
	got, over := "", false
	for b := make([]byte, 100); !over; {
		n, err := inner.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		payload, fin, e := f.unwrap(b[:n])
		if e != 0 {
			t.Fatal(e)
		}
		got, over = got+string(payload), fin
	}
	if got != text {
		t.Errorf("%d bytes of %d", len(got), len(text))
	}
	send(t, inner, tail(frameFin, frameFree))
	if e := next(t, "the end", ended); e.Cause != Closed || e.AToB != uint64(len(text)) {
		t.Errorf("%+v; want %d bytes", e, len(text))
	}
}

// An inner relay reads one request after the other, and says when it will not.
func TestGreetAgain(t *testing.T) {
	for name, end := range map[string]func(g *tasks, outer *net.TCPConn, waiting *Link){
		"the outer relay goes":     func(_ *tasks, outer *net.TCPConn, _ *Link) { outer.Close() },
		"the outer relay is reset": func(_ *tasks, outer *net.TCPConn, _ *Link) { reset(outer) },
		"cut": func(_ *tasks, outer *net.TCPConn, waiting *Link) {
			waiting.Cut(ErrStopped)
			expect(t, outer, tail(frameBye), "the farewell")
			expectEOF(t, outer, "cut")
		},
		"time": func(g *tasks, outer *net.TCPConn, _ *Link) {
			free := block(t, g.loops[0])
			g.loops[0].born = g.loops[0].born.Add(-2 * soon)
			free()
			expect(t, outer, tail(frameBye), "the farewell")
			expectEOF(t, outer, "time")
		},
		"stop": func(g *tasks, outer *net.TCPConn, _ *Link) {
			g.stop()
			expect(t, outer, tail(frameBye), "the farewell")
			expectEOF(t, outer, "stop")
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTasks(t, 1)
			device, accept := listen(t, "127.0.0.1:0")
			ended, over := make(chan greeted, 1), make(chan Result, 1)
			waiting := make(chan *Link, 1)
			var greeting func() Greeting
			greeting = func() Greeting {
				told := g.once("Greet")
				return Greeting{
					Timeout: soon, DialTimeout: soon, Requested: to(device),
					Again: func(s *Socket) { waiting <- g.GreetAgain(s, greeting()) },
					Ended: func(outer, device *Socket, why Refusal, err error) {
						told()
						if outer == nil {
							ended <- greeted{why: why, err: err}
							return
						}
						g.Join(outer, device, 0, nil, func(r Result) { over <- r })
					},
				}
			}
			near, outer := tcpPair(t)
			outer.SetDeadline(time.Now().Add(soon))
			g.Greet(near, greeting())
			q := Request{Target: netip.MustParseAddrPort("10.60.0.7:22"), Ticket: "t", frames: true, ahead: 5, Early: []byte("early")}
			var last *Link
			for _, deviceFirst := range []bool{true, false} {
				send(t, outer, string(q.head())+framed("hello"))
				c := accept()
				expect(t, outer, acceptedFramed, "the answer")
				expect(t, c, "earlyhello", "what the client sends")
				send(t, c, "hi")
				expect(t, outer, framed("hi"), "what the device sends")
				if deviceFirst {
					c.CloseWrite()
					expect(t, outer, tail(frameFin), "the device's end")
					send(t, outer, framed("late")+tail(frameFin))
					expect(t, c, "late", "what comes after the device's end")
					expectEOF(t, c, "the client's end")
					expect(t, outer, tail(frameFree), "another may come")
				} else {
					send(t, outer, tail(frameFin))
					expectEOF(t, c, "the client's end")
					c.Close()
					expect(t, outer, tail(frameFin, frameFree), "the device's end, and another may come")
				}
				if r := next(t, "the end", over); r.Cause != Closed || r.BToA != 2 {
					t.Errorf("%+v", r)
				}
				last = next(t, "it waits again", waiting)
			}
			end(g, outer, last)
			if e := next(t, "the end of the connection", ended); e.why != "" || e.err != nil {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A request that was read before its reader is dismissed is served.
func TestDismissedTooLate(t *testing.T) {
	g := newTasks(t, 1)
	device, accept := listen(t, "127.0.0.1:0")
	near, outer := tcpPair(t)
	outer.SetDeadline(time.Now().Add(soon))
	asked, dismissed, ended := make(chan struct{}), make(chan struct{}), make(chan greeted, 1)
	told := g.once("Greet")
	link := g.Greet(near, Greeting{
		Timeout: soon, DialTimeout: soon,
		Requested: func(Request) (netip.AddrPort, Refusal) {
			close(asked)
			<-dismissed
			return device, ""
		},
		Ended: func(outer, device *Socket, why Refusal, err error) {
			told()
			ended <- greeted{outer, device, why, err}
		},
	})
	send(t, outer, request)
	<-asked
	link.Cut(ErrDismissed)
	close(dismissed)
	e := next(t, "the device is reached", ended)
	if e.outer == nil {
		t.Fatalf("%+v; want both connections", e)
	}
	accept()
	expect(t, outer, accepted, "the answer")
	e.outer.Abort()
	e.device.Abort()
}

// Frames that nobody asked for are refused by both.
func TestFramesUnasked(t *testing.T) {
	g := newTasks(t, 1)
	g.loops[0].kept = 0
	to, accept := listen(t, "127.0.0.1:0")
	_, answers := g.begin(Call{To: to})
	send(t, accept(), acceptedFramed)
	if a := next(t, "the answer", answers); !errors.Is(a.err, ErrMalformed) {
		t.Errorf("%v; want ErrMalformed", a.err)
	}
	near, far := tcpPair(t)
	done := make(chan error, 1)
	go func() {
		done <- Connect(t.Context(), near, Request{Target: netip.MustParseAddrPort("10.60.0.7:22")})
	}()
	readRequest(t, far)
	send(t, far, acceptedFramed)
	if err := next(t, "the answer", done); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v; want ErrMalformed", err)
	}
}
