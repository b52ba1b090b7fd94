package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	imsi1, imsi2 = "001010000000001", "001010000000002" // the second is the other operator's
	sim1         = "8942310000000000001"
)

var hash = sync.OnceValue(func() string { return manager.HashSecret("secret-1") })

type nowhere struct{}

func (nowhere) Lookup(context.Context, ident.IMSI) (manager.Attachment, error) {
	return manager.Attachment{}, manager.ErrNotAttached
}
func (nowhere) Size() int                { return 0 }
func (nowhere) Changed() <-chan struct{} { return nil }

// logs keeps what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// server is the REST interface of a manager with one outer relay that opens
// whatever it is told.
type server struct {
	url    string
	client *http.Client
	one    *api.Client // operator 1
	two    *api.Client // operator 2

	service  *manager.Service
	requests func() uint64 // so far
	stop     func()        // stops the server; harmless twice
	logs     *logs         // all that was logged
}

func start(t *testing.T, relay bool, change ...func(*manager.Config)) *server {
	t.Helper()
	logged := &logs{}
	log := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	cfg := manager.Config{
		Operators: []manager.OperatorConfig{
			{ID: "OP0000000001", Email: "a@example.com", PasswordHash: hash(), AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-1", Hash: hash()}}},
			{ID: "OP0000000002", AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-2", Hash: hash()}}},
		},
		Subscribers: []manager.SubscriberConfig{
			{IMSI: imsi1, SIMID: sim1, OperatorID: "OP0000000001"},
			{IMSI: imsi2, OperatorID: "OP0000000002"},
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	m, err := manager.New(cfg, manager.Deps{Log: log, Store: st, Directory: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := api.New(api.Config{}, api.Deps{Log: log, Listener: l, Manager: m})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); cancel(); wg.Wait() })
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-m.Ready()
	if relay {
		s, err := m.AttachRelay(manager.Relay{ID: "outer1", Kind: manager.OuterRelay, Instance: "i", Address: netip.MustParseAddrPort("192.0.2.1:0"), Ports: manager.DefaultPorts()})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for {
				c, err := s.Next(ctx)
				if err != nil {
					return
				}
				s.Acknowledge(manager.Acknowledgement{Session: c.Session, ID: c.ID})
			}
		})
	}
	stopped := make(chan struct{})
	wg.Go(func() {
		defer close(stopped)
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-srv.Ready()
	s := &server{
		service:  m,
		requests: func() uint64 { return srv.Status().Requests },
		stop:     func() { cancel(); <-stopped },
		logs:     logged,
		url:      "http://" + l.Addr().String(), client: &http.Client{Transport: checked{t, transport}},
	}
	login := func(key string) *api.Client {
		c, err := api.Client{URL: s.url, HTTP: s.client}.Login(t.Context(), api.AuthRequest{AuthKeyID: key, AuthKey: "secret-1"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s.one, s.two = login("keyId-1"), login("keyId-2")
	return s
}

// do makes a raw request as operator 1.
func (s *server) do(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	// As the wire has them: header names know no case.
	req.Header.Set("x-soracom-api-key", s.one.Credentials.APIKey)
	req.Header.Set("X-SORACOM-TOKEN", s.one.Credentials.Token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// golden compares a JSON body with testdata, after what differs from run to run is
// replaced.
func golden(t *testing.T, name, body string, variable map[string]string) {
	t.Helper()
	for value, word := range variable {
		body = strings.ReplaceAll(body, value, word)
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, []byte(body), "", "  "); err != nil {
		t.Fatalf("%s: %v: %s", name, err, body)
	}
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), buf.String()); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

// The requests are those that the command-line client was seen to send.
func TestGolden(t *testing.T) {
	s := start(t, true)
	for _, c := range []struct{ name, path, body string }{
		{"create_by_imsi", "/v1/port_mappings?", `{"destination":{"imsi":"` + imsi1 + `","port":22}}`},
		{"create_by_sim", "/v1/port_mappings?", `{"destination":{"port":22,"service":"air","simId":"` + sim1 + `"},"duration":3600,"source":{"ipRanges":["127.0.0.1/32","2001:db8::/32"]},"tlsRequired":false}`},
		{"create_for_sim", "/v1/port_mappings/sims/" + sim1 + "?", `{"destination":{"port":80},"duration":600,"tlsRequired":false}`},
	} {
		resp, body := s.do(t, "POST", c.path, c.body)
		if resp.StatusCode != http.StatusCreated || resp.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %s %s", c.name, resp.Status, body)
		}
		var m api.PortMapping
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			t.Fatal(err)
		}
		if m.ExpiredTime-m.CreatedTime != m.Duration*1000 {
			t.Errorf("%s: created %d, expires %d; want %d s between", c.name, m.CreatedTime, m.ExpiredTime, m.Duration)
		}
		golden(t, c.name, body, map[string]string{
			strconv.Itoa(int(m.Port)): `0`, fmt.Sprint(m.CreatedTime): `1`, fmt.Sprint(m.ExpiredTime): `2`,
		})
		if resp, body := s.do(t, "DELETE", fmt.Sprintf("/v1/port_mappings/%s/%d?", m.IPAddress, m.Port), ""); resp.StatusCode != http.StatusNoContent || body != "" {
			t.Errorf("delete: %s %q; want 204 and nothing", resp.Status, body)
		}
	}
	_, body := s.do(t, "GET", "/v1/port_mappings?", "")
	golden(t, "list_empty", body, nil)
	_, body = s.do(t, "GET", "/v1/simreach/status", "")
	golden(t, "status", body, nil)
}

func TestErrors(t *testing.T) {
	s := start(t, true)
	dest := func(d string) string { return `{"destination":` + d + `}` }
	const ok = `{"imsi":"` + imsi1 + `","port":22}`
	with := func(more string) string { return `{"destination":` + ok + `,` + more + `}` }
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     manager.Code
	}{
		{"no destination", "POST", "/v1/port_mappings", `{}`, 400, manager.CodeNoDestination},
		{"no destination for a SIM", "POST", "/v1/port_mappings/sims/" + sim1, `{}`, 400, manager.CodeNoDestination},
		{"no device", "POST", "/v1/port_mappings", dest(`{"port":22}`), 400, manager.CodeNoDestination},
		{"no body", "POST", "/v1/port_mappings", ``, 400, manager.CodeBadBody},
		{"not JSON", "POST", "/v1/port_mappings", `port=22`, 400, manager.CodeBadBody},
		{"two values", "POST", "/v1/port_mappings", `{} {}`, 400, manager.CodeBadBody},
		{"another type", "POST", "/v1/port_mappings", dest(`{"imsi":1,"port":22}`), 400, manager.CodeBadBody},
		{"a large body", "POST", "/v1/port_mappings", `{"x":"` + strings.Repeat("a", 70<<10) + `"}`, 413, manager.CodeBodyTooLarge},
		{"a small value in a large body", "POST", "/v1/port_mappings", `{}` + strings.Repeat(" ", 70<<10), 413, manager.CodeBodyTooLarge},
		{"no port", "POST", "/v1/port_mappings", dest(`{"imsi":"` + imsi1 + `"}`), 400, manager.CodeBadPort},
		{"half a port", "POST", "/v1/port_mappings", dest(`{"imsi":"` + imsi1 + `","port":22.5}`), 400, manager.CodeBadPort},
		{"a port beyond ports", "POST", "/v1/port_mappings", dest(`{"imsi":"` + imsi1 + `","port":1e300}`), 400, manager.CodeBadPort},
		{"UDP", "POST", "/v1/port_mappings", dest(`{"imsi":"` + imsi1 + `","port":53,"protocol":"UDP"}`), 400, manager.CodeBadProtocol},
		{"arc", "POST", "/v1/port_mappings", dest(`{"simId":"` + sim1 + `","port":22,"service":"arc"}`), 400, manager.CodeBadService},
		{"no time", "POST", "/v1/port_mappings", with(`"duration":0`), 400, manager.CodeBadDuration},
		{"8 hours and a second", "POST", "/v1/port_mappings", with(`"duration":28801`), 400, manager.CodeBadDuration},
		{"time without end", "POST", "/v1/port_mappings", with(`"duration":1e18`), 400, manager.CodeBadDuration},
		{"bad range", "POST", "/v1/port_mappings", with(`"source":{"ipRanges":["300.0.0.0/8"]}`), 400, manager.CodeBadRanges},
		{"unknown IMSI", "POST", "/v1/port_mappings", dest(`{"imsi":"001010000000099","port":22}`), 404, manager.CodeUnknownSubscriber},
		{"another operator's IMSI", "POST", "/v1/port_mappings", dest(`{"imsi":"` + imsi2 + `","port":22}`), 404, manager.CodeUnknownSubscriber},
		{"unknown SIM", "POST", "/v1/port_mappings/sims/1", dest(`{"port":22}`), 404, manager.CodeUnknownSIM},
		{"none for the SIM", "GET", "/v1/port_mappings/sims/" + sim1, "", 404, manager.CodeNoEntries},
		{"none for the IMSI", "GET", "/v1/port_mappings/subscribers/" + imsi1, "", 404, manager.CodeNoEntries},
		{"delete nothing", "DELETE", "/v1/port_mappings/192.0.2.1/40000", "", 404, manager.CodeUnknownEntry},
		{"delete by a name", "DELETE", "/v1/port_mappings/relay/40000", "", 400, manager.CodeBadEntryAddress},
		{"delete port 0", "DELETE", "/v1/port_mappings/192.0.2.1/0", "", 400, manager.CodeBadEntryAddress},
		{"limit 0", "GET", "/v1/port_mappings?limit=0", "", 400, manager.CodeBadLimit},
		{"limit x", "GET", "/v1/port_mappings?limit=x", "", 400, manager.CodeBadLimit},
		{"unknown path", "GET", "/v1/nothing", "", 404, manager.CodeUnknownPath},
		{"a part of the API that is not offered", "GET", "/v1/lagoon/users", "", 404, manager.CodeNotOffered},
		{"the same with a variable", "PUT", "/v1/lagoon/users/a%2Fb/email", "", 404, manager.CodeNotOffered},
		{"one segment too many", "PUT", "/v1/lagoon/users/a/b/email", "", 404, manager.CodeUnknownPath},
		{"outside of v1", "GET", "/", "", 404, manager.CodeUnknownPath},
		{"unknown method", "PUT", "/v1/port_mappings", "", 405, manager.CodeMethodNotAllowed},
		{"no GET of one", "GET", "/v1/port_mappings/192.0.2.1/40000", "", 405, manager.CodeMethodNotAllowed},
		{"GET of auth", "GET", "/v1/auth", "", 405, manager.CodeMethodNotAllowed},
		{"wrong login", "POST", "/v1/auth", `{"email":"a@example.com","password":"x"}`, 401, manager.CodeAuthFailed},
		{"an empty login, as bare `soracom auth` sends", "POST", "/v1/auth", `{}`, 401, manager.CodeAuthFailed},
		{"too long a token", "POST", "/v1/auth", `{"authKeyId":"keyId-1","authKey":"secret-1","tokenTimeoutSeconds":172801}`, 400, manager.CodeBadTokenTimeout},
		{"an endless token", "POST", "/v1/auth", `{"authKeyId":"keyId-1","authKey":"secret-1","tokenTimeoutSeconds":9223372036854775807}`, 400, manager.CodeBadTokenTimeout},
		{"no time at all", "POST", "/v1/auth", `{"authKeyId":"keyId-1","authKey":"secret-1","tokenTimeoutSeconds":0}`, 400, manager.CodeBadTokenTimeout},
	} {
		resp, body := s.do(t, c.method, c.path, c.body)
		var e map[string]any
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s: %s %q is not JSON", c.name, resp.Status, body)
			continue
		}
		if resp.StatusCode != c.status || e["code"] != string(c.code) || e["message"] == "" || len(e) != 2 {
			t.Errorf("%s: %s %s; want %d %s, flat", c.name, resp.Status, body, c.status, c.code)
		}
		if strings.Contains(fmt.Sprint(e["message"]), "%!") {
			t.Errorf("%s: message %q", c.name, e["message"])
		}
		if c.status == 405 && resp.Header.Get("Allow") == "" {
			t.Errorf("%s: no Allow header", c.name)
		}
	}
}

func TestLanguages(t *testing.T) {
	s := start(t, true)
	for lang, want := range map[string]string{"en": "There is no such resource.", "ja": "指定されたリソースはありません。", "": "There is no such resource.", "fr": "There is no such resource."} {
		_, body := s.do(t, "GET", "/v1/nothing", "", "X-Soracom-Lang", lang)
		if !strings.Contains(body, want) {
			t.Errorf("language %q: %s; want %s", lang, body, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	s := start(t, true)
	for _, c := range []struct {
		name, key, token string
		code             manager.Code
	}{
		{"no key", "", s.one.Credentials.Token, manager.CodeTokenRequired},
		{"no token", s.one.Credentials.APIKey, "", manager.CodeTokenRequired},
		{"another's key", s.two.Credentials.APIKey, s.one.Credentials.Token, manager.CodeBadToken},
	} {
		resp, body := s.do(t, "GET", "/v1/port_mappings", "", "X-Soracom-Api-Key", c.key, "X-Soracom-Token", c.token)
		if resp.StatusCode != 401 || !strings.Contains(body, string(c.code)) {
			t.Errorf("%s: %s %s; want 401 %s", c.name, resp.Status, body, c.code)
		}
	}
	c, err := api.Client{URL: s.url, HTTP: s.client}.Login(t.Context(), api.AuthRequest{Email: "a@example.com", Password: "secret-1"})
	if err != nil || c.Credentials.OperatorID != "OP0000000001" {
		t.Errorf("login by password: %+v, %v", c, err)
	}
}

func TestTenantsAndLists(t *testing.T) {
	s := start(t, true)
	ctx := t.Context()
	byIMSI, err := s.one.Create(ctx, api.CreateRequest{Destination: &api.Destination{IMSI: imsi1, Port: 22}})
	if err != nil {
		t.Fatal(err)
	}
	bySIM, err := s.one.CreateForSIM(ctx, sim1, api.CreateRequest{Destination: &api.Destination{Port: 22}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		list func() ([]api.PortMapping, error)
		want string
	}{
		"by IMSI": {func() ([]api.PortMapping, error) { return s.one.ListForSubscriber(ctx, imsi1) }, byIMSI.Endpoint},
		"by SIM":  {func() ([]api.PortMapping, error) { return s.one.ListForSIM(ctx, sim1) }, bySIM.Endpoint},
	} {
		ms, err := c.list()
		if err != nil || len(ms) != 1 || ms[0].Endpoint != c.want {
			t.Errorf("%s: %v, %v; want only the one made so", name, ms, err)
		}
	}
	if ms, err := s.two.List(ctx); err != nil || len(ms) != 0 {
		t.Errorf("the other operator sees %v, %v", ms, err)
	}
	if _, err := s.two.ListForSubscriber(ctx, imsi1); !errors.Is(err, manager.CodeNoEntries) {
		t.Errorf("the other operator, by IMSI: %v", err)
	}
	if err := s.two.Delete(ctx, netip.MustParseAddrPort(byIMSI.Endpoint)); !errors.Is(err, manager.CodeUnknownEntry) {
		t.Errorf("the other operator deletes: %v; want %s", err, manager.CodeUnknownEntry)
	}
	if err := s.one.Delete(ctx, netip.MustParseAddrPort(byIMSI.Endpoint)); err != nil {
		t.Error(err)
	}
}

func TestPaging(t *testing.T) {
	s := start(t, true)
	ctx := t.Context()
	const n = 5
	made := map[string]bool{}
	for range n {
		m, err := s.one.Create(ctx, api.CreateRequest{Destination: &api.Destination{IMSI: imsi1, Port: 22}})
		if err != nil {
			t.Fatal(err)
		}
		made[m.Endpoint] = true
	}
	var sizes []int
	seen := map[string]bool{}
	for after := ""; ; {
		page, next, err := s.one.Page(ctx, 2, after)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page))
		for _, m := range page {
			seen[m.Endpoint] = true
		}
		if next == "" {
			break
		}
		after = next
	}
	if d := cmp.Diff([]int{2, 2, 1}, sizes); d != "" {
		t.Errorf("page sizes (-want +got):\n%s", d)
	}
	if d := cmp.Diff(made, seen); d != "" {
		t.Errorf("mappings (-made +seen):\n%s", d)
	}
	resp, body := s.do(t, "GET", "/v1/port_mappings?limit=5", "")
	if resp.Header.Get("X-Soracom-Next-Key") != "" || resp.Header.Get("Link") != "" {
		t.Errorf("headers %v on the only page; want no next key", resp.Header)
	}
	var all []api.PortMapping
	if err := json.Unmarshal([]byte(body), &all); err != nil || len(all) != n {
		t.Errorf("a page as large as the list has %d, %v", len(all), err)
	}
	resp, _ = s.do(t, "GET", "/v1/port_mappings?limit=2", "")
	if want := "</v1/port_mappings?last_evaluated_key=" + resp.Header.Get("X-Soracom-Next-Key") + "&limit=2>; rel=next"; resp.Header.Get("Link") != want {
		t.Errorf("link %q; want %q", resp.Header.Get("Link"), want)
	}
	if ms, err := s.one.List(ctx); err != nil || len(ms) != n {
		t.Errorf("List = %d, %v; want all %d", len(ms), err, n)
	}
}

func TestNoRelay(t *testing.T) {
	s := start(t, false)
	resp, body := s.do(t, "POST", "/v1/port_mappings", `{"destination":{"imsi":"`+imsi1+`","port":22}}`)
	if resp.StatusCode != http.StatusConflict || !strings.Contains(body, string(manager.CodeNoOuterRelay)) {
		t.Errorf("without a relay: %s %s; want 409: clients repeat a 503 for two minutes", resp.Status, body)
	}
}
