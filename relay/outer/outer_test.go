package outer

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var here = netip.MustParseAddr("127.0.0.1")

// control is the test in the place of the manager.
type control struct {
	commands chan manager.Command
	acks     chan manager.Acknowledgement
	events   chan manager.ConnectionEvent
	broken   chan error
	lastID   uint64

	mu    sync.Mutex
	route manager.Route
	err   error
	hold  chan struct{} // Resolve waits for it, if not nil
}

func (c *control) Next(ctx context.Context) (manager.Command, error) {
	select {
	case cmd := <-c.commands:
		return cmd, nil
	case err := <-c.broken:
		return manager.Command{}, err
	case <-ctx.Done():
		return manager.Command{}, ctx.Err()
	}
}
func (c *control) Acknowledge(a manager.Acknowledgement) { c.acks <- a }
func (c *control) Report(e manager.ConnectionEvent)      { c.events <- e }
func (c *control) Resolve(ctx context.Context, _ manager.ResolveRequest) (manager.Route, error) {
	c.mu.Lock()
	r, err, hold := c.route, c.err, c.hold
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return manager.Route{}, ctx.Err()
		}
	}
	return r, err
}

// rig is a running outer relay, an inner relay that says 200 to everything and
// echoes, and the test as manager.
type rig struct {
	*Relay
	t    *testing.T
	ctl  *control
	stop func()
	err  chan error
}

func start(t *testing.T, change func(*Config, *Deps)) *rig {
	t.Helper()
	ctl := &control{
		commands: make(chan manager.Command), acks: make(chan manager.Acknowledgement, 100),
		events: make(chan manager.ConnectionEvent, 100), broken: make(chan error),
		route: manager.Route{
			EntryID: "e1", ConnectionID: "c1", Ranges: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			Device: netip.MustParseAddrPort("10.0.0.1:22"), Inner: fakeInner(t), Ticket: "t",
		},
	}
	cfg, deps := Config{ID: "outer1", Address: here}, Deps{Control: ctl, Resolver: ctl}
	if change != nil {
		change(&cfg, &deps)
	}
	r, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g := &rig{Relay: r, t: t, ctl: ctl, err: make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { g.err <- r.Run(ctx) })
	g.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(g.stop)
	return g
}

func fakeInner(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if _, err := relay.ReadRequest(ctx, c); err != nil {
					return
				}
				relay.Accept(ctx, c)
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// command sends one and returns the answer.
func (g *rig) command(c manager.Command) manager.Acknowledgement {
	g.t.Helper()
	g.ctl.lastID++
	c.Session, c.ID = "s", g.ctl.lastID
	late := time.After(5 * time.Second)
	select {
	case g.ctl.commands <- c:
	case <-late:
		g.t.Fatalf("%v is not taken", c.Kind)
	}
	select {
	case a := <-g.ctl.acks:
		if a.Session != c.Session || a.ID != c.ID {
			g.t.Errorf("acknowledgement %+v of command %d", a, c.ID)
		}
		return a
	case <-late:
		g.t.Fatalf("%v is not answered", c.Kind)
		return manager.Acknowledgement{}
	}
}

func (g *rig) event() manager.ConnectionEvent {
	g.t.Helper()
	select {
	case e := <-g.ctl.events:
		return e
	case <-time.After(5 * time.Second):
		g.t.Fatal("no event")
		return manager.ConnectionEvent{}
	}
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func opening(id manager.EntryID, a netip.AddrPort, life time.Duration) manager.Opening {
	return manager.Opening{EntryID: id, Address: a, Expires: time.Now().Add(life)}
}

func (g *rig) snapshot(os ...manager.Opening) manager.Acknowledgement {
	return g.command(manager.Command{Kind: manager.CommandSnapshot, Openings: os})
}

func dial(t *testing.T, a netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatalf("connect to %v: %v", a, err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

func ping(t *testing.T, c net.Conn) {
	t.Helper()
	io.WriteString(c, "ping")
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
		t.Fatalf("read %q, %v; want ping", b, err)
	}
}

func refused(a netip.AddrPort) bool {
	c, err := net.Dial("tcp", a.String())
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// turnedAway returns how a client's attempt ends: the reset may come while it still
// connects.
func turnedAway(a netip.AddrPort) error {
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

func TestCommands(t *testing.T) {
	g := start(t, nil)
	select {
	case <-g.Ready():
		t.Error("ready before the snapshot")
	default:
	}
	a, b := freePort(t), freePort(t)
	o1, o2 := opening("e1", a, time.Minute), opening("e2", b, time.Minute)
	if ack := g.snapshot(o1); len(ack.Failures) != 0 {
		t.Fatalf("snapshot: %+v", ack)
	}
	<-g.Ready()
	c := dial(t, a)
	ping(t, c)
	if e := g.event(); e.Kind != manager.ConnectionOpened || e.EntryID != "e1" || e.ConnectionID != "c1" || e.Live != 1 {
		t.Errorf("event %+v; want opened", e)
	}
	open := manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{o1, o2}}
	if ack := g.command(open); len(ack.Failures) != 0 {
		t.Errorf("open, one of them again: %+v", ack)
	}
	ping(t, c) // what was open is untouched
	// The port is ours: another entry cannot have it, and is told why.
	ack := g.command(manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{opening("e3", b, time.Minute)}})
	if len(ack.Failures) != 1 || !errors.Is(ack.Failures[0].Err, manager.ErrPortInUse) {
		t.Errorf("open a port in use: %+v; want ErrPortInUse", ack)
	}
	ack = g.command(manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{opening("e4", freePort(t), -time.Second)}})
	if len(ack.Failures) != 1 {
		t.Errorf("open what has expired: %+v; want a failure", ack)
	}
	// A snapshot without an entry cuts it.
	g.snapshot(o2)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("not in the snapshot: %v; want a reset", err)
	}
	if e := g.event(); e.Kind != manager.ConnectionClosed || e.Cause != "revoked" || e.Up != 8 || e.Down != 8 {
		t.Errorf("event %+v; want closed, revoked, 8 bytes each way", e)
	}
	if !refused(a) || refused(b) {
		t.Error("want the first port closed and the second open")
	}
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "nobody", Reason: manager.ReasonRevoked})
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e2", Reason: manager.ReasonExpired})
	if !refused(b) {
		t.Error("the closed port is open")
	}
}

// The answer to a close command comes when nothing lives any more, and a connection
// that is being set up is no exception.
func TestCloseDuringHandshake(t *testing.T) {
	g := start(t, nil)
	g.ctl.hold = make(chan struct{})
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	c := dial(t, a)
	for tick := time.Tick(time.Millisecond); len(g.slots) == 0; {
		<-tick
	}
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	if len(g.slots) != 0 {
		t.Error("the close is answered while a connection is being set up")
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client: %v; want a reset", err)
	}
	if e := g.event(); e.Kind != manager.ConnectionDenied || e.Cause != "revoked" {
		t.Errorf("event %+v; want denied, revoked", e)
	}
}

func TestDenials(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*control)
		want   string
	}{
		{"offline", func(c *control) { c.err = manager.NewError(manager.CodeDeviceOffline) }, "device-offline"},
		{"expired meanwhile", func(c *control) { c.err = manager.NewError(manager.CodeEntryExpired) }, "expired"},
		{"unknown", func(c *control) { c.err = manager.NewError(manager.CodeUnknownEntry, "x") }, "unknown-entry"},
		{"no inner relay", func(c *control) { c.err = manager.NewError(manager.CodeNoInnerRelay, "upf1") }, "no-inner-relay"},
		{"no manager", func(c *control) { c.err = manager.NewError(manager.CodeManagerAway) }, "manager-away"},
		{"a broken manager", func(c *control) { c.err = errors.New("x") }, "resolve-failed"},
		{"a slow manager", func(c *control) { c.hold = make(chan struct{}) }, "timeout"},
		{"another entry's port", func(c *control) { c.route.EntryID = "e2" }, "unknown-entry"},
		{"not in the ranges", func(c *control) { c.route.Ranges = c.route.Ranges[:0] }, "source-denied"},
		{"an inner relay that is gone", func(c *control) { c.route.Inner = netip.MustParseAddrPort("127.0.0.1:1") }, "inner-unreachable"},
	} {
		g := start(t, func(cfg *Config, _ *Deps) { cfg.HandshakeTimeout = 200 * time.Millisecond })
		c.change(g.ctl)
		a := freePort(t)
		g.snapshot(opening("e1", a, time.Minute))
		if err := turnedAway(a); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the client got %v; want a reset", c.name, err)
		}
		if e := g.event(); e.Kind != manager.ConnectionDenied || e.Cause != c.want || e.EntryID != "e1" || !e.Client.IsValid() {
			t.Errorf("%s: event %+v; want denied, %s", c.name, e, c.want)
		}
		g.stop()
		if s := g.Status(); s.Denied[c.want] != 1 || s.Opened != 0 || s.Accepted != 1 {
			t.Errorf("%s: status %+v", c.name, s)
		}
	}
}

func TestHandshakesAreBounded(t *testing.T) {
	g := start(t, func(cfg *Config, _ *Deps) { cfg.MaxHandshakes = 1 })
	hold := make(chan struct{})
	g.ctl.hold = hold
	a := freePort(t)
	g.snapshot(opening("e1", a, time.Minute))
	first := dial(t, a)
	for tick := time.Tick(time.Millisecond); len(g.slots) == 0; {
		<-tick
	}
	if err := turnedAway(a); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("beyond the bound: %v; want a reset", err)
	}
	close(hold)
	ping(t, first)
	third := dial(t, a) // live connections do not count
	ping(t, third)
}

// R16 does not depend on the manager: the relay's own clock cuts.
func TestExpiry(t *testing.T) {
	g := start(t, nil)
	a, b := freePort(t), freePort(t)
	late, soon := opening("e2", b, time.Minute), opening("e1", a, 300*time.Millisecond)
	g.snapshot(late, soon)
	c := dial(t, a)
	ping(t, c)
	_, err := c.Read(make([]byte, 1))
	if over := time.Since(soon.Expires); !errors.Is(err, syscall.ECONNRESET) || over < 0 || over > 100*time.Millisecond {
		t.Errorf("%v, %s after the expiry; want a reset within 100 ms", err, over)
	}
	if !refused(a) || refused(b) {
		t.Error("want the expired port closed, the other open")
	}
	s := g.Status()
	if len(s.Entries) != 1 || s.Entries[0].ID != "e2" {
		t.Errorf("entries %+v; want e2", s.Entries)
	}
}

func TestDrain(t *testing.T) {
	for _, c := range []struct {
		name        string
		drain, life time.Duration
	}{{"cut at once", 0, time.Minute}, {"cut after the drain time", 100 * time.Millisecond, time.Minute}, {"expires in the drain time", time.Minute, 300 * time.Millisecond}} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, func(cfg *Config, _ *Deps) { cfg.DrainTimeout = c.drain })
			a := freePort(t)
			g.snapshot(opening("e1", a, c.life))
			conn := dial(t, a)
			ping(t, conn)
			begin := time.Now()
			var wg sync.WaitGroup
			wg.Go(g.stop)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client: %v; want a reset", err)
			}
			wg.Wait()
			if took := time.Since(begin); took > 5*time.Second || (c.drain < time.Second && took < c.drain) {
				t.Errorf("stopped after %s", took)
			}
			if err := <-g.err; err != nil {
				t.Errorf("Run: %v; want nil after cancel", err)
			}
		})
	}
}

func TestBrokenControl(t *testing.T) {
	g := start(t, nil)
	g.snapshot()
	why := errors.New("the stream is gone for good")
	g.ctl.broken <- why
	if err := <-g.err; !errors.Is(err, why) {
		t.Errorf("Run: %v; want why", err)
	}
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no id":                   func(c *Config) { c.ID = "" },
		"no address":              func(c *Config) { c.Address = netip.Addr{} },
		"nobody's address":        func(c *Config) { c.Address = netip.MustParseAddr("0.0.0.0") },
		"ports upside down":       func(c *Config) { c.Ports = manager.PortRange{First: 2, Last: 1} },
		"negative drain":          func(c *Config) { c.DrainTimeout = -1 },
		"negative max_handshakes": func(c *Config) { c.MaxHandshakes = -1 },
	} {
		cfg := Config{ID: "outer1", Address: here}
		change(&cfg)
		if cfg.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r := Config{ID: "outer1", Address: here}.Relay()
	if err := func() error { r.Instance = "i"; return r.Validate() }(); err != nil || r.Ports != manager.DefaultPorts() {
		t.Errorf("relay %+v, %v; want what the manager accepts, with the default ports", r, err)
	}
}
