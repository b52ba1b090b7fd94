package inner

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/relay"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	der, key := issue(t, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "relays"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key = cert, key
	a.pool.AddCert(cert)
	return a
}

func issue(t *testing.T, by *authority, c *x509.Certificate) ([]byte, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, key := c, private
	if by != nil {
		parent, key = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, private
}

func (a *authority) certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	der, key := issue(t, a, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		URIs:        []*url.URL{{Scheme: "simreach", Host: "relay", Path: "/" + strings.TrimRight(name, "0123456789") + "/" + name}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// askTLS connects as an outer relay with TLS does.
func (g *rig) askTLS(t *testing.T, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	c, err := tls.Dial("tcp", g.addr, cfg)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { relay.Abort(c) })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err = relay.Connect(ctx, c, relay.Request{Target: device, Ticket: sign(t, nil)})
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, err
}

func TestTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	g := startWith(t, Config{}, Deps{
		Dial: echo(t),
		TLS:  &tls.Config{Certificates: []tls.Certificate{ca.certificate(t, "inner1")}, ClientCAs: ca.pool},
	})
	good := &tls.Config{RootCAs: ca.pool, ServerName: "inner1", Certificates: []tls.Certificate{ca.certificate(t, "outer1")}}
	c, err := g.askTLS(t, good)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after both ended: %v; want EOF", err)
	}
	for name, bad := range map[string]*tls.Config{
		"no certificate":               {RootCAs: ca.pool, ServerName: "inner1"},
		"an inner relay's certificate": {RootCAs: ca.pool, ServerName: "inner1", Certificates: []tls.Certificate{ca.certificate(t, "inner2")}},
		"nobody's certificate":         {RootCAs: ca.pool, ServerName: "inner1", Certificates: []tls.Certificate{ca.certificate(t, "")}},
		"TLS 1.2":                      {RootCAs: ca.pool, ServerName: "inner1", Certificates: good.Certificates, MaxVersion: tls.VersionTLS12},
		"TLS 1.1":                      {RootCAs: ca.pool, ServerName: "inner1", Certificates: good.Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"a stranger's certificate":     {RootCAs: ca.pool, ServerName: "inner1", Certificates: []tls.Certificate{stranger.certificate(t, "outer1")}},
	} {
		if _, err := g.askTLS(t, bad); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
	if plain, err := g.ask(t, sign(t, nil)); err == nil {
		t.Error("a connection without TLS was served")
		plain.Close()
	}
	// A reset of the outer relay's connection reaches the device, and a stop reaches
	// the outer relay, though TLS would wait for an alert.
	c, err = g.askTLS(t, good)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	g.stop()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the relay stopped: %v; want a reset", err)
	}
	if s := g.Status(); s.Relayed != 2 || s.Refused["bad-request"] != 7 {
		t.Errorf("status %+v; want 2 relayed and 7 bad requests", s)
	}
}

func TestTLSNeedsClientCAs(t *testing.T) {
	_, err := New(Config{ID: "inner1"}, Deps{Listener: &net.TCPListener{}, Dial: echo(t), Control: control{}, TLS: &tls.Config{}})
	if err == nil {
		t.Error("TLS that lets anybody in was accepted")
	}
}

// A connection that is set up holds no goroutine.
func TestConnectionsCostNoGoroutine(t *testing.T) {
	g := start(t, Config{}, echo(t))
	connect := func(n int) {
		for range n {
			c, err := g.ask(t, sign(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, c)
		}
	}
	connect(1)
	before := runtime.NumGoroutine()
	connect(50)
	// The echoing device has one for each.
	if got := runtime.NumGoroutine() - before; got > 50+10 {
		t.Errorf("50 connections made %d goroutines besides the device's; want none", got-50)
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	g := start(t, Config{IdleTimeout: 100 * time.Millisecond, TCP: relay.TCPOptions{KeepAliveIdle: time.Second, UserTimeout: time.Minute}}, echo(t))
	c, err := g.ask(t, sign(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an idle connection: %v; want a reset", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	v := newVerifier("inner1", control{}, 1_000_000)
	req := relay.Request{Target: device, Ticket: compose(b, managersHeader, claimsAt(time.Now().Add(time.Second), "x"))}
	b.ReportAllocs()
	now := time.Now() // the ticket is good for seconds only
	for b.Loop() {
		if _, err := v.verify(req, now); err != nil {
			b.Fatal(err)
		}
		clear(v.used)
	}
}

// BenchmarkConnect is a connection through an inner relay, from the signing of its
// ticket to the first echoed byte.
func BenchmarkConnect(b *testing.B) {
	g := start(b, Config{}, echo(b))
	for b.Loop() {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			b.Fatal(err)
		}
		if err := relay.Connect(b.Context(), c, relay.Request{Target: device, Ticket: sign(b, nil)}); err != nil {
			b.Fatal(err)
		}
		roundTrip(b, c)
		relay.Abort(c)
	}
}
