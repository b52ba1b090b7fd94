package outer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// authority is a certificate authority.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := newKey(t, "ecdsa")
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, parsed, key}
}

func (a *authority) issue(kind string, serial int64, change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t, kind)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "leaf"},
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) credential(id manager.CredentialID) manager.Credential {
	key, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		a.t.Fatal(err)
	}
	return manager.Credential{ID: id, CA: a.cert.Raw, PublicKey: key}
}

// secure is a rig with a certificate, and the clients' authority registered as "cr1".
type secure struct {
	*rig
	servers, clients *authority
}

func startTLS(t *testing.T, change func(*Config, *Deps)) *secure {
	t.Helper()
	s := &secure{servers: newAuthority(t, "servers"), clients: newAuthority(t, "clients")}
	cert := s.servers.issue("ecdsa", 2, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"*.relay.example"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	s.rig = start(t, func(c *Config, d *Deps) {
		d.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
		if change != nil {
			change(c, d)
		}
	})
	s.ctl.credentials["cr1"] = s.clients.credential("cr1")
	return s
}

// open opens the entry e1 with TLS.
func (s *secure) open(change func(*manager.Opening)) netip.AddrPort {
	s.t.Helper()
	a := freePort(s.t)
	o := opening("e1", a, time.Minute)
	o.TLS = true
	if change != nil {
		change(&o)
	}
	if ack := s.snapshot(o); len(ack.Failures) != 0 {
		s.t.Fatal(ack.Failures[0].Err)
	}
	return a
}

func withCredential(o *manager.Opening) { o.CredentialID = "cr1" }

func (s *secure) config(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: s.servers.pool(), ServerName: "127-0-0-1.relay.example", Certificates: certs}
}

// dialTLS makes a connection of which the server, too, has finished the handshake if
// err is nil: in TLS 1.3 the client finishes first.
func dialTLS(t *testing.T, a netip.AddrPort, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	conn, err := dialTLSOnly(t, a, c)
	if err != nil {
		return nil, err
	}
	return conn, hi(conn)
}

func dialTLSOnly(t *testing.T, a netip.AddrPort, c *tls.Config) (*tls.Conn, error) {
	raw, err := net.Dial("tcp", a.String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		return nil, err
	}
	return conn, nil
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// alertOf returns the text of the alert that ended a connection, for want of a type.
func alertOf(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		return e.Err.Error()
	}
	return ""
}

func alertText(alert uint8) string { return tls.AlertError(alert).Error() }
