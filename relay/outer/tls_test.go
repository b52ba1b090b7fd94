package outer

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

func TestTLS(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(nil)
	for _, c := range []struct {
		name    string
		version uint16
		offers  []string
		want    string
	}{
		{"1.3", tls.VersionTLS13, nil, ""},
		{"1.2", tls.VersionTLS12, nil, ""},
		{"a browser", tls.VersionTLS13, []string{"h2", "http/1.1"}, "http/1.1"},
		{"what we do not know", tls.VersionTLS13, []string{"mqtt"}, ""},
	} {
		config := s.config()
		config.MinVersion, config.MaxVersion, config.NextProtos = c.version, c.version, c.offers
		conn, err := dialTLS(t, a, config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		ping(t, conn)
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
			t.Errorf("%s: protocol %q; want %q", c.name, got, c.want)
		}
		conn.CloseWrite()
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v; want EOF, after both ends have ended in order", c.name, err)
		}
		rs := s.expectAudit("closed", manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
		if last := rs[2]; !last.TLS || last.Up != 6 || last.Down != 6 {
			t.Errorf("%s: record %+v; want TLS, 6 bytes each way", c.name, last)
		}
	}
	old := s.config()
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	if _, err := dialTLS(t, a, old); alertOf(err) != alertText(70) {
		t.Errorf("TLS 1.1: %v; want the alert protocol_version", err)
	}
	s.expectAudit("tls-handshake", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
}

func TestNoCertificateNoTLS(t *testing.T) {
	g := start(t, nil)
	o := opening("e1", freePort(t), time.Minute)
	o.TLS = true
	if ack := g.snapshot(o); len(ack.Failures) != 1 || !errors.Is(ack.Failures[0].Err, errNoCertificate) {
		t.Errorf("a TLS entry on a relay without certificate: %+v", ack)
	}
}

// What one side sends, large and in pieces of any size, arrives as it is, in both
// directions at once.
func TestTLSCarriesBytes(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(nil)
	conn, err := dialTLS(t, a, s.config())
	if err != nil {
		t.Fatal(err)
	}
	const size = 32 << 20
	sent, got := sha256.New(), sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		block := make([]byte, 200_000)
		for left := size; left > 0; {
			n := min(1+rand.IntN(len(block)), left)
			if left%7 == 0 {
				n = min(n, 10)
			}
			for i := range n {
				block[i] = byte(rand.Uint32())
			}
			sent.Write(block[:n])
			if _, err := conn.Write(block[:n]); err != nil {
				t.Errorf("write: %v", err)
				return
			}
			left -= n
		}
		conn.CloseWrite()
	})
	n, err := io.Copy(got, conn) // the device echoes
	wg.Wait()
	if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("%d bytes back, %v; want the %d that were sent", n, err, size)
	}
	s.expectAudit("closed", manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
}

func TestClientCertificates(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(withCredential)
	for _, kind := range []string{"ecdsa", "rsa", "ed25519"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := s.config(s.clients.issue(kind, 10, nil))
			config.MaxVersion = version
			if conn, err := dialTLS(t, a, config); err != nil {
				t.Errorf("%s, version %x: %v", kind, version, err)
			} else {
				conn.Close()
			}
		}
	}
	// A chain through an intermediate.
	middle := s.clients.issue("ecdsa", 11, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		c.Subject.CommonName = "middle"
	})
	parsed, err := x509.ParseCertificate(middle.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	leaf := (&authority{t, parsed, middle.PrivateKey.(crypto.Signer)}).issue("ecdsa", 12, nil)
	leaf.Certificate = append(leaf.Certificate, middle.Certificate[0])
	if conn, err := dialTLS(t, a, s.config(leaf)); err != nil {
		t.Errorf("through an intermediate: %v", err)
	} else {
		conn.Close()
	}
}

// A session that is resumed passes the same conditions.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := startTLS(t, nil)
		a := s.open(withCredential)
		config := s.config(s.clients.issue("ecdsa", 0xab, nil))
		config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
		for i, want := range []bool{false, true, true} {
			conn, err := dialTLS(t, a, config)
			if err != nil {
				t.Fatalf("version %x, connection %d: %v", version, i, err)
			}
			if got := conn.ConnectionState().DidResume; got != want {
				t.Errorf("version %x, connection %d: resumed %t; want %t", version, i, got, want)
			}
			conn.Close()
		}
		s.audited(9)
		s.ctl.change(func(c *control) {
			cred := c.credentials["cr1"]
			cred.RevokedSerials = []string{"ab"}
			c.credentials["cr1"] = cred
		})
		s.command(manager.Command{Kind: manager.CommandCredential, CredentialID: "cr1"})
		if _, err := dialTLS(t, a, config); err == nil {
			t.Errorf("version %x: resumed with a certificate that is revoked", version)
		}
		s.expectAudit("certificate-revoked", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	}
}

// A change of a credential cuts the connections that would no longer be let in, and no
// others.
func TestCredentialChangeCuts(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(withCredential)
	one, err := dialTLS(t, a, s.config(s.clients.issue("ecdsa", 1, nil)))
	if err != nil {
		t.Fatal(err)
	}
	two, err := dialTLS(t, a, s.config(s.clients.issue("ecdsa", 2, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.audited(4)
	cut := func(what string, conn *tls.Conn, cause manager.Cause, alert uint8, f func(*manager.Credential)) {
		t.Helper()
		s.ctl.change(func(c *control) {
			cred := c.credentials["cr1"]
			f(&cred)
			c.credentials["cr1"] = cred
		})
		begin := time.Now()
		s.command(manager.Command{Kind: manager.CommandCredential, CredentialID: "cr1"})
		if _, err := conn.Read(make([]byte, 1)); alertOf(err) != alertText(alert) || time.Since(begin) > 200*time.Millisecond {
			t.Errorf("%s: %v after %s; want the alert within 200 ms", what, err, time.Since(begin))
		}
		if r := s.audited(1)[0]; r.Type != manager.AuditClosed || r.Cause != cause {
			t.Errorf("%s: record %+v; want closed, %s", what, r, cause)
		}
	}
	cut("serial", one, "certificate-revoked", alertCertificateRevoked, func(c *manager.Credential) { c.RevokedSerials = []string{"1"} })
	ping(t, two)
	cut("credential", two, "credential-revoked", alertAccessDenied, func(c *manager.Credential) { c.Revoked = time.Now() })
	if _, err := dialTLS(t, a, s.config(s.clients.issue("ecdsa", 3, nil))); err == nil {
		t.Error("a client is let in by a credential that is revoked")
	}
	s.expectAudit("credential-revoked", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
}

// What changed while the manager was away takes effect with the next snapshot, also of a
// credential that is not remembered: there may be more than that, and what was asked when
// another one changed is not.
func TestSnapshotRechecksCredentials(t *testing.T) {
	for _, remembered := range []bool{true, false} {
		s := startTLS(t, nil)
		a := s.open(withCredential)
		conn, err := dialTLS(t, a, s.config(s.clients.issue("ecdsa", 1, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !remembered {
			s.credentials.forget("cr1")
		}
		s.ctl.change(func(c *control) { delete(c.credentials, "cr1") })
		o := opening("e1", a, time.Minute)
		o.TLS, o.CredentialID = true, "cr1"
		s.snapshot(o)
		if err := conn.SetReadDeadline(time.Now().Add(maxLate())); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); alertOf(err) != alertText(alertAccessDenied) {
			t.Errorf("after the snapshot, remembered %t: %v; want an alert", remembered, err)
		}
	}
}

// The relay and the inner relay may speak TLS, too, and the inner relay must be the
// one that the manager named.
func TestInnerTLS(t *testing.T) {
	ca := newAuthority(t, "relays")
	secret := func(id string) *tls.Config {
		cert := ca.issue("ecdsa", 5, func(c *x509.Certificate) { c.URIs = append(c.URIs, mustURL(t, "simreach://relay/inner/"+id)) })
		return &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	for id, want := range map[string]bool{"inner1": true, "inner2": false} {
		g := start(t, func(_ *Config, d *Deps) { d.InnerTLS = &tls.Config{RootCAs: ca.pool()} })
		l, err := tls.Listen("tcp", "127.0.0.1:0", secret(id))
		if err != nil {
			t.Fatal(err)
		}
		serveInner(t, l)
		g.ctl.change(func(c *control) {
			c.route.InnerID, c.route.Inner = "inner1", l.Addr().(*net.TCPAddr).AddrPort()
		})
		a := freePort(t)
		g.snapshot(opening("e1", a, time.Minute))
		if want {
			ping(t, dial(t, a))
			continue
		}
		if err := turnedAway(a); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("an inner relay that calls itself %s: %v; want a reset", id, err)
		}
		g.expectAudit("inner-unreachable", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	}
}
