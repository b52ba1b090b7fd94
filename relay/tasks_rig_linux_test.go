package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

// soon is how long these tests wait for what must come.
const soon = time.Minute

// tasks is a Relayer under test, whose tasks must leave nothing behind: each tells its
// owner once, gives its slot back and closes its descriptors.
type tasks struct {
	*Relayer
	t    testing.TB
	stop func()

	mu   sync.Mutex // guards the rest
	told map[string]*atomic.Int32
}

func newTasks(t testing.TB, loops int) *tasks {
	t.Helper()
	near, far := tcpPair(t) // the runtime's poller has descriptors of its own
	near.Close()
	far.Close()
	g := &tasks{t: t, told: map[string]*atomic.Int32{}}
	fds := 0
	t.Cleanup(func() { // after all others
		g.check()
		if got := heldDescriptors(t); got != fds {
			t.Errorf("%d descriptors; want %d, as before", got, fds)
		}
	})
	var err error
	if g.Relayer, err = NewRelayer(Config{Loops: loops}); err != nil {
		t.Fatal(err)
	}
	fds = heldDescriptors(t)
	g.stop = runRelayer(t, g.Relayer)
	return g
}

// heldDescriptors counts the open descriptors that something holds: those that tests before
// left to the collector are collected first.
func heldDescriptors(t testing.TB) int {
	t.Helper()
	last, same := -1, 0
	for same < 2 {
		collected := make(chan struct{})
		runtime.AddCleanup(new([16]byte), func(c chan struct{}) { close(c) }, collected)
		runtime.GC()
		<-collected
		n := testenv.Descriptors(t)
		if same++; n != last {
			last, same = n, 0
		}
	}
	return last
}

// check looks at what the loops have left. They must have ended.
func (g *tasks) check() {
	g.t.Helper()
	for _, l := range g.loops {
		for i, link := range l.links {
			if link != nil {
				g.t.Errorf("slot %d still has an owner", i)
			}
		}
		free := 0
		for i := l.free; i != noSlot && free <= len(l.links); i = l.at(i).next {
			free++
		}
		if free != len(l.links) {
			g.t.Errorf("%d slots of %d are free", free, len(l.links))
		}
		if l.late.count != 0 {
			g.t.Errorf("%d deadlines of tasks that are over", l.late.count)
		}
		for k, i := range l.late.heads {
			if i != noSlot {
				g.t.Errorf("slot %d still stands at tick %d", i, k)
			}
		}
	}
	for what, n := range g.told {
		if n.Load() != 1 {
			g.t.Errorf("%s: told %d times; want once", what, n.Load())
		}
	}
}

// once returns what counts how often a task tells its owner.
func (g *tasks) once(what string) func() {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := &atomic.Int32{}
	g.told[fmt.Sprintf("%s, %d", what, len(g.told))] = n
	return func() { n.Add(1) }
}

// answer is what Call.Answered is told.
type answer struct {
	device *Socket
	asked  bool
	err    error
}

// prepare makes a Call with a target and the like.
func (g *tasks) prepare(c Call) (*Link, <-chan answer) {
	answers, told := make(chan answer, 2), g.once("Call")
	c.Answered = func(device *Socket, asked bool, err error) {
		told()
		answers <- answer{device, asked, err}
	}
	if c.Timeout == 0 {
		c.Timeout = soon
	}
	c.Request.Target, c.Request.Ticket = netip.MustParseAddrPort("10.60.0.7:22"), "the.ticket"
	return g.Call(c), answers
}

func (g *tasks) begin(c Call) (*Link, <-chan answer) {
	l, answers := g.prepare(c)
	l.Begin()
	return l, answers
}

// next waits for what must come.
func next[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(soon):
		t.Fatalf("not told: %s", what)
		panic("not reached")
	}
}

// plain returns a Socket as package net has it, until the test ends.
func plain(t testing.TB, s *Socket) *net.TCPConn {
	t.Helper()
	c, err := s.Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(soon))
	return c.(*net.TCPConn)
}

// listen returns a listener of this machine and how to accept there.
func listen(t testing.TB, address string) (netip.AddrPort, func() *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort(), func() *net.TCPConn { return accept(t, l) }
}

func accept(t testing.TB, l net.Listener) *net.TCPConn {
	t.Helper()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(soon))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(soon))
	return c.(*net.TCPConn)
}

// listenNarrow is listen where there is little room for what is sent.
func listenNarrow(t testing.TB) (netip.AddrPort, func() *net.TCPConn) {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	}}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort(), func() *net.TCPConn { return accept(t, l) }
}

// group is where no TCP goes: the kernel says so at once.
var group = netip.MustParseAddrPort("224.0.0.1:9")

// bell is a task that rings after its peer has written: what came to the loop before that
// has been handled then.
type bell struct {
	fd   int32
	peer *net.TCPConn
	rung chan struct{}
}

func newBell(t testing.TB, l *loop) *bell {
	t.Helper()
	near, far := tcpPair(t)
	s, ok := NewSocket(near)
	if !ok {
		t.Fatal("no descriptor")
	}
	b := &bell{fd: s.take(), peer: far, rung: make(chan struct{}, 1)}
	l.newLink(&Link{task: b}).Begin()
	return b
}

func (b *bell) begin(l *loop, i uint32, p *pair) {
	p.fd[0] = b.fd
	l.watch(i, p, 0, false)
}

func (b *bell) step(l *loop, _ uint32, p *pair) {
	if n, e := receiveNow(p.fd[0], l.buffer); e == 0 && n > 0 {
		b.rung <- struct{}{}
	}
}

func (b *bell) fail(l *loop, i uint32, p *pair, _ error) {
	abortFD(p.fd[0])
	l.endTask(i, p)
}

func (b *bell) refuse(error) { abortFD(b.fd) }

func (b *bell) ring(t testing.TB) {
	t.Helper()
	send(t, b.peer, "x")
	next(t, "the bell", b.rung)
}

// blocker is a task that holds its loop up.
type blocker struct{ held, free chan struct{} }

func (b blocker) begin(l *loop, i uint32, p *pair) {
	close(b.held)
	<-b.free
	l.endTask(i, p)
}
func (blocker) step(*loop, uint32, *pair)        {}
func (blocker) fail(*loop, uint32, *pair, error) {}
func (blocker) refuse(error)                     {}

// block holds a loop up until the test lets go: what happens meanwhile comes to it at one
// time.
func block(t testing.TB, l *loop) (free func()) {
	t.Helper()
	b := blocker{make(chan struct{}), make(chan struct{})}
	l.newLink(&Link{task: b}).Begin()
	next(t, "the loop is held up", b.held)
	free = sync.OnceFunc(func() { close(b.free) })
	t.Cleanup(free)
	return free
}

// readRequest is what an inner relay does first.
func readRequest(t testing.TB, c *net.TCPConn) Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	r, err := ReadRequest(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(soon))
	return r
}
