package main

import (
	"crypto/tls"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager/api"
)

func start(c *exec.Cmd) error { return c.Start() }

func newTransport() *http.Transport { return &http.Transport{} }

func serverTLS(t *testing.T, p pki.Pair) *tls.Config {
	t.Helper()
	c, err := tls.X509KeyPair(p.Cert, []byte(p.Key))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}}
}

// client is a client of the manager for what the program has no command for.
func (b *testbed) client() *api.Client {
	b.t.Helper()
	transport := newTransport()
	b.t.Cleanup(transport.CloseIdleConnections)
	c, err := api.Client{URL: b.url(), HTTP: &http.Client{Transport: transport}}.Login(b.t.Context(), api.AuthRequest{AuthKeyID: "keyId-1", AuthKey: "secret-access"})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *testbed) call(c *api.Client, method, path, body string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, c.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set(api.HeaderAPIKey, c.Credentials.APIKey)
	req.Header.Set(api.HeaderToken, c.Credentials.Token)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}
