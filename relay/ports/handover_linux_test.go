package ports_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/simreach/simreach/relay/ports"
)

// halfWay is a client whose SYN has been answered, but which has not seen it.
type halfWay struct {
	t  testing.TB
	fd int
}

// beginHandshake connects, and drops what comes back.
func beginHandshake(t testing.TB, at netip.AddrPort) *halfWay {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	a := at.Addr().As4()
	entry := fmt.Sprintf(" %02X%02X%02X%02X:%04X ", a[3], a[2], a[1], a[0], at.Port())
	until := time.Now().Add(deadline)
	for {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); strings.Contains(line, entry) && " "+f[1]+" " == entry && f[3] == "03" { // SYN_RECV
				return &halfWay{t: t, fd: fd}
			}
		}
		if time.Now().After(until) {
			t.Fatal("the SYN was not answered")
		}
	}
}

func (h *halfWay) close() { unix.Close(h.fd) }

// finish lets the client see the next SYN-ACK, which comes within a second or two,
// and returns who greets it.
func (h *halfWay) finish() (byte, error) {
	if err := unix.SetsockoptInt(h.fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
		return 0, err
	}
	fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(deadline/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return 0, errors.Join(err, errors.New("nothing came"))
		}
		break
	}
	var b [1]byte
	if _, err := unix.Read(h.fd, b[:]); err != nil {
		return 0, err
	}
	return b[0], nil
}

// drainWaitsForHalfWayHandshakes: who has sent SYN-ACK takes the connection.
func drainWaitsForHalfWayHandshakes(t *testing.T, mode string) {
	a := address()
	old := serve(t, ports.Config{Address: a, Mode: mode}, greet('1'))
	old.open(first + 2)
	half := beginHandshake(t, old.at(first+2))
	defer half.close()
	next := serve(t, ports.Config{Address: a, Mode: mode}, greet('2'))
	next.open(first + 2)
	drained := make(chan error, 1)
	go func() { drained <- old.Drain(context.Background()) }()
	for err := error(nil); !errors.Is(err, ports.ErrNotRunning); { // until the drain has begun
		err = old.Open(first + 2)
	}
	for range 20 {
		if who, err := greeting(old.at(first + 2)); who != '2' || err != nil {
			t.Errorf("a new connection met %q, %v", who, err)
		}
	}
	select {
	case err := <-drained:
		t.Errorf("the drain ended before the handshake: %v", err)
	default:
	}
	if who, err := half.finish(); who != '1' || err != nil {
		t.Errorf("the half-way handshake met %q, %v", who, err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// load connects to the ports all the time; wait returns how many were greeted by
// each name, after stop.
type load struct {
	mu   sync.Mutex
	seen map[byte]int
	stop atomic.Bool
	wg   sync.WaitGroup
	more chan struct{} // one element for every 100 connections
}

// connectAll runs workers that connect to the ports. end says whether an error is
// the end of a worker; any other is lost.
func connectAll(t *testing.T, at []netip.AddrPort, end func(error) bool) *load {
	l := &load{seen: map[byte]int{}, more: make(chan struct{}, 1)}
	t.Cleanup(func() { l.wait() })
	for i := range 8 {
		l.wg.Go(func() {
			for n := i; !l.stop.Load(); n++ {
				who, err := greeting(at[n%len(at)])
				if err != nil {
					if !end(err) {
						t.Errorf("a connection was lost: %v", err)
					}
					return
				}
				l.mu.Lock()
				l.seen[who]++
				l.mu.Unlock()
				if n%100 == 0 {
					select {
					case l.more <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	return l
}

// tick waits for more connections.
func (l *load) tick(t *testing.T) {
	t.Helper()
	select {
	case <-l.more:
	case <-time.After(deadline):
		t.Fatal("nobody connects any more")
	}
}

func (l *load) wait() map[byte]int {
	l.stop.Store(true)
	l.wg.Wait()
	return l.seen
}

func handOverUnderLoadLosesNothing(t *testing.T, mode string) {
	a := address()
	var at []netip.AddrPort
	for port := uint16(first); port < first+10; port++ {
		at = append(at, netip.AddrPortFrom(a, port))
	}
	start := func(name byte) *served {
		s := serve(t, ports.Config{Address: a, Mode: mode}, greet(name))
		for _, p := range at {
			s.open(p.Port())
		}
		for _, p := range at {
			if who, err := greeting(p); who != name || err != nil {
				t.Errorf("after %c has opened %s, a new connection met %q, %v", name, p, who, err)
			}
		}
		return s
	}
	old := start('a')
	l := connectAll(t, at, func(error) bool { return false })
	for name := byte('b'); name <= 'g'; name++ {
		for range 2 {
			l.tick(t)
		}
		next := start(name)
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		if err := old.Drain(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if err := old.stop(); err != nil {
			t.Error(err)
		}
		if n := old.Status().Refused; n != 0 {
			t.Errorf("%d connections were reset", n)
		}
		old = next
	}
	seen := l.wait()
	t.Logf("connections: %v", seen)
	if len(seen) < 6 {
		t.Errorf("greeted by %v, want everybody", seen)
	}
}

// drainUnderLoadLosesNothing: without a successor clients are refused, but none
// that got through the handshake is reset.
func drainUnderLoadLosesNothing(t *testing.T, mode string) {
	s := serve(t, ports.Config{Address: address(), Mode: mode}, greet('1'))
	at := []netip.AddrPort{s.at(first), s.at(first + 1)}
	for _, p := range at {
		s.open(p.Port())
	}
	l := connectAll(t, at, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) })
	l.tick(t)
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("connections: %v", l.wait())
	for _, p := range at {
		wantRefused(t, p)
	}
}

func nothingIsLeft(t *testing.T, mode string) {
	serve(t, ports.Config{Address: address(), Mode: mode}, nil).stop() // what the runtime opens once is open
	before := testenv.Descriptors(t)
	s := serve(t, ports.Config{Address: address(), Mode: mode}, nil)
	for port := uint16(first); port < first+50; port++ {
		s.open(port)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for port := uint16(first); port < first+50; port++ {
		wantRefused(t, s.at(port))
	}
	if n := testenv.Descriptors(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

func TestSharedListenerHandsOver(t *testing.T) {
	a := address()
	var servers sync.WaitGroup
	t.Cleanup(servers.Wait) // after the listeners have been closed
	open := func(port uint16) *ports.Listener {
		l, err := ports.ListenShared(t.Context(), netip.AddrPortFrom(a, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	serveAs := func(l *ports.Listener, name byte) {
		servers.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				greet(name)(c, 0)
			}
		})
	}
	old := open(0)
	at := netip.MustParseAddrPort(old.Addr().String())
	serveAs(old, 'a')
	l := connectAll(t, []netip.AddrPort{at}, func(error) bool { return false })
	for name := byte('b'); name <= 'g'; name++ {
		l.tick(t)
		next := open(at.Port())
		serveAs(next, name)
		if err := old.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		old = next
	}
	t.Logf("connections: %v", l.wait())
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	foreign := mustListen(t, netip.AddrPortFrom(a, 0))
	if l, err := ports.ListenShared(t.Context(), netip.MustParseAddrPort(foreign.Addr().String())); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port of another program: %v, %v", l, err)
	}
}
