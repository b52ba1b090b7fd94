package inner

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/simreach/simreach/relay"
)

const (
	managersHeader = `{"alg":"HS256","kid":"k1","typ":"simreach-ticket+jwt"}`
	managersClaims = `{"inst":"this process","cid":"conn","dev":"10.60.0.7:22","iss":"simreach-manager","sub":"entry","aud":["inner1"],"exp":%d,"iat":%d,"jti":"%s"}`
)

// compose signs texts as they are.
func compose(t testing.TB, header, claims string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac, err := jwt.SigningMethodHS256.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(mac)
}

func claimsAt(now time.Time, id string) string {
	return fmt.Sprintf(managersClaims, now.Unix()+15, now.Unix(), id)
}

// trained returns a verifier that has seen a good ticket.
func trained(t testing.TB) *verifier {
	t.Helper()
	v := newVerifier("inner1", control{}, 1000)
	now := time.Now()
	if _, err := v.verify(relay.Request{Target: device, Ticket: compose(t, managersHeader, claimsAt(now, "first"))}, now); err != nil {
		t.Fatal(err)
	}
	if v.form.Load() == nil {
		t.Fatal("the form of a good ticket was not learnt")
	}
	return v
}

// agree checks that a verifier that knows the manager's form judges as one that asks the
// library about everything, and returns whether it needed the library.
func agree(t *testing.T, v *verifier, token string) (plain bool) {
	t.Helper()
	now := time.Now()
	said, plain := v.plain(token, now)
	alone := newVerifier("inner1", control{}, 1000)
	want, err := alone.signed(token, now)
	if plain && (err != nil || said.instance != want.instance || said.connection != want.connection || said.device != want.device || said.entry != want.entry ||
		said.id != want.id || !said.expires.Equal(want.expires) || !said.issued.Equal(want.issued)) {
		t.Errorf("%s\nread as %+v; the library: %+v, %v", token, said, want, err)
	}
	before := v.form.Load()
	if got, err2 := v.signed(token, now); (err == nil) != (err2 == nil) || got.id != want.id || got.device != want.device {
		t.Errorf("%s\nis %+v, %v; by the library %+v, %v", token, got, err2, want, err)
	}
	if err != nil && v.form.Load() != before {
		t.Errorf("%s\nis bad, and its form was learnt", token)
	}
	return plain
}

// The manager's own form is read without the library; everything else gets the library's
// verdict.
func TestPlainTickets(t *testing.T) {
	now := time.Now()
	good := claimsAt(now, "x")
	h := managersHeader
	parts := strings.Split(compose(t, h, good), ".")
	flip := func(s string, i int) string {
		c := byte('A')
		if s[i] == c {
			c = 'B'
		}
		return s[:i] + string(c) + s[i+1:]
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"k1","typ":"simreach-ticket+jwt"}`))
	for _, c := range []struct {
		name, token string
		plain       bool
	}{
		{"as the manager makes it", compose(t, h, good), true},
		{"an empty text", compose(t, h, strings.Replace(good, `"conn"`, `""`, 1)), true},
		{"headers in another order", compose(t, `{"typ":"simreach-ticket+jwt","kid":"k1","alg":"HS256"}`, good), false},
		{"a space", compose(t, h, strings.Replace(good, `,"cid"`, ` ,"cid"`, 1)), false},
		{"an escape", compose(t, h, strings.Replace(good, "conn", `co\u006en`, 1)), false},
		{"beyond ASCII", compose(t, h, strings.Replace(good, "conn", "é", 1)), false},
		{"another order", compose(t, h, `{"cid":"conn","inst":"this process",`+strings.SplitAfterN(good, ",", 3)[2]), false},
		{"a claim more", compose(t, h, strings.Replace(good, "}", `,"nbf":1}`, 1)), false},
		{"not yet valid", compose(t, h, strings.Replace(good, "}", `,"nbf":99999999999}`, 1)), false},
		{"a claim twice", compose(t, h, strings.Replace(good, "}", `,"inst":"other"}`, 1)), false},
		{"audience as a text", compose(t, h, strings.Replace(good, `["inner1"]`, `"inner1"`, 1)), false},
		{"two audiences", compose(t, h, strings.Replace(good, `["inner1"]`, `["inner1","inner2"]`, 1)), false},
		{"another audience", compose(t, h, strings.Replace(good, "inner1", "inner2", 1)), false},
		{"another issuer", compose(t, h, strings.Replace(good, "simreach-manager", "simreach", 1)), false},
		{"a fraction", compose(t, h, strings.Replace(good, `,"iat"`, `.5,"iat"`, 1)), false},
		{"an exponent", compose(t, h, strings.Replace(good, `,"iat"`, `e0,"iat"`, 1)), false},
		{"a leading zero", compose(t, h, strings.Replace(good, `"exp":`, `"exp":0`, 1)), false},
		{"negative", compose(t, h, strings.Replace(good, `"iat":`, `"iat":-`, 1)), false},
		{"expired", compose(t, h, claimsAt(now.Add(-time.Minute), "x")), false},
		{"from the future", compose(t, h, claimsAt(now.Add(time.Minute), "x")), false},
		{"more behind it", compose(t, h, good+" "), false},
		{"no claims", compose(t, h, ""), false},
		{"another type", compose(t, strings.Replace(h, "simreach-ticket+jwt", "JWT", 1), good), false},
		{"another key", compose(t, strings.Replace(h, "k1", "k2", 1), good), false},
		{"alg none", none + "." + parts[1] + ".", false},
		{"alg none with the signature", none + "." + parts[1] + "." + parts[2], false},
		{"alg HS512", compose(t, strings.Replace(h, "HS256", "HS512", 1), good), false},
		{"signature changed", parts[0] + "." + parts[1] + "." + flip(parts[2], 0), false},
		{"signature's unused bits", parts[0] + "." + parts[1] + "." + parts[2][:42] + string(rune(parts[2][42]+1)), false},
		{"claims changed", parts[0] + "." + flip(parts[1], 20) + "." + parts[2], false},
		{"no signature", parts[0] + "." + parts[1] + ".", false},
		{"a part less", parts[0] + "." + parts[1], false},
		{"a part more", compose(t, h, good) + ".", false},
		{"a line break", parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + parts[2], false},
		{"padded", parts[0] + "." + parts[1] + "=." + parts[2], false},
		{"header only", parts[0] + ".", false},
		{"long", compose(t, h, strings.Replace(good, "conn", strings.Repeat("c", 5000), 1)), false},
	} {
		if got := agree(t, trained(t), c.token); got != c.plain {
			t.Errorf("%s: read without the library %v; want %v", c.name, got, c.plain)
		}
	}
}

// Times are judged to the second as the library does, with the leeway.
func TestPlainTimes(t *testing.T) {
	v := trained(t)
	at := time.Unix(time.Now().Unix(), 0)
	token := compose(t, managersHeader, claimsAt(at, "x"))
	for _, c := range []struct {
		now  time.Time
		good bool
	}{
		{at.Add(-clockLeeway - 1), false}, {at.Add(-clockLeeway), true}, {at, true},
		{at.Add(15*time.Second + clockLeeway - 1), true}, {at.Add(15*time.Second + clockLeeway), false},
	} {
		_, good := v.plain(token, c.now)
		library := jwt.NewParser(jwt.WithIssuedAt(), jwt.WithLeeway(clockLeeway), jwt.WithTimeFunc(func() time.Time { return c.now }))
		_, err := library.ParseWithClaims(token, &claims{}, func(*jwt.Token) (any, error) { return key, nil })
		if good != c.good || good != (err == nil) {
			t.Errorf("%s after it was issued: good %v; want %v, as the library: %v", c.now.Sub(at), good, c.good, err)
		}
	}
}

// A ticket is good once whichever way it was read, and a key that changes is not trusted
// any more.
func TestPlainTicketsOnce(t *testing.T) {
	v := trained(t)
	now := time.Now()
	req := relay.Request{Target: device, Ticket: compose(t, managersHeader, claimsAt(now, "first"))}
	if _, err := v.verify(req, now); !errors.Is(err, errUsed) {
		t.Errorf("used before it was plain: %v; want errUsed", err)
	}
	req.Ticket = compose(t, managersHeader, claimsAt(now, "second"))
	if got, err := v.verify(req, now); err != nil || got != (ticket{Entry: "entry", Connection: "conn", Device: device}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := v.verify(req, now); !errors.Is(err, errUsed) {
		t.Errorf("again: %v; want errUsed", err)
	}
	v.control = rekeyed{}
	req.Ticket = compose(t, managersHeader, claimsAt(now, "third"))
	if _, err := v.verify(req, now); !errors.Is(err, errTicket) || errors.Is(err, errUsed) {
		t.Errorf("with the key of before: %v; want errTicket", err)
	}
}

// rekeyed is an attachment whose key is another by now.
type rekeyed struct{ control }

func (rekeyed) TicketKey(id string) ([]byte, bool) {
	return append([]byte("x"), key[1:]...), id == "k1"
}

func FuzzTicket(f *testing.F) {
	now := time.Now()
	f.Add(managersHeader, claimsAt(now, "x"), "")
	f.Add(`{"alg":"none"}`, claimsAt(now, "x"), "")
	f.Add(managersHeader, `{"inst":"this process"}`, ".")
	f.Add(managersHeader, strings.Replace(claimsAt(now, "x"), "conn", `\"`, 1), "=")
	f.Fuzz(func(t *testing.T, header, claims, tail string) {
		v := trained(t)
		agree(t, v, compose(t, header, claims)+tail)
		agree(t, v, compose(t, managersHeader, claims)+tail)
	})
}

// The fuzzer cannot write the time of today: this has it.
func FuzzTicketText(f *testing.F) {
	f.Add("this process", "conn", "10.60.0.7:22", "entry", int64(15), int64(0))
	f.Add("\"", "\\", "\x7f", "é", int64(-1), int64(1<<40))
	f.Fuzz(func(t *testing.T, instance, connection, dev, entry string, exp, iat int64) {
		now := time.Now().Unix()
		claims := fmt.Sprintf(`{"inst":"%s","cid":"%s","dev":"%s","iss":"simreach-manager","sub":"%s","aud":["inner1"],"exp":%d,"iat":%d,"jti":"i"}`,
			instance, connection, dev, entry, now+exp, now+iat)
		agree(t, trained(t), compose(t, managersHeader, claims))
	})
}
