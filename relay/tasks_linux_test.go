package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

// Whatever an inner relay answers, in whatever pieces, and however it ends.
func TestCallAnswers(t *testing.T) {
	filler := strings.Repeat("a", MaxHead)
	exact := "HTTP/1.1 200 OK\r\nVia: \r\n\r\n"
	exact = "HTTP/1.1 200 OK\r\nVia: " + filler[:MaxHead-len(exact)] + "\r\n\r\n"
	for _, c := range []struct {
		name, text string
		end        func(*net.TCPConn) // nil: the connection goes on
		want       error              // nil: success
		rest       string             // of the device, behind the answer
	}{
		{name: "success", text: accepted},
		{name: "success in other words", text: "HTTP/1.1 204 No Content\r\nVia: x\r\n\r\n"},
		{name: "with the device's bytes", text: accepted + "SSH-2.0\r\n\r\nHTTP/1.1 200", rest: "SSH-2.0\r\n\r\nHTTP/1.1 200"},
		{name: "with many of them", text: accepted + filler + filler, rest: filler + filler},
		{name: "the largest head", text: exact + "x", rest: "x"},
		{name: "too large a head", text: filler, want: ErrHeadTooLarge},
		{name: "an empty line too late", text: filler + "\r\n\r\n", want: ErrHeadTooLarge},
		{name: "not HTTP", text: "SSH-2.0-dropbear\r\n\r\n", want: ErrMalformed},
		{name: "an empty line", text: "\r\n\r\n", want: ErrMalformed},
		{name: "an unknown refusal", text: "HTTP/1.1 502 Bad Gateway\r\nX-Simreach-Error: tired\r\n\r\n", want: UnknownRefusal},
		{name: "a refusal without a reason", text: "HTTP/1.1 403 Forbidden\r\n\r\n", want: UnknownRefusal},
		{name: "FIN", end: fin, want: io.ErrUnexpectedEOF},
		{name: "FIN in the head", text: accepted[:30], end: fin, want: io.ErrUnexpectedEOF},
		{name: "FIN one byte early", text: accepted[:len(accepted)-1], end: fin, want: io.ErrUnexpectedEOF},
		{name: "FIN after the head", text: accepted + "bye", end: fin, rest: "bye"},
		{name: "reset", end: reset, want: syscall.ECONNRESET},
		{name: "reset after a refusal", text: string(TicketInvalid.head()), end: reset, want: TicketInvalid},
		{name: "reset after the head", text: accepted, end: reset},
	} {
		for way, write := range map[string]func(t *testing.T, b *bell, c *net.TCPConn, text string){
			"at once": func(t *testing.T, _ *bell, c *net.TCPConn, text string) {
				if text != "" {
					send(t, c, text)
				}
			},
			"in pieces": func(t *testing.T, b *bell, c *net.TCPConn, text string) {
				for size := 1; text != ""; {
					size = min(size, len(text))
					send(t, c, text[:size])
					b.ring(t)
					if text = text[size:]; len(text) > 500 {
						size = 499
					}
				}
			},
		} {
			t.Run(c.name+" "+way, func(t *testing.T) {
				g := newTasks(t, 1)
				b := newBell(t, g.loops[0])
				to, accept := listen(t, "127.0.0.1:0")
				_, answers := g.begin(Call{To: to})
				inner := accept()
				if r := readRequest(t, inner); r.Ticket != "the.ticket" {
					t.Errorf("request %+v", r)
				}
				var wg sync.WaitGroup
				wg.Go(func() { // it may be longer than there is room for
					write(t, b, inner, c.text)
					if c.end != nil {
						c.end(inner)
					}
				})
				a := next(t, c.name, answers)
				if !a.asked || !errors.Is(a.err, c.want) || (a.err == nil) != (a.device != nil) {
					t.Fatalf("%+v (%v); want %v", a, a.err, c.want)
				}
				if c.want == nil {
					device := plain(t, a.device)
					if c.rest != "" {
						expect(t, device, c.rest, "the device's bytes")
					}
					if c.end == nil {
						send(t, device, "and back")
						expect(t, inner, "and back", "to the device")
					} else if _, err := device.Read(make([]byte, 1)); err == nil {
						t.Error("the end is not seen")
					}
				}
				wg.Wait()
			})
		}
	}
	for why := range refusals {
		t.Run(string(why), func(t *testing.T) {
			g := newTasks(t, 1)
			to, accept := listen(t, "127.0.0.1:0")
			_, answers := g.begin(Call{To: to})
			inner := accept()
			readRequest(t, inner)
			inner.Write(why.head())
			if a := next(t, "the refusal", answers); !errors.Is(a.err, why) || !a.asked || a.device != nil {
				t.Errorf("%+v; want %s", a, why)
			}
			expectReset(t, inner, "nobody needs the connection any more")
		})
	}
}

func fin(c *net.TCPConn) { c.CloseWrite() }
func reset(c *net.TCPConn) { // not before what was sent has arrived, or that would be forgotten
	if raw, err := c.SyscallConn(); err == nil {
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for left := 1; left > 0; <-tick.C {
			_ = raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		}
	}
	Abort(c)
}

// Who cannot be reached is not asked.
func TestCallUnreachable(t *testing.T) {
	for name, c := range map[string]struct {
		to   netip.AddrPort
		want error
	}{
		"nobody listens": {testenv.FreePort(t), syscall.ECONNREFUSED},
		"no way":         {group, syscall.ENETUNREACH},
	} {
		g := newTasks(t, 1)
		_, answers := g.begin(Call{To: c.to, Early: func() []byte { t.Error("Early was called"); return nil }})
		if a := next(t, name, answers); a.asked || !errors.Is(a.err, c.want) {
			t.Errorf("%s: %+v; want %v", name, a, c.want)
		}
	}
}

// A connection to itself, which the kernel makes now and then where nobody listens, is none.
func TestConnectedToItself(t *testing.T) {
	for _, to := range []netip.AddrPort{testenv.FreePort(t), netip.AddrPortFrom(netip.IPv6Loopback(), testenv.FreePort(t).Port())} {
		var own unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		family := unix.AF_INET6
		if to.Addr().Is4() {
			own, family = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, unix.AF_INET
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, own); err != nil {
			t.Fatal(err)
		}
		if e := connectNow(int32(fd), to); e != 0 && e != unix.EINPROGRESS {
			t.Fatal(e)
		}
		p := &pair{fd: [2]int32{noFD, int32(fd)}}
		p.side[1].writable = true
		if ok, err := p.connected(); ok || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: connected %t, %v; want it refused", to, ok, err)
		}
	}
}

// expectIn checks that f takes as long as d, and no more than 100 ms longer than the
// runtime's own timer takes on this machine now.
func expectIn(t testing.TB, d time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	reference := make(chan time.Duration, 1)
	time.AfterFunc(d, func() { reference <- time.Since(begin) })
	f()
	took := time.Since(begin)
	if late := took - max(next(t, "a timer", reference), d); took < d || late > 100*time.Millisecond {
		t.Errorf("took %s; want %s and at most 100 ms more (it is %s)", took, d, late)
	}
}

// A deadline is kept in every phase, also one that is further off than a turn of the wheel.
func TestCallTimeout(t *testing.T) {
	silent, _ := listen(t, "127.0.0.1:0") // the kernel accepts, nobody answers
	full := testenv.SilentAddress(t)
	narrow, _ := listenNarrow(t)
	early := make([]byte, 8<<20) // more than the kernel keeps for who does not read
	for _, d := range []time.Duration{time.Nanosecond, 50 * time.Millisecond, 1200 * time.Millisecond} {
		for name, c := range map[string]struct {
			call  Call
			asked bool
		}{
			"connecting": {Call{To: full}, false},
			"waiting":    {Call{To: silent}, true},
			"sending":    {Call{To: narrow, Early: func() []byte { return early }}, false},
		} {
			if name == "sending" && d < time.Second {
				continue // copying as much as no client has said takes a while
			}
			g := newTasks(t, 1)
			c.call.Timeout = d
			expectIn(t, d, func() {
				_, answers := g.begin(c.call)
				a := next(t, name, answers)
				if !errors.Is(a.err, os.ErrDeadlineExceeded) || a.asked != c.asked && d > time.Millisecond {
					t.Errorf("%s for %s: %+v; want a timeout", name, d, a)
				}
			})
		}
	}
}

// A call may be cut, and its relayer may end, in every phase.
func TestCallEnds(t *testing.T) {
	why := errors.New("nobody wants it any more")
	end := map[string]struct {
		end  func(*tasks, *Link)
		want error
	}{
		"cut":  {func(_ *tasks, l *Link) { l.Cut(why); l.Cut(io.ErrClosedPipe) }, why},
		"stop": {func(g *tasks, _ *Link) { g.stop() }, ErrStopped},
	}
	for how, e := range end {
		for phase, c := range map[string]struct {
			asked bool
			run   func(t *testing.T, g *tasks, end func(*Link)) <-chan answer
		}{
			"before Begin": {false, func(t *testing.T, g *tasks, end func(*Link)) <-chan answer {
				to, _ := listen(t, "127.0.0.1:0")
				l, answers := g.prepare(Call{To: to})
				end(l)
				l.Begin()
				return answers
			}},
			"at Begin": {false, func(t *testing.T, g *tasks, end func(*Link)) <-chan answer {
				free := block(t, g.loops[0])
				l, answers := g.begin(Call{To: testenv.SilentAddress(t)})
				var wg sync.WaitGroup
				wg.Go(func() { end(l) })
				free()
				wg.Wait()
				return answers
			}},
			"connecting": {false, func(t *testing.T, g *tasks, end func(*Link)) <-chan answer {
				b := newBell(t, g.loops[0])
				l, answers := g.begin(Call{To: testenv.SilentAddress(t)})
				b.ring(t)
				end(l)
				return answers
			}},
			"waiting": {true, func(t *testing.T, g *tasks, end func(*Link)) <-chan answer {
				to, accept := listen(t, "127.0.0.1:0")
				l, answers := g.begin(Call{To: to})
				inner := accept()
				readRequest(t, inner)
				end(l)
				expectReset(t, inner, "it was cut")
				return answers
			}},
			"half an answer": {true, func(t *testing.T, g *tasks, end func(*Link)) <-chan answer {
				b := newBell(t, g.loops[0])
				to, accept := listen(t, "127.0.0.1:0")
				l, answers := g.begin(Call{To: to})
				inner := accept()
				readRequest(t, inner)
				send(t, inner, accepted[:20])
				b.ring(t)
				end(l)
				expectReset(t, inner, "it was cut")
				return answers
			}},
		} {
			t.Run(how+" "+phase, func(t *testing.T) {
				g := newTasks(t, 1)
				var link *Link
				answers := c.run(t, g, func(l *Link) { link = l; e.end(g, l) })
				if a := next(t, phase, answers); !errors.Is(a.err, e.want) || a.asked != c.asked || a.device != nil {
					t.Errorf("%+v; want %v", a, e.want)
				}
				link.Cut(nil) // does nothing any more
			})
		}
	}
}

// Before Run a call waits for it; without Run it ends as that does.
func TestCallWithoutRun(t *testing.T) {
	before := heldDescriptors(t)
	r, err := NewRelayer(Config{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	g := &tasks{Relayer: r, t: t, told: map[string]*atomic.Int32{}}
	to, _ := listen(t, "127.0.0.1:0")
	var all []<-chan answer
	for range 4 {
		_, answers := g.begin(Call{To: to})
		all = append(all, answers)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, answers := range all {
		if a := next(t, "the end", answers); !errors.Is(a.err, ErrStopped) {
			t.Errorf("%+v; want ErrStopped", a)
		}
	}
	g.check()
	if got := heldDescriptors(t) - 1; got != before {
		t.Errorf("%d descriptors; want %d", got, before)
	}
	if (&Relayer{}).Call(Call{}) != nil {
		t.Error("a call without loops")
	}
}

// If the system has no descriptors for the loops, nothing that waits for them is forgotten.
func TestCallWithoutDescriptors(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	r, err := NewRelayer(Config{Loops: 3})
	if err != nil {
		t.Fatal(err)
	}
	g := &tasks{Relayer: r, t: t, told: map[string]*atomic.Int32{}}
	var all []<-chan answer
	for range 3 {
		_, answers := g.begin(Call{To: testenv.FreePort(t)})
		all = append(all, answers)
	}
	none := was
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	err = r.Run(t.Context())
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Run: %v; want EMFILE", err)
	}
	for _, answers := range all {
		select {
		case a := <-answers:
			if !errors.Is(a.err, ErrStopped) {
				t.Errorf("%+v; want ErrStopped", a)
			}
		default:
			t.Error("a call was forgotten")
		}
	}
	g.check()
}

// A cut at the moment of the answer: the one or the other, and one of them.
func TestCallCutMeetsAnswer(t *testing.T) {
	g := newTasks(t, 2)
	to, accept := listen(t, "127.0.0.1:0")
	why := errors.New("cut")
	answered, cut := 0, 0
	for i := range 400 {
		l, answers := g.begin(Call{To: to})
		inner := accept()
		readRequest(t, inner)
		var wg sync.WaitGroup
		wg.Go(func() { io.WriteString(inner, accepted) })
		for range i % 50 {
			l.Bytes() // a little later each time
		}
		l.Cut(why)
		switch a := next(t, "either", answers); {
		case a.err == nil:
			answered++
			a.device.Abort()
		case errors.Is(a.err, why):
			cut++
		default:
			t.Errorf("%+v", a)
		}
		wg.Wait()
		inner.Close()
	}
	t.Logf("%d answered, %d cut", answered, cut)
}

// Early is asked for once, and its bytes are in front of all others, also if there is
// little room for them and the answer comes first.
func TestCallEarly(t *testing.T) {
	for _, size := range []int{0, 1, 8 << 10, 8 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			g := newTasks(t, 1)
			early := make([]byte, size)
			for i := range early {
				early[i] = byte(i >> 8)
			}
			to, accept := listenNarrow(t)
			var asked atomic.Int32
			_, answers := g.begin(Call{To: to, Early: func() []byte { asked.Add(1); return early }})
			inner := accept()
			readRequest(t, inner)
			send(t, inner, accepted+"device") // before it has read the rest
			b := newBell(t, g.loops[0])
			b.ring(t)
			over := make(chan []byte, 1)
			var wg sync.WaitGroup
			wg.Go(func() {
				got, err := io.ReadAll(inner)
				if err != nil {
					t.Error(err)
				}
				over <- got
			})
			a := next(t, "the answer", answers)
			if a.err != nil {
				t.Fatal(a.err)
			}
			near, client := tcpPair(t)
			send(t, client, "and more")
			s, _ := NewSocket(near)
			ended, told := make(chan Result, 1), g.once("Join")
			g.Join(s, a.device, size, nil, func(r Result) { told(); ended <- r })
			expect(t, client, "device", "what the device said early")
			client.CloseWrite()
			if got := string(next(t, "all of it", over)); got != string(early)+"and more" {
				t.Errorf("%d bytes; want the %d early ones and the others behind them", len(got), size)
			}
			inner.CloseWrite()
			if r := next(t, "the end", ended); r.AToB != uint64(size+8) || r.Cause != Closed {
				t.Errorf("%+v; want %d bytes", r, size+8)
			}
			if asked.Load() != 1 {
				t.Errorf("Early was called %d times", asked.Load())
			}
			wg.Wait()
		})
	}
}

// An inner relay that refuses need not read what comes with the request, and is understood
// nevertheless.
func TestCallRefusedWithEarlyUnread(t *testing.T) {
	g := newTasks(t, 1)
	to, accept := listen(t, "127.0.0.1:0")
	for range 20 {
		_, answers := g.begin(Call{To: to, Early: func() []byte { return make([]byte, 16<<20) }})
		inner := accept()
		readRequest(t, inner)
		free := block(t, g.loops[0]) // the loop sees the end and the answer at one time
		inner.Write(TicketInvalid.head())
		inner.Close()
		free()
		if a := next(t, "the refusal", answers); !errors.Is(a.err, TicketInvalid) {
			t.Fatalf("%+v; want ticket-invalid", a)
		}
	}
}
