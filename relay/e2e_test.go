package relay_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

// These tests run the whole chain in one process over loopback: client, outer
// relay, manager with its REST and RPC servers and a store in a file, two inner
// relays, devices. 127.0.0.2 is the outer relay, 127.0.0.3 and .4 the inner ones,
// 127.0.3.x are devices.

const (
	operator = manager.OperatorID("OP0000000001")
	imsi     = "001010000000001"
	secret   = "relay-secret"
)

var keyHash = sync.OnceValue(func() string { return manager.HashSecret("secret-e2e") })

// patience is how long these tests wait for what must come: long, for machines that have
// much else to do.
const patience = 30 * time.Second

// directory says where devices are; the test moves them.
type directory struct {
	mu sync.Mutex
	at map[ident.IMSI]manager.Attachment
}

func (d *directory) put(imsi ident.IMSI, upf, addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.at, imsi)
	if upf != "" {
		d.at[imsi] = manager.Attachment{UPF: upf, Address: netip.MustParseAddr(addr)}
	}
}

func (d *directory) Lookup(_ context.Context, imsi ident.IMSI) (manager.Attachment, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a, ok := d.at[imsi]; ok {
		return a, nil
	}
	return manager.Attachment{}, manager.ErrNotAttached
}

func (d *directory) Size() int { return 0 }

func (d *directory) Changed() <-chan struct{} { return nil }

// runner is a component.
type runner interface {
	Run(context.Context) error
	Ready() <-chan struct{}
}

// process is a set of components that start and end together, as a process does.
type process struct {
	t      *testing.T
	cancel context.CancelFunc
	wg     sync.WaitGroup
	done   []func()
}

func newProcess(t *testing.T) *process {
	p := &process{t: t}
	t.Cleanup(p.stop)
	return p
}

func (p *process) run(cs ...runner) {
	ctx, cancel := context.WithCancel(p.t.Context())
	p.cancel = cancel
	for _, c := range cs {
		p.wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				p.t.Errorf("%T: %v", c, err)
			}
		})
	}
}

func (p *process) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	p.wg.Wait()
	for _, f := range p.done {
		f()
	}
	p.cancel, p.done = nil, nil
}

// chain is the testbed.
type chain struct {
	t                *testing.T
	dir              *directory
	storePath        string
	apiAddr, rpcAddr string
	mgr, out         *process
	in               map[string]*process
	outer            *outer.Relay
	outerAttached    func() <-chan struct{} // rpc.Client.Attached of the outer relay
	inner            map[string]*inner.Relay
	api              *api.Client
	device           net.Listener
	endings          endings
	doors            map[string]*door                          // of inner relays
	hop              atomic.Int64                              // connections that those have accepted
	innerConfig      func(*inner.Config)                       // changes it; nil: not
	outerSetup       func(*outer.Config, *outer.Deps)          // the same
	metrics          prometheus.Registerer                     // nil: none
	traces           func(service string) trace.TracerProvider // nil: none
}

func (c *chain) tracesOf(service string) trace.TracerProvider {
	if c.traces == nil {
		return nil
	}
	return c.traces(service)
}

// door is an inner relay's listener.
type door struct {
	net.Listener
	accepted *atomic.Int64
	detach   func() // from the manager
	left     atomic.Bool
	once     sync.Once
	closed   chan struct{} // by the relay
}

func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err == nil {
		d.accepted.Add(1)
	} else if d.left.Load() {
		<-d.closed
	}
	return c, err
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Listener.Close()
}

// leave gives the address to a successor, without a word to the relay.
func (d *door) leave() {
	d.left.Store(true)
	d.Listener.Close()
	d.detach()
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func ready(t *testing.T, c runner) {
	t.Helper()
	select {
	case <-c.Ready():
	case <-time.After(patience):
		t.Fatalf("%T is not ready after %s", c, patience)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (c *chain) startManager() {
	t := c.t
	st := must[*store.Store](t)(store.Open(t.Context(), store.Config{Path: c.storePath}))
	svc := must[*manager.Service](t)(manager.New(manager.Config{
		Operators:   []manager.OperatorConfig{{ID: operator, AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-e2e", Hash: keyHash()}}}},
		Subscribers: []manager.SubscriberConfig{{IMSI: imsi, OperatorID: operator}},
		InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}, {ID: "inner2", UPFs: []string{"upf2"}}},
	}, manager.Deps{Store: st, Directory: c.dir, Metrics: c.metrics, Traces: c.tracesOf("manager")}))
	rl, al := listen(t, cmp.Or(c.rpcAddr, "127.0.0.1:0")), listen(t, cmp.Or(c.apiAddr, "127.0.0.1:0"))
	c.rpcAddr, c.apiAddr = rl.Addr().String(), al.Addr().String()
	rs := must[*rpc.Server](t)(rpc.NewServer(rpc.ServerConfig{Secret: secret}, rpc.ServerDeps{Listener: rl, Manager: svc}))
	as := must[*api.Server](t)(api.New(api.Config{}, api.Deps{Listener: al, Manager: svc, Metrics: c.metrics, Traces: c.tracesOf("manager")}))
	c.mgr = newProcess(t)
	c.mgr.done = append(c.mgr.done, func() { st.Close() })
	c.mgr.run(svc, rs, as)
	ready(t, svc)
	ready(t, as)
}

func (c *chain) startInner(id, addr string) {
	t := c.t
	l := &door{Listener: listen(t, addr), accepted: &c.hop, closed: make(chan struct{})}
	published := l.Addr().(*net.TCPAddr).AddrPort()
	ctl := must[*rpc.Client](t)(rpc.NewClient(rpc.ClientConfig{Manager: c.rpcAddr, Secret: secret}, rpc.ClientDeps{
		Relay: manager.Relay{ID: manager.RelayID(id), Kind: manager.InnerRelay, Address: published},
	}))
	cfg := inner.Config{ID: id, DialTimeout: time.Second}
	if c.innerConfig != nil {
		c.innerConfig(&cfg)
	}
	in := must[*inner.Relay](t)(inner.New(cfg, inner.Deps{Listener: l, Control: ctl, Metrics: c.metrics, Traces: c.tracesOf("relay-inner")}))
	p := newProcess(t)
	p.run(in)
	attached := newProcess(t)
	attached.run(ctl)
	p.done = append(p.done, attached.stop)
	ready(t, ctl)
	c.in[id], c.inner[id], c.doors[id] = p, in, l
	l.detach = attached.stop
}

func (c *chain) startOuter() {
	t := c.t
	cfg := outer.Config{ID: "outer1", Address: netip.MustParseAddr("127.0.0.2")}
	ctl := must[*rpc.Client](t)(rpc.NewClient(rpc.ClientConfig{Manager: c.rpcAddr, Secret: secret}, rpc.ClientDeps{Relay: cfg.Relay()}))
	c.outerAttached = ctl.Attached
	deps := outer.Deps{Control: ctl, Resolver: ctl, Auditor: c.endings, Metrics: c.metrics, Traces: c.tracesOf("relay-outer")}
	if c.outerSetup != nil {
		c.outerSetup(&cfg, &deps)
	}
	c.outer = must[*outer.Relay](t)(outer.New(cfg, deps))
	c.out = newProcess(t)
	c.out.run(ctl, c.outer)
	ready(t, c.outer)
}

func newChain(t *testing.T, change ...func(*chain)) *chain {
	c := &chain{
		t: t, dir: &directory{at: map[ident.IMSI]manager.Attachment{}}, storePath: filepath.Join(t.TempDir(), "manager.db"),
		in: map[string]*process{}, inner: map[string]*inner.Relay{}, doors: map[string]*door{}, endings: make(endings, 16),
	}
	for _, f := range change {
		f(c)
	}
	c.startManager()
	c.startInner("inner1", "127.0.0.3:0")
	c.startInner("inner2", "127.0.0.4:0")
	c.startOuter()
	c.device = listen(t, "127.0.3.1:0")
	c.dir.put(imsi, "upf1", "127.0.3.1")
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := api.Client{URL: "http://" + c.apiAddr, HTTP: &http.Client{Transport: transport}}
	var err error
	if c.api, err = client.Login(t.Context(), api.AuthRequest{AuthKeyID: "keyId-e2e", AuthKey: "secret-e2e"}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *chain) create(change ...func(*api.CreateRequest)) api.PortMapping {
	c.t.Helper()
	r := api.CreateRequest{Destination: &api.Destination{IMSI: imsi, Port: float64(c.device.Addr().(*net.TCPAddr).Port)}}
	for _, f := range change {
		f(&r)
	}
	m, err := c.api.Create(c.t.Context(), r)
	if err != nil {
		c.t.Fatalf("create: %v", err)
	}
	return m
}

// dial connects a client. The deadline keeps a hanging test from hanging long.
func (c *chain) dial(m api.PortMapping) *net.TCPConn {
	c.t.Helper()
	conn, err := net.Dial("tcp", m.Endpoint)
	if err != nil {
		c.t.Fatalf("connect to %s: %v", m.Endpoint, err)
	}
	c.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

// accept is the device's end of the client's connection.
func (c *chain) accept() *net.TCPConn {
	c.t.Helper()
	c.device.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := c.device.Accept()
	if err != nil {
		c.t.Fatalf("the device was not reached: %v", err)
	}
	c.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

// connect makes a connection through the chain and proves that it works.
func (c *chain) connect(m api.PortMapping) (client, device *net.TCPConn) {
	c.t.Helper()
	client = c.dial(m)
	device = c.accept()
	c.echo(client, device, "hello")
	return client, device
}

func (c *chain) echo(client, device *net.TCPConn, text string) {
	c.t.Helper()
	io.WriteString(client, text)
	c.expect(device, text)
	io.WriteString(device, text+" back")
	c.expect(client, text+" back")
}

func (c *chain) expect(conn *net.TCPConn, want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		c.t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// expectReset waits for a reset and returns when it came.
func (c *chain) expectReset(conn *net.TCPConn, why string) time.Time {
	c.t.Helper()
	n, err := io.Copy(io.Discard, conn)
	if n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("%s: read %d bytes, %v; want a reset", why, n, err)
	}
	return time.Now()
}

// expectDenied checks that a client is turned away with a reset, and why.
func (c *chain) expectDenied(m api.PortMapping, cause string) {
	c.t.Helper()
	before := c.outer.Status().Denied[cause]
	// The reset may come while the client still connects.
	if conn, err := net.Dial("tcp", m.Endpoint); err == nil {
		conn.SetDeadline(time.Now().Add(patience))
		c.expectReset(conn.(*net.TCPConn), cause)
		conn.Close()
	} else if !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("connect to %s: %v", m.Endpoint, err)
	}
	c.eventually(cause+" is counted", func() bool { return c.outer.Status().Denied[cause] == before+1 })
}

func (c *chain) expectRefused(m api.PortMapping) {
	c.t.Helper()
	if conn, err := net.Dial("tcp", m.Endpoint); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			conn.Close()
		}
		c.t.Errorf("connect to a closed port: %v; want connection refused", err)
	}
}

// eventually polls for what no channel tells: counters of another component.
func (c *chain) eventually(what string, ok func() bool) {
	c.t.Helper()
	testenv.EventuallyWithin(c.t, patience, what, ok)
}

func TestConnectAndHalfClose(t *testing.T) {
	c := newChain(t)
	m := c.create()
	client, device := c.connect(m)
	client.CloseWrite()
	if _, err := device.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the client's FIN: %v; want EOF at the device", err)
	}
	io.WriteString(device, "still talking")
	c.expect(client, "still talking")
	device.Close()
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the device's FIN: %v; want EOF at the client", err)
	}
	client, device = c.connect(m) // the same entry, the other way round
	device.CloseWrite()
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the device's FIN: %v; want EOF at the client", err)
	}
	io.WriteString(client, "still talking")
	c.expect(device, "still talking")
	client.Close()
	c.eventually("both connections ended in order", func() bool {
		s, in := c.outer.Status(), c.inner["inner1"].Status()
		return s.Live == 0 && s.Ended["closed"] == 2 && in.Live == 0 && in.Ended["closed"] == 2
	})
	live := func(n int) func() bool {
		return func() bool {
			s, err := c.api.Status(t.Context())
			return err == nil && len(s.Relays) == 3 && s.Relays[0].Live == n
		}
	}
	c.eventually("the manager knows that both have ended", live(0))
	c.connect(m)
	c.eventually("the manager knows of another", live(1))
}

func TestRangeDenied(t *testing.T) {
	c := newChain(t)
	m := c.create(func(r *api.CreateRequest) { r.Source = &api.Source{IPRanges: []string{"203.0.113.0/24"}} })
	c.expectDenied(m, "source-denied")
	if s := c.inner["inner1"].Status(); s.Relayed != 0 {
		t.Errorf("inner relay %+v; want it not asked", s)
	}
	m = c.create(func(r *api.CreateRequest) { r.Source = &api.Source{IPRanges: []string{"127.0.0.0/8"}} })
	c.connect(m)
}

// endings are the times at which connections ended, by the outer relay's own account: what
// a client of this process sees is when it gets the processor.
type endings chan time.Time

// Record implements outer.Auditor.
func (e endings) Record(r manager.AuditRecord) {
	if r.Type != manager.AuditClosed {
		return
	}
	select {
	case e <- r.At:
	default: // nobody asks
	}
}

// Accepting implements outer.Auditor.
func (endings) Accepting() bool { return true }

// closed waits for the end of a connection.
func (c *chain) closed() time.Time {
	c.t.Helper()
	select {
	case at := <-c.endings:
		return at
	case <-time.After(patience):
		c.t.Fatal("no connection ended")
		return time.Time{}
	}
}

func TestExpiryCuts(t *testing.T) {
	c := newChain(t)
	m := c.create(func(r *api.CreateRequest) { d := 2.0; r.Duration = &d })
	client, device := c.connect(m)
	c.expectReset(client, "the entry expired")
	c.expectReset(device, "the entry expired")
	if late := c.closed().Sub(time.UnixMilli(m.ExpiredTime)); late < 0 || late > 100*time.Millisecond {
		t.Errorf("cut %s after the expiry; want at most 100 ms", late)
	}
	c.expectRefused(m)
	c.eventually("the entry is gone", func() bool { s, err := c.api.Status(t.Context()); return err == nil && s.Entries == 0 })
	if s := c.outer.Status(); s.Ended["expired"] != 1 || len(s.Entries) != 0 {
		t.Errorf("outer relay %+v; want one connection ended by expiry", s)
	}
}

func TestRevokeCuts(t *testing.T) {
	c := newChain(t)
	m, other := c.create(), c.create()
	client, device := c.connect(m)
	c2, d2 := c.connect(other)
	begin := time.Now()
	if err := c.api.Delete(t.Context(), netip.MustParseAddrPort(m.Endpoint)); err != nil {
		t.Fatal(err)
	}
	if live := c.outer.Status().Live; live != 1 {
		t.Errorf("%d connections live when the deletion is answered; want the other entry's", live)
	}
	c.expectReset(client, "the entry was deleted")
	c.expectReset(device, "the entry was deleted")
	if took := c.closed().Sub(begin.Truncate(time.Millisecond)); took < 0 || took > 200*time.Millisecond {
		t.Errorf("cut %s after the request to delete; want at most 200 ms", took)
	}
	c.expectRefused(m)
	c.echo(c2, d2, "another entry lives on")
}

func TestDeviceProblems(t *testing.T) {
	c := newChain(t)
	m := c.create()
	c.dir.put(imsi, "", "")
	c.expectDenied(m, "device-offline")
	c.dir.put(imsi, "upf9", "127.0.3.1")
	c.expectDenied(m, "no-inner-relay")
	c.dir.put(imsi, "upf1", "127.0.3.9") // nobody listens there
	c.expectDenied(m, "device-refused")
	c.dir.put(imsi, "upf1", "127.0.3.1")
	c.connect(m)
	// R22: the same entry follows the device to another UPF and address.
	elsewhere := listen(t, net.JoinHostPort("127.0.3.2", portOf(c.device)))
	c.device = elsewhere
	c.dir.put(imsi, "upf2", "127.0.3.2")
	c.connect(m)
	if got := c.inner["inner2"].Status().Relayed; got != 1 {
		t.Errorf("inner2 relayed %d connections; want the last one", got)
	}
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestManagerRestart(t *testing.T) {
	c := newChain(t)
	m := c.create()
	client, device := c.connect(m)
	c.mgr.stop()
	c.echo(client, device, "live connections do not need the manager")
	c.expectDenied(m, "manager-away")

	begin := time.Now()
	c.startManager()
	c.eventually("all relays are attached again", func() bool {
		s, err := c.api.Status(t.Context())
		return err == nil && len(s.Relays) == 3
	})
	<-c.outerAttached() // the manager knows it a moment earlier
	c.connect(m)        // the entry is in the store, the port is open, tickets verify
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a new connection worked %s after the restart; want 5 s at most", took)
	}
	c.echo(client, device, "and neither its return")
	if all, err := c.api.List(t.Context()); err != nil || len(all) != 1 || all[0].Endpoint != m.Endpoint {
		t.Errorf("mappings %v, %v; want the one from before, with the token from before", all, err)
	}
}

// What was deleted while a relay was away is cut when it is back.
func TestRevokedWhileAway(t *testing.T) {
	c := newChain(t)
	m := c.create()
	client, _ := c.connect(m)
	c.mgr.stop()
	st := must[*store.Store](t)(store.Open(t.Context(), store.Config{Path: c.storePath}))
	e, err := st.EntryByAddress(t.Context(), netip.MustParseAddrPort(m.Endpoint))
	if err == nil {
		err = st.DeleteEntry(t.Context(), e.ID, time.Now())
	}
	if err = errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	c.startManager()
	c.expectReset(client, "the entry is not in the snapshot")
	c.expectRefused(m)
}

func TestInnerRestart(t *testing.T) {
	c := newChain(t)
	m := c.create()
	client, device := c.connect(m)
	c.in["inner1"].stop()
	c.expectReset(client, "the inner relay is gone")
	c.expectReset(device, "the inner relay is gone")
	begin := time.Now()
	c.startInner("inner1", "127.0.0.3:0") // at another port: the manager tells the way
	c.connect(m)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a new connection worked %s after the restart; want 5 s at most", took)
	}
}

func TestOuterRestart(t *testing.T) {
	c := newChain(t)
	m := c.create()
	client, device := c.connect(m)
	c.out.stop()
	c.expectReset(client, "the outer relay is gone")
	c.expectReset(device, "the outer relay is gone")
	c.expectRefused(m)
	c.startOuter()
	c.connect(m)
}

// Many clients at once, each with its own bytes.
func TestManyConnections(t *testing.T) {
	c := newChain(t)
	m := c.create()
	const n = 50
	var device sync.WaitGroup
	device.Go(func() {
		for range n {
			conn := c.accept()
			device.Go(func() { io.Copy(conn, conn); conn.Close() })
		}
	})
	var clients sync.WaitGroup
	for i := range n {
		conn := c.dial(m)
		clients.Go(func() {
			data := make([]byte, 100_000+i)
			for j := range data {
				data[j] = byte(i + j)
			}
			var w sync.WaitGroup
			w.Go(func() { conn.Write(data); conn.CloseWrite() })
			got, err := io.ReadAll(conn)
			w.Wait()
			if err != nil || string(got) != string(data) {
				t.Errorf("client %d: %d bytes back, %v; want its own %d", i, len(got), err, len(data))
			}
		})
	}
	clients.Wait()
	device.Wait()
	c.eventually("all have ended in order", func() bool { return c.outer.Status().Ended["closed"] == n })
}
