package manager

import (
	"crypto/ed25519"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Tickets and tokens are JWTs (RFC 7519) signed with EdDSA. Issuer, audience and
// the typ header keep one from passing for the other.
const (
	ticketType   = "simreach-ticket+jwt"
	ticketIssuer = "simreach-manager"
	tokenIssuer  = "simreach-manager/api"
	tokenAud     = "simreach-api"
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

func (s *signer) verificationKey() VerificationKey {
	return VerificationKey{ID: s.id, Key: s.public()}
}

func (s *signer) sign(typ string, claims jwt.Claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	t.Header["typ"], t.Header["kid"] = typ, s.id
	return t.SignedString(s.private)
}

func (s *signer) ticket(r Route, instance string, lifetime time.Duration) (string, error) {
	t := time.Now()
	return s.sign(ticketType, ticketClaims{
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
}
