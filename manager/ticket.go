package manager

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
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

// ticketClaims is what an inner relay checks: relay/inner has its own copy of
// these names, because neither side may import the other.
//
//	aud  the inner relay's ID           inst  its instance, so that a ticket dies with the process it was made for
//	sub  the entry's ID                 cid   the connection's ID
//	dev  the device's address and port  jti   makes the ticket valid once
//	exp  at most 30 s after iat
type ticketClaims struct {
	Instance   string `json:"inst"`
	Connection string `json:"cid"`
	Device     string `json:"dev"`
	jwt.RegisteredClaims
}

// signer signs with one key; it never changes.
type signer struct {
	id      string
	private ed25519.PrivateKey
}

func newSigner(k SigningKey) *signer {
	return &signer{id: k.ID, private: ed25519.NewKeyFromSeed(k.Seed)}
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

func (s *signer) sign(typ string, claims jwt.Claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	t.Header["typ"], t.Header["kid"] = typ, s.id
	return t.SignedString(s.private)
}

func (s *signer) ticket(r Route, instance string, lifetime time.Duration) (string, error) {
	key, err := s.ticketKey(r.InnerID, instance)
	if err != nil {
		return "", err
	}
	t := time.Now()
	tok := jwt.NewWithClaims(jwt.SigningMethodHS256, ticketClaims{
		Instance:   instance,
		Connection: r.ConnectionID,
		Device:     r.Device.String(),
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    ticketIssuer,
			Subject:   string(r.EntryID),
			Audience:  jwt.ClaimStrings{string(r.InnerID)},
			ID:        newID(t),
			IssuedAt:  jwt.NewNumericDate(t),
			ExpiresAt: jwt.NewNumericDate(t.Add(lifetime)),
		},
	})
	tok.Header["typ"], tok.Header["kid"] = ticketType, key.ID
	return tok.SignedString(key.Key)
}
