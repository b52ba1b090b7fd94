package faulttest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
)

// The operators of the model, each with SIMs of its own.
const (
	tenantCount = 3
	simsEach    = 2
)

// rig is a manager in this process with its REST interface, and an outer relay that opens
// whatever it is told.
type rig struct {
	url   string
	http  *http.Client
	roots [tenantCount]api.AuthResponse
	ca    string // a certificate to register, PEM
}

func tenantID(i int) string { return fmt.Sprintf("OP000000000%d", i+1) }

func imsiOf(tenant, sim int) string { return fmt.Sprintf("0010100000000%d%d", tenant+1, sim+1) }

func newRig(t *testing.T, c store.Config) *rig {
	t.Helper()
	hash := manager.HashSecret("secret-model")
	var cfg manager.Config
	var static []manager.StaticAttachment
	for i := range tenantCount {
		id := manager.OperatorID(tenantID(i))
		cfg.Operators = append(cfg.Operators, manager.OperatorConfig{ID: id, AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-" + string(id), Hash: hash}}})
		for j := range simsEach {
			cfg.Subscribers = append(cfg.Subscribers, manager.SubscriberConfig{IMSI: imsiOf(i, j), OperatorID: id})
			static = append(static, manager.StaticAttachment{IMSI: imsiOf(i, j), UPF: "upf1", Address: netip.MustParseAddr("10.0.0.1")})
		}
	}
	directory, err := manager.NewStaticDirectory(static)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := manager.New(cfg, manager.Deps{Store: st, Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := api.New(api.Config{}, api.Deps{Listener: l, Manager: m})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); cancel(); wg.Wait() })
	for _, run := range []func(context.Context) error{m.Run, server.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	<-m.Ready()
	rs, err := m.AttachRelay(manager.Relay{ID: "outer1", Kind: manager.OuterRelay, Instance: "i", Address: netip.MustParseAddrPort("192.0.2.1:0"), Ports: manager.DefaultPorts()})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for {
			c, err := rs.Next(ctx)
			if err != nil {
				return
			}
			rs.Acknowledge(manager.Acknowledgement{Session: c.Session, ID: c.ID})
		}
	})
	r := &rig{url: "http://" + l.Addr().String(), http: &http.Client{Transport: transport}}
	for i := range tenantCount {
		in := api.AuthRequest{AuthKeyID: "keyId-" + tenantID(i), AuthKey: "secret-model"}
		c, err := api.Client{URL: r.url, HTTP: r.http}.Login(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		r.roots[i] = c.Credentials
	}
	ca, err := pki.NewAuthority(pki.AuthorityConfig{Name: "model"})
	if err != nil {
		t.Fatal(err)
	}
	r.ca = string(ca.PEM())
	return r
}

// ask makes a call and wants a status; a good answer is read into `into`, unless that is
// nil.
func (r *rig) ask(t *rapid.T, who api.AuthResponse, method, path string, body any, status int, into any) http.Header {
	t.Helper()
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(api.HeaderAPIKey, who.APIKey)
	req.Header.Set(api.HeaderToken, who.Token)
	resp, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		fail(t, fmt.Sprintf("%s is answered with %d; want %d", method, resp.StatusCode, status), "%s as %s/%s: %s", path, who.OperatorID, who.UserName, text)
	}
	if into != nil && status < 300 {
		if err := json.Unmarshal(text, into); err != nil {
			fail(t, "the answer cannot be read", "%s %s: %v: %s", method, path, err, text)
		}
	}
	return resp.Header
}

// fail ends the test. IDs and times are for the detail: a sequence that fails is shrunk
// only if it fails with the same text again.
func fail(t *rapid.T, text, detail string, args ...any) {
	t.Helper()
	t.Logf(detail, args...)
	t.Fatal(text)
}

// TestModel makes random calls and compares the answers with a model of what they mean.
// A failure is shrunk to the shortest sequence of calls that fails.
func TestModel(t *testing.T) {
	for name, c := range map[string]func(*testing.T) store.Config{
		"sqlite":   func(t *testing.T) store.Config { return store.Config{Path: filepath.Join(t.TempDir(), "manager.db")} },
		"postgres": func(t *testing.T) store.Config { return store.Config{URL: postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) { modelTest(t, newRig(t, c(t))) })
	}
}
