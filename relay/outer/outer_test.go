package outer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
	"github.com/simreach/simreach/relay/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var here = netip.MustParseAddr("127.0.0.1")

// patience is how long these tests wait for what must come: long, for machines that have
// much else to do.
const patience = time.Minute

// control is the test in the place of the manager.
type control struct {
	commands chan manager.Command
	acks     chan manager.Acknowledgement
	broken   chan error
	lastID   uint64

	mu          sync.Mutex
	route       manager.Route
	err         error
	hold        chan struct{} // Resolve waits for it, if not nil
	asked       []manager.ResolveRequest
	credentials map[manager.CredentialID]manager.Credential
	load        manager.RelayLoad
	records     []manager.AuditRecord
	full        bool
	answer      func(manager.Route) manager.Route // changes Resolve's; set before there are clients
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
func (c *control) Load(l manager.RelayLoad) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load = l
}
func (c *control) Record(r manager.AuditRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records = append(c.records, r)
}
func (c *control) Accepting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.full
}
func (c *control) Resolve(ctx context.Context, q manager.ResolveRequest) (manager.Route, error) {
	c.mu.Lock()
	r, err, hold := c.route, c.err, c.hold
	c.asked = append(c.asked, q)
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return manager.Route{}, ctx.Err()
		}
	}
	if c.answer != nil {
		r = c.answer(r)
	}
	r.ConnectionID = q.ConnectionID
	if q.Target == "unknown:1" {
		return r, manager.NewError(manager.CodeConnUnknownTarget)
	}
	return r, err
}
func (c *control) Credential(_ context.Context, id manager.CredentialID) (manager.Credential, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cred, ok := c.credentials[id]
	if !ok {
		return cred, manager.ErrNotFound
	}
	return cred, nil
}

// change changes what the manager says.
func (c *control) change(f func(*control)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
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
		commands: make(chan manager.Command), acks: make(chan manager.Acknowledgement, 100), broken: make(chan error),
		credentials: map[manager.CredentialID]manager.Credential{},
		route: manager.Route{
			EntryID: "e1", Ranges: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			Device: netip.MustParseAddrPort("10.0.0.1:22"), Inner: fakeInner(t), Ticket: "t",
		},
	}
	cfg, deps := Config{ID: "outer1", Address: here, Mode: ports.ModeListen}, Deps{Control: ctl, Resolver: ctl, Auditor: ctl}
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
	serveInner(t, l)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serveInner is an inner relay whose device echoes, until the test ends.
func serveInner(t *testing.T, l net.Listener) {
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
				// Without the pipe that package net would hold for every connection.
				io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

// command sends one and returns the answer.
func (g *rig) command(c manager.Command) manager.Acknowledgement {
	g.t.Helper()
	g.ctl.lastID++
	c.Session, c.ID = "s", g.ctl.lastID
	late := time.After(patience)
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

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testenv.Eventually(t, what, ok)
}

// audited waits for n records, takes them and returns them.
func (g *rig) audited(n int) (out []manager.AuditRecord) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%d audit records", n), func() bool {
		g.ctl.mu.Lock()
		defer g.ctl.mu.Unlock()
		return len(g.ctl.records) >= n
	})
	g.ctl.change(func(c *control) { out, c.records = c.records[:n:n], c.records[n:] })
	return out
}

// expectAudit checks the life of one connection, of which nothing else was recorded.
func (g *rig) expectAudit(cause manager.Cause, types ...manager.AuditType) []manager.AuditRecord {
	g.t.Helper()
	rs := g.audited(len(types))
	for i, r := range rs { // the spool gives IDs
		if r.Type != types[i] || r.ConnectionID != rs[0].ConnectionID || r.ConnectionID == "" || r.ID != "" || r.EntryID != "e1" || !r.Source.IsValid() {
			g.t.Errorf("record %d: %+v; want %s of the same connection", i, r, types[i])
		}
		if want := cause; r.Cause != want && r.Type != manager.AuditAccess && r.Type != manager.AuditConnected {
			g.t.Errorf("record %+v; want cause %s", r, want)
		}
	}
	return rs
}

func freePort(t *testing.T) netip.AddrPort { return testenv.FreePort(t) }

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
	c.SetDeadline(time.Now().Add(patience))
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
	c.SetDeadline(time.Now().Add(patience))
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
	rs := g.expectAudit("revoked", manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
	if last := rs[2]; last.Up != 8 || last.Down != 8 || last.Destination != g.ctl.route.Device {
		t.Errorf("record %+v; want 8 bytes each way, to the device", last)
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
	g.expectAudit("revoked", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
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
