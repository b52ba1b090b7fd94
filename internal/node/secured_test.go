package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/relay/audit"
)

// TestSecuredTestbed runs manager and relays with TLS between all of them, an entry that
// demands a client certificate, and reads in the audit log what happened.
func TestSecuredTestbed(t *testing.T) {
	ca, clients := authority(t), authority(t)
	mutual := func(r pki.Request) pki.Config {
		p := issue(t, ca, r)
		return pki.Config{Cert: string(p.Cert), Key: p.Key, CA: string(ca.PEM())}
	}
	device, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			c, err := device.Accept()
			if err != nil {
				return
			}
			echoes.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { device.Close(); echoes.Wait() })

	m, in, out := &Manager{}, &Inner{}, &Outer{}
	m.Manager = manager.Config{
		Operators:   []manager.OperatorConfig{{ID: "OP0000000001", AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-1", Key: "secret-1"}}}},
		Subscribers: []manager.SubscriberConfig{{IMSI: "001010000000001", OperatorID: "OP0000000001"}},
		InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}},
	}
	m.StaticDirectory = []manager.StaticAttachment{{IMSI: "001010000000001", UPF: "upf1", Address: netip.MustParseAddr("127.0.0.1")}}
	m.Store.Path = filepath.Join(t.TempDir(), "manager.db")
	// Addresses of their own: nothing else takes their ports meanwhile.
	m.API.Listen, m.RPC.Listen, in.Relay.Listen = vacant(t, "127.0.7.1"), vacant(t, "127.0.7.2"), vacant(t, "127.0.7.3")
	m.RPC.TLS = mutual(pki.Manager("127.0.7.2"))
	in.Relay.ID, in.Control.Manager = "inner1", m.RPC.Listen
	in.Control.TLS = mutual(pki.Relay("inner", "inner1", "127.0.7.3"))
	in.TLS = in.Control.TLS
	out.Relay.ID, out.Relay.Address, out.Control.Manager = "outer1", netip.MustParseAddr("127.0.7.4"), m.RPC.Listen
	out.Control.TLS = mutual(pki.Relay("outer", "outer1", "127.0.7.4"))
	out.InnerTLS = out.Control.TLS
	public := issue(t, ca, pki.Server("127.0.7.4"))
	out.TLS = pki.Config{Cert: string(public.Cert), Key: public.Key}
	out.Audit = audit.Config{Dir: t.TempDir()}
	for _, r := range []Role{m, in, out} {
		begin(t, r)
	}

	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	rest := &api.Client{URL: "http://" + m.API.Listen, HTTP: &http.Client{Transport: transport}}
	if rest, err = rest.Login(t.Context(), api.AuthRequest{AuthKeyID: "keyId-1", AuthKey: "secret-1"}); err != nil {
		t.Fatal(err)
	}
	var cred api.Credential
	call(t, rest, "POST", "/v1/simreach/credentials", api.CreateCredential{CACertificate: string(clients.PEM())}, &cred)
	var made []api.ExtendedMapping
	call(t, rest, "POST", "/v1/simreach/port_mappings", map[string]any{"requests": []any{map[string]any{
		"destination": map[string]any{"imsi": "001010000000001", "port": device.Addr().(*net.TCPAddr).Port}, "tlsRequired": true, "credentialId": cred.CredentialID,
	}}}, &made)
	at := made[0].Endpoint

	good := issue(t, clients, pki.Client("someone"))
	pair, err := tls.X509KeyPair(good.Cert, []byte(good.Key))
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", at, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatalf("echo through TLS, relays with TLS between them: %v", err)
	}
	c.Close()
	if c, err := tls.Dial("tcp", at, &tls.Config{RootCAs: ca.Pool()}); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a client without a certificate is let in")
		}
		c.Close()
	}

	late := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	want := map[string]int{"CREATED": 1, "ACCESS": 2, "CONNECTED": 1, "DENIED": 1, "CLOSED": 2}
	for {
		var log []api.AuditRecord
		call(t, rest, "GET", "/v1/audit_logs/napter", nil, &log)
		got := map[string]int{}
		for _, r := range log {
			got[r.Type]++
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("audit log after 10 s: %v; want %v", got, want)
		}
	}
	var failures []api.LogEntry
	call(t, rest, "GET", "/v1/logs?service=Napter", nil, &failures)
	if len(failures) == 0 || failures[0].Body.Code != string(manager.CodeConnCertificateMissing) {
		t.Errorf("error log %+v; want %s", failures, manager.CodeConnCertificateMissing)
	}
}

func authority(t *testing.T) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority(pki.AuthorityConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *pki.Authority, r pki.Request) pki.Pair {
	t.Helper()
	p, err := a.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// vacant returns an address with a port that was free a moment ago.
func vacant(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// begin runs a role until the test ends, and waits until it is ready.
func begin(t *testing.T, r Role) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- r.Run(ctx, slog.New(slog.DiscardHandler), func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%T: %v", r, err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("%T: %v", r, err)
	case <-time.After(15 * time.Second):
		t.Fatalf("%T is not ready after 15 s", r)
	}
}

func call(t *testing.T, c *api.Client, method, path string, body, into any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(api.HeaderAPIKey, c.Credentials.APIKey)
	req.Header.Set(api.HeaderToken, c.Credentials.Token)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s, %v", method, path, resp.Status, answer, err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, answer)
	}
}
