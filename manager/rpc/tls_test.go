package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
	"github.com/simreach/simreach/manager/rpc/relayv1/relayv1connect"
)

// testbed is a CA, and a manager's service whose control ports use it.
type testbed struct {
	ca  *pki.Authority
	svc *manager.Service
	dir string
}

func newTestbed(t *testing.T) *testbed {
	ca, err := pki.NewAuthority(pki.AuthorityConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return &testbed{ca: ca, svc: startManager(t, openStore(t), "").Service, dir: t.TempDir()}
}

func (b *testbed) source(t *testing.T, ca *pki.Authority, r pki.Request, name string) (pki.Config, *pki.Source) {
	t.Helper()
	p, err := ca.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := p.WriteFiles(b.dir, name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := pki.Config{Cert: cert, Key: pki.Secret(key), CA: string(b.ca.PEM())}
	src, err := pki.NewSource(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, src
}

// serve starts a control port with a certificate.
func (b *testbed) serve(t *testing.T, cert pki.Request) (*rpc.Server, string) {
	t.Helper()
	cfg, src := b.source(t, b.ca, cert, "manager")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := rpc.NewServer(rpc.ServerConfig{TLS: cfg}, rpc.ServerDeps{Listener: l, Manager: b.svc, TLS: src})
	if err != nil {
		t.Fatal(err)
	}
	run(t, server.Run)
	return server, l.Addr().String()
}

func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func (b *testbed) client(t *testing.T, addr string, r manager.Relay, cfg pki.Config, src *pki.Source, log *slog.Logger) *rpc.Client {
	t.Helper()
	c, err := rpc.NewClient(rpc.ClientConfig{Manager: addr, TLS: cfg}, rpc.ClientDeps{Relay: r, TLS: src, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	return c
}

func TestMutualTLS(t *testing.T) {
	b := newTestbed(t)
	server, addr := b.serve(t, pki.Manager("127.0.0.1"))
	cfg, src := b.source(t, b.ca, pki.Relay("outer", "outer1", "127.0.0.1"), "outer1")
	outer := b.client(t, addr, outer1, cfg, src, nil)
	ready(t, outer)
	next(t, outer)
	e, _ := create(t, b.svc, outer)
	cfg, src = b.source(t, b.ca, pki.Relay("inner", "inner1", "127.0.0.1"), "inner1")
	ready(t, b.client(t, addr, inner1, cfg, src, nil))
	if r, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: e.Address}); err != nil || r.EntryID != e.ID {
		t.Errorf("Resolve over TLS: %+v, %v", r, err)
	}
	if _, err := outer.Credential(t.Context(), "none"); !errors.Is(err, manager.CodeUnknownCredential) {
		t.Errorf("Credential over TLS: %v; want %s", err, manager.CodeUnknownCredential)
	}
	if n := server.Status().Unauthorised; n != 0 {
		t.Errorf("%d relays refused", n)
	}
}

// Relays without a certificate, with another CA's, or with another relay's do not get in,
// and a relay does not attach to a manager whose certificate is not for its address.
func TestMutualTLSRefuses(t *testing.T) {
	b := newTestbed(t)
	other, err := pki.NewAuthority(pki.AuthorityConfig{Name: "another"})
	if err != nil {
		t.Fatal(err)
	}
	_, addr := b.serve(t, pki.Manager("127.0.0.1"))
	_, elsewhere := b.serve(t, pki.Manager("192.0.2.55"))
	for _, c := range []struct {
		name, addr string
		ca         *pki.Authority
		cert       pki.Request
	}{
		{"another CA", addr, other, pki.Relay("outer", "outer1", "127.0.0.1")},
		{"another relay's ID", addr, b.ca, pki.Relay("outer", "outer2", "127.0.0.1")},
		{"another kind", addr, b.ca, pki.Relay("inner", "outer1", "127.0.0.1")},
		{"no relay's name", addr, b.ca, pki.Client("outer1")},
		{"not for clients", addr, b.ca, pki.Server("127.0.0.1")},
		{"the manager's certificate is another host's", elsewhere, b.ca, pki.Relay("outer", "outer1", "127.0.0.1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, src := b.source(t, c.ca, c.cert, "relay")
			log := &logLines{}
			client := b.client(t, c.addr, outer1, cfg, src, slog.New(slog.NewTextHandler(log, nil)))
			eventually(t, "an attempt fails", func() bool { return strings.Contains(log.String(), "not attached") })
			if client.Status().Attaches != 0 {
				t.Error("it is attached")
			}
		})
	}
	// No certificate at all.
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.ca.Pool()}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	_, err = relayv1connect.NewRelayControlClient(&http.Client{Transport: tr}, "https://"+addr).AddAudit(t.Context(), connect.NewRequest(&pb.AuditBatch{}))
	if err == nil {
		t.Error("a call without a certificate is answered")
	}
	// No TLS at all.
	if _, err := raw(t, addr).AddAudit(t.Context(), connect.NewRequest(&pb.AuditBatch{})); err == nil {
		t.Error("a call without TLS is answered")
	}
}

type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A session belongs to the relay that attached: another one's certificate does not open
// it, whatever it knows.
func TestSessionOfAnotherRelay(t *testing.T) {
	b := newTestbed(t)
	server, addr := b.serve(t, pki.Manager("127.0.0.1"))
	session, err := b.svc.AttachRelay(manager.Relay{ID: "outer9", Kind: manager.OuterRelay, Instance: "i", Address: netip.MustParseAddrPort("192.0.2.1:0"), Ports: manager.DefaultPorts()})
	if err != nil {
		t.Fatal(err)
	}
	_, src := b.source(t, b.ca, pki.Relay("outer", "outer1", "127.0.0.1"), "outer1")
	tr := &http.Transport{TLSClientConfig: src.Dial(nil, "127.0.0.1"), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	rc := relayv1connect.NewRelayControlClient(&http.Client{Transport: tr}, "https://"+addr)
	_, err = rc.AddAudit(t.Context(), connect.NewRequest(&pb.AuditBatch{Session: session.ID()}))
	if connect.CodeOf(err) != connect.CodeUnauthenticated || server.Status().Unauthorised != 1 {
		t.Errorf("another relay's session: %v, %+v; want unauthenticated, counted", err, server.Status())
	}
	// Nor does it ask for it.
	conn, err := tls.Dial("tcp", addr, src.Dial(&tls.Config{NextProtos: []string{"http/1.1"}}, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if resp, _ := upgrade(t, conn, session.ID(), nil); resp.StatusCode != http.StatusUnauthorized || server.Status().Unauthorised != 2 {
		t.Errorf("a connection for another relay's questions: %s, %+v; want unauthorised, counted", resp.Status, server.Status())
	}
}

func TestExactlyOneTrust(t *testing.T) {
	both := pki.Config{Cert: "a", Key: "b", CA: "c"}
	for _, c := range []struct {
		secret string
		tls    pki.Config
		ok     bool
	}{
		{"s", pki.Config{}, true}, {"", both, true}, {"", pki.Config{}, false}, {"s", both, false},
		{"", pki.Config{Cert: "a", Key: "b"}, false}, {"", pki.Config{CA: "c"}, false},
	} {
		err1 := rpc.ServerConfig{Secret: c.secret, TLS: c.tls}.Validate()
		err2 := rpc.ClientConfig{Manager: "m", Secret: c.secret, TLS: c.tls}.Validate()
		if (err1 == nil) != c.ok || (err2 == nil) != c.ok {
			t.Errorf("secret %q, tls %+v: %v, %v; want ok=%v", c.secret, c.tls, err1, err2, c.ok)
		}
	}
}

// Two managers on one store: when the one that the relay is attached to goes, questions
// are answered by the other, without an error that a client would notice.
func TestFailover(t *testing.T) {
	st := openStore(t)
	a, b := startManager(t, st, ""), startManager(t, st, "")
	managers := map[string]*managerProcess{a.addr: a, b.addr: b}
	client := func(r manager.Relay) *rpc.Client {
		c, err := rpc.NewClient(rpc.ClientConfig{Manager: a.addr, Alternates: []string{b.addr}, Secret: secret}, rpc.ClientDeps{Relay: r})
		if err != nil {
			t.Fatal(err)
		}
		run(t, c.Run)
		ready(t, c)
		return c
	}
	outer := client(outer1)
	client(inner1)
	next(t, outer)
	e, _ := create(t, a.Service, outer)
	for round := range 4 {
		at := outer.Status().Manager
		gone := make(chan struct{})
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for range 4 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					r, err := outer.Resolve(ctx, manager.ResolveRequest{Hit: e.Address, Client: e.Address})
					// The inner relay may arrive at the other manager a moment later.
					if err != nil && ctx.Err() == nil && !errors.Is(err, manager.CodeNoInnerRelay) {
						t.Errorf("round %d: %v", round, err)
						return
					}
					if err == nil && r.EntryID != e.ID {
						t.Errorf("round %d: route %+v", round, r)
					}
				}
			})
		}
		wg.Go(func() {
			managers[at].stop()
			close(gone)
		})
		begin := time.Now()
		if cmd := nextOf(t, outer, manager.CommandSnapshot); len(cmd.Openings) != 1 {
			t.Errorf("round %d: %+v; want the other manager's snapshot", round, cmd)
		}
		took := time.Since(begin)
		<-gone
		if took > 2*time.Second {
			t.Errorf("round %d: attached to the other after %s", round, took)
		}
		if s := outer.Status(); s.Manager == at || s.Failovers != uint64(round+1) {
			t.Errorf("round %d: %+v; want the other manager", round, s)
		}
		cancel()
		wg.Wait()
		managers[at] = startManager(t, st, at)
	}
}
