package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/relay/audit"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

const (
	ueOne, ueTwo, ueGone = "001010000000001", "001010000000002", "001010000000003"
	simOne               = "8942310000000000001"
	portEcho             = "7007" // says back what it is told
	portLast             = "7008" // answers when the client has said all
)

// testbed is a manager and two relays in this process, and devices that are always
// attached. Its addresses are 127.<a>.<b>.x: 1 the manager, 2 and 3 the relays, 11 the first
// device and so on.
type testbed struct {
	t        *testing.T
	net      string // "127.<a>.<b>."
	dir      string
	ca       *pki.Authority
	caFile   string
	keyFile  string
	stopRole map[string]func()
}

func (b *testbed) url() string { return "http://" + b.net + "1:8080" }

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	b := &testbed{t: t, dir: t.TempDir(), stopRole: map[string]func(){}}
	// Of one length, so that tables look alike in every run.
	b.net = fmt.Sprintf("127.%d.%d.", 100+rand.IntN(100), 100+rand.IntN(100))
	b.keyFile = b.write("key", "secret-access\n")
	var err error
	if b.ca, err = pki.NewAuthority(pki.AuthorityConfig{}); err != nil {
		t.Fatal(err)
	}
	root, err := b.ca.Pair()
	if err != nil {
		t.Fatal(err)
	}
	b.caFile = b.write("ca.pem", string(root.Cert))
	for _, at := range []string{"11", "12"} {
		b.device(b.net+at+":"+portEcho, func(c *net.TCPConn) { io.Copy(c, c) })
		b.device(b.net+at+":"+portLast, func(c *net.TCPConn) {
			n, _ := io.Copy(io.Discard, c)
			fmt.Fprintf(c, "%d bytes for %s", n, at)
		})
	}
	b.run("manager", &node.Manager{
		Manager: manager.Config{
			Operators: []manager.OperatorConfig{{ID: "OP0000000001", Email: "root@example.com", Password: "password-1", AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-1", Key: "secret-access"}}}},
			Subscribers: []manager.SubscriberConfig{
				{IMSI: ueOne, SIMID: simOne, OperatorID: "OP0000000001"},
				{IMSI: ueTwo, OperatorID: "OP0000000001"},
				{IMSI: ueGone, OperatorID: "OP0000000001"},
			},
			InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}},
		},
		Store:           store.Config{Path: filepath.Join(b.dir, "manager.db")},
		API:             api.Config{Listen: b.net + "1:8080"},
		RPC:             rpc.ServerConfig{Listen: b.net + "1:8081", Secret: "relays"},
		StaticDirectory: []manager.StaticAttachment{{IMSI: ueOne, Count: 2, UPF: "upf1", Address: netip.MustParseAddr(b.net + "11")}},
	})
	control := rpc.ClientConfig{Manager: b.net + "1:8081", Secret: "relays"}
	b.run("inner1", &node.Inner{Relay: inner.Config{ID: "inner1", Listen: b.net + "3:8080", DialTimeout: time.Second}, Control: control})
	host := strings.NewReplacer(".", "-").Replace(b.net+"2") + api.DefaultHostnameSuffix
	pair, err := b.ca.Issue(pki.Server(host, b.net+"2"))
	if err != nil {
		t.Fatal(err)
	}
	b.run("outer1", &node.Outer{
		Relay:   outer.Config{ID: "outer1", Address: netip.MustParseAddr(b.net + "2")},
		Control: control, TLS: pki.Config{Cert: string(pair.Cert), Key: pair.Key}, Audit: audit.Config{Dir: filepath.Join(b.dir, "spool")},
	})
	return b
}

func (b *testbed) write(name, text string) string {
	b.t.Helper()
	file := filepath.Join(b.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}

// run starts a role and waits until it serves.
func (b *testbed) run(name string, r node.Role) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	ready, over := make(chan struct{}), make(chan error, 1)
	go func() { over <- r.Run(ctx, slog.New(slog.DiscardHandler), func() { close(ready) }) }()
	b.stopRole[name] = sync.OnceFunc(func() {
		cancel()
		if err := <-over; err != nil {
			b.t.Errorf("%s: %v", name, err)
		}
	})
	b.t.Cleanup(b.stopRole[name])
	select {
	case <-ready:
	case err := <-over:
		over <- nil
		b.t.Fatalf("%s: %v", name, err)
	case <-time.After(patience):
		b.t.Fatalf("%s does not become ready", name)
	}
}

// device serves a port of a device until the end of the test.
func (b *testbed) device(at string, serve func(*net.TCPConn)) {
	b.t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		b.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	b.t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
}

// login is the flags of whoever has the authentication key.
func (b *testbed) login(args ...string) []string {
	return append([]string{"access", "--api", b.url(), "--auth-key-id", "keyId-1", "--auth-key-file", b.keyFile, "--ca", b.caFile}, args...)
}

// ended is how a command ended.
type ended struct {
	code     int
	out, err string
}

// access runs a command of access in this process, logged in.
func (b *testbed) access(args ...string) ended { return b.accessIn(strings.NewReader(""), args...) }

func (b *testbed) accessIn(in io.Reader, args ...string) ended {
	return command1(b.t.Context(), in, b.login(args...)...)
}

// command1 runs a command in this process.
func command1(ctx context.Context, in io.Reader, args ...string) ended {
	var out, errOut bytes.Buffer
	cmd := rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	r := ended{}
	switch err := cmd.ExecuteContext(ctx); {
	case errors.Is(err, errFailed):
		r.code = 1
	case err != nil:
		r.code = 2
		fmt.Fprintln(&errOut, "simreach:", err)
	}
	r.out, r.err = out.String(), errOut.String()
	return r
}

// must wants a command to succeed and returns what it printed.
func (b *testbed) must(args ...string) string {
	b.t.Helper()
	r := b.access(args...)
	if r.code != 0 || r.err != "" {
		b.t.Fatalf("%q: code %d, %s", args, r.code, r.err)
	}
	return r.out
}

// create makes an access and returns its endpoint.
func (b *testbed) create(args ...string) string {
	b.t.Helper()
	var ms []api.PortMapping
	b.decode(b.must(append([]string{"create", "--json"}, args...)...), &ms)
	if len(ms) != 1 {
		b.t.Fatalf("%d accesses; want one", len(ms))
	}
	return ms[0].Endpoint
}

func (b *testbed) decode(text string, into any) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		b.t.Fatalf("%v in %s", err, text)
	}
}

// wantNone wants no access to be left.
func (b *testbed) wantNone() {
	b.t.Helper()
	if out := strings.TrimSpace(b.must("list", "--json")); out != "[]" {
		b.t.Errorf("accesses are left: %s", out)
	}
}

var (
	clocks = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
	times3 = regexp.MustCompile(`("(?:created|expired)(?:Time|At)": )\d+`)
	ports  = regexp.MustCompile(`(127\.TTT\.TTT\.2:|"port": )[4-6]\d{4}\b`)
	ulids  = regexp.MustCompile(`\b01[0-9A-HJKMNP-TV-Z]{24}\b`)
)

// same replaces what differs between runs, in tables with as many characters.
func (b *testbed) same(s string) string {
	s = strings.ReplaceAll(s, b.net, "127.TTT.TTT.")
	s = strings.ReplaceAll(s, strings.ReplaceAll(b.net, ".", "-"), "127-TTT-TTT-")
	s = clocks.ReplaceAllString(s, "YYYY-MM-DD HH:MM:SS")
	s = times3.ReplaceAllString(s, "${1}TIME")
	s = ulids.ReplaceAllString(s, strings.Repeat("U", 26))
	return ports.ReplaceAllString(s, "${1}PPPPP")
}

// golden compares text with a file of testdata/access.
func (b *testbed) golden(name, got string) {
	b.t.Helper()
	file := filepath.Join("testdata", "access", name)
	got = b.same(got)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		b.t.Errorf("%s; if that is meant, run 'go test ./cmd/simreach -run TestAccess -update' (-want +got):\n%s", file, d)
	}
}

// TestAccessHelp compares the help of every command of access with testdata.
func TestAccessHelp(t *testing.T) {
	b := &testbed{t: t, net: "no address"}
	var got strings.Builder
	for _, args := range [][]string{
		{"create"}, {"list"}, {"delete"}, {"log"}, {"errors"}, {"connect"},
		{"credential"}, {"credential", "register"}, {"credential", "list"}, {"credential", "revoke"}, {"credential", "revoke-serial"},
	} {
		fmt.Fprintf(&got, "$ simreach access %s --help\n", strings.Join(args, " "))
		r := command1(t.Context(), nil, append(append([]string{"access"}, args...), "--help")...)
		text, _, _ := strings.Cut(r.out, "Global Flags:\n")
		fmt.Fprintln(&got, text)
	}
	b.golden("help.txt", got.String())
}

func TestAccessCreateListDelete(t *testing.T) {
	b := newTestbed(t)
	out := b.must("create", "--imsi", ueOne, "--port", portEcho, "--range", "203.0.113.0/24,127.0.0.0/8", "--duration", "10m")
	b.golden("create.txt", out)
	endpoint := strings.Fields(strings.Split(out, "\n")[1])[0]

	b.golden("create.json", b.must("create", "--json", "--sim", simOne, "--port", "22"))
	b.golden("create-extended.json", b.must("create", "--json", "--imsi", ueOne+":22", "--proxy-protocol", "--tls"))
	b.golden("create-two.txt", b.must("create", "--imsi", ueOne, "--imsi", ueTwo+":80", "--port", "22", "--relay", "outer1"))
	b.golden("create-many.txt", b.must("create", "--many", "--imsi", ueOne, "--imsi", ueTwo, "--sim", simOne+":23", "--port", "22"))
	// The two that were asked for together may be listed in either order.
	rows := strings.SplitAfter(b.must("list"), "\n")
	for i := range rows {
		rows[i] = b.same(rows[i])
	}
	slices.Sort(rows[1:])
	b.golden("list.txt", strings.Join(rows, ""))

	if r := b.access("delete", endpoint, "nonsense"); r.code != 2 || !strings.Contains(r.err, "want ADDRESS:PORT") {
		t.Errorf("a wrong address: code %d, %s; want nothing deleted", r.code, r.err)
	}
	b.must("delete", endpoint)
	if r := b.access("delete", endpoint); r.code != 1 || !strings.Contains(r.err, "simreach: NAP0008: There is no port mapping at "+endpoint) {
		t.Errorf("deleted twice: code %d, %s", r.code, r.err)
	}
	var left []api.ExtendedMapping
	b.decode(b.must("list", "--json"), &left)
	if len(left) != 5 {
		t.Errorf("%d accesses after one was deleted; want 5", len(left))
	}
}

// A user who may use port mappings and nothing of our own still can.
func TestAccessOrdinaryUser(t *testing.T) {
	b := newTestbed(t)
	b.write("password", "password-2")
	admin := b.client()
	for _, call := range []struct{ method, path, body string }{
		{"POST", "/v1/operators/OP0000000001/users/ordinary", `{}`},
		{"POST", "/v1/operators/OP0000000001/users/ordinary/password", `{"password":"password-2"}`},
		{"PUT", "/v1/operators/OP0000000001/users/ordinary/permission", `{"permission":"{\"statements\":[{\"effect\":\"allow\",\"api\":[\"PortMapping:listPortMappings\",\"PortMapping:createPortMapping\"]}]}"}`},
	} {
		b.call(admin, call.method, call.path, call.body)
	}
	as := func(args ...string) ended {
		return command1(t.Context(), nil, append([]string{
			"access", "--api", b.url(), "--operator", "OP0000000001", "--user", "ordinary", "--password-file", filepath.Join(b.dir, "password"),
		}, args...)...)
	}
	if r := as("create", "--imsi", ueOne, "--port", "22"); r.code != 0 {
		t.Errorf("create: %s", r.err)
	}
	if r := as("list"); r.code != 0 || strings.Count(r.out, "\n") != 2 {
		t.Errorf("list: %s%s", r.out, r.err)
	}
	if r := as("create", "--imsi", ueOne, "--port", "22", "--proxy-protocol"); r.code != 1 || !strings.Contains(r.err, "AUT0005") {
		t.Errorf("what takes more permissions: code %d, %s", r.code, r.err)
	}
	if r := as("log", ueOne); r.code != 1 || !strings.Contains(r.err, "AUT0006") {
		t.Errorf("the audit log is the root user's: code %d, %s", r.code, r.err)
	}
}

func TestAccessRefused(t *testing.T) {
	b := newTestbed(t)
	wrongKey := b.write("wrong", "secret-other")
	garbage := b.write("garbage", "no certificate")
	// Flags that come later win.
	for _, c := range []struct {
		args []string
		code int
		want string // of standard error
	}{
		{[]string{"list", "--auth-key-file", wrongKey}, 1, "simreach: AUT0001: Authentication failed.\n"},
		{[]string{"list", "--auth-key-id", "keyId-9"}, 1, "AUT0001"},
		{[]string{"create", "--imsi", "001010000000009", "--port", "22"}, 1, "simreach: NAP0006: There is no subscriber with IMSI 001010000000009.\n"},
		{[]string{"create", "--sim", "1", "--port", "22"}, 1, "NAP0007"},
		{[]string{"create", "--imsi", ueOne, "--port", "22", "--duration", "9h"}, 1, "NAP0004"},
		{[]string{"create", "--imsi", ueOne, "--port", "22", "--range", "here"}, 1, "NAP0005"},
		{[]string{"create", "--imsi", ueOne, "--port", "22", "--credential", "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 1, "NAP0030"},
		{[]string{"connect", "--imsi", "001010000000009", "--port", "22"}, 1, "NAP0006"},
		{[]string{"credential", "revoke", "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 1, "NAP0030"},

		{[]string{"create", "--port", "22"}, 2, "no device"},
		{[]string{"create", "--imsi", ueOne}, 2, "no port"},
		{[]string{"create", "--imsi", ueOne + ":x"}, 2, "want a port"},
		{[]string{"create", "--imsi", "12a", "--port", "1"}, 2, "want 6 to 15 digits"},
		{[]string{"create", "--imsi", ueOne, "--port", "22", "--duration", "1500ms"}, 2, "whole seconds"},
		{[]string{"delete", "127.0.0.1"}, 2, "want ADDRESS:PORT"},
		{[]string{"log", "x"}, 2, "6 to 15 digits"},
		{[]string{"log", ueOne, "--limit", "0"}, 2, "--limit"},
		{[]string{"list", "--api", "ftp://x"}, 2, "want http://HOST:PORT"},
		{[]string{"list", "--api", "http://" + b.net + "1:1"}, 2, "connection refused"},
		{[]string{"list", "--api", b.url() + "/nowhere"}, 1, "COM0003"},
		{[]string{"list", "--auth-key-file", filepath.Join(b.dir, "none")}, 2, "no such file"},
		{[]string{"list", "--auth-key-file", b.write("empty", "\n")}, 2, "want 1 to 4096 bytes"},
		{[]string{"list", "--email", "root@example.com"}, 2, "give one of"},
		{[]string{"list", "--auth-key-id", "", "--email", "root@example.com"}, 2, "give --password-file or set SIMREACH_PASSWORD"},
		{[]string{"list", "--auth-key-id", "", "--user", "x"}, 2, "no operator"},
		{[]string{"list", "--auth-key-id", ""}, 2, "no login"},
		{[]string{"list", "--api", ""}, 2, "no manager"},
		{[]string{"list", "--ca", garbage}, 2, "no certificate in PEM form"},
		{[]string{"connect"}, 2, "want ADDRESS:PORT, one --imsi"},
		{[]string{"connect", "--imsi", ueOne + ":1," + ueTwo + ":1"}, 2, "want ADDRESS:PORT, one --imsi"},
		{[]string{"connect", "127.0.0.1"}, 2, "want ADDRESS:PORT"},
		{[]string{"connect", "127.0.0.1:1", "--imsi", ueOne}, 2, "--imsi is for an access that is asked for"},
		{[]string{"connect", "127.0.0.1:1", "--key", "x"}, 2, "--key goes with --cert"},
		{[]string{"connect", "127.0.0.1:1", "--host", "x"}, 2, "--host goes with --tls"},
		{[]string{"connect", "127.0.0.1:1", "--cert", garbage}, 2, "client certificate"},
		{[]string{"connect", "--many", ueOne + ":22"}, 2, "want IMSI:PORT=LOCALPORT"},
		{[]string{"connect", "--many", ueOne + "=22"}, 2, "no port"},
		{[]string{"connect", "--many", ueOne + ":22=x"}, 2, "want PORT or ADDRESS:PORT"},
		{[]string{"connect", "--many", ueOne + ":22=0", "--listen", ":1"}, 2, "--many names devices"},
		{[]string{"connect", "--imsi", ueOne, "--port", "22", "--listen", "1"}, 2, "--listen"},
		{[]string{"credential", "register", "none"}, 2, "no such file"},
	} {
		r := b.access(c.args...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%q: code %d, %q, %q; want code %d and %q", c.args, r.code, r.err, r.out, c.code, c.want)
		}
		for _, s := range []string{"secret-access", "secret-other"} {
			if strings.Contains(r.err, s) {
				t.Errorf("%q: standard error has a secret: %s", c.args, r.err)
			}
		}
	}
	r := b.access("create", "--json", "--imsi", "001010000000009", "--port", "22")
	var got refusal
	b.decode(r.err, &got)
	if r.code != 1 || got.Code != "NAP0006" || got.Status != 404 || got.Message == "" {
		t.Errorf("a refusal as JSON: code %d, %s", r.code, r.err)
	}
	b.stopRole["outer1"]()
	if r := b.access("create", "--imsi", ueOne, "--port", "22"); r.code != 1 || !strings.Contains(r.err, "NAP0013: No relay is available.") {
		t.Errorf("the relay is away: code %d, %s", r.code, r.err)
	}
	b.stopRole["manager"]()
	if r := b.access("list"); r.code != 2 || !strings.Contains(r.err, "connection refused") {
		t.Errorf("the manager is away: code %d, %s", r.code, r.err)
	}
}

// The program itself takes the login from the environment, and HTTPS.
func TestAccessEnvironment(t *testing.T) {
	b := newTestbed(t)
	to, err := url.Parse(b.url())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := b.ca.Issue(pki.Server("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	transport := newTransport()
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
	})
	front.TLS = serverTLS(t, pair)
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // a client that refuses its certificate
	front.StartTLS()
	t.Cleanup(func() {
		front.Close()
		transport.CloseIdleConnections()
	})
	for k, v := range map[string]string{
		"SIMREACH_API": front.URL, "SIMREACH_CA": b.caFile, "SIMREACH_AUTH_KEY_ID": "keyId-1", "SIMREACH_AUTH_KEY": "secret-access",
		"SIMREACH_PASSWORD": "password-1",
	} {
		t.Setenv(k, v)
	}
	if code, out, stderr := output(t, start, nil, "access", "create", "--imsi", ueOne, "--port", "22"); code != 0 || !strings.Contains(out, b.net+"2:") {
		t.Errorf("by authentication key: code %d, %s", code, stderr)
	}
	if code, out, stderr := output(t, start, nil, "access", "list", "--email", "root@example.com"); code != 0 || !strings.Contains(out, b.net+"2:") {
		t.Errorf("by email: code %d, %s", code, stderr)
	}
	if code, _, stderr := output(t, start, nil, "access", "create", "--imsi", "001010000000009", "--port", "22"); code != 1 || !strings.Contains(stderr, "NAP0006") {
		t.Errorf("refused: code %d, %s", code, stderr)
	}
	t.Setenv("SIMREACH_CA", "")
	if code, _, stderr := output(t, start, nil, "access", "list"); code != 2 || !strings.Contains(stderr, "certificate") {
		t.Errorf("an unknown CA: code %d, %s", code, stderr)
	}
}
