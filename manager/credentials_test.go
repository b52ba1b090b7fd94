package manager_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
)

func newCA(t testing.TB, k pki.KeyType) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority(pki.AuthorityConfig{Key: k})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func spki(a *pki.Authority) []byte { return a.Certificate().RawSubjectPublicKeyInfo }

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func register(t *testing.T, m *manager.Service, a *pki.Authority) manager.Credential {
	t.Helper()
	c, err := m.RegisterCredential(t.Context(), op1, manager.NewCredential{Name: "a", CA: a.PEM()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRegisterCredential(t *testing.T) {
	m := start(t, config())
	for _, k := range []pki.KeyType{pki.ECDSA, pki.RSA, pki.Ed25519} {
		a := newCA(t, k)
		for _, n := range []manager.NewCredential{
			{CA: a.PEM()},
			{CA: a.Certificate().Raw},
			{CA: a.PEM(), PublicKey: pemOf("PUBLIC KEY", spki(a))},
			{CA: a.Certificate().Raw, PublicKey: spki(a), Name: "車"},
		} {
			c, err := m.RegisterCredential(t.Context(), op1, n)
			if err != nil {
				t.Errorf("%s: %v", k, err)
				continue
			}
			got, err := m.OperatorCredential(t.Context(), op1, c.ID)
			if err != nil || !bytes.Equal(got.CA, a.Certificate().Raw) || !bytes.Equal(got.PublicKey, spki(a)) || got.Name != n.Name || !got.Revoked.IsZero() {
				t.Errorf("%s: %+v, %v", k, got, err)
			}
			_, err = m.OperatorCredential(t.Context(), op2, c.ID)
			wantCode(t, err, manager.CodeUnknownCredential, "another operator's")
		}
	}
	cs, err := m.Credentials(t.Context(), manager.CredentialQuery{OperatorID: op1, Limit: 5})
	if err != nil || len(cs) != 5 {
		t.Fatalf("%d credentials, %v; want 5 of 12", len(cs), err)
	}
	rest, err := m.Credentials(t.Context(), manager.CredentialQuery{OperatorID: op1, After: cs[4].ID})
	if err != nil || len(rest) != 7 {
		t.Errorf("%d more credentials, %v; want 7", len(rest), err)
	}
}

func TestRegisterCredentialRefuses(t *testing.T) {
	m := start(t, config())
	a, b := newCA(t, ""), newCA(t, "")
	made := func(r pki.Request) []byte {
		p, err := a.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return p.Cert
	}
	noSign := made(pki.Request{Name: "leaf", Client: true})
	expired := made(pki.Request{Name: "old", CA: true, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	early := made(pki.Request{Name: "new", CA: true, NotBefore: time.Now().Add(time.Hour)})
	pair, err := a.Pair()
	if err != nil {
		t.Fatal(err)
	}
	two := append(append([]byte{}, a.PEM()...), b.PEM()...)
	for _, c := range []struct {
		name string
		in   manager.NewCredential
		want manager.Code
	}{
		{"nothing", manager.NewCredential{}, manager.CodeBadCredential},
		{"rubbish", manager.NewCredential{CA: []byte("rubbish")}, manager.CodeBadCredential},
		{"PEM of rubbish", manager.NewCredential{CA: pemOf("CERTIFICATE", []byte("x"))}, manager.CodeBadCredential},
		{"a private key", manager.NewCredential{CA: []byte(pair.Key)}, manager.CodeBadCredential},
		{"no CA", manager.NewCredential{CA: noSign}, manager.CodeBadCredential},
		{"two CAs", manager.NewCredential{CA: two}, manager.CodeManyCertificates},
		{"two CAs, DER", manager.NewCredential{CA: append(append([]byte{}, a.Certificate().Raw...), b.Certificate().Raw...)}, manager.CodeManyCertificates},
		{"expired", manager.NewCredential{CA: expired}, manager.CodeCredentialExpired},
		{"not yet", manager.NewCredential{CA: early}, manager.CodeCredentialExpired},
		{"another's key", manager.NewCredential{CA: a.PEM(), PublicKey: spki(b)}, manager.CodeCredentialKey},
		{"a key that is none", manager.NewCredential{CA: a.PEM(), PublicKey: []byte("x")}, manager.CodeBadCredential},
		{"a certificate for a key", manager.NewCredential{CA: a.PEM(), PublicKey: a.PEM()}, manager.CodeBadCredential},
		{"a long name", manager.NewCredential{CA: a.PEM(), Name: strings.Repeat("x", 129)}, manager.CodeBadCredential},
		{"too large", manager.NewCredential{CA: bytes.Repeat([]byte("x"), 40<<10)}, manager.CodeBadCredential},
	} {
		_, err := m.RegisterCredential(t.Context(), op1, c.in)
		wantCode(t, err, c.want, c.name)
	}
}

// Whoever revokes, relays hear of it at once, what they ask then is new, and entries of a
// revoked credential do not resolve.
func TestRevocationReachesRelays(t *testing.T) {
	m := start(t, config())
	m.dir.set(imsi1, "upf1", "10.60.0.1")
	relay := attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
	attach(t, m.Service, innerRelay("inner1", "192.0.2.9:9000"))
	cred := register(t, m.Service, newCA(t, ""))
	e := create(t, m.Service, func(r *manager.CreateRequest) { r.TLS, r.CredentialID = true, cred.ID })
	q := manager.ResolveRequest{ConnectionID: "c", Hit: e.Address, Client: netip.MustParseAddrPort("198.51.100.7:1")}
	if route, err := relay.Resolve(t.Context(), q); err != nil || route.CredentialID != cred.ID || !route.TLS {
		t.Fatalf("Resolve: %+v, %v", route, err)
	}
	told := func(n int) {
		t.Helper()
		late := time.After(2 * time.Second)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			got := 0
			relay.with(func(f *fakeRelay) {
				for _, c := range f.log {
					if c.Kind == manager.CommandCredential && c.CredentialID == cred.ID {
						got++
					}
				}
			})
			if got >= n {
				return
			}
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("the relay was told %d times after 2 s, want %d", got, n)
			}
		}
	}
	if c, err := relay.Credential(t.Context(), cred.ID); err != nil || c.ID != cred.ID || len(c.RevokedSerials) != 0 {
		t.Errorf("Credential: %+v, %v", c, err)
	}
	if _, err := m.SetRevokedSerials(t.Context(), op1, cred.ID, []string{"0A:bc", "0x0", "00ff", "FF"}); err != nil {
		t.Fatal(err)
	}
	told(1)
	if c, err := relay.Credential(t.Context(), cred.ID); err != nil || strings.Join(c.RevokedSerials, " ") != "0 abc ff" {
		t.Errorf("Credential after its serials changed: %v, %v", c.RevokedSerials, err)
	}
	for _, bad := range []string{"", "xyz", "1 2", strings.Repeat("1", 81)} {
		_, err := m.SetRevokedSerials(t.Context(), op1, cred.ID, []string{bad})
		wantCode(t, err, manager.CodeBadSerial, bad)
	}
	wantCode(t, m.RevokeCredential(t.Context(), op2, cred.ID), manager.CodeUnknownCredential, "another operator revokes")
	begin := time.Now()
	if err := m.RevokeCredential(t.Context(), op1, cred.ID); err != nil {
		t.Fatal(err)
	}
	told(2)
	if took := time.Since(begin); took > 200*time.Millisecond {
		t.Logf("the relay was told after %s", took)
	}
	if c, err := relay.Credential(t.Context(), cred.ID); err != nil || c.Revoked.IsZero() {
		t.Errorf("Credential after it was revoked: %+v, %v", c, err)
	}
	_, err := relay.Resolve(t.Context(), q)
	wantCode(t, err, manager.CodeCredentialRevoked, "Resolve after it was revoked")
	_, err = m.SetRevokedSerials(t.Context(), op1, cred.ID, nil)
	wantCode(t, err, manager.CodeCredentialRevoked, "serials of a revoked one")
	if err := m.RevokeCredential(t.Context(), op1, cred.ID); err != nil {
		t.Errorf("revoked again: %v", err)
	}
	_, err = m.CreateEntry(t.Context(), op1, request(func(r *manager.CreateRequest) { r.TLS, r.CredentialID = true, cred.ID }))
	wantCode(t, err, manager.CodeCredentialRevoked, "an entry with a revoked credential")
	_, err = relay.Credential(t.Context(), "none")
	wantCode(t, err, manager.CodeUnknownCredential, "an unknown one")
}

// Two managers on one store: what one revokes, the other knows, and so do its relays.
func TestRevocationReachesOtherManagers(t *testing.T) {
	a := start(t, config())
	b := startOn(t, config(), a.store)
	cred := register(t, a.Service, newCA(t, ""))
	relay := attach(t, b.Service, outerRelay("outer1", manager.DefaultPorts()))
	if c, err := relay.Credential(t.Context(), cred.ID); err != nil || !c.Revoked.IsZero() {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := a.RevokeCredential(t.Context(), op1, cred.ID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		c, err := relay.Credential(ctx, cred.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !c.Revoked.IsZero() {
			break
		}
		<-tick.C
	}
}

// FuzzRegisterCredential: no bytes of a client make the manager panic, and what it takes
// is one CA certificate.
func FuzzRegisterCredential(f *testing.F) {
	a := newCA(f, "")
	f.Add(a.PEM(), []byte{})
	f.Add(a.Certificate().Raw, spki(a))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PUBLIC KEY-----"))
	m := start(f, config())
	f.Fuzz(func(t *testing.T, ca, key []byte) {
		c, err := m.RegisterCredential(t.Context(), op1, manager.NewCredential{CA: ca, PublicKey: key})
		if err != nil {
			return
		}
		if parsed, err := x509.ParseCertificate(c.CA); err != nil || !parsed.IsCA || !bytes.Equal(parsed.RawSubjectPublicKeyInfo, c.PublicKey) {
			t.Errorf("taken: %v", err)
		}
	})
}
