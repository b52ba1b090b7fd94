package outer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
	"github.com/simreach/simreach/relay/ports"
)

// Whoever scans the range of ports learns which entries are open, and nothing about
// those that are not: a port whose entry was revoked or has expired answers as one does
// that never had any, and as fast.
func TestClosedPortsLookAlike(t *testing.T) { closedPortsLookAlike(t, ports.ModeListen) }

func closedPortsLookAlike(t *testing.T, mode string) {
	g := start(t, func(c *Config, _ *Deps) { c.Mode, c.SourceRate = mode, -1 })
	never, revoked, expired, other := freePort(t), freePort(t), freePort(t), freePort(t)
	g.snapshot(opening("e1", revoked, time.Minute), opening("e2", expired, 300*time.Millisecond), opening("e3", other, time.Minute))
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	eventually(t, "the entry is over", func() bool { return refused(expired) })
	eventually(t, "those that came earlier are gone", func() bool { return g.all.Load() == 0 })
	g.ctl.change(func(c *control) { c.asked, c.records = nil, nil })
	closed := map[string]netip.AddrPort{"never opened": never, "revoked": revoked, "expired": expired}
	took := map[string][]time.Duration{}
	for range 500 { // in turns, so that the machine's moods meet all of them
		for what, a := range closed {
			begin := time.Now()
			if !refused(a) {
				t.Fatalf("%s: connected; want connection refused", what)
			}
			took[what] = append(took[what], time.Since(begin))
		}
	}
	median := map[string]time.Duration{}
	for what, d := range took {
		slices.Sort(d)
		median[what] = d[len(d)/2]
	}
	t.Logf("medians %v", median)
	for what, d := range median {
		if base := median["never opened"]; d > base*3/2+30*time.Microsecond || base > d*3/2+30*time.Microsecond {
			t.Errorf("%s: answered in %s, never opened: in %s; want no difference", what, d, base)
		}
	}
	g.ctl.change(func(c *control) {
		if len(c.asked) != 0 || len(c.records) != 0 {
			t.Errorf("the scan reached the relay: %d questions, %d records", len(c.asked), len(c.records))
		}
	})
}

// Clients of an entry with TLS that take their time with the handshake get no more of it
// than HandshakeTimeout, however steadily they send, and are counted.
func TestSlowClients(t *testing.T) {
	const limit = 300 * time.Millisecond
	s := startTLS(t, func(c *Config, _ *Deps) { c.HandshakeTimeout = limit })
	a := s.open(nil)
	hello := string([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}) + strings.Repeat("\x00", 600) // the beginning of a long ClientHello
	for name, text := range map[string]string{"nothing": "", "half a ClientHello": hello} {
		began := time.Now()
		conn := dial(t, a)
		over := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for i := range len(text) {
				select {
				case <-tick.C:
				case <-over:
					return
				}
				if _, err := conn.Write([]byte{text[i]}); err != nil {
					return
				}
			}
		})
		_, err := io.Copy(io.Discard, conn)
		close(over)
		writer.Wait()
		if took := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) || took < limit/2 || took > 20*limit {
			t.Errorf("%s: held for %s, %v; want the end after about %s", name, took, err, limit)
		}
	}
	eventually(t, "both are counted", func() bool { return s.Status().Denied[string(manager.CauseTLSTimeout)] == 2 })
	for range 2 {
		s.expectAudit(manager.CauseTLSTimeout, manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	}
}

// Thousands of connections that say nothing of use leave nothing behind.
func TestGarbage(t *testing.T) {
	auditor := &counting{}
	s := startTLS(t, func(c *Config, d *Deps) {
		c.SourceRate, c.EntryRate, c.HandshakeTimeout = -1, -1, 2*time.Second
		d.Auditor = auditor
	})
	a := s.open(nil)
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	settled := func() { eventually(t, "no connection is left", func() bool { return s.all.Load() == 0 }) }
	nonsense(t, a, 500) // what is kept for reuse is there after these
	settled()
	s.ctl.change(func(c *control) { c.asked = nil })
	before := resources(t)
	nonsense(t, a, n)
	settled()
	s.ctl.change(func(c *control) { c.asked = nil })
	eventually(t, fmt.Sprintf("no more than before %d connections: %+v", n, before), func() bool {
		after := resources(t)
		return after.goroutines <= before.goroutines+5 && after.files <= before.files+5 && after.heap <= before.heap+2<<20
	})
	auditor.mu.Lock()
	begun, over := auditor.n[manager.AuditAccess], auditor.n[manager.AuditClosed]
	auditor.mu.Unlock()
	if begun != over || begun == 0 {
		t.Errorf("%d connections have begun for the audit log and %d are over", begun, over)
	}
	if _, err := dialTLS(t, a, s.config()); err != nil {
		t.Errorf("a good client afterwards: %v", err)
	}
}

// A ticket of the inner relay's former process, which its successor does not take, costs
// some questions until the manager knows of the successor, and not the connection. One
// that is never taken costs the connection, which the audit log has.
func TestTicketOfTheFormerProcess(t *testing.T) {
	g := start(t, func(c *Config, _ *Deps) { c.SourceRate = -1 })
	var mu sync.Mutex
	former := len(askAgain)
	g.ctl.route.Inner = fakeListener(t, func(c net.Conn) {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := relay.ReadRequest(ctx, c); err != nil {
			return
		}
		mu.Lock()
		refuse := former > 0
		former--
		mu.Unlock()
		if refuse {
			relay.Refuse(ctx, c, relay.TicketInvalid)
			return
		}
		relay.Accept(ctx, c)
		io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	})
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	c := dial(t, a)
	ping(t, c)
	c.CloseWrite()
	g.expectAudit(manager.CauseClosed, manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
	mu.Lock()
	former = len(askAgain) + 1
	mu.Unlock()
	if err := turnedAway(a); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("with tickets that are never taken: %v; want a reset", err)
	}
	g.expectAudit(manager.CauseTicketInvalid, manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	g.ctl.change(func(c *control) {
		if want := 2 * (len(askAgain) + 1); len(c.asked) != want {
			t.Errorf("asked %d times; want %d", len(c.asked), want)
		}
	})
}

// counting is an Auditor that counts.
type counting struct {
	mu sync.Mutex
	n  map[manager.AuditType]int
}

func (c *counting) Accepting() bool { return true }
func (c *counting) Record(r manager.AuditRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[manager.AuditType]int{}
	}
	c.n[r.Type]++
}

type use struct {
	goroutines, files int
	heap              uint64
}

func resources(t *testing.T) use {
	t.Helper()
	runtime.GC()
	runtime.GC() // the first moves what pools keep aside
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return use{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}

// nonsense makes n connections that are none of TLS.
func nonsense(t *testing.T, a netip.AddrPort, n int) {
	t.Helper()
	kinds := []string{"", "\x00", "\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", strings.Repeat("x", 20_000), "\x16\x03\x01\xff\xff", "SSH-2.0-OpenSSH\r\n"}
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := garbage(a, kinds[i%len(kinds)]); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func garbage(a netip.AddrPort, text string) error {
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetLinger(0) // ten thousand local ports are not to be had for a minute
	io.WriteString(c, text)       // it may be refused by now
	c.(*net.TCPConn).CloseWrite()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}
