package manager

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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

	// MinSwitchTimeout and MaxSwitchTimeout bound a token that SwitchUser gives.
	MinSwitchTimeout = 180 * time.Second
	MaxSwitchTimeout = time.Hour
)

// Login is an authentication request: Email with Password, OperatorID and UserName with
// Password, or AuthKeyID with AuthKey.
type Login struct {
	Email, Password    string
	OperatorID         OperatorID
	UserName           string
	AuthKeyID, AuthKey string
	OTP                string         // one-time password or backup code, for a password of an account with a second factor
	Timeout            *time.Duration // how long the token is valid; nil: 24 h; from 1 s to MaxTokenTimeout
	Source             netip.Addr     // who asks; may be invalid
}

// Credentials are what a login gives: key and token are needed with every request.
type Credentials struct {
	APIKey, Token string
	Principal
}

// tokenClaims is the payload of an API token. Clients read operator.operatorId.
type tokenClaims struct {
	Operator struct {
		OperatorID OperatorID `json:"operatorId"`
		UserName   string     `json:"userName,omitempty"`
	} `json:"operator"`
	KeyHash    string `json:"keyHash"` // binds the token to its API key
	Generation int64  `json:"gen"`     // of the account
	// Switched marks a token of SwitchUser: a token that renews it is as short-lived.
	Switched bool `json:"switched,omitempty"`
	jwt.RegisteredClaims
}

func (c *tokenClaims) principal() Principal {
	return Principal{c.Operator.OperatorID, c.Operator.UserName}
}

// Authenticate checks a login and issues credentials. Tokens survive a restart of
// the manager. A login that fails names in its credentials whom it was for, if there is
// such an account: for the API audit log.
//
// Passwords that are wrong again and again make logins of that account slower, whoever
// asks. An authentication key that was right a short time ago is not slowed down.
//
// Errors: CodeAuthFailed (also for a login that names nobody), CodeOTPRequired,
// CodeOTPWrong, CodeTooManyLogins, CodeBadTokenTimeout, CodeNotReady, CodeInternal;
// ctx's error while waiting for a turn.
func (s *Service) Authenticate(ctx context.Context, l Login) (Credentials, error) {
	if s.signer.Load() == nil {
		return Credentials{}, NewError(CodeNotReady)
	}
	timeout := defaultTokenTimeout
	if l.Timeout != nil {
		timeout = *l.Timeout
	}
	if timeout < time.Second || timeout > MaxTokenTimeout {
		return Credentials{}, NewError(CodeBadTokenTimeout, int(MaxTokenTimeout/time.Second))
	}
	a, err := s.accounts.authenticate(ctx, l)
	s.metrics.loggedIn(l, err)
	if err != nil {
		return Credentials{Principal: a.Principal()}, err
	}
	return s.issue(a, "", timeout, false)
}

// issue issues a token to an account: for an API key or, if apiKey is empty, with
// a new one.
func (s *Service) issue(a Account, apiKey string, timeout time.Duration, switched bool) (Credentials, error) {
	c := Credentials{APIKey: apiKey, Principal: a.Principal()}
	if apiKey == "" {
		c.APIKey = newAPIKey()
	}
	t := time.Now()
	claims := tokenClaims{
		KeyHash:    keyHash(c.APIKey),
		Generation: a.Generation,
		Switched:   switched,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    tokenIssuer,
			Subject:   string(a.OperatorID),
			Audience:  jwt.ClaimStrings{tokenAud},
			ID:        newID(t),
			IssuedAt:  jwt.NewNumericDate(t),
			ExpiresAt: jwt.NewNumericDate(t.Add(timeout)),
		},
	}
	claims.Operator.OperatorID, claims.Operator.UserName = a.OperatorID, a.UserName
	var err error
	if c.Token, err = s.signer.Load().sign("JWT", claims); err != nil {
		return Credentials{}, AsError(fmt.Errorf("sign token for %s: %w", c.Principal, err))
	}
	return c, nil
}

// VerifyToken returns whom a pair of API key and token stands for.
// Errors: CodeTokenRequired, CodeBadToken, CodeNotReady, CodeInternal; ctx's error.
func (s *Service) VerifyToken(ctx context.Context, apiKey, token string) (Principal, error) {
	claims, err := s.parseToken(ctx, apiKey, token)
	if err != nil {
		return Principal{}, err
	}
	return claims.principal(), nil
}

func (s *Service) parseToken(ctx context.Context, apiKey, token string) (*tokenClaims, error) {
	if apiKey == "" || token == "" {
		return nil, NewError(CodeTokenRequired)
	}
	sg := s.signer.Load()
	if sg == nil {
		return nil, NewError(CodeNotReady)
	}
	claims := new(tokenClaims)
	t, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return sg.public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(tokenIssuer), jwt.WithAudience(tokenAud), jwt.WithExpirationRequired())
	if err != nil {
		return nil, &Error{Code: CodeBadToken, Err: err}
	}
	if t.Header["typ"] != "JWT" || subtle.ConstantTimeCompare([]byte(claims.KeyHash), []byte(keyHash(apiKey))) != 1 {
		return nil, NewError(CodeBadToken)
	}
	id, err := s.accounts.identity(ctx, claims.principal())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, NewError(CodeBadToken)
	case err != nil:
		return nil, faultIn(ctx, "check token", err)
	case claims.Generation != id.generation || slices.Contains(id.revoked, claims.ID):
		return nil, NewError(CodeBadToken)
	}
	return claims, nil
}

// Logout makes a token void. Its API key is of no more use then.
// Errors: those of VerifyToken.
func (s *Service) Logout(ctx context.Context, apiKey, token string) error {
	claims, err := s.parseToken(ctx, apiKey, token)
	if err != nil {
		return err
	}
	p := claims.principal()
	if err := s.store.RevokeToken(ctx, p, claims.ID, claims.ExpiresAt.Time); err != nil {
		return faultIn(ctx, "log out", err)
	}
	s.accounts.forget(p.OperatorID)
	return nil
}

// RenewToken issues another token for the API key that a request was made with. nil
// timeout: 24 h. Errors: those of VerifyToken, CodeBadTokenTimeout.
func (s *Service) RenewToken(ctx context.Context, apiKey, token string, timeout *time.Duration) (Credentials, error) {
	claims, err := s.parseToken(ctx, apiKey, token)
	if err != nil {
		return Credentials{}, err
	}
	most, d := MaxTokenTimeout, defaultTokenTimeout
	if claims.Switched {
		most, d = MaxSwitchTimeout, MaxSwitchTimeout
	}
	if timeout != nil {
		d = *timeout
	}
	if d < time.Second || d > most {
		return Credentials{}, NewError(CodeBadTokenTimeout, int(most/time.Second))
	}
	p := claims.principal()
	return s.issue(Account{OperatorID: p.OperatorID, UserName: p.UserName, Generation: claims.Generation}, apiKey, d, claims.Switched)
}

// SwitchUser issues credentials of a SAM user, perhaps another operator's, to whom its
// trust policy names. from describes the call. nil timeout: MaxSwitchTimeout.
//
// Errors: CodeBadSwitch, CodeSwitchRefused (also for a user that there is not),
// CodeInternal.
func (s *Service) SwitchUser(ctx context.Context, from Access, to Principal, timeout *time.Duration) (Credentials, error) {
	d := MaxSwitchTimeout
	if timeout != nil {
		d = *timeout
	}
	if to.OperatorID == "" || to.UserName == "" || d < MinSwitchTimeout || d > MaxSwitchTimeout {
		return Credentials{}, NewError(CodeBadSwitch, int(MinSwitchTimeout/time.Second), int(MaxSwitchTimeout/time.Second))
	}
	a, err := s.store.Account(ctx, to)
	if errors.Is(err, ErrNotFound) {
		return Credentials{}, NewError(CodeSwitchRefused)
	}
	if err != nil {
		return Credentials{}, faultIn(ctx, "switch user", err)
	}
	trust, err := parseTrustPolicy(a.TrustPolicy)
	if a.TrustPolicy == "" || err != nil || trust.decide(from.Principal.String(), from) != allowed {
		return Credentials{}, NewError(CodeSwitchRefused)
	}
	return s.issue(a, "", d, true)
}

// RevokeTokens makes all tokens of an account void or, with all, all those of its
// operator. Errors: CodeUnknownUser, CodeInternal.
func (s *Service) RevokeTokens(ctx context.Context, p Principal, all bool) error {
	err := s.store.RevokeTokens(ctx, p, all)
	s.accounts.forget(p.OperatorID)
	return userError(ctx, p, "revoke tokens", err)
}

func keyHash(apiKey string) string {
	h := sha256.Sum256([]byte(apiKey))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// newAPIKey returns "api-" and a random UUID (RFC 9562, version 4).
func newAPIKey() string { return "api-" + randomUUID() }

func randomUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
