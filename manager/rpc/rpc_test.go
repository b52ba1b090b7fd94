package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
	"github.com/simreach/simreach/manager/rpc/relayv1/relayv1connect"
	"github.com/simreach/simreach/manager/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	op     = manager.OperatorID("OP0000000001")
	imsi   = "001010000000001"
	secret = "shared secret"
)

// here is a directory in which every device is at one place.
type here struct{ at manager.Attachment }

func (h here) Lookup(context.Context, ident.IMSI) (manager.Attachment, error) {
	if h.at.UPF == "" {
		return manager.Attachment{}, manager.ErrNotAttached
	}
	return h.at, nil
}
func (here) Size() int                { return 1 }
func (here) Changed() <-chan struct{} { return nil }

func (here) Departed(func(ident.IMSI, manager.Attachment)) {}

func (h here) Places(ident.IMSI) ([]manager.Attachment, bool) {
	return []manager.Attachment{h.at}, true
}

// managerProcess is a manager with its server; stop ends it as a process ends.
type managerProcess struct {
	*manager.Service
	server *rpc.Server
	addr   string
	stop   func()
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func startManager(t *testing.T, st manager.Store, addr string) *managerProcess {
	t.Helper()
	svc, err := manager.New(manager.Config{
		Operators: []manager.OperatorConfig{{ID: op}}, Subscribers: []manager.SubscriberConfig{{IMSI: imsi, OperatorID: op}},
		InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}},
	}, manager.Deps{Store: st, Directory: here{manager.Attachment{UPF: "upf1", Address: netip.MustParseAddr("10.60.0.7")}}})
	if err != nil {
		t.Fatal(err)
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server, err := rpc.NewServer(rpc.ServerConfig{Secret: secret}, rpc.ServerDeps{Listener: l, Manager: svc})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := svc.Run(ctx); err != nil {
			t.Errorf("service: %v", err)
		}
	})
	wg.Go(func() {
		if err := server.Run(ctx); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	m := &managerProcess{Service: svc, server: server, addr: l.Addr().String(), stop: sync.OnceFunc(func() { cancel(); wg.Wait() })}
	t.Cleanup(m.stop)
	<-svc.Ready()
	return m
}

func startClient(t *testing.T, addr string, r manager.Relay) (*rpc.Client, func()) {
	t.Helper()
	c, err := rpc.NewClient(rpc.ClientConfig{Manager: addr, Secret: secret}, rpc.ClientDeps{Relay: r})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return c, stop
}

func ready(t *testing.T, c *rpc.Client) {
	t.Helper()
	select {
	case <-c.Ready():
	case <-time.After(5 * time.Second):
		t.Fatal("not attached after 5 s")
	}
}

var (
	outer1 = manager.Relay{ID: "outer1", Kind: manager.OuterRelay, Address: netip.MustParseAddrPort("192.0.2.1:0"), Ports: manager.DefaultPorts(), Region: "eu"}
	inner1 = manager.Relay{ID: "inner1", Kind: manager.InnerRelay, Address: netip.MustParseAddrPort("192.0.2.9:9000")}
)

// next returns the next command and acknowledges it.
func next(t *testing.T, c *rpc.Client, failures ...manager.OpenFailure) manager.Command {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	cmd, err := c.Next(ctx)
	if err != nil {
		t.Fatalf("no command: %v", err)
	}
	c.Acknowledge(manager.Acknowledgement{Session: cmd.Session, ID: cmd.ID, Failures: failures})
	return cmd
}

// nextOf acknowledges commands until one of a kind comes: closing may be told twice.
func nextOf(t *testing.T, c *rpc.Client, kind manager.CommandKind) manager.Command {
	t.Helper()
	for {
		cmd := next(t, c)
		if cmd.Kind == kind {
			return cmd
		}
		if cmd.Kind != manager.CommandClose {
			t.Errorf("command %+v; want %s", cmd, kind)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testenv.EventuallyWithin(t, 5*time.Second, what, ok)
}

func create(t *testing.T, m *manager.Service, c *rpc.Client) (manager.Entry, manager.Command) {
	t.Helper()
	var e manager.Entry
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		e, err = m.CreateEntry(t.Context(), op, manager.CreateRequest{IMSI: imsi, Port: 22, Caller: netip.MustParseAddr("198.51.100.1")})
	})
	cmd := nextOf(t, c, manager.CommandOpen)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return e, cmd
}

var equal = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.IgnoreFields(manager.Command{}, "Session", "ID")}

func TestConversation(t *testing.T) {
	m := startManager(t, openStore(t), "")
	outer, stopOuter := startClient(t, m.addr, outer1)
	ready(t, outer)
	if cmd := next(t, outer); cmd.Kind != manager.CommandSnapshot || len(cmd.Openings) != 0 {
		t.Errorf("first command %+v; want an empty snapshot", cmd)
	}
	e, cmd := create(t, m.Service, outer)
	want := manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{{
		EntryID: e.ID, Address: e.Address, Expires: e.Expires, OperatorID: op, IMSI: imsi, DevicePort: 22,
	}}}
	if d := cmp.Diff(want, cmd, equal...); d != "" {
		t.Errorf("open command (-want +got):\n%s", d)
	}

	hit, client := e.Address, netip.MustParseAddrPort("198.51.100.1:5555")
	_, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: hit, Client: client})
	if !errors.Is(err, manager.CodeNoInnerRelay) || !strings.Contains(err.Error(), "upf1") {
		t.Errorf("Resolve without inner relay: %v; want the manager's code and argument", err)
	}
	inner, _ := startClient(t, m.addr, inner1)
	ready(t, inner)
	r, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: hit, Client: client})
	if err != nil {
		t.Fatal(err)
	}
	wantRoute := manager.Route{
		EntryID: e.ID, ConnectionID: r.ConnectionID, Ranges: e.Ranges, Expires: e.Expires, Device: netip.MustParseAddrPort("10.60.0.7:22"),
		InnerID: "inner1", Inner: inner1.Address, Ticket: r.Ticket, OperatorID: r.OperatorID, IMSI: r.IMSI,
	}
	if d := cmp.Diff(wantRoute, r, equal...); d != "" || r.Ticket == "" || r.ConnectionID == "" {
		t.Errorf("route %+v (-want +got):\n%s", r, d)
	}
	place := manager.Place{IMSI: imsi, Inner: "inner1", Address: r.Device.Addr()}
	left := place
	left.Address = left.Address.Next()
	if got, err := outer.Departed(t.Context(), []manager.Place{place, left}); err != nil || len(got) != 1 || got[0] != left {
		t.Errorf("%+v have left, %v; want %+v", got, err, left)
	}
	if _, err := inner.Departed(t.Context(), nil); !errors.Is(err, manager.CodeRelayNotAttached) && !errors.Is(err, manager.CodeManagerAway) {
		t.Errorf("an inner relay asks who has left: %v; want it refused", err)
	}
	session, err := m.AttachRelay(manager.Relay{ID: "x", Kind: manager.InnerRelay, Instance: "i", Address: inner1.Address})
	if err != nil {
		t.Fatal(err)
	}
	another := session.Keys()[0]
	key, ok := inner.TicketKey(another.ID)
	if !ok || string(key) == string(another.Key) {
		t.Errorf("the inner relay has a key: %v; want one that no other relay has", ok)
	}
	if _, err := jwt.Parse(r.Ticket, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithValidMethods([]string{"HS256"})); err != nil {
		t.Errorf("its key does not check its tickets: %v", err)
	}
	if _, ok := outer.TicketKey(another.ID); ok {
		t.Error("an outer relay could make tickets")
	}
	if _, ok := inner.TicketKey("other"); ok || inner.Instance() == outer.Instance() {
		t.Error("an unknown key is known, or two relays have one instance")
	}

	outer.Load(manager.RelayLoad{Live: 3, At: time.Now()})
	eventually(t, "the load report arrives", func() bool {
		s, err := m.Service.Status(t.Context())
		return err == nil && find(s.Relays, "outer1").Live == 3
	})

	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.DeleteEntry(t.Context(), op, e.Address); err != nil {
			t.Error(err)
		}
	})
	if cmd := next(t, outer); cmd.Kind != manager.CommandClose || cmd.EntryID != e.ID || cmd.Reason != manager.ReasonRevoked {
		t.Errorf("command %+v; want to close the entry, revoked", cmd)
	}
	wg.Wait()

	stopOuter()
	eventually(t, "the relay is detached", func() bool {
		s, err := m.Service.Status(t.Context())
		return err == nil && find(s.Relays, "outer1").ID == ""
	})
}

func find(rs []manager.RelayStatus, id manager.RelayID) manager.RelayStatus {
	for _, r := range rs {
		if r.ID == id {
			return r
		}
	}
	return manager.RelayStatus{}
}

func TestPortInUseTravels(t *testing.T) {
	m := startManager(t, openStore(t), "")
	outer, _ := startClient(t, m.addr, outer1)
	next(t, outer)
	var wg sync.WaitGroup
	var e manager.Entry
	wg.Go(func() {
		var err error
		if e, err = m.CreateEntry(t.Context(), op, manager.CreateRequest{IMSI: imsi, Port: 22, Caller: netip.MustParseAddr("198.51.100.1")}); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	first, err := outer.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := first.Openings[0].EntryID
	outer.Acknowledge(manager.Acknowledgement{Session: first.Session, ID: first.ID, Failures: []manager.OpenFailure{{EntryID: id, Err: manager.ErrPortInUse}}})
	if c := next(t, outer); c.Kind != manager.CommandClose || c.EntryID != id {
		t.Errorf("command %+v; want the failed opening closed", c)
	}
	second := nextOf(t, outer, manager.CommandOpen)
	wg.Wait()
	if second.Kind != manager.CommandOpen || second.Openings[0].Address != e.Address || second.Openings[0].Address == first.Openings[0].Address {
		t.Errorf("command %+v; want another port opened, the entry's %v", second, e.Address)
	}
}

// The server restarts; the client is attached again by itself, gets all entries,
// and nothing of the old session reaches the new one.
func TestServerRestart(t *testing.T) {
	st := openStore(t)
	m := startManager(t, st, "")
	outer, _ := startClient(t, m.addr, outer1)
	next(t, outer)
	e, old := create(t, m.Service, outer)
	for range 3 {
		m.stop()
		eventually(t, "the client notices", func() bool { return !outer.Status().Attached })
		begin := time.Now()
		if _, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: e.Address}); !errors.Is(err, manager.CodeManagerAway) {
			t.Errorf("Resolve while the manager is away: %v; want %s", err, manager.CodeManagerAway)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %s to fail", took)
		}
		outer.Load(manager.RelayLoad{Live: 7}) // must not block
		m = startManager(t, st, m.addr)
		begin = time.Now()
		cmd := nextOf(t, outer, manager.CommandSnapshot)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("attached again after %s; want less than a second", took)
		}
		if cmd.Kind != manager.CommandSnapshot || len(cmd.Openings) != 1 || cmd.Openings[0].EntryID != e.ID || cmd.Session == old.Session {
			t.Errorf("command %+v; want a snapshot with the entry, of a new session", cmd)
		}
		outer.Acknowledge(manager.Acknowledgement{Session: old.Session, ID: 1}) // stale
		create(t, m.Service, outer)
		if err := m.DeleteEntry(context.WithoutCancel(t.Context()), op, netip.MustParseAddrPort("192.0.2.1:1")); !errors.Is(err, manager.CodeUnknownEntry) {
			t.Error(err)
		}
		es, err := m.Entries(t.Context(), manager.EntryQuery{OperatorID: op})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range es { // back to one entry
			if x.ID != e.ID {
				var wg sync.WaitGroup
				wg.Go(func() { m.DeleteEntry(t.Context(), op, x.Address) })
				nextOf(t, outer, manager.CommandClose)
				wg.Wait()
			}
		}
	}
	if s := outer.Status(); s.Attaches != 4 || s.Failovers != 0 {
		t.Errorf("status %+v; want 4 attachments, all to one manager", s)
	}
	eventually(t, "the manager hears the load that was reported while it was away", func() bool {
		s, err := m.Service.Status(t.Context())
		return err == nil && find(s.Relays, "outer1").Live == 7
	})
}

// A relay gets all its entries, however many they are, as one snapshot.
func TestLongSnapshot(t *testing.T) {
	st := openStore(t)
	const n = 2500
	at := time.Now().UTC().Truncate(time.Millisecond)
	for i := range n {
		e := manager.Entry{
			ID: manager.EntryID(fmt.Sprintf("%026d", i)), OperatorID: op, IMSI: imsi, Strategy: manager.IMSIPrioritized, DevicePort: 22, RelayID: "outer1",
			Address: netip.AddrPortFrom(outer1.Address.Addr(), uint16(40000+i)), Created: at, Expires: at.Add(time.Hour), Ranges: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		}
		if err := st.CreateEntry(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	m := startManager(t, st, "")
	outer, _ := startClient(t, m.addr, outer1)
	cmd := next(t, outer)
	ids := map[manager.EntryID]bool{}
	for _, o := range cmd.Openings {
		ids[o.EntryID] = true
	}
	if cmd.Kind != manager.CommandSnapshot || len(cmd.Openings) != n || len(ids) != n {
		t.Errorf("%s with %d openings, %d different; want a snapshot of all %d", cmd.Kind, len(cmd.Openings), len(ids), n)
	}
	create(t, m.Service, outer)
}

// An inner relay keeps the manager's keys while the manager is away, and a manager
// that starts on the same store has the same.
func TestKeysSurvive(t *testing.T) {
	st := openStore(t)
	m := startManager(t, st, "")
	inner, _ := startClient(t, m.addr, inner1)
	ready(t, inner)
	keys, err := st.SigningKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	m.stop()
	eventually(t, "the client notices", func() bool { return !inner.Status().Attached })
	if _, ok := inner.TicketKey(keys[0].ID); !ok {
		t.Error("the key is forgotten")
	}
	startManager(t, st, m.addr)
	eventually(t, "attached again", func() bool { return inner.Status().Attached })
	if _, ok := inner.TicketKey(keys[0].ID); !ok {
		t.Error("the key is another")
	}
}

func TestWrongSecret(t *testing.T) {
	m := startManager(t, openStore(t), "")
	c, err := rpc.NewClient(rpc.ClientConfig{Manager: m.addr, Secret: "guess"}, rpc.ClientDeps{Relay: outer1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	eventually(t, "refused at least twice", func() bool { return m.server.Status().Unauthorised >= 2 })
	if c.Status().Attaches != 0 {
		t.Error("attached with a wrong secret")
	}
	cancel()
	wg.Wait()
}

// raw is a client that says what it likes.
func raw(t *testing.T, addr string) relayv1connect.RelayControlClient {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	auth := connect.WithInterceptors(bearer{})
	return relayv1connect.NewRelayControlClient(&http.Client{Transport: tr}, "http://"+addr, auth, connect.WithGRPC())
}

type bearer struct{}

func (bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		r.Header().Set("Authorization", "Bearer "+secret)
		return next(ctx, r)
	}
}
func (bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, s connect.Spec) connect.StreamingClientConn {
		c := next(ctx, s)
		c.RequestHeader().Set("Authorization", "Bearer "+secret)
		return c
	}
}
func (bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// Peers that break the rules are refused and harm nobody; gRPC works as well.
func TestBadPeers(t *testing.T) {
	m := startManager(t, openStore(t), "")
	rc := raw(t, m.addr)
	hello := func(change func(*pb.Hello)) *pb.FromRelay {
		h := &pb.Hello{RelayId: "outer1", Kind: pb.RelayKind_RELAY_KIND_OUTER, Instance: "i", Address: "192.0.2.1:0", FirstPort: 1, LastPort: 2}
		change(h)
		return &pb.FromRelay{Kind: &pb.FromRelay_Hello{Hello: h}}
	}
	for _, c := range []struct {
		name string
		msgs []*pb.FromRelay
	}{
		{"no hello", []*pb.FromRelay{{Kind: &pb.FromRelay_Load{Load: &pb.Load{}}}}},
		{"nothing in the message", []*pb.FromRelay{{}}},
		{"address", []*pb.FromRelay{hello(func(h *pb.Hello) { h.Address = "x" })}},
		{"port out of range", []*pb.FromRelay{hello(func(h *pb.Hello) { h.LastPort = 70000 })}},
		{"kind", []*pb.FromRelay{hello(func(h *pb.Hello) { h.Kind = 300 })}},
		{"no instance", []*pb.FromRelay{hello(func(h *pb.Hello) { h.Instance = "" })}},
	} {
		s := rc.Attach(t.Context())
		for _, msg := range c.msgs {
			// The manager may have answered when it had read the message's length alone:
			// connect then wraps io.EOF, and Receive has the answer.
			if err := s.Send(msg); err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("%s: send: %v", c.name, err)
			}
		}
		s.CloseRequest()
		if _, err := s.Receive(); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v; want invalid argument", c.name, err)
		}
		s.CloseResponse()
	}
	// A second hello ends the session.
	s := rc.Attach(t.Context())
	s.Send(hello(func(*pb.Hello) {}))
	if w, err := s.Receive(); err != nil || w.GetWelcome() == nil {
		t.Fatalf("welcome: %v, %v", w, err)
	}
	s.Send(hello(func(*pb.Hello) {}))
	var err error
	for err == nil {
		_, err = s.Receive()
	}
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("after a second hello: %v; want unavailable", err)
	}
	s.CloseRequest()
	s.CloseResponse()
	if _, err := rc.AddAudit(t.Context(), connect.NewRequest(&pb.AuditBatch{Session: "x"})); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("AddAudit without a session: %v; want unavailable", err)
	}
	if _, err := rc.GetCredential(t.Context(), connect.NewRequest(&pb.CredentialRequest{})); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("GetCredential without a session: %v; want unavailable", err)
	}
}
