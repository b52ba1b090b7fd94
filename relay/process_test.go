//go:build linux

package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

// These tests run manager, inner and outer relay as what they are, processes of the
// simreach binary with configuration files, and kill them (SIGKILL). The SMF and the
// device are the test's. Everything is on 127.0.5.x.

// recovery is within which new connections must work after a restart.
const recovery = 5 * time.Second

// town is the testbed.
type town struct {
	t      *testing.T
	binary string
	dir    string
	procs  map[string]*proc
	logs   map[string]*logBuffer // of all processes of a role
	api    *api.Client
	device net.Listener
}

type proc struct {
	cmd  *exec.Cmd
	life io.Closer // its standard input: it ends when this is closed
}

// logBuffer takes the standard error of several processes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// oneDevice is an SMF with one session.
type oneDevice struct{}

func (oneDevice) Subscribe(_ context.Context, s sbi.EventSubscription, notify func(sbi.SessionEvent)) (func(), error) {
	if s.ImmediateReport {
		notify(sbi.SessionEvent{
			Type: sbi.SessionEstablished, SUPI: ident.IMSI(imsi).SUPI(), Session: 1, DNN: "internet", SNSSAI: ident.SNSSAI{SST: 1},
			Address: ident.UEAddress{V4: netip.MustParseAddr("127.0.5.9")}, UPF: "upf1", At: time.Now(),
		})
	}
	if s.Reported != nil {
		s.Reported()
	}
	return func() {}, nil
}

// vacant returns an address with a port that was free a moment ago.
func vacant(t *testing.T, host string) netip.AddrPort {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// newTown starts a testbed; change may set up its relays in another way.
func newTown(t *testing.T, binary string, change ...func(*node.Inner, *node.Outer)) *town {
	w := &town{t: t, binary: binary, dir: t.TempDir(), procs: map[string]*proc{}, logs: map[string]*logBuffer{}}
	sl := listen(t, "127.0.5.1:0")
	smf := must[*sbi.Server](t)(sbi.NewServer(sbi.ServerConfig{}, sbi.ServerDeps{Listener: sl, Services: sbi.Services{SessionEvents: oneDevice{}}}))
	p := newProcess(t)
	p.run(smf)
	w.device = listen(t, "127.0.5.9:0")
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			c, err := w.device.Accept()
			if err != nil {
				return
			}
			echoes.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { w.device.Close(); echoes.Wait() })

	rest, control := vacant(t, "127.0.5.2"), vacant(t, "127.0.5.2")
	w.configure("manager", &node.Manager{
		Manager: manager.Config{
			Operators:   []manager.OperatorConfig{{ID: operator, AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-e2e", Key: "secret-e2e"}}}},
			Subscribers: []manager.SubscriberConfig{{IMSI: imsi, OperatorID: operator}},
			InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}},
		},
		Store:  store.Config{Path: filepath.Join(w.dir, "manager.db")},
		API:    api.Config{Listen: rest.String()},
		RPC:    rpc.ServerConfig{Listen: control.String(), Secret: secret},
		Events: sbi.EventsConfig{SMF: "http://" + sl.Addr().String()},
		Notify: vacant(t, "127.0.5.2"),
	})
	client := rpc.ClientConfig{Manager: control.String(), Secret: secret}
	in := &node.Inner{Relay: inner.Config{ID: "inner1", Listen: vacant(t, "127.0.5.3").String()}, Control: client}
	out := &node.Outer{Relay: outer.Config{ID: "outer1", Address: netip.MustParseAddr("127.0.5.4"), SourceRate: -1}, Control: client}
	out.Audit.Dir = filepath.Join(w.dir, "audit") // a killed process would leave a temporary one
	for _, f := range change {
		f(in, out)
	}
	w.configure("relay-inner", in)
	w.configure("relay-outer", out)
	for _, role := range []string{"manager", "relay-inner", "relay-outer"} {
		w.logs[role] = &logBuffer{}
		w.start(role)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for role, l := range w.logs {
				t.Logf("the last of %s:\n%s", role, tail(l.String(), 15))
			}
		}
	})

	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := api.Client{URL: "http://" + rest.String(), HTTP: &http.Client{Transport: transport, Timeout: 20 * time.Second}}
	w.api = must[*api.Client](t)(c.Login(t.Context(), api.AuthRequest{AuthKeyID: "keyId-e2e", AuthKey: "secret-e2e"}))
	return w
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (w *town) configure(role string, r node.Role) {
	w.t.Helper()
	text := must[[]byte](w.t)(node.Marshal(r))
	if err := os.WriteFile(filepath.Join(w.dir, role+".yaml"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// start starts a role and waits until it says that it is ready.
func (w *town) start(role string) {
	w.t.Helper()
	w.launch(role)()
}

// launch starts a role; the function it returns waits until that is ready.
func (w *town) launch(role string) (await func()) {
	t := w.t
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(w.binary, role, "--config", filepath.Join(w.dir, role+".yaml"), "--log-level", "debug", "--ready-fd", "3", "--until-stdin-closes")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{write}, w.logs[role]
	life, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{cmd, life}
	w.procs[role] = p
	t.Cleanup(func() { // harmless when it has ended
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return func() {
		t.Helper()
		defer read.Close()
		read.SetReadDeadline(time.Now().Add(patience))
		if line, err := bufio.NewReader(read).ReadString('\n'); line != "ready\n" {
			t.Fatalf("%s is not ready: %q, %v\n%s", role, line, err, w.logs[role])
		}
	}
}

// kill is kill -9.
func (w *town) kill(role string) {
	w.t.Helper()
	p := w.procs[role]
	if err := p.cmd.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	p.cmd.Wait() // says that it was killed
}

// stop stops a role in order and returns how long that took.
func (w *town) stop(role string) time.Duration {
	w.t.Helper()
	p := w.procs[role]
	begin := time.Now()
	p.life.Close()
	if err := p.cmd.Wait(); err != nil {
		w.t.Errorf("%s: %v", role, err)
	}
	return time.Since(begin)
}

func (w *town) create(ctx context.Context) (api.PortMapping, error) {
	return w.api.Create(ctx, api.CreateRequest{Destination: &api.Destination{IMSI: imsi, Port: float64(w.device.Addr().(*net.TCPAddr).Port)}})
}

func (w *town) mustCreate() api.PortMapping {
	w.t.Helper()
	return must[api.PortMapping](w.t)(w.create(w.t.Context()))
}

// echo proves that a connection works.
func echo(c net.Conn) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != "hello" {
		return fmt.Errorf("echo says %q", got)
	}
	return nil
}

// open makes a connection that works.
func (w *town) open(m api.PortMapping) (net.Conn, error) {
	c, err := net.Dial("tcp", m.Endpoint)
	if err != nil {
		return nil, err
	}
	if err := echo(c); err != nil {
		c.Close()
		return nil, err
	}
	w.t.Cleanup(func() { c.Close() })
	return c, nil
}

// reachable fails unless every entry can be connected to within the recovery time.
func (w *town) reachable(what string, entries ...api.PortMapping) {
	w.t.Helper()
	begin := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, m := range entries {
		for {
			c, err := w.open(m)
			if err == nil {
				c.Close()
				break
			}
			if time.Since(begin) > recovery {
				w.t.Fatalf("%s: %s of %d entries is not reachable after %s: %v", what, m.Endpoint, len(entries), recovery, err)
			}
			<-tick.C
		}
	}
	w.t.Logf("%s: all %d entries were reachable %s after the restart", what, len(entries), time.Since(begin).Round(time.Millisecond))
}

// creators make entries until they are told to stop; answered are those of which a
// client was told.
type creators struct {
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	mu       sync.Mutex
	answered []api.PortMapping
}

func (w *town) creating() *creators {
	ctx, cancel := context.WithCancel(w.t.Context())
	c := &creators{cancel: cancel}
	for range 4 {
		c.wg.Go(func() {
			for ctx.Err() == nil {
				// Not with ctx: a request that its client gives up is no evidence.
				m, err := w.create(w.t.Context())
				if err == nil {
					c.mu.Lock()
					c.answered = append(c.answered, m)
					c.mu.Unlock()
					continue
				}
				select { // the manager or the relay is away
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return c
}

// atLeast waits for n more answers.
func (c *creators) atLeast(t *testing.T, n int) {
	t.Helper()
	begin := c.count()
	late := time.After(20 * time.Second)
	for tick := time.Tick(time.Millisecond); c.count() < begin+n; {
		select {
		case <-tick:
		case <-late:
			t.Fatalf("%d entries after 20 s; want %d", c.count()-begin, n)
		}
	}
}

func (c *creators) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answered)
}

func (c *creators) stop() []api.PortMapping {
	c.cancel()
	c.wg.Wait()
	return c.answered
}

// listed fails unless the manager has every one of the entries.
func (w *town) listed(entries []api.PortMapping) {
	w.t.Helper()
	have := map[string]api.PortMapping{}
	for _, m := range must[[]api.PortMapping](w.t)(w.api.List(w.t.Context())) {
		have[m.Endpoint] = m
	}
	for _, m := range entries {
		if h := have[m.Endpoint]; h.ExpiredTime != m.ExpiredTime {
			w.t.Errorf("entry %s was answered with 201 and is gone", m.Endpoint)
		}
	}
}

func (w *town) checkDatabase() {
	w.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.dir, "manager.db")) // the store's driver
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(w.t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		w.t.Errorf("integrity_check says %q, %v", verdict, err)
	}
}

// buildBinary builds the program for all tests below t.
func buildBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "simreach")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/simreach/simreach/cmd/simreach").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and runs it as processes")
	}
	binary := buildBinary(t)
	t.Run("manager killed", func(t *testing.T) { killManager(newTown(t, binary)) })
	t.Run("outer relay killed", func(t *testing.T) { killOuter(newTown(t, binary)) })
	t.Run("inner relay killed", func(t *testing.T) { killInner(newTown(t, binary)) })
	t.Run("all killed", func(t *testing.T) { killAll(newTown(t, binary)) })
	t.Run("stopped in order", func(t *testing.T) { stopInOrder(newTown(t, binary)) })
}

// Whatever the manager answered is there after kill -9, live connections do not even
// notice, and nobody else needs a restart.
func killManager(w *town) {
	t := w.t
	first := w.mustCreate()
	live := must[net.Conn](t)(w.open(first))
	c := w.creating()
	for round := range 3 {
		c.atLeast(t, 10)
		w.kill("manager")
		if err := echo(live); err != nil {
			t.Fatalf("round %d: the live connection while the manager is away: %v", round, err)
		}
		w.start("manager")
		w.reachable("manager", first)
	}
	c.atLeast(t, 1)
	entries := append(c.stop(), first)
	w.listed(entries)
	w.reachable("manager, entries made meanwhile", entries...)
	if err := echo(live); err != nil {
		t.Errorf("the live connection after three restarts of the manager: %v", err)
	}
	for _, m := range entries {
		if err := w.api.Delete(t.Context(), netip.MustParseAddrPort(m.Endpoint)); err != nil {
			t.Errorf("delete %s: %v", m.Endpoint, err)
		}
	}
	if err := echo(live); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the live connection after its entry was revoked: %v; want a reset", err)
	}
	w.kill("manager")
	w.checkDatabase()
}

func killOuter(w *town) {
	t := w.t
	first := w.mustCreate()
	live := must[net.Conn](t)(w.open(first))
	c := w.creating()
	for range 3 {
		c.atLeast(t, 10)
		w.kill("relay-outer")
		w.start("relay-outer")
		w.reachable("outer relay", first)
	}
	c.atLeast(t, 1)
	entries := append(c.stop(), first)
	w.listed(entries)
	w.reachable("outer relay, entries made meanwhile", entries...)
	if err := echo(live); err == nil {
		t.Error("a connection outlived its relay")
	}
}

func killInner(w *town) {
	t := w.t
	m := w.mustCreate()
	for range 3 {
		live := must[net.Conn](t)(w.open(m))
		over := must[net.Conn](t)(w.open(m)) // its connection between the relays waits for another client
		over.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(over); err != nil || len(b) > 0 {
			t.Fatalf("read %q, %v; want the end", b, err)
		}
		w.kill("relay-inner")
		live.SetDeadline(time.Now().Add(recovery))
		if _, err := live.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the live connection after its inner relay was killed: %v; want its end at once", err)
		}
		begin := time.Now()
		if _, err := w.open(m); err == nil || time.Since(begin) > recovery {
			t.Errorf("a connection without an inner relay: %v after %s; want an error at once", err, time.Since(begin))
		}
		w.start("relay-inner")
		w.reachable("inner relay", m)
	}
}

// The order in which the processes come back does not matter.
func killAll(w *town) {
	entries := []api.PortMapping{w.mustCreate(), w.mustCreate(), w.mustCreate()}
	for _, r := range []string{"manager", "relay-inner", "relay-outer"} {
		w.kill(r)
	}
	awaitOuter := w.launch("relay-outer") // it is ready when the manager has said what to open
	awaitInner := w.launch("relay-inner")
	w.start("manager")
	awaitInner()
	awaitOuter()
	w.reachable("all", entries...)
	w.listed(entries)
}

// Peers that stay connected have no say in how long a process takes to stop, and
// what the processes logged has none of the secrets.
func stopInOrder(w *town) {
	t := w.t
	m := w.mustCreate()
	must[net.Conn](t)(w.open(m))
	listing, sent := make(chan error, 1), make(chan struct{})
	tell := sync.OnceFunc(func() { close(sent) })
	go func() { // waits at the manager for ten seconds
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { tell() }, // twice if the transport tries again
		})
		_, err := w.api.AwaitAttachment(ctx, imsi, false)
		listing <- err
	}()
	<-sent
	if _, err := w.api.List(t.Context()); err != nil { // answered after the other was taken
		t.Fatal(err)
	}
	silent := must[net.Conn](t)(net.Dial("tcp", strings.TrimPrefix(w.api.URL, "http://")))
	defer silent.Close()
	for _, role := range []string{"manager", "relay-inner", "relay-outer"} {
		took := w.stop(role)
		t.Logf("%s stopped in %s", role, took.Round(time.Millisecond))
		limit := 2 * time.Second // for machines that have much else to do
		if role == "relay-outer" {
			limit += 2 * time.Second // its spool gives the manager, which has gone, so long to take the last records
		}
		if took > limit {
			t.Errorf("%s took %s to stop; want well under %s", role, took, limit)
		}
	}
	if err := <-listing; err != nil {
		t.Errorf("the request that was waiting: %v; want an answer", err)
	}
	for role, l := range w.logs {
		text := l.String()
		for what, s := range map[string]string{
			"the relays' secret": secret, "an authentication key": "secret-e2e", "an API token": w.api.Credentials.Token, "an API key": w.api.Credentials.APIKey, "a ticket": "eyJ",
		} {
			if strings.Contains(text, s) {
				t.Errorf("the log of %s has %s", role, what)
			}
		}
		if len(text) == 0 || strings.Contains(text, "cut off") {
			t.Errorf("the log of %s, want lines and no requests cut off:\n%s", role, tail(text, 10))
		}
	}
}
