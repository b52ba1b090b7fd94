package steps

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/scenarios/lab"
)

// An answer is compared, values of it are kept for later requests, and a login is kept
// under its name.
func TestAPIAsksAndKeeps(t *testing.T) {
	l := newFakeLab(t)
	l.answers = []lab.APIAnswer{
		{Status: 201, Body: []byte(`{"handlerId":"h1","list":[{"a":"x"},{"a":"y"}]}`)},
		{Status: 200, Body: []byte(`{"apiKey":"k","token":"t"}`)},
		{Status: 403, Body: []byte(`{"code":"AUT0001","message":"no"}`)},
	}
	_, err := play(t, l, `
  - api: {call: "POST /v1/event_handlers", body: '{"imsi":"${ue.other.imsi}"}', status: 201, match: {"list.#": "2", "list.1.a": "y"}, save: {handler: handlerId}}
  - api: {call: "POST /v1/auth", as: nobody, login: bob}
  - api: {call: "DELETE /v1/event_handlers/${api.handler}", as: bob, language: ja, status: 403, code: AUT0001}
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(l.asked[0].Body); got != `{"imsi":"001010000000009"}` {
		t.Errorf("sent %s; want the UE's IMSI in it", got)
	}
	if last := l.asked[2]; last.Path != "/v1/event_handlers/h1" || last.As != "bob" || last.Language != "ja" {
		t.Errorf("asked %+v; want the saved handler, as bob, in Japanese", last)
	}
	if string(l.logins["bob"]) != `{"apiKey":"k","token":"t"}` {
		t.Errorf("kept %s of the login", l.logins["bob"])
	}
}

// With until the request is made again until the answer is right; without it, or when
// the time is up, the error says what was wrong and what came.
func TestAPIUntil(t *testing.T) {
	l := newFakeLab(t)
	l.answers = []lab.APIAnswer{{Status: 200, Body: []byte(`[]`)}, {Status: 200, Body: []byte(`[1]`)}}
	if _, err := play(t, l, "  - api: {call: GET /x, until: true, match: {'#': '1'}}\n"); err != nil {
		t.Errorf("a later answer was right: %v", err)
	}
	for text, want := range map[string]string{
		"  - api: {call: GET /x, match: {'#': '2'}}\n":                            `want "2" at "#", got "1"`,
		"  - api: {call: GET /x, status: 404}\n":                                  "want status 404",
		"  - api: {call: GET /x, code: ABC0001}\n":                                "want code ABC0001",
		"  - api: {call: GET /x, save: {v: nothing}}\n":                           `nothing at "nothing"`,
		"  - api: {call: 'GET /x?${api.unsaved}'}\n":                              `no step has saved "unsaved"`,
		"  - api: {call: GET /x, until: true, within: 60ms, match: {'#': '2'}}\n": `want "2" at "#"`,
	} {
		if _, err := play(t, l, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want %s", text, err, want)
		}
	}
}

// The files of a certificate step are what curl and the API take, and an impostor's
// certificate does not verify.
func TestCertificateMakesFiles(t *testing.T) {
	l := newFakeLab(t)
	e, err := play(t, l, `
  - certificate: {as: alice, ca: corp}
  - certificate: {as: mallory, ca: corp, key: ed25519, impostor: true}
  - certificate: {as: old, ca: corp, key: rsa, expired: true}
`)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) *x509.Certificate {
		b, err := os.ReadFile(filepath.Join(e.Scratch, name))
		if err != nil {
			t.Fatal(err)
		}
		p, _ := pem.Decode(b)
		if p == nil {
			t.Fatalf("%s is not PEM", name)
		}
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	roots := x509.NewCertPool()
	roots.AddCert(read("corp.pem"))
	for name, good := range map[string]bool{"alice": true, "mallory": false, "old": false} {
		_, err := read(name + ".pem").Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != good {
			t.Errorf("%s: %v; want accepted: %v", name, err, good)
		}
		if _, err := os.Stat(filepath.Join(e.Scratch, name+".key")); err != nil {
			t.Error(err)
		}
	}
	if text, err := e.expand("${file.corp.pub}"); err != nil || !strings.HasPrefix(text, `-----BEGIN PUBLIC KEY-----\n`) {
		t.Errorf("the public key in JSON is %q, %v", text, err)
	}
}

// Connections speak TLS to the relay, whose certificate must be the topology's, and
// show the certificate they are told to.
func TestTLSConnections(t *testing.T) {
	l := newFakeLab(t)
	var err error
	if l.ca, err = pki.NewAuthority(pki.AuthorityConfig{Name: "relays"}); err != nil {
		t.Fatal(err)
	}
	_, err = play(t, l, `
  - access: {ue: other, port: 7, tls: true}
  - connect: {access: other, tls: true, send: hello, expect: hello}
  - access: {ue: other, port: 1, tls: true, as: strict}
  - refused: {access: strict, tls: true, alert: certificate required}
  - certificate: {as: alice}
  - refused: {access: strict, tls: true, certificate: alice, alert: unknown certificate authority}
  - refused: {access: strict, tls: true}
`)
	if err != nil {
		t.Error(err)
	}
}

// What has crossed a network is awaited; what must not have crossed it is looked for
// after that, also as the bytes of an address.
func TestCapture(t *testing.T) {
	l := newFakeLab(t)
	l.crossed["public"] = "hello \x0a\x2d\x00\x01 world"
	for text, want := range map[string]string{
		"  - capture: {network: public, has: [hello], lacks: [secret, 10.46.0.1]}\n": "",
		"  - capture: {network: public, has: [hello], lacks: [10.45.0.1]}\n":         `"10.45.0.1" has crossed it`,
		"  - capture: {network: core, has: [hello]}\n    timeout: 100ms\n":           "not captured",
	} {
		_, err := play(t, l, text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v; want %q", text, err, want)
		}
	}
}
