package manager

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxLogins bounds how many secrets are hashed at one time: each takes 19 MiB
	// and a core, and anybody may ask.
	maxLogins = 4
	// maxSecret bounds what is hashed.
	maxSecret = 1024

	defaultTokenTimeout = 24 * time.Hour
	// MaxTokenTimeout is the longest that a token may be valid.
	MaxTokenTimeout = 48 * time.Hour
)

// Login is an authentication request: Email with Password, or AuthKeyID with
// AuthKey.
type Login struct {
	Email, Password    string
	AuthKeyID, AuthKey string
	Timeout            *time.Duration // how long the token is valid; nil: 24 h; from 1 s to MaxTokenTimeout
}

// Credentials are what a login gives: both strings are needed with every request.
type Credentials struct {
	APIKey, Token string
	OperatorID    OperatorID
}

// tokenClaims is the payload of an API token. Clients read operator.operatorId.
type tokenClaims struct {
	Operator struct {
		OperatorID OperatorID `json:"operatorId"`
	} `json:"operator"`
	KeyHash string `json:"keyHash"` // binds the token to its API key
	jwt.RegisteredClaims
}

// Authenticate checks a login and issues credentials. Tokens survive a restart of
// the manager.
//
// Errors: CodeAuthFailed (also for a login that names nobody), CodeBadTokenTimeout,
// CodeNotReady, CodeInternal; ctx's error while waiting for a turn.
func (s *Service) Authenticate(ctx context.Context, l Login) (Credentials, error) {
	sg := s.signer.Load()
	if sg == nil {
		return Credentials{}, NewError(CodeNotReady)
	}
	timeout := defaultTokenTimeout
	if l.Timeout != nil {
		timeout = *l.Timeout
	}
	if timeout < time.Second || timeout > MaxTokenTimeout {
		return Credentials{}, NewError(CodeBadTokenTimeout, int(MaxTokenTimeout/time.Second))
	}
	var cred credential
	var known bool
	secret := l.Password
	switch {
	case l.Email != "" && l.AuthKeyID == "":
		cred, known = s.registry.passwords[l.Email]
	case l.AuthKeyID != "" && l.Email == "":
		cred, known = s.registry.authKeys[l.AuthKeyID]
		secret = l.AuthKey
	default:
		return Credentials{}, NewError(CodeAuthFailed)
	}
	if secret == "" || len(secret) > maxSecret {
		return Credentials{}, NewError(CodeAuthFailed)
	}
	if l.AuthKeyID != "" && s.registry.proven.is(l.AuthKeyID, secret) {
		return sg.credentials(cred.operator, timeout)
	}
	select {
	case s.logins <- struct{}{}:
		defer func() { <-s.logins }()
	case <-ctx.Done():
		return Credentials{}, ctx.Err()
	}
	if !known {
		cred.hash = s.registry.decoy
	}
	if !cred.hash.matches(secret) || !known {
		return Credentials{}, NewError(CodeAuthFailed)
	}
	if l.AuthKeyID != "" {
		s.registry.proven.keep(l.AuthKeyID, secret)
	}
	return sg.credentials(cred.operator, timeout)
}

func (s *signer) credentials(op OperatorID, timeout time.Duration) (Credentials, error) {
	c := Credentials{APIKey: newAPIKey(), OperatorID: op}
	t := time.Now()
	claims := tokenClaims{
		KeyHash: keyHash(c.APIKey),
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    tokenIssuer,
			Subject:   string(op),
			Audience:  jwt.ClaimStrings{tokenAud},
			ID:        newID(t),
			IssuedAt:  jwt.NewNumericDate(t),
			ExpiresAt: jwt.NewNumericDate(t.Add(timeout)),
		},
	}
	claims.Operator.OperatorID = op
	var err error
	if c.Token, err = s.sign("JWT", claims); err != nil {
		return Credentials{}, &Error{Code: CodeInternal, Err: fmt.Errorf("sign token for %s: %w", op, err)}
	}
	return c, nil
}

// VerifyToken returns the operator that a pair of API key and token stands for.
// Errors: CodeTokenRequired, CodeBadToken, CodeNotReady.
func (s *Service) VerifyToken(apiKey, token string) (OperatorID, error) {
	if apiKey == "" || token == "" {
		return "", NewError(CodeTokenRequired)
	}
	sg := s.signer.Load()
	if sg == nil {
		return "", NewError(CodeNotReady)
	}
	var claims tokenClaims
	t, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return sg.public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(tokenIssuer), jwt.WithAudience(tokenAud), jwt.WithExpirationRequired())
	if err != nil {
		return "", &Error{Code: CodeBadToken, Err: err}
	}
	if t.Header["typ"] != "JWT" || subtle.ConstantTimeCompare([]byte(claims.KeyHash), []byte(keyHash(apiKey))) != 1 {
		return "", NewError(CodeBadToken)
	}
	return claims.Operator.OperatorID, nil
}

func keyHash(apiKey string) string {
	h := sha256.Sum256([]byte(apiKey))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// newAPIKey returns "api-" and a random UUID (RFC 9562, version 4).
func newAPIKey() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("api-%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
