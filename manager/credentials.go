package manager

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// MaxCredentials is how many credentials an operator may have in force.
	MaxCredentials = 1000
	// maxRevokedCredentials is how many more may have been revoked in the last keepRevoked.
	// After that no entry that needs one is left, and it may be forgotten.
	maxRevokedCredentials = 9 * MaxCredentials
	keepRevoked           = 24 * time.Hour
	maxSerials            = 10000 // of one credential
	maxCredentialIn       = 32 << 10
	maxName               = 128 // characters
	// maxCredentialsKnown bounds the cache, of all operators.
	maxCredentialsKnown = 1000
)

// NewCredential is what a client registers (R1).
type NewCredential struct {
	Name string // for people; at most 128 characters, may be empty
	// CA is the issuing CA's certificate, PEM or DER: exactly one.
	CA []byte
	// PublicKey checks the signatures of client certificates: a SubjectPublicKeyInfo,
	// PEM or DER. It must be the CA's; empty: that.
	PublicKey []byte
}

// credentialCache holds credentials as the store had them. Its zero value works.
type credentialCache struct {
	mu    sync.Mutex // guards the rest
	known map[CredentialID]Credential
	epoch uint64 // counts what was dropped: what was read before is not kept after
}

// RegisterCredential stores a CA's certificate and key under a fresh ID (R1, R2).
//
// Errors: CodeBadCredential, CodeCredentialKey, CodeManyCertificates,
// CodeCredentialExpired, CodeTooManyCredentials, CodeInternal.
func (s *Service) RegisterCredential(ctx context.Context, op OperatorID, n NewCredential) (Credential, error) {
	if utf8.RuneCountInString(n.Name) > maxName || !utf8.ValidString(n.Name) {
		return Credential{}, NewError(CodeBadCredential, DetailLongCharacters.Of("name", maxName))
	}
	ca, err := parseCA(n.CA)
	if err != nil {
		return Credential{}, err
	}
	key := ca.RawSubjectPublicKeyInfo
	if len(n.PublicKey) > 0 {
		given, err := parsePublicKey(n.PublicKey)
		if err != nil {
			return Credential{}, err
		}
		if !bytes.Equal(given, key) {
			return Credential{}, NewError(CodeCredentialKey)
		}
	}
	c := Credential{ID: CredentialID(newID(time.Now())), OperatorID: op, Name: n.Name, CA: ca.Raw, PublicKey: key, Created: now()}
	err = s.store.AddCredential(ctx, c, CredentialLimits{InForce: MaxCredentials, Revoked: maxRevokedCredentials, Forget: c.Created.Add(-keepRevoked)})
	switch {
	case errors.Is(err, ErrTooMany):
		return Credential{}, NewError(CodeTooManyCredentials, MaxCredentials)
	case err != nil:
		return Credential{}, AsError(err)
	}
	return c, nil
}

// parseCA reads one CA certificate that is in force.
func parseCA(in []byte) (*x509.Certificate, error) {
	bad := func(why error) (*x509.Certificate, error) { return nil, NewError(CodeBadCredential, why) }
	if len(in) > maxCredentialIn {
		return bad(DetailLargeCertificate.Of(maxCredentialIn))
	}
	ders := [][]byte{in}
	if looksLikePEM(in) {
		ders = nil
		for rest := in; ; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			if b.Type != "CERTIFICATE" {
				return bad(DetailNotCertificate)
			}
			ders = append(ders, b.Bytes)
		}
	}
	if len(in) == 0 || len(ders) == 0 {
		return bad(DetailNoCertificate)
	}
	certs := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificates(der)
		if err != nil || len(c) == 0 {
			return nil, &Error{Code: CodeBadCredential, Args: []any{DetailBadCertificate}, Err: err}
		}
		certs[i] = c[0]
		if len(c) > 1 {
			certs = append(certs, c[1:]...)
		}
	}
	if len(certs) != 1 {
		return nil, NewError(CodeManyCertificates, len(certs))
	}
	ca := certs[0]
	switch at := time.Now(); {
	case !ca.BasicConstraintsValid || !ca.IsCA: // RFC 5280 clause 4.2.1.9
		return bad(DetailNotCA)
	case ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCertSign == 0: // clause 4.2.1.3
		return bad(DetailNoSigning)
	case ca.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm:
		return bad(DetailUnknownKey)
	case at.Before(ca.NotBefore) || at.After(ca.NotAfter):
		return nil, NewError(CodeCredentialExpired)
	}
	return ca, nil
}

func parsePublicKey(in []byte) ([]byte, error) {
	if len(in) > maxCredentialIn {
		return nil, NewError(CodeBadCredential, DetailLargeKey.Of(maxCredentialIn))
	}
	if looksLikePEM(in) {
		b, rest := pem.Decode(in)
		if b == nil || b.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, NewError(CodeBadCredential, DetailKeyBlock)
		}
		in = b.Bytes
	}
	if _, err := x509.ParsePKIXPublicKey(in); err != nil {
		return nil, &Error{Code: CodeBadCredential, Args: []any{DetailBadKey}, Err: err}
	}
	return in, nil
}

func looksLikePEM(in []byte) bool { return bytes.Contains(in, []byte("-----BEGIN ")) }

// Credentials lists what q selects. Errors: CodeInternal.
func (s *Service) Credentials(ctx context.Context, q CredentialQuery) ([]Credential, error) {
	cs, err := s.store.Credentials(ctx, q)
	if err != nil {
		return nil, AsError(err)
	}
	return cs, nil
}

// OperatorCredential returns one of an operator's credentials. Errors:
// CodeUnknownCredential, CodeInternal.
func (s *Service) OperatorCredential(ctx context.Context, op OperatorID, id CredentialID) (Credential, error) {
	c, err := s.credential(ctx, id)
	if err == nil && c.OperatorID != op {
		return Credential{}, NewError(CodeUnknownCredential, id)
	}
	return c, err
}

// RevokeCredential ends a credential for good: its entries are not resolved any more and
// relays cut the connections that it let in. Revoking again changes nothing.
//
// Errors: CodeUnknownCredential, CodeInternal.
func (s *Service) RevokeCredential(ctx context.Context, op OperatorID, id CredentialID) error {
	_, err := s.updateCredential(ctx, op, id, func(c *Credential) error {
		if c.Revoked.IsZero() {
			c.Revoked = now()
		}
		return nil
	})
	return err
}

// SetRevokedSerials replaces the list of serial numbers of client certificates that are
// let in no more. They are hexadecimal; colons, capitals and leading zeros do not
// matter. Relays cut live connections of certificates that are new in the list.
//
// Errors: CodeBadSerial, CodeTooManyCredentials, CodeUnknownCredential,
// CodeCredentialRevoked, CodeInternal.
func (s *Service) SetRevokedSerials(ctx context.Context, op OperatorID, id CredentialID, serials []string) (Credential, error) {
	if len(serials) > maxSerials {
		return Credential{}, NewError(CodeTooManyCredentials, maxSerials)
	}
	list := make([]string, len(serials))
	for i, t := range serials {
		n, ok := normalSerial(t)
		if !ok {
			return Credential{}, NewError(CodeBadSerial, t)
		}
		list[i] = n
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return s.updateCredential(ctx, op, id, func(c *Credential) error {
		if !c.Revoked.IsZero() {
			return NewError(CodeCredentialRevoked)
		}
		c.RevokedSerials = list
		return nil
	})
}

// normalSerial returns lower-case hexadecimal without leading zeros. RFC 5280 clause
// 4.1.2.2 bounds serial numbers to 20 octets; some CAs make longer ones.
func normalSerial(t string) (string, bool) {
	t = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(t), "0x"), "0X"), ":", ""))
	if t == "" || len(t) > 80 || strings.Trim(t, "0123456789abcdef") != "" {
		return "", false
	}
	if t = strings.TrimLeft(t, "0"); t == "" {
		t = "0"
	}
	return t, true
}

func (s *Service) updateCredential(ctx context.Context, op OperatorID, id CredentialID, change func(*Credential) error) (Credential, error) {
	c, err := s.store.UpdateCredential(ctx, id, func(c *Credential) error {
		if c.OperatorID != op {
			return ErrNotFound
		}
		return change(c)
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return Credential{}, NewError(CodeUnknownCredential, id)
	case err != nil:
		return Credential{}, AsError(err)
	}
	s.credentialChanged(id) // the others hear of it from the store
	return c, nil
}

// credential returns a credential of any operator, revoked or not. Errors:
// CodeUnknownCredential, CodeInternal.
func (s *Service) credential(ctx context.Context, id CredentialID) (Credential, error) {
	cc := &s.credentials
	cc.mu.Lock()
	c, ok := cc.known[id]
	epoch := cc.epoch
	cc.mu.Unlock()
	if ok {
		return c, nil
	}
	c, err := s.store.Credential(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Credential{}, NewError(CodeUnknownCredential, id)
	case err != nil:
		return Credential{}, AsError(err)
	}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.epoch == epoch {
		if cc.known == nil || len(cc.known) >= maxCredentialsKnown {
			cc.known = map[CredentialID]Credential{}
		}
		cc.known[id] = c
	}
	return c, nil
}

// Credential returns a credential to a relay (R14), revoked or not. It is the
// receiver's to read, not to change.
//
// Errors: CodeRelayNotAttached, CodeUnknownCredential, CodeInternal.
func (rs *RelaySession) Credential(ctx context.Context, id CredentialID) (Credential, error) {
	if rs.err() != nil || rs.relay.Kind != OuterRelay {
		return Credential{}, NewError(CodeRelayNotAttached)
	}
	return rs.svc.credential(ctx, id)
}

// checkCredential returns CodeCredentialRevoked if an entry's credential is revoked, and
// CodeUnknownCredential if it is gone. An entry without one passes.
func (s *Service) checkCredential(ctx context.Context, id CredentialID) error {
	if id == "" {
		return nil
	}
	c, err := s.credential(ctx, id)
	if err != nil {
		return err
	}
	if !c.Revoked.IsZero() {
		return NewError(CodeCredentialRevoked)
	}
	return nil
}

// credentialChanged forgets a credential and tells the outer relays that are attached
// here; the empty ID stands for all of them, when changes may have been missed.
func (s *Service) credentialChanged(id CredentialID) {
	cc := &s.credentials
	cc.mu.Lock()
	cc.epoch++
	var changed []CredentialID
	if id != "" {
		delete(cc.known, id)
		changed = append(changed, id)
	} else {
		for k := range cc.known {
			changed = append(changed, k)
		}
		clear(cc.known)
	}
	cc.mu.Unlock()
	for _, rs := range s.fleet.outerSessions() {
		for _, id := range changed {
			rs.post(Command{Kind: CommandCredential, CredentialID: id})
		}
	}
}

// outerSessions returns the sessions of all outer relays, also of those that drain.
func (f *fleet) outerSessions() []*RelaySession {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*RelaySession
	for _, rs := range f.sessions {
		if rs.relay.Kind == OuterRelay {
			out = append(out, rs)
		}
	}
	return out
}
