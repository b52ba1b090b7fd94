package inner

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// statement is what a ticket says.
type statement struct {
	instance, connection, device, entry, id string
	expires, issued                         time.Time
}

// form is what the tickets of one key have in common. It was learnt from a ticket that
// the library found good, so that its header is known to be HS256 with the right type.
type form struct {
	header string // with its dot
	kid    string
	key    []byte
	desks  sync.Pool
}

// desk is what checking a ticket needs, used again.
type desk struct {
	mac hash.Hash
	buf []byte
}

func newForm(token, kid string, key []byte) *form {
	header, _, _ := strings.Cut(token, ".")
	f := &form{header: header + ".", kid: kid, key: bytes.Clone(key)}
	f.desks.New = func() any { return &desk{mac: hmac.New(sha256.New, f.key)} }
	return f
}

// macSize is that of a signature in a ticket.
var macSize = base64.RawURLEncoding.EncodedLen(sha256.Size)

// plain returns what a ticket says that is exactly as the manager makes it, and good;
// false of any other: the library decides.
func (v *verifier) plain(token string, now time.Time) (s statement, ok bool) {
	f := v.form.Load()
	if f == nil || len(token) > 4096 || !strings.HasPrefix(token, f.header) {
		return s, false
	}
	if key, ok := v.control.TicketKey(f.kid); !ok || !bytes.Equal(key, f.key) {
		return s, false
	}
	dot := len(token) - macSize - 1
	if dot < len(f.header) || token[dot] != '.' {
		return s, false
	}
	d := f.desks.Get().(*desk)
	defer f.desks.Put(d)
	d.buf = append(d.buf[:0], token...)
	d.mac.Reset()
	d.mac.Write(d.buf[:dot])
	end := len(d.buf)
	d.buf = d.mac.Sum(d.buf)
	sum := len(d.buf)
	d.buf = base64.RawURLEncoding.AppendEncode(d.buf, d.buf[end:])
	if subtle.ConstantTimeCompare(d.buf[sum:], d.buf[dot+1:end]) != 1 {
		return s, false
	}
	claims, err := base64.RawURLEncoding.AppendDecode(d.buf[sum:sum], d.buf[len(f.header):dot])
	if err != nil {
		return s, false
	}
	var issuer, audience string
	var expires, issued int64
	p := plainJSON{string(claims)}
	ok = p.text(`{"inst":`, &s.instance) && p.text(`,"cid":`, &s.connection) && p.text(`,"dev":`, &s.device) &&
		p.text(`,"iss":`, &issuer) && p.text(`,"sub":`, &s.entry) && p.text(`,"aud":[`, &audience) &&
		p.number(`],"exp":`, &expires) && p.number(`,"iat":`, &issued) && p.text(`,"jti":`, &s.id) && p.rest == "}"
	if !ok || issuer != ticketIssuer || audience != v.id {
		return s, false
	}
	s.expires, s.issued = time.Unix(expires, 0), time.Unix(issued, 0)
	return s, now.Before(s.expires.Add(clockLeeway)) && !now.Before(s.issued.Add(-clockLeeway))
}

// plainJSON reads JSON that is as expected: every name in its place, no escapes.
type plainJSON struct{ rest string }

func (p *plainJSON) text(before string, to *string) bool {
	rest, ok := strings.CutPrefix(p.rest, before)
	if !ok || rest == "" || rest[0] != '"' {
		return false
	}
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			*to, p.rest = rest[1:i], rest[i+1:]
			return true
		case c < ' ' || c > '~' || c == '\\':
			return false
		}
	}
	return false
}

func (p *plainJSON) number(before string, to *int64) bool {
	rest, ok := strings.CutPrefix(p.rest, before)
	n := 0
	for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
		n++
	}
	if !ok || n == 0 || n > 12 || (n > 1 && rest[0] == '0') { // a JSON number, exact as a float64 too
		return false
	}
	*to, _ = strconv.ParseInt(rest[:n], 10, 64) // up to 12 digits fit
	p.rest = rest[n:]
	return true
}
