package outer

import (
	"bytes"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// inOnePiece answers as package rpc does: the texts of a route are parts of one message, and
// nobody waits on a goroutine, the runtime's memory of which would be counted.
type inOnePiece struct{ *control }

func (m inOnePiece) Ask(q manager.ResolveRequest, _ string, _ time.Time, answer func(manager.Route, error)) {
	const inner, imsi = "inner1", "001010000000001"
	text := inner + imsi + strings.Repeat("t", 600)
	r := m.control.route
	r.ConnectionID, r.InnerID = q.ConnectionID, manager.RelayID(text[:len(inner)])
	r.IMSI, r.Ticket = ident.IMSI(text[len(inner):len(inner+imsi)]), text[len(inner+imsi):]
	answer(r, nil)
}

// sockets are TCP sockets that cost no heap but their numbers.
type sockets []int

func newSockets(t *testing.T, n int) *sockets {
	s := make(sockets, 0, n)
	t.Cleanup(func() {
		for _, fd := range s {
			unix.Close(fd)
		}
	})
	return &s
}

func (s *sockets) open(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	*s = append(*s, fd)
	return fd
}

// bareInner is an inner relay that says 200 to n requests and no more, until the test ends.
func bareInner(t *testing.T, n int) netip.AddrPort {
	t.Helper()
	all := newSockets(t, n+1)
	l := all.open(t)
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: here.As4()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 128); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		head := make([]byte, 4096)
		for {
			fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			*all = append(*all, fd)
			for n := 0; !bytes.Contains(head[:n], []byte("\r\n\r\n")); {
				more, err := unix.Read(fd, head[n:])
				if more <= 0 {
					t.Errorf("read a request: %d, %v", more, err)
					return
				}
				n += more
			}
			unix.Write(fd, []byte("HTTP/1.1 200 Connection established\r\n\r\n"))
		}
	}()
	t.Cleanup(func() {
		unix.Shutdown(l, unix.SHUT_RDWR)
		<-over
	})
	return netip.AddrPortFrom(here, uint16(name.(*unix.SockaddrInet4).Port))
}

// An idle connection keeps nothing that only setting it up needed, and not the whole of the
// manager's answer because of a text in it. The loops have the slots for it before.
func TestIdleConnectionKeepsLittle(t *testing.T) {
	if raceDetector {
		return
	}
	const warm, n, bound = 100, 900, 640
	g := start(t, func(c *Config, d *Deps) {
		c.EntryRate, c.SourceRate, c.MaxEntryConnections = -1, -1, -1
		ctl := d.Control.(*control)
		ctl.route.Inner = bareInner(t, warm+n)
		d.Resolver, d.Auditor = inOnePiece{ctl}, nothing{ctl}
	})
	o := opening("e1", freePort(t), time.Hour)
	o.IMSI = "001010000000001"
	g.snapshot(o)
	clients := newSockets(t, warm+n)
	open := func(n int) {
		t.Helper()
		for range n {
			c := clients.open(t)
			if err := unix.Connect(c, &unix.SockaddrInet4{Addr: o.Address.Addr().As4(), Port: int(o.Address.Port())}); err != nil {
				t.Fatal(err)
			}
			unix.Write(c, []byte("early"))
		}
		eventually(t, "all are relayed", func() bool { return g.live.Load() == int64(len(*clients)) })
	}
	// What finalizers and pools keep goes with a later collection: the least of some is
	// what is in use.
	heap := func() int {
		least := math.MaxInt
		for range 5 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			least = min(least, int(m.HeapAlloc))
		}
		return least
	}
	open(warm)
	before := heap()
	open(n)
	per := (heap() - before) / n
	t.Logf("an idle connection keeps %d bytes of heap", per)
	if per > bound {
		t.Errorf("an idle connection keeps %d bytes of heap; want at most %d", per, bound)
	}
}
