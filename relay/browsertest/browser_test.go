package browsertest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/websocket"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/internal/program"
	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

const (
	operator = manager.OperatorID("OP0000000001")
	imsi     = "001010000000001"
	patience = time.Minute // a browser's first start takes seconds
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// page is what the device serves. Its script tells the device what it saw.
const page = `<!doctype html><meta charset="utf-8"><title>device</title><script>
const seen = { origin: location.origin, secure: isSecureContext, protocol: "" }
async function load() {
	seen.hello = await (await fetch("/hello")).text()
	const bytes = new Uint8Array(300000).map((_, i) => i * 7 % 251)
	const back = new Uint8Array(await (await fetch("/mirror", { method: "POST", body: bytes })).arrayBuffer())
	seen.mirror = back.length === bytes.length && back.every((b, i) => b === bytes[i])
	seen.protocol = performance.getEntriesByType("navigation")[0].nextHopProtocol
	seen.echoes = await new Promise((done, fail) => {
		const got = [], ws = new WebSocket("wss://" + location.host + "/chat")
		ws.onerror = () => fail("WebSocket failed")
		ws.onopen = () => { ws.send("first"); ws.send("x".repeat(100000)); ws.send("last") }
		ws.onmessage = m => { got.push(m.data.length > 9 ? m.data.length : m.data); if (got.length === 3) ws.close(1000) }
		ws.onclose = e => done([...got, e.wasClean])
	})
}
load().catch(e => seen.error = String(e)).finally(() => fetch("/seen", { method: "POST", body: JSON.stringify(seen) }))
</script>`

// seen is what the script tells.
type seen struct {
	Origin   string
	Secure   bool
	Hello    string
	Mirror   bool
	Protocol string
	Echoes   []any
	Error    string
}

// device serves the page over HTTP/1.1 without TLS, and returns its port and what the
// browser tells.
func device(t *testing.T) (uint16, <-chan seen) {
	t.Helper()
	told := make(chan seen, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page)
	})
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s without TLS: %t", r.Proto, r.TLS == nil)
	})
	mux.HandleFunc("POST /mirror", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows in the browser
		_, _ = w.Write(body)
	})
	mux.Handle("GET /chat", websocket.Handler(func(c *websocket.Conn) {
		defer c.Close() // answers the browser's Close frame
		var text string
		for websocket.Message.Receive(c, &text) == nil {
			_ = websocket.Message.Send(c, text)
		}
	}))
	mux.HandleFunc("POST /seen", func(_ http.ResponseWriter, r *http.Request) {
		var s seen
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			s.Error = err.Error()
		}
		select {
		case told <- s:
		default: // the page was loaded twice
		}
	})
	l, err := net.Listen("tcp", "127.0.6.9:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // until Close
	t.Cleanup(func() { server.Close(); serving.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), told
}

// vacant returns an address with a port that was free a moment ago.
func vacant(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// run runs a role until the test ends, and waits until it is ready.
func run(t *testing.T, name string, role node.Role) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- role.Run(ctx, slog.New(slog.DiscardHandler), func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// testbed runs manager and relays, which serve with a certificate of ca, and returns an
// entry with TLS to a device's port.
func testbed(t *testing.T, ca *pki.Authority, port uint16) api.PortMapping {
	t.Helper()
	const secret, key = "relay-secret", "secret-browser"
	rest, control := vacant(t, "127.0.6.2"), vacant(t, "127.0.6.2")
	run(t, "manager", &node.Manager{
		Manager: manager.Config{
			Operators:   []manager.OperatorConfig{{ID: operator, AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-browser", Key: key}}}},
			Subscribers: []manager.SubscriberConfig{{IMSI: imsi, OperatorID: operator}},
			InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}},
		},
		StaticDirectory: []manager.StaticAttachment{{IMSI: imsi, UPF: "upf1", Address: netip.MustParseAddr("127.0.6.9")}},
		Store:           store.Config{Path: filepath.Join(t.TempDir(), "manager.db")},
		API:             api.Config{Listen: rest.String()},
		RPC:             rpc.ServerConfig{Listen: control.String(), Secret: secret},
	})
	client := rpc.ClientConfig{Manager: control.String(), Secret: secret}
	run(t, "inner relay", &node.Inner{Relay: inner.Config{ID: "inner1", Listen: vacant(t, "127.0.6.3").String()}, Control: client})
	pair, err := ca.Issue(pki.Server("*" + api.DefaultHostnameSuffix))
	if err != nil {
		t.Fatal(err)
	}
	out := &node.Outer{
		Relay: outer.Config{ID: "outer1", Address: netip.MustParseAddr("127.0.6.4")}, Control: client,
		TLS: pki.Config{Cert: string(pair.Cert), Key: pair.Key},
	}
	out.Audit.Dir = filepath.Join(t.TempDir(), "audit")
	run(t, "outer relay", out)

	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := (&api.Client{URL: "http://" + rest.String(), HTTP: &http.Client{Transport: transport}}).
		Login(t.Context(), api.AuthRequest{AuthKeyID: "keyId-browser", AuthKey: key})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Create(t.Context(), api.CreateRequest{Destination: &api.Destination{IMSI: imsi, Port: float64(port)}, TLSRequired: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// home makes a home directory in which a user trusts ca.
func home(t *testing.T, ca *pki.Authority) string {
	t.Helper()
	certutil := testenv.Program(t, "browser", "certutil")
	dir := t.TempDir()
	db := filepath.Join(dir, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-n", "testbed", "-t", "C,,", "-i", file}} {
		if out, err := exec.Command(certutil, append([]string{"-d", "sql:" + db}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %s: %v\n%s", args[0], err, out)
		}
	}
	return dir
}

// browse has Chromium open the page of an entry, as the user of a home directory, until
// the test ends. What it wrote is complete when it has ended.
func browse(t *testing.T, home string, m api.PortMapping, more ...string) (b *program.Program, wrote *bytes.Buffer) {
	t.Helper()
	wrote = &bytes.Buffer{}
	args := []string{
		testenv.Program(t, "browser", "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad", "--disable-dev-shm-usage",
		"--user-data-dir=" + filepath.Join(home, "profile"), "--enable-logging=stderr",
		fmt.Sprintf("--host-resolver-rules=MAP %s %s, MAP * ~NOTFOUND", m.Hostname, m.IPAddress), // there is no name server
	}
	b, err := program.Start(t.Context(), program.Spec{
		Args:   append(append(args, more...), origin(m)+"/"),
		Env:    []string{"TMPDIR=" + temporary(t), "HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "XDG_CACHE_HOME=" + filepath.Join(home, ".cache")},
		Stdout: wrote, Stderr: wrote,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop() })
	return b, wrote
}

// temporary makes a directory for what Chromium leaves when it is ended. A name that
// testing would choose is too long for the socket in it.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func origin(m api.PortMapping) string { return fmt.Sprintf("https://%s:%d", m.Hostname, m.Port) }

// HTTPS from a browser to a device's plain HTTP: the page, its requests and a WebSocket
// (N6, R18).
func TestBrowser(t *testing.T) {
	testenv.Program(t, "browser", "chromium")
	ca := authority(t, "simreach testbed")
	port, told := device(t)
	m := testbed(t, ca, port)
	begin := time.Now()
	b, wrote := browse(t, home(t, ca), m)
	late := time.NewTimer(patience)
	defer late.Stop()
	var got seen
	select {
	case got = <-told:
	case <-late.C:
		b.Stop()
		t.Fatalf("the browser has not told what it saw after %s; it wrote:\n%s", patience, wrote)
	}
	t.Logf("told %s after the browser's start", time.Since(begin).Round(time.Millisecond))
	if got.Error != "" || got.Origin != origin(m) || !got.Secure || !got.Mirror || got.Protocol != "http/1.1" || got.Hello != "HTTP/1.1 without TLS: true" {
		t.Errorf("the browser saw %+v; want a secure page of %s over HTTP/1.1, and its bytes back", got, origin(m))
	}
	if want := "[first 100000 last true]"; fmt.Sprint(got.Echoes) != want {
		t.Errorf("the WebSocket echoed %v; want %s", got.Echoes, want)
	}
}

// A browser that trusts another CA says so instead of the page: it is the certificate that
// convinces it, not the switches of this test.
func TestBrowserDistrusts(t *testing.T) {
	testenv.Program(t, "browser", "chromium")
	port, told := device(t)
	m := testbed(t, authority(t, "simreach testbed"), port)
	b, wrote := browse(t, home(t, authority(t, "another")), m, "--dump-dom")
	late := time.AfterFunc(patience, func() { b.Stop() })
	defer late.Stop()
	if code, err := b.Wait(); code != 0 || err != nil || !strings.Contains(wrote.String(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("the browser ended with %d, %v; want it to complain of the CA:\n%s", code, err, wrote)
	}
	select {
	case s := <-told:
		t.Errorf("the page was loaded: %+v", s)
	default:
	}
}

func authority(t *testing.T, name string) *pki.Authority {
	t.Helper()
	ca, err := pki.NewAuthority(pki.AuthorityConfig{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
