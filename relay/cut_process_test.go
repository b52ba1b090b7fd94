//go:build linux

package relay_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager/api"
)

// The promises of time (R16, and revocation) with many connections open on one relay, of
// which manager, inner and outer relay are processes. Clients and device are the test's,
// as plain descriptors: a thousand goroutines that wake at one time would take the
// processors from the relay, and their clocks would tell of the scheduler.

const (
	cutConnections = 5000
	cutRounds      = 3
	expiryWithin   = 100 * time.Millisecond
	revokedWithin  = 200 * time.Millisecond
	cutDialers     = 32
	cutPriority    = -15              // as setpriority(2) has it
	cutClock       = time.Millisecond // how exact the times are
)

// crowd is connections of clients through a relay. One thread waits for their ends.
type crowd struct {
	epoll  int
	fds    []int
	secure bool // with TLS
}

// greeter is a device that says one byte to everybody, holds the connections and never
// reads: their ends wake nobody.
type greeter struct {
	port     uint16
	listener *os.File
	wg       sync.WaitGroup
	mu       sync.Mutex // guards fds
	fds      []int
}

func newGreeter(t *testing.T, host string) *greeter {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := &greeter{port: l.Addr().(*net.TCPAddr).AddrPort().Port()}
	if g.listener, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	raw, err := g.listener.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	g.wg.Go(func() { _ = raw.Read(g.accept) }) // ends when the listener is closed
	t.Cleanup(func() { g.listener.Close(); g.wg.Wait(); g.forget() })
	return g
}

func (g *greeter) accept(l uintptr) (done bool) {
	for {
		fd, _, err := unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			continue // a client that is gone already
		}
		_, _ = unix.Write(fd, []byte("x")) // who does not get it complains
		g.mu.Lock()
		g.fds = append(g.fds, fd)
		g.mu.Unlock()
	}
}

// forget closes the connections so far.
func (g *greeter) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, fd := range g.fds {
		unix.Close(fd)
	}
	g.fds = nil
}

// connectCrowd makes n connections that have reached the device, with TLS unless secure
// is nil. Several addresses are used in turn.
func connectCrowd(t *testing.T, n int, secure *tls.Config, to ...netip.AddrPort) *crowd {
	t.Helper()
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{epoll: ep, fds: make([]int, n), secure: secure != nil}
	for i := range c.fds {
		c.fds[i] = -1
	}
	var next atomic.Int64
	var dialers sync.WaitGroup
	var failed atomic.Pointer[error]
	for range cutDialers {
		dialers.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				fd, err := c.connect(to[i%len(to)], secure, i)
				if c.fds[i] = fd; err != nil {
					err := fmt.Errorf("connection %d: %w", i, err)
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	dialers.Wait()
	if err := failed.Load(); err != nil {
		c.close()
		t.Fatal(*err)
	}
	return c
}

// connect makes connection i, waits for the device's byte and keeps a descriptor of it
// that the runtime does not know.
func (c *crowd) connect(to netip.AddrPort, secure *tls.Config, i int) (fd int, err error) {
	conn, err := net.DialTimeout("tcp", to.String(), patience)
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	var clear io.Reader = conn
	if secure != nil {
		clear = tls.Client(conn, secure) // which is not told of the end
	}
	if n, err := clear.Read(make([]byte, 1)); n != 1 {
		return -1, fmt.Errorf("the device's byte: %w", err)
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	rerr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(rerr, err); err != nil {
		return -1, err
	}
	return fd, unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(i)})
}

// ends waits until all connections have ended and returns when each did, in order. It
// touches them afterwards only: every one must have been reset or, with TLS, have an alert
// and FIN. It is called on a goroutine of its own.
func (c *crowd) ends(limit time.Duration) ([]time.Time, error) {
	runtime.LockOSThread() // for good: the thread, whose priority changes, ends with its goroutine
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, cutPriority)
	at := make([]time.Time, 0, len(c.fds))
	ended := make([]bool, len(c.fds)) // a reset may be more than one event
	events := make([]unix.EpollEvent, len(c.fds))
	late := time.Now().Add(limit)
	// The kernel collects the ends meanwhile: a thread that each of them woke would take
	// the relay's processor, which it never shares with its clients elsewhere.
	tick := time.NewTicker(cutClock)
	defer tick.Stop()
	for len(at) < len(c.fds) {
		<-tick.C
		n, err := unix.EpollWait(c.epoll, events, 0)
		if err != nil && err != unix.EINTR {
			return at, err
		}
		now := time.Now()
		if n == 0 && now.After(late) {
			return at, fmt.Errorf("%d of %d connections live on", len(c.fds)-len(at), len(c.fds))
		}
		for _, ev := range events[:max(n, 0)] {
			if !ended[ev.Fd] {
				ended[ev.Fd], at = true, append(at, now)
			}
		}
	}
	for i, fd := range c.fds {
		if c.secure {
			if err := endedByAlert(fd); err != nil {
				return at, fmt.Errorf("connection %d: %w", i, err)
			}
		} else if e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || syscall.Errno(e) != unix.ECONNRESET {
			return at, fmt.Errorf("connection %d: %w; want a reset", i, errors.Join(err, syscall.Errno(e)))
		}
	}
	return at, nil
}

// endedByAlert checks that what is left to read is one record as long as an alert, and the
// end.
func endedByAlert(fd int) error {
	const length = 5 + 3 + 16 // header; level, alert and type; tag (RFC 8446 clause 5.2)
	b := make([]byte, 2*length)
	n, err := unix.Read(fd, b)
	if n == length && err == nil {
		n, err = unix.Read(fd, b)
		if n == 0 && err == nil {
			return nil
		}
	}
	return fmt.Errorf("read %d bytes, %w; want an alert and the end", n, err)
}

func (c *crowd) close() {
	for _, fd := range c.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	unix.Close(c.epoll)
}

// cuts are the results of several rounds.
type cuts struct{ first, last []time.Duration }

// ended waits for the ends of a crowd, and notes how long after the time that made them.
func (s *cuts) ended(t *testing.T, c *crowd, limit time.Duration, since func() time.Time) {
	t.Helper()
	var at []time.Time
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { at, err = c.ends(limit) })
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	from := since()
	s.first, s.last = append(s.first, at[0].Sub(from)), append(s.last, at[len(at)-1].Sub(from))
}

func (s *cuts) check(t *testing.T, what string, within time.Duration) {
	t.Helper()
	slices.Sort(s.last)
	t.Logf("%s with %d connections, the last reset after: %s (median %s); the first after %s", what, cutConnections, s.last, s.last[len(s.last)/2], s.first)
	if worst := s.last[len(s.last)-1]; worst > within {
		t.Errorf("%s: the last of %d connections was reset after %s; want %s at most", what, cutConnections, worst, within)
	}
	for _, f := range s.first {
		if f < 0 {
			t.Errorf("%s: a connection was reset %s too early", what, -f)
		}
	}
}

// enoughDescriptors fails where there are too few for this process's two ends of each
// connection.
func enoughDescriptors(t *testing.T) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 2*cutConnections+500 {
		t.Fatalf("%d descriptors, %v; this test needs %d", limit.Cur, err, 2*cutConnections+500)
	}
}

// unbounded takes the guards of a public port out of a test's way.
func unbounded(_ *node.Inner, out *node.Outer) {
	out.Relay.EntryRate, out.Relay.MaxEntryConnections, out.Relay.MaxConnections = -1, -1, cutConnections+100
}

// undisturbed returns a program that is binary, but logs no line for each connection,
// which would be measured, too, and where the system lets it comes before whatever else
// the machine does: a bound of time is on the relay's work, not on that of its neighbours.
func undisturbed(t *testing.T, binary string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "simreach")
	// The second outer relay is an outer relay, too.
	text := fmt.Sprintf("#!/bin/sh\nrole=$1\nshift\nexec nice -n %d '%s' ${role%%-2} \"$@\" --log-level info\n", cutPriority, binary)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}

func TestOnTimeEntryEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and opens thousands of connections")
	}
	enoughDescriptors(t)
	w := newTown(t, undisturbed(t, buildBinary(t)), unbounded)
	device := newGreeter(t, "127.0.5.9")
	create := func(life time.Duration) (api.PortMapping, netip.AddrPort) {
		t.Helper()
		s := life.Seconds()
		m := must[api.PortMapping](t)(w.api.Create(t.Context(), api.CreateRequest{Destination: &api.Destination{IMSI: imsi, Port: float64(device.port)}, Duration: &s}))
		return m, netip.MustParseAddrPort(m.Endpoint)
	}
	var slowest time.Duration // to connect all
	var revoked, expired cuts
	for range cutRounds {
		_, to := create(time.Hour)
		begin := time.Now()
		c := connectCrowd(t, cutConnections, nil, to)
		slowest = max(slowest, time.Since(begin))
		asked := make(chan time.Time, 1)
		go func() {
			now := time.Now()
			if err := w.api.Delete(t.Context(), to); err != nil {
				t.Error(err)
			}
			asked <- now
		}()
		revoked.ended(t, c, patience, func() time.Time { return <-asked })
		c.close()
		device.forget()
	}
	for range cutRounds {
		life := (2*slowest + 2*time.Second).Truncate(time.Second)
		m, to := create(life)
		c := connectCrowd(t, cutConnections, nil, to)
		expired.ended(t, c, life+patience, func() time.Time { return time.UnixMilli(m.ExpiredTime) })
		c.close()
		device.forget()
	}
	t.Logf("%d connections were made in %s", cutConnections, slowest.Round(time.Millisecond))
	revoked.check(t, "entry deleted", revokedWithin)
	expired.check(t, "entry expired", expiryWithin)
}

// A credential is revoked that let clients in at two relays.
func TestOnTimeCredentialRevoked(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and opens thousands of connections")
	}
	enoughDescriptors(t)
	ca := must[*pki.Authority](t)(pki.NewAuthority(pki.AuthorityConfig{Name: "time"}))
	shown := must[pki.Pair](t)(ca.Issue(pki.Server("relay.test")))
	mine := must[pki.Pair](t)(ca.Issue(pki.Client("client")))
	var second node.Outer
	w := newTown(t, undisturbed(t, buildBinary(t)), unbounded, func(_ *node.Inner, out *node.Outer) {
		out.TLS = pki.Config{Cert: string(shown.Cert), Key: shown.Key}
		second = *out
		second.Relay.ID, second.Relay.Address, second.Audit.Dir = "outer2", netip.MustParseAddr("127.0.5.6"), filepath.Join(filepath.Dir(out.Audit.Dir), "audit2")
	})
	w.logs["relay-outer-2"] = &logBuffer{}
	w.configure("relay-outer-2", &second)
	w.start("relay-outer-2")
	device := newGreeter(t, "127.0.5.9")
	certificate := must[tls.Certificate](t)(tls.X509KeyPair(mine.Cert, []byte(mine.Key)))
	secure := &tls.Config{ServerName: "relay.test", RootCAs: ca.Pool(), Certificates: []tls.Certificate{certificate}, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	var revoked cuts
	for range cutRounds {
		credential := must[api.Credential](t)(w.api.RegisterCredential(t.Context(), api.CreateCredential{CACertificate: string(ca.PEM())}))
		var to []netip.AddrPort
		for _, relay := range []string{"outer1", "outer2"} {
			ms := must[[]api.ExtendedMapping](t)(w.api.CreateExtended(t.Context(), api.ExtendedRequest{
				CreateRequest: api.CreateRequest{Destination: &api.Destination{IMSI: imsi, Port: float64(device.port)}, TLSRequired: true},
				CredentialID:  credential.CredentialID, Relay: relay,
			}))
			if ms[0].Relay != relay {
				t.Fatalf("the entry is at %s; want %s", ms[0].Relay, relay)
			}
			to = append(to, netip.MustParseAddrPort(ms[0].Endpoint))
		}
		c := connectCrowd(t, cutConnections, secure, to...)
		asked := make(chan time.Time, 1)
		go func() {
			now := time.Now()
			if err := w.api.RevokeCredential(t.Context(), credential.CredentialID); err != nil {
				t.Error(err)
			}
			asked <- now
		}()
		revoked.ended(t, c, patience, func() time.Time { return <-asked })
		c.close()
		device.forget()
	}
	revoked.check(t, "credential revoked", revokedWithin)
}
