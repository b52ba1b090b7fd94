package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if way, to, ok := strings.Cut(os.Getenv(relayProcess), " "); ok {
		if err := serveRelay(way, to); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// opaque hides what a kernel socket can do beyond Conn and SetLinger, as a
// userspace stack's connection.
type opaque struct{ c *net.TCPConn }

func (o opaque) Read(b []byte) (int, error)         { return o.c.Read(b) }
func (o opaque) Write(b []byte) (int, error)        { return o.c.Write(b) }
func (o opaque) Close() error                       { return o.c.Close() }
func (o opaque) CloseWrite() error                  { return o.c.CloseWrite() }
func (o opaque) SetLinger(n int) error              { return o.c.SetLinger(n) }
func (o opaque) LocalAddr() net.Addr                { return o.c.LocalAddr() }
func (o opaque) RemoteAddr() net.Addr               { return o.c.RemoteAddr() }
func (o opaque) SetDeadline(t time.Time) error      { return o.c.SetDeadline(t) }
func (o opaque) SetReadDeadline(t time.Time) error  { return o.c.SetReadDeadline(t) }
func (o opaque) SetWriteDeadline(t time.Time) error { return o.c.SetWriteDeadline(t) }

// carrier is a way in which a Relayer carries a link.
type carrier struct {
	name string
	conn func(*net.TCPConn) Conn
	loop bool // with Run; else the zero Relayer
}

func kernel(c *net.TCPConn) Conn { return c }

var (
	onLoop       = carrier{"loop", kernel, true}
	onGoroutines = carrier{"goroutines", kernel, false}
	asUserspace  = carrier{"userspace", func(c *net.TCPConn) Conn { return opaque{c} }, true}
)

// relayer returns a running Relayer.
func (as carrier) relayer(t testing.TB, cfg Config) *Relayer {
	t.Helper()
	if !as.loop {
		return &Relayer{cfg: cfg, stallCheck: 20 * time.Millisecond}
	}
	r, err := NewRelayer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.stallCheck = 20 * time.Millisecond
	runRelayer(t, r)
	return r
}

// tcpPair returns the two ends of a loopback connection.
func tcpPair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted, far := pairBy(t, l.Addr().String(), l.Accept)
	return accepted.(*net.TCPConn), far
}

// listening returns a socket that listens, and its address.
func listening(t testing.TB, at string) (f *os.File, address string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if f, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	return f, l.Addr().String()
}

// pairBy returns the two ends of a connection to the address of a listener.
func pairBy(t testing.TB, at string, accept func() (net.Conn, error)) (accepted net.Conn, dialed *net.TCPConn) {
	t.Helper()
	far, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if accepted, err = accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return accepted, far.(*net.TCPConn)
}

// bench is a client and a device with a relay between them.
type bench struct {
	client, device *net.TCPConn
	counters       Counters
	link           *Link
	result         chan Result
}

func newBench(t testing.TB, as carrier) *bench {
	a, client := tcpPair(t)
	b, device := tcpPair(t)
	x := &bench{client: client, device: device, result: make(chan Result, 1)}
	deadline := time.Now().Add(20 * time.Second) // a test that hangs says where
	client.SetDeadline(deadline)
	device.SetDeadline(deadline)
	x.link = as.relayer(t, Config{}).Start(as.conn(a), as.conn(b), &x.counters, func(r Result) { x.result <- r })
	t.Cleanup(func() { x.link.Cut(nil) })
	return x
}

func (x *bench) wait(t testing.TB, why string) Result {
	t.Helper()
	select {
	case r := <-x.result:
		return r
	case <-time.After(10 * time.Second):
		t.Fatalf("the relay still runs: %s", why)
		return Result{}
	}
}

func send(t testing.TB, c *net.TCPConn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("write %q: %v", s, err)
	}
}

func expect(t testing.TB, c *net.TCPConn, want, why string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%s: read %q, %v; want %q", why, got, err, want)
	}
}

func expectEOF(t testing.TB, c *net.TCPConn, why string) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("%s: read %d bytes, %v; want EOF", why, n, err)
	}
}

func expectReset(t testing.TB, c *net.TCPConn, why string) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("%s: read ended with %v; want a reset", why, err)
	}
}

// expectResetWriter is for an end that has received FIN: its reads say EOF also
// after a reset, its writes fail.
func expectResetWriter(t testing.TB, c *net.TCPConn, why string) {
	t.Helper()
	for {
		_, err := c.Write([]byte("x"))
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			return
		}
		if err != nil {
			t.Fatalf("%s: write failed with %v; want a reset", why, err)
		}
	}
}

func forAll(t *testing.T, f func(t *testing.T, as carrier)) {
	for _, as := range []carrier{onLoop, onGoroutines, asUserspace} {
		t.Run(as.name, func(t *testing.T) { f(t, as) })
	}
}

func forKernel(t *testing.T, f func(t *testing.T, as carrier)) {
	for _, as := range []carrier{onLoop, onGoroutines} {
		t.Run(as.name, func(t *testing.T) { f(t, as) })
	}
}

func TestHalfClose(t *testing.T) {
	type end func(*bench) *net.TCPConn
	client := func(x *bench) *net.TCPConn { return x.client }
	device := func(x *bench) *net.TCPConn { return x.device }
	for _, c := range []struct {
		name        string
		first, then end
	}{{"the client ends first", client, device}, {"the device ends first", device, client}} {
		t.Run(c.name, func(t *testing.T) {
			forAll(t, func(t *testing.T, as carrier) {
				x := newBench(t, as)
				first, then := c.first(x), c.then(x)
				send(t, first, "last words")
				if err := first.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				expect(t, then, "last words", "what was sent before FIN")
				expectEOF(t, then, "FIN travels on")
				for range 3 { // the other direction lives on, both ways in time
					send(t, then, "answer")
					expect(t, first, "answer", "data against a half-closed direction")
				}
				if err := then.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				expectEOF(t, first, "the second FIN")
				r := x.wait(t, "both directions have ended")
				if r.Cause != Closed || r.Err != nil {
					t.Errorf("result %v, %v; want closed without an error", r.Cause, r.Err)
				}
				up, down := uint64(10), uint64(18)
				if c.name == "the device ends first" {
					up, down = down, up
				}
				if r.AToB != up || r.BToA != down || x.counters.AToB.Load() != up || x.counters.BToA.Load() != down {
					t.Errorf("counted %d up and %d down; want %d and %d", r.AToB, r.BToA, up, down)
				}
			})
		})
	}
}

func TestEmptyConnectionCloses(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		x := newBench(t, as)
		x.client.Close()
		expectEOF(t, x.device, "the client's close arrives as FIN")
		x.device.Close()
		if r := x.wait(t, "both have closed"); r.Cause != Closed {
			t.Errorf("cause %v; want closed", r.Cause)
		}
	})
}

func TestResetTravels(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		x := newBench(t, as)
		send(t, x.client, "hello")
		expect(t, x.device, "hello", "data before the reset")
		Abort(x.client)
		expectReset(t, x.device, "the client's reset")
		if r := x.wait(t, "the client was reset"); r.Cause != ResetA || r.Err == nil {
			t.Errorf("result %v, %v; want reset-a with an error", r.Cause, r.Err)
		}
		x = newBench(t, as)
		send(t, x.device, "hello")
		expect(t, x.client, "hello", "data before the reset")
		Abort(x.device)
		expectReset(t, x.client, "the device's reset")
		if r := x.wait(t, "the device was reset"); r.Cause != ResetB || r.Err == nil {
			t.Errorf("result %v, %v; want reset-b with an error", r.Cause, r.Err)
		}
	})
}

// The trap of relays: nobody reads from a side that has sent FIN, so its reset
// goes unseen while the other side is silent.
func TestResetAfterFIN(t *testing.T) {
	forKernel(t, func(t *testing.T, as carrier) {
		x := newBench(t, as)
		x.client.CloseWrite()
		expectEOF(t, x.device, "FIN travels on")
		Abort(x.client)
		if r := x.wait(t, "the client is gone"); r.Cause != ResetA {
			t.Errorf("cause %v; want reset-a", r.Cause)
		}
		expectResetWriter(t, x.device, "a reset after FIN reaches a device that says nothing")
	})
}

// fill writes to c until it takes no more, and returns how much it took.
func fill(t testing.TB, c *net.TCPConn) (n int) {
	t.Helper()
	chunk := make([]byte, 256<<10)
	for {
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		m, err := c.Write(chunk)
		n += m
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		}
		if err != nil {
			t.Fatalf("fill: %v", err)
		}
	}
}

// slowToEnd is a connection that takes its time to tell the peer the end.
type slowToEnd struct {
	*net.TCPConn
	telling, goOn chan struct{}
}

func (c slowToEnd) NetConn() net.Conn { return c.TCPConn }

func (c slowToEnd) CloseWrite() error {
	close(c.telling)
	<-c.goOn
	return nil
}

// A side that has ended, and closed since, answers by a reset when it is told the other's
// end: both have ended in order.
func TestResetByTheEnd(t *testing.T) {
	near, client := tcpPair(t)
	far, device := tcpPair(t)
	a := slowToEnd{near, make(chan struct{}), make(chan struct{})}
	ended := make(chan Result, 1)
	onGoroutines.relayer(t, Config{}).Start(a, far, nil, func(res Result) { ended <- res })
	client.CloseWrite()
	if _, err := io.ReadAll(device); err != nil {
		t.Fatal(err)
	}
	device.CloseWrite()
	<-a.telling
	Abort(client)
	pause := time.NewTimer(20 * time.Millisecond) // in which nothing may happen
	<-pause.C
	close(a.goOn)
	if res := <-ended; res.Cause != Closed || res.Err != nil {
		t.Errorf("%+v; want closed", res)
	}
}

// A device that does not read holds nobody who has gone: the direction from the
// client is blocked in a write then, and nothing reads from the client.
func TestResetWhileStalled(t *testing.T) {
	forKernel(t, func(t *testing.T, as carrier) {
		for _, halfClosed := range []bool{false, true} {
			x := newBench(t, as)
			if halfClosed {
				x.device.CloseWrite()
				expectEOF(t, x.client, "FIN travels on")
			}
			if n := fill(t, x.client); n < 64<<10 {
				t.Fatalf("the client could write %d bytes only", n)
			}
			Abort(x.client)
			if r := x.wait(t, "the client is gone, the device does not read"); r.Cause != ResetA || !errors.Is(r.Err, syscall.ECONNRESET) {
				t.Errorf("half-closed %t: result %v, %v; want reset-a", halfClosed, r.Cause, r.Err)
			}
		}
	})
}

// A side that is slow is not one that has gone: everything arrives.
func TestStalledAndSlow(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		x := newBench(t, as)
		n := fill(t, x.client)
		x.client.CloseWrite()
		wait := time.NewTimer(100 * time.Millisecond) // several looks of the watch
		<-wait.C
		if got, err := io.Copy(io.Discard, x.device); err != nil || int(got) != n {
			t.Errorf("the device read %d bytes, %v; want all %d", got, err, n)
		}
		x.device.CloseWrite()
		if r := x.wait(t, "both have ended"); r.Cause != Closed {
			t.Errorf("cause %v, %v; want closed", r.Cause, r.Err)
		}
	})
}

func TestCutResetsBoth(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		for _, halfClosed := range []bool{false, true} {
			x := newBench(t, as)
			if halfClosed {
				x.client.CloseWrite()
				expectEOF(t, x.device, "FIN travels on")
			}
			why := errors.New("expired")
			x.link.Cut(why)
			expectReset(t, x.client, "the client of a cut connection")
			if halfClosed {
				expectResetWriter(t, x.device, "the device of a cut connection")
			} else {
				expectReset(t, x.device, "the device of a cut connection")
			}
			if r := x.wait(t, "it was cut"); r.Cause != Cut || r.Err != why {
				t.Errorf("half-closed %v: result %v, %v; want cut with the context's cause", halfClosed, r.Cause, r.Err)
			}
		}
	})
}

func TestBulkBothWays(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		x := newBench(t, as)
		data := make([]byte, 8<<20)
		rand.Read(data)
		var wg sync.WaitGroup
		for _, c := range []*net.TCPConn{x.client, x.device} {
			wg.Go(func() {
				if _, err := c.Write(data); err != nil {
					t.Errorf("write: %v", err)
				}
				c.CloseWrite()
			})
			wg.Go(func() {
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("read %d bytes, %v; want the %d sent, unchanged", len(got), err, len(data))
				}
			})
		}
		wg.Wait()
		if r := x.wait(t, "all is sent"); r.AToB != uint64(len(data)) || r.BToA != uint64(len(data)) || r.Cause != Closed {
			t.Errorf("result %+v; want %d bytes each way", r, len(data))
		}
	})
}

// Bytes are counted while a connection lives, not when it ends.
func TestCountsWhileAlive(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		x := newBench(t, as)
		send(t, x.client, "ping")
		expect(t, x.device, "ping", "up")
		send(t, x.device, "pong!")
		expect(t, x.client, "pong!", "down")
		// The byte counts follow the write that the peer has seen; a second round
		// trip orders them before this line.
		send(t, x.client, "p")
		expect(t, x.device, "p", "up again")
		send(t, x.device, "p")
		expect(t, x.client, "p", "down again")
		if up, down := x.counters.AToB.Load(), x.counters.BToA.Load(); up < 4 || down < 5 {
			t.Errorf("counted %d up and %d down on a live connection; want at least 4 and 5", up, down)
		}
	})
}

func forAllB(b *testing.B, f func(b *testing.B, as carrier)) {
	for _, as := range []carrier{onLoop, onGoroutines, asUserspace} {
		b.Run(as.name, func(b *testing.B) { f(b, as) })
	}
}

func BenchmarkBulk(b *testing.B) {
	forAllB(b, func(b *testing.B, as carrier) {
		x := newBench(b, as)
		x.client.SetDeadline(time.Time{})
		x.device.SetDeadline(time.Time{})
		block := make([]byte, 1<<20)
		b.SetBytes(int64(len(block)))
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, x.device) })
		for b.Loop() {
			if _, err := x.client.Write(block); err != nil {
				b.Fatal(err)
			}
		}
		x.client.Close()
		x.device.CloseWrite()
		wg.Wait()
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	forAllB(b, func(b *testing.B, as carrier) {
		x := newBench(b, as)
		x.client.SetDeadline(time.Time{})
		x.device.SetDeadline(time.Time{})
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(x.device, x.device); x.device.CloseWrite() })
		buf := make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			x.client.Write(buf)
			io.ReadFull(x.client, buf)
		}
		x.client.CloseWrite()
		wg.Wait()
	})
}
