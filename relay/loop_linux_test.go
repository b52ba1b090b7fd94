package relay

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

// held is a client and a device of a link, as plain descriptors: no goroutine and no
// memory of the runtime's is theirs.
type held struct{ client, device *net.TCPConn }

// hold starts n links, all of which have relayed a byte each way.
func hold(t testing.TB, r *Relayer, n int, done func(Result)) []held {
	t.Helper()
	all := make([]held, n)
	for i := range all {
		a, client := tcpPair(t)
		b, device := tcpPair(t)
		r.Start(a, b, nil, done)
		all[i] = held{client, device}
	}
	for _, h := range all {
		send(t, h.client, "x")
		expect(t, h.device, "x", "up")
		send(t, h.device, "y")
		expect(t, h.client, "y", "down")
	}
	return all
}

func TestIdleLinkCostsTwoDescriptorsAndNoGoroutine(t *testing.T) {
	const n = 500
	r := onLoop.relayer(t, Config{IdleTimeout: time.Hour})
	hold(t, r, 1, func(Result) {}) // a slab and the like
	fds, goroutines := testenv.Descriptors(t), runtime.NumGoroutine()
	hold(t, r, n, func(Result) {})
	// Two more of each link are the client's and the device's own.
	if got := testenv.Descriptors(t) - fds; got != 4*n {
		t.Errorf("%d links hold %d descriptors; want %d", n, got-2*n, 2*n)
	}
	if got := runtime.NumGoroutine() - goroutines; got > 5 {
		t.Errorf("%d links made %d goroutines; want none", n, got)
	}
}

// What a link costs the heap. The race detector's own bytes are not ours.
func TestIdleLinkAllocatesLittle(t *testing.T) {
	if raced {
		return
	}
	const n = 1500
	r := onLoop.relayer(t, Config{IdleTimeout: time.Hour})
	conns := make([][2]*net.TCPConn, n)
	for i := range conns {
		conns[i][0], _ = tcpPair(t)
		conns[i][1], _ = tcpPair(t)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what finalizers kept
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	links := make([]*Link, n)
	for i, c := range conns {
		links[i] = r.Start(c[0], c[1], nil, func(Result) {})
	}
	for _, l := range r.loops {
		l.flushed(t)
	}
	per := int64(heap()-before) / n
	t.Logf("%d bytes of heap for each link", per)
	if per > 400 {
		t.Errorf("a link costs %d bytes of heap; want at most 400", per)
	}
	runtime.KeepAlive(links)
	runtime.KeepAlive(conns)
}

// still is a socket as one with TLS is: no *net.TCPConn, but nothing stays in it.
type still struct{ *net.TCPConn }

func (s still) NetConn() net.Conn { return s.TCPConn }
func (still) Holds() bool         { return false }

// An idle link on goroutines has given back the buffers through which its bytes went. The
// race detector keeps a pool from giving them out again.
func TestIdleLinkHoldsNoBuffer(t *testing.T) {
	if raced {
		return
	}
	const n, bound = 50, 10
	r := onGoroutines.relayer(t, Config{})
	var made atomic.Int64
	r.buffers.New = func() any { made.Add(1); return new([bufferSize]byte) }
	b := make([]byte, 1)
	for range n {
		near, client := tcpPair(t)
		far, device := tcpPair(t)
		r.Start(still{near}, far, nil, func(Result) {})
		for _, way := range [][2]*net.TCPConn{{client, device}, {device, client}} {
			if _, err := way[0].Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if made := made.Load(); made > bound {
		t.Errorf("%d idle links made %d buffers; want at most %d", n, made, bound)
	}
}

// flushed waits until the loop has taken up every link.
func (l *loop) flushed(t testing.TB) {
	t.Helper()
	late := time.After(10 * time.Second)
	for tick := time.Tick(time.Millisecond); ; {
		l.mu.Lock()
		n := len(l.starts)
		l.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick:
		case <-late:
			t.Fatalf("%d links wait for the loop", n)
		}
	}
}

// No chunk that is relayed costs an allocation, small or spliced.
func TestRelayingAllocatesNothing(t *testing.T) {
	if raced {
		return
	}
	x := newBench(t, onLoop)
	x.client.SetDeadline(time.Time{})
	x.device.SetDeadline(time.Time{})
	for _, size := range []int{64, 1 << 20} {
		out, in := make([]byte, size), make([]byte, size)
		var wg sync.WaitGroup
		turn := make(chan struct{})
		wg.Go(func() {
			for range turn {
				if _, err := x.client.Write(out); err != nil {
					t.Error(err)
				}
			}
		})
		n := testing.AllocsPerRun(200, func() {
			turn <- struct{}{}
			if _, err := io.ReadFull(x.device, in); err != nil {
				t.Fatal(err)
			}
		})
		close(turn)
		wg.Wait()
		if n != 0 {
			t.Errorf("%d bytes cost %v allocations; want none", size, n)
		}
	}
}

// Nor does a frame, for links on goroutines.
func TestFramesAllocateNothing(t *testing.T) {
	if raced {
		return
	}
	a, b := tcpPair(t)
	c := &framedConn{Conn: a, tcp: a, in: framing{framed: true}, out: framing{framed: true}}
	peer := &framedConn{Conn: b, tcp: b, in: framing{framed: true}, out: framing{framed: true}}
	out, in := make([]byte, 64), make([]byte, 256)
	n := testing.AllocsPerRun(200, func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		if n, err := peer.Read(in); err != nil || n != len(out) {
			t.Fatalf("read %d bytes, %v; want %d", n, err, len(out))
		}
	})
	if n != 0 {
		t.Errorf("a frame costs %v allocations; want none", n)
	}
	if !c.out.framed || !peer.in.framed {
		t.Error("the frames were over before the end")
	}
}

// Pipes go back to the pool, and a link that ends with bytes in one closes it.
func TestPipesReturn(t *testing.T) {
	r := onLoop.relayer(t, Config{Loops: 1})
	before := testenv.Descriptors(t)
	var wg sync.WaitGroup
	for range 40 {
		ended := make(chan Result, 1)
		a, client := tcpPair(t)
		b, device := tcpPair(t)
		l := r.Start(a, b, nil, func(res Result) { ended <- res })
		wg.Go(func() {
			client.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			client.Write(make([]byte, 64<<20)) // until the device's side is full
			l.Cut(nil)
			if res := <-ended; res.Cause != Cut {
				t.Errorf("cause %v; want cut", res.Cause)
			}
			client.Close()
			device.Close()
		})
	}
	wg.Wait()
	if got := testenv.Descriptors(t) - before; got > 2*sparePipes+4 {
		t.Errorf("%d descriptors more than before; want no more than the spare pipes'", got)
	}
}

// Without pipes everything still arrives: bytes that wait are kept in memory.
func TestWithoutPipes(t *testing.T) {
	r, err := NewRelayer(Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.loops[0].pipes.limit = -1
	runRelayer(t, r)
	a, client := tcpPair(t)
	b, device := tcpPair(t)
	ended := make(chan Result, 1)
	r.Start(a, b, nil, func(res Result) { ended <- res })
	data := make([]byte, 16<<20)
	rand.Read(data)
	var wg sync.WaitGroup
	wg.Go(func() { client.Write(data); client.CloseWrite() })
	pause := time.NewTimer(50 * time.Millisecond) // the device is slow at first
	<-pause.C
	got, err := io.ReadAll(device)
	wg.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v; want the %d sent, unchanged", len(got), err, len(data))
	}
	device.Close()
	if res := <-ended; res.AToB != uint64(len(data)) || res.Cause != Closed {
		t.Errorf("result %+v", res)
	}
	if n := len(r.loops[0].spilled); n != 0 {
		t.Errorf("%d pieces are still kept", n)
	}
}

// Slots are used again and again, by links that end in every way at once.
func TestManyLinksComeAndGo(t *testing.T) {
	r := onLoop.relayer(t, Config{IdleTimeout: time.Minute})
	before := testenv.Descriptors(t)
	var started, finished atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				a, client := tcpPair(t)
				b, device := tcpPair(t)
				ended := make(chan Result, 1)
				started.Add(1)
				l := r.Start(a, b, nil, func(res Result) { finished.Add(1); ended <- res })
				io.WriteString(client, "hello")
				b5 := make([]byte, 5)
				if _, err := io.ReadFull(device, b5); err != nil || string(b5) != "hello" {
					t.Errorf("read %q, %v", b5, err)
				}
				want := Closed
				switch (w + i) % 4 {
				case 0:
					client.Close()
					device.Close()
				case 1:
					Abort(client)
					want = ResetA
				case 2:
					Abort(device)
					want = ResetB
				case 3:
					l.Cut(syscall.ENOENT)
					want = Cut
				}
				if res := <-ended; res.Cause != want || res.AToB != 5 {
					t.Errorf("result %+v; want %v and 5 bytes", res, want)
				}
				client.Close()
				device.Close()
			}
		})
	}
	wg.Wait()
	if started.Load() != finished.Load() {
		t.Errorf("%d links started, done was called %d times", started.Load(), finished.Load())
	}
	if got := testenv.Descriptors(t) - before; got > 2*2*sparePipes {
		t.Errorf("%d descriptors leaked", got)
	}
}

// waitDrained waits until a goroutine has read what came to c.
func waitDrained(t testing.TB, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	late := time.After(10 * time.Second)
	for tick := time.Tick(100 * time.Microsecond); ; {
		var n int
		if err := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil || n == 0 {
			return
		}
		select {
		case <-tick:
		case <-late:
			t.Fatalf("%d bytes are not read", n)
		}
	}
}

// stuck is a client's connection, as of TLS, with a write that ends when the test says so.
type stuck struct {
	*net.TCPConn
	writing, over chan struct{}
}

func (s stuck) NetConn() net.Conn { return s.TCPConn }

func (s stuck) Write([]byte) (int, error) {
	close(s.writing)
	<-s.over
	return 0, syscall.EPIPE
}

// Both goroutines of a link that is cut may have ended before the cut comes to the device,
// which is told by a reset nevertheless.
func TestCutResetsTheDevice(t *testing.T) {
	near, _ := tcpPair(t)
	b, device := tcpPair(t)
	client := stuck{near, make(chan struct{}), make(chan struct{})}
	ended := make(chan Result, 1)
	l := (&Relayer{}).Start(client, b, nil, func(r Result) { ended <- r })
	send(t, device, "all of it")
	<-client.writing
	l.split.condemn(Cut, io.ErrClosedPipe) // as CutAll does with all before it aborts the first
	close(client.over)
	if r := next(t, "the end", ended); r.Cause != Cut || r.Err != io.ErrClosedPipe {
		t.Errorf("%+v; want cut", r)
	}
	expectReset(t, device, "it was cut")
}
