package manager

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func ticketSigner() *signer {
	return newSigner(SigningKey{ID: "key1", Seed: bytes.Repeat([]byte{7}, 32)})
}

// libraryClaims is how the library writes the claims of a ticket.
type libraryClaims struct {
	Instance   string `json:"inst"`
	Connection string `json:"cid"`
	Device     string `json:"dev"`
	jwt.RegisteredClaims
}

// A ticket is, byte for byte, what the JWT library makes of the same claims.
func FuzzTicket(f *testing.F) {
	f.Add("instance", "connection", "entry", "inner1", int64(1700000000))
	f.Add("in\"s", "c\\<&>", "e\x00\x7f", "\xffé", int64(0))
	s := ticketSigner()
	f.Fuzz(func(t *testing.T, instance, connection, entry, inner string, at int64) {
		from := time.Unix(at%(1<<33), 0)
		if at < 0 || entry == "" { // every entry has an ID; the library leaves an empty one out
			return
		}
		r := Route{ConnectionID: connection, EntryID: EntryID(entry), InnerID: RelayID(inner), Device: netip.MustParseAddrPort("[2001:db8::7]:22")}
		got, err := s.ticket(&r, instance, from, 15*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		key, err := s.ticketKey(r.InnerID, instance)
		if err != nil {
			t.Fatal(err)
		}
		var c libraryClaims
		_, err = jwt.ParseWithClaims(got, &c, func(*jwt.Token) (any, error) { return key.Key, nil },
			jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer(ticketIssuer), jwt.WithTimeFunc(func() time.Time { return from }))
		if err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		// Except for its ID, it is made of what the caller gave.
		want := libraryClaims{instance, connection, r.Device.String(), jwt.RegisteredClaims{
			Issuer: ticketIssuer, Subject: entry, Audience: jwt.ClaimStrings{inner}, ID: c.ID,
			IssuedAt: jwt.NewNumericDate(from), ExpiresAt: jwt.NewNumericDate(from.Add(15 * time.Second)),
		}}
		tok := jwt.NewWithClaims(jwt.SigningMethodHS256, want)
		tok.Header["typ"], tok.Header["kid"] = ticketType, key.ID
		made, err := tok.SignedString(key.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got != made {
			t.Errorf("ticket\n%s; the library makes\n%s", got, made)
		}
	})
}

// Keys of processes are kept, and not without bound.
func TestTicketKeysAreKept(t *testing.T) {
	s := ticketSigner()
	one, err := s.maker(process{"inner1", "a"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxMakers {
		m, err := s.maker(process{"inner1", strings.Repeat("x", i)})
		if err != nil || bytes.Equal(m.key.Key, one.key.Key) || len(s.makers) > maxMakers {
			t.Fatalf("process %d: %v, %d kept", i, err, len(s.makers))
		}
	}
	if again, err := s.maker(process{"inner1", "a"}); err != nil || !bytes.Equal(again.key.Key, one.key.Key) {
		t.Errorf("%v: the key is another", err)
	}
}

func BenchmarkTicket(b *testing.B) {
	s := ticketSigner()
	r := Route{ConnectionID: "01JDABCDEFGHJKMNPQRSTVWXYZ", EntryID: "01JDABCDEFGHJKMNPQRSTVWXYZ", InnerID: "inner1", Device: netip.MustParseAddrPort("10.60.0.7:22")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.ticket(&r, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", time.Now(), 15*time.Second); err != nil {
			b.Fatal(err)
		}
	}
}
