package outer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// maxLate is how late a connection may be cut here. Where nobody else wants the
// processors it is 100 ms; the log has what it was.
func maxLate() time.Duration {
	if raceDetector {
		return 3 * time.Second
	}
	return time.Second
}

// An expiry cuts in time also when thousands are connected, and so does a revocation.
func TestThousandsAreCutInTime(t *testing.T) {
	const fillTime = 5 * time.Second
	n := 5000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n = min(n, int(limit.Cur-500)/4) // both ends of both connections are this process's
	for _, how := range []manager.Cause{manager.CauseExpired, manager.CauseRevoked} {
		g := start(t, func(c *Config, _ *Deps) {
			c.EntryRate, c.SourceRate, c.MaxEntryConnections, c.MaxConnections = -1, -1, -1, n
		})
		a := freePort(t)
		first := opening("e1", a, fillTime+500*time.Millisecond)
		g.snapshot(first, opening("e2", freePort(t), time.Minute))
		// From an address of their own: other tests need the ports of the usual one.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 7, 1)}}
		var clients []net.Conn
		for begin := time.Now(); len(clients) < n && time.Since(begin) < fillTime; {
			c, err := d.Dial("tcp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			io.WriteString(c, "x")
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatalf("after %d: %v", g.Status().Live, err)
			}
		}
		begin := first.Expires
		if how == manager.CauseRevoked {
			begin = time.Now()
			g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
		} else {
			<-time.After(time.Until(begin))
		}
		var last time.Time
		for _, r := range g.audited(3 * len(clients)) {
			if r.Type == manager.AuditClosed {
				if r.Cause != how {
					t.Fatalf("record %+v; want %s", r, how)
				}
				last = r.At
			}
		}
		late := last.Sub(begin.Truncate(time.Millisecond))
		t.Logf("%s: %d connections, the last was cut after %s", how, len(clients), late)
		if late > maxLate() {
			t.Errorf("%s: the last was cut after %s; want %s at most", how, late, maxLate())
		}
		g.stop()
		for _, c := range clients {
			c.Close()
		}
	}
}

// Too many connections in a short time are refused, of one source without harm to
// others, and a source that may not connect at all does not use up the entry's share.
func TestRates(t *testing.T) {
	s := newSources(1, 2)
	now := time.Now()
	one, two := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	for i, want := range []bool{true, true, false} {
		if got := s.allow(one, now); got != want {
			t.Errorf("connection %d: allowed %t; want %t", i, got, want)
		}
	}
	if !s.allow(two, now) {
		t.Error("another source is refused")
	}
	if !s.allow(one, now.Add(time.Second)) || s.allow(one, now.Add(time.Second)) {
		t.Error("want one more after a second")
	}
	// One network of a subscriber is one source.
	a6, b6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1")
	if !s.allow(a6, now) || !s.allow(b6, now) || s.allow(a6, now) {
		t.Error("want two of an IPv6 /64 network")
	}
	// Very many sources take no more memory than the bound.
	for i := range 3 * maxSources {
		s.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := len(s.now) + len(s.old); n > 2*maxSources {
		t.Errorf("%d sources are remembered; want %d at most", n, 2*maxSources)
	}

	g := start(t, func(c *Config, _ *Deps) { c.EntryRate, c.EntryBurst = 0.001, 2 })
	a := freePort(t)
	g.ctl.route.Ranges = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	g.snapshot(opening("e1", a, time.Minute))
	ping(t, dial(t, a))
	g.audited(2)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	for range 3 {
		c, err := d.Dial("tcp", a.String())
		if err == nil {
			c.Read(make([]byte, 1))
			c.Close()
		}
		g.expectAudit("source-denied", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	}
	ping(t, dial(t, a))
	g.audited(2)
	if err := turnedAway(a); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("beyond the entry's rate: %v; want a reset", err)
	}
	g.expectAudit("rate-limited", manager.AuditAccess, manager.AuditRefused, manager.AuditClosed)
}

// A drain takes nothing new, tells the manager, and keeps what lives, under its
// conditions.
func TestDrainByCommand(t *testing.T) {
	g := start(t, nil)
	a, b := freePort(t), freePort(t)
	g.snapshot(opening("e1", a, time.Minute), opening("e2", b, time.Minute))
	c := dial(t, a)
	ping(t, c)
	g.command(manager.Command{Kind: manager.CommandDrain})
	eventually(t, "the port is closed, and the manager knows", func() bool {
		g.ctl.mu.Lock()
		defer g.ctl.mu.Unlock()
		return g.ctl.load.Draining && refused(a)
	})
	ping(t, c)
	ack := g.command(manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{opening("e3", freePort(t), time.Minute)}})
	if len(ack.Failures) != 1 || !errors.Is(ack.Failures[0].Err, errDraining) {
		t.Errorf("open while draining: %+v; want errDraining", ack)
	}
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("revoked while draining: %v; want a reset", err)
	}
}

// Commands count also while the process stops and lets its connections finish.
func TestRevokedWhileStopping(t *testing.T) {
	g := start(t, func(c *Config, _ *Deps) { c.DrainTimeout = time.Minute })
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	c := dial(t, a)
	ping(t, c)
	stopped := make(chan struct{})
	go func() { defer close(stopped); g.stop() }()
	eventually(t, "draining", func() bool { return g.Status().Draining })
	ping(t, c)
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("revoked while stopping: %v; want a reset", err)
	}
	<-stopped // with the last connection, long before DrainTimeout
	if err := <-g.err; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// The manager is told the load, and metrics say the same.
func TestLoadAndMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := start(t, func(_ *Config, d *Deps) { d.Metrics = reg })
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	c := dial(t, a)
	ping(t, c)
	g.ctl.change(func(c *control) { c.err = manager.NewError(manager.CodeDeviceOffline) })
	turnedAway(a)
	eventually(t, "the load is told", func() bool {
		g.ctl.mu.Lock()
		defer g.ctl.mu.Unlock()
		l := g.ctl.load
		return l.Live == 1 && l.Accepted == 2 && l.Opened == 1 && l.Up == 4 && l.Down == 4 && l.Entries == 1 && l.Denied["device-offline"] == 1
	})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"accepted_total": 2, "denied_total": 1, "live_connections": 1, "entries": 1, "up_bytes_total": 4, "down_bytes_total": 4, "setup_seconds": 5,
	} {
		if got := got["simreach_outer_relay_"+name]; got != want {
			t.Errorf("%s is %v; want %v", name, got, want)
		}
	}
	// The bytes of an entry that is gone still count.
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	eventually(t, "the entry is gone", func() bool {
		g.ctl.mu.Lock()
		defer g.ctl.mu.Unlock()
		return g.ctl.load.Entries == 0 && g.ctl.load.Up == 4 && g.ctl.load.Live == 0
	})
	g.stop()
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d metrics, %v, after Run; want none", len(families), err)
	}
}

// The device learns who the client is, before any of the client's bytes.
func TestProxyProtocol(t *testing.T) {
	heads := make(chan *proxyproto.Header, 1)
	inner := fakeListener(t, func(c net.Conn) {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		relay.ReadRequest(ctx, c)
		relay.Accept(ctx, c)
		r := bufio.NewReader(c)
		h, err := proxyproto.Read(r)
		if err != nil {
			t.Errorf("no header: %v", err)
			return
		}
		heads <- h
		io.Copy(c, r)
	})
	g := start(t, nil)
	g.ctl.route.Inner, g.ctl.route.ProxyProtocol = inner, true
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	c := dial(t, a)
	ping(t, c)
	h := <-heads
	if h.Version != 2 || h.SourceAddr.String() != c.LocalAddr().String() || h.DestinationAddr.String() != g.ctl.route.Device.String() {
		t.Errorf("header %+v; want version 2, the client and the device", h)
	}
}

// A connection between kernel sockets has no goroutine of the relay's.
func TestNoGoroutinePerConnection(t *testing.T) {
	g := start(t, nil)
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	ping(t, dial(t, a))
	before := runtime.NumGoroutine()
	const n = 100
	for range n {
		ping(t, dial(t, a))
	}
	// Those of the test's inner relay are one each.
	eventually(t, "only the inner relay has goroutines for them", func() bool { return runtime.NumGoroutine() <= before+n+5 })
	if live := g.Status().Live; live != n+1 {
		t.Errorf("%d are live; want %d", live, n+1)
	}
}

// An inner relay that was replaced since the manager named it costs one more question,
// not the connection.
func TestReplacedInnerRelay(t *testing.T) {
	g := start(t, nil)
	good := g.ctl.route.Inner
	var asked atomic.Int32
	g.ctl.answer = func(r manager.Route) manager.Route {
		if asked.Add(1) == 1 {
			r.Inner = netip.MustParseAddrPort("127.0.0.1:1")
		} else {
			r.Inner = good
		}
		return r
	}
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	ping(t, dial(t, a))
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times; want 2", n)
	}
}
