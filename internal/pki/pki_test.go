package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func authority(t *testing.T, k KeyType) *Authority {
	t.Helper()
	a, err := NewAuthority(AuthorityConfig{Key: k})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *Authority, r Request) Pair {
	t.Helper()
	p, err := a.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func source(t *testing.T, c Config) *Source {
	t.Helper()
	s, err := NewSource(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake connects client and server in memory and returns both errors and the
// client's view.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serr, cerr error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	sc, cc := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := sc.Handshake()
		if err == nil {
			_, err = sc.Write([]byte("x"))
		}
		a.Close()
		done <- err
	}()
	cerr = cc.Handshake()
	if cerr == nil {
		// With TLS 1.3 the server's verdict on the client comes with the first read.
		_, cerr = cc.Read(make([]byte, 1))
	}
	b.Close()
	return cc.ConnectionState(), <-done, cerr
}

func TestEveryKeyTypeServes(t *testing.T) {
	for _, k := range []KeyType{ECDSA, RSA, Ed25519, ""} {
		a := authority(t, k)
		server := Server("relay.test", "*.entries.test", "192.0.2.1", "2001:db8::1")
		server.Key = k
		client := Client("someone")
		client.Key = k
		p, c := issue(t, a, server), issue(t, a, client)
		s := source(t, Config{Cert: string(p.Cert), Key: p.Key, CA: string(a.PEM())}).Serve(nil)
		d := source(t, Config{Cert: string(c.Cert), Key: c.Key, CA: string(a.PEM())})
		for _, name := range []string{"relay.test", "192-0-2-1.entries.test", "192.0.2.1", "2001:db8::1"} {
			if _, serr, cerr := handshake(t, s, d.Dial(nil, name)); serr != nil || cerr != nil {
				t.Errorf("%q, %s: %v, %v", k, name, serr, cerr)
			}
		}
		if _, _, cerr := handshake(t, s, d.Dial(nil, "a.b.entries.test")); cerr == nil {
			t.Errorf("%q: a wildcard stands for two labels", k)
		}
		none := source(t, Config{CA: string(a.PEM())})
		if _, serr, _ := handshake(t, s, none.Dial(nil, "relay.test")); serr == nil {
			t.Errorf("%q: a client without a certificate is let in", k)
		}
		pair, err := a.Pair()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadAuthority(pair); err != nil {
			t.Errorf("%q: the authority cannot be loaded again: %v", k, err)
		}
	}
	if _, err := KeyType("dsa").Generate(); err == nil {
		t.Error("a key of an unknown type was made")
	}
}

func TestLoadAuthorityRefuses(t *testing.T) {
	a, b := authority(t, ""), authority(t, "")
	pa, _ := a.Pair()
	pb, _ := b.Pair()
	for name, p := range map[string]Pair{
		"another's key": {pa.Cert, pb.Key}, "no authority": issue(t, a, Client("c")), "nothing": {}, "no key": {pa.Cert, ""},
	} {
		if _, err := LoadAuthority(p); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestRelayNames(t *testing.T) {
	a := authority(t, "")
	for _, id := range []string{"outer1", "a b/c", "ä"} {
		cert, err := a.IssueFor(Relay("outer", id), a.Certificate().PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if kind, got, err := ParseRelay(cert); err != nil || kind != "outer" || got != id {
			t.Errorf("relay %q: %q, %q, %v", id, kind, got, err)
		}
	}
	two := Relay("outer", "one")
	two.URIs = append(two.URIs, RelayURI("outer", "two"))
	for name, r := range map[string]Request{"none": Client("c"), "two": two, "no ID": Relay("outer", "")} {
		cert, err := a.IssueFor(r, a.Certificate().PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, id, err := ParseRelay(cert); err != ErrNoRelay {
			t.Errorf("%s: %q, %v; want %v", name, id, err, ErrNoRelay)
		}
	}
}

// Changed files take effect at the next handshake, at most a second later; files that
// cannot be used leave what was there; and a session begun with the old ones is not
// resumed.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	a := authority(t, "")
	cert, key, err := issue(t, a, Server("one.test")).WriteFiles(dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(key); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v; want 0600", fi.Mode(), err)
	}
	s := source(t, Config{Cert: cert, Key: Secret(key)})
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	s.now = func() time.Time { return time.Unix(0, clock.Load()) }
	server := s.Serve(nil)
	base := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	dial := source(t, Config{CA: string(a.PEM())})
	serves := func(name string, resumed bool) {
		t.Helper()
		st, serr, cerr := handshake(t, server, dial.Dial(base, name))
		if serr != nil || cerr != nil {
			t.Errorf("%s: %v, %v", name, serr, cerr)
		}
		if st.DidResume != resumed {
			t.Errorf("%s: resumed %t, want %t", name, st.DidResume, resumed)
		}
	}
	serves("one.test", false)
	serves("one.test", true)
	if _, _, err := issue(t, a, Server("one.test", "two.test")).WriteFiles(dir, "s"); err != nil {
		t.Fatal(err)
	}
	serves("one.test", true) // it has looked less than a second ago
	clock.Add(int64(time.Second))
	serves("two.test", false)
	serves("one.test", false)
	if n := s.Reloads(); n != 1 {
		t.Errorf("%d reloads, want 1", n)
	}
	if err := os.WriteFile(cert, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(time.Second))
	serves("two.test", true)
	if _, _, err := issue(t, a, Server("three.test")).WriteFiles(dir, "s"); err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(time.Second))
	serves("three.test", false)
}

func TestSourceRefuses(t *testing.T) {
	a := authority(t, "")
	p, q := issue(t, a, Server("a")), issue(t, a, Server("b"))
	for name, c := range map[string]Config{
		"a certificate without key": {Cert: string(p.Cert)},
		"another's key":             {Cert: string(p.Cert), Key: q.Key},
		"no file":                   {Cert: filepath.Join(t.TempDir(), "x"), Key: "y"},
		"a CA that is none":         {CA: "-----BEGIN NOTHING-----"},
	} {
		if _, err := NewSource(c, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if (Config{}).Enabled() || (Config{Cert: "a", Key: "b"}).Mutual() == nil {
		t.Error("an empty configuration is enabled, or one without a CA is mutual")
	}
}

// Nothing that prints a Config or a Pair prints the key.
func TestKeysAreNeverPrinted(t *testing.T) {
	p := issue(t, authority(t, ""), Server("a"))
	c := Config{Cert: "cert.pem", Key: p.Key, CA: "ca.pem"}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "config", c, "key", c.Key, "pair", p, "pointer", &c)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&log, verb+verb+verb, c, c.Key, p)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	log.Write(text)
	_, err = NewSource(Config{Cert: string(p.Cert), Key: "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"}, nil)
	fmt.Fprint(&log, err)
	body := strings.Split(string(p.Key), "\n")[1]
	for _, secret := range []string{body, fmt.Sprintf("%x", body[:16]), "c2VjcmV0", fmt.Sprintf("%d %d %d", body[0], body[1], body[2])} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the key is printed: %s", secret)
		}
	}
}

func TestAuthorityIsAConstraint(t *testing.T) {
	a := authority(t, "")
	c := a.Certificate()
	if !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || c.SerialNumber.Sign() <= 0 {
		t.Errorf("the authority's certificate: %+v", c)
	}
	leaf, err := a.IssueFor(Client("x"), c.PublicKey)
	if err != nil || leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Errorf("a client's certificate may sign: %v, %v", leaf.KeyUsage, err)
	}
}
