package manager

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Tickets and tokens are JWTs (RFC 7519). Tokens are signed with EdDSA: operators may
// check them. Tickets have a MAC, HS256 of RFC 7518 clause 3.2, under a key that the
// manager shares with one process of one inner relay: only these two ever check it, and
// it costs a fiftieth of a signature at both of them. Issuer, audience and the typ header keep one
// from passing for the other.
const (
	ticketType   = "simreach-ticket+jwt"
	ticketIssuer = "simreach-manager"
	tokenIssuer  = "simreach-manager/api"
	tokenAud     = "simreach-api"

	ticketKeySize = sha256.Size
)

// ticketClaims are what an inner relay checks. They are written by appendClaims, in this
// order and as encoding/json would, because relay/inner reads that form without a parser;
// it has its own copy of the names, because neither side may import the other.
//
//	aud  the inner relay's ID           inst  its instance, so that a ticket dies with the process it was made for
//	sub  the entry's ID                 cid   the connection's ID
//	dev  the device's address and port  jti   makes the ticket valid once
//	exp  at most 30 s after iat
type ticketClaims struct {
	instance, connection string
	device               netip.AddrPort
	entry                EntryID
	inner                RelayID
	expires, issued      int64 // Unix time
	id                   string
}

func appendClaims(b []byte, c *ticketClaims) []byte {
	b = appendJSON(append(b, `{"inst":`...), c.instance)
	b = appendJSON(append(b, `,"cid":`...), c.connection)
	b = c.device.AppendTo(append(b, `,"dev":"`...))
	b = appendJSON(append(b, `","iss":"`+ticketIssuer+`","sub":`...), string(c.entry))
	b = appendJSON(append(b, `,"aud":[`...), string(c.inner))
	b = strconv.AppendInt(append(b, `],"exp":`...), c.expires, 10)
	b = strconv.AppendInt(append(b, `,"iat":`...), c.issued, 10)
	b = appendJSON(append(b, `,"jti":`...), c.id)
	return append(b, '}')
}

// appendJSON appends a text as encoding/json writes it.
func appendJSON(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			q, _ := json.Marshal(s) // never fails on a text
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// signer signs with one key; it never changes.
type signer struct {
	id      string
	private ed25519.PrivateKey

	mu     sync.RWMutex // guards makers
	makers map[process]*ticketMaker
}

// process is one of an inner relay.
type process struct {
	inner    RelayID
	instance string
}

// maxMakers bounds the processes whose keys are kept: those that are gone are among them.
const maxMakers = 256

// ticketMaker makes tickets for one process: deriving its key takes longer than all else.
type ticketMaker struct {
	key    TicketKey
	header string // the first part of every ticket, with its dot
	desks  sync.Pool
}

func newSigner(k SigningKey) *signer {
	return &signer{id: k.ID, private: ed25519.NewKeyFromSeed(k.Seed), makers: map[process]*ticketMaker{}}
}

func (s *signer) public() ed25519.PublicKey { return s.private.Public().(ed25519.PublicKey) }

// ticketKey derives the key for tickets to one process of an inner relay (RFC 5869).
// Managers on one store have the same seed, so that each can make tickets for relays
// that are attached to another; a relay learns from its key nothing of the seed or of
// the other keys.
func (s *signer) ticketKey(inner RelayID, instance string) (TicketKey, error) {
	info := fmt.Sprintf("simreach ticket key\x00%d:%s%s", len(inner), inner, instance)
	key, err := hkdf.Key(sha256.New, s.private.Seed(), nil, info, ticketKeySize)
	return TicketKey{ID: s.id, Key: key}, err
}

func (s *signer) maker(p process) (*ticketMaker, error) {
	s.mu.RLock()
	m := s.makers[p]
	s.mu.RUnlock()
	if m != nil {
		return m, nil
	}
	key, err := s.ticketKey(p.inner, p.instance)
	if err != nil {
		return nil, err
	}
	header := appendJSON([]byte(`{"alg":"HS256","kid":`), key.ID)
	header = append(header, `,"typ":"`+ticketType+`"}`...)
	m = &ticketMaker{key: key, header: base64.RawURLEncoding.EncodeToString(header) + "."}
	m.desks.New = func() any { return &ticketDesk{mac: hmac.New(sha256.New, key.Key)} }
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.makers) >= maxMakers {
		clear(s.makers) // those that are needed come back
	}
	s.makers[p] = m
	return m, nil
}

func (s *signer) sign(typ string, claims jwt.Claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	t.Header["typ"], t.Header["kid"] = typ, s.id
	return t.SignedString(s.private)
}

// ticket returns a ticket for a route that is valid from a time on.
func (s *signer) ticket(r *Route, instance string, from time.Time, lifetime time.Duration) (string, error) {
	m, err := s.maker(process{r.InnerID, instance})
	if err != nil {
		return "", err
	}
	c := ticketClaims{
		instance: instance, connection: r.ConnectionID, device: r.Device, entry: r.EntryID, inner: r.InnerID,
		expires: from.Add(lifetime).Unix(), issued: from.Unix(), id: newID(from),
	}
	return m.make(&c), nil
}

// ticketDesk is what making a ticket needs, used again.
type ticketDesk struct {
	mac          hash.Hash
	claims, text []byte
}

func (m *ticketMaker) make(c *ticketClaims) string {
	d := m.desks.Get().(*ticketDesk)
	defer m.desks.Put(d)
	d.claims = appendClaims(d.claims[:0], c)
	d.text = base64.RawURLEncoding.AppendEncode(append(d.text[:0], m.header...), d.claims)
	d.mac.Reset()
	d.mac.Write(d.text)
	d.claims = d.mac.Sum(d.claims[:0])
	d.text = base64.RawURLEncoding.AppendEncode(append(d.text, '.'), d.claims)
	return string(d.text)
}
