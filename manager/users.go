package manager

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/netip"
	"unicode/utf8"
)

// Bounds of accounts.
const (
	// MaxUsers, MaxRoles and MaxAuthKeys are how many an operator, and of the keys an
	// account, may have.
	MaxUsers    = 1000
	MaxRoles    = 100
	MaxAuthKeys = 10
	// MinPassword and MaxPassword bound passwords, in characters.
	MinPassword    = 8
	MaxPassword    = 128
	maxDescription = 256 // characters
)

// userError gives an error of the store about an account its code.
func userError(ctx context.Context, p Principal, what string, err error) error {
	switch {
	case errors.Is(err, ErrNotFound) && p.Root():
		return NewError(CodeUnknownOperator, string(p.OperatorID))
	case errors.Is(err, ErrNotFound):
		return NewError(CodeUnknownUser, p.UserName)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return faultIn(ctx, what, err)
}

// Account returns an account. Errors: CodeUnknownUser, CodeUnknownOperator, CodeInternal.
func (s *Service) Account(ctx context.Context, p Principal) (Account, error) {
	a, err := s.store.Account(ctx, p)
	return a, userError(ctx, p, "account", err)
}

// Users lists an operator's SAM users by name: after a name, at most limit.
func (s *Service) Users(ctx context.Context, op OperatorID, after string, limit int) ([]Account, error) {
	as, err := s.store.Accounts(ctx, op, after, limit)
	return as, faultIn(ctx, "users", err)
}

// CreateUser adds a SAM user, who has no credentials and no permissions of its own.
//
// Errors: CodeBadUserName, CodeBadDescription, CodeUserExists, CodeTooManyAccounts,
// CodeInternal.
func (s *Service) CreateUser(ctx context.Context, p Principal, description string) (Account, error) {
	if !validName(p.UserName) {
		return Account{}, NewError(CodeBadUserName)
	}
	if utf8.RuneCountInString(description) > maxDescription {
		return Account{}, NewError(CodeBadDescription, maxDescription)
	}
	at := now()
	a := Account{OperatorID: p.OperatorID, UserName: p.UserName, Description: description, Created: at, Updated: at, Generation: at.UnixMilli()}
	err := s.store.AddAccount(ctx, a, MaxUsers)
	switch {
	case errors.Is(err, ErrExists):
		return Account{}, NewError(CodeUserExists, p.UserName)
	case errors.Is(err, ErrTooMany):
		return Account{}, NewError(CodeTooManyAccounts, MaxUsers)
	}
	s.accounts.forget(p.OperatorID)
	return a, faultIn(ctx, "create user", err)
}

// changeAccount changes an account.
func (s *Service) changeAccount(ctx context.Context, p Principal, f func(*Account) error) error {
	_, err := s.store.ChangeAccount(ctx, p, func(a *Account) error {
		a.Updated = now()
		return f(a)
	})
	s.accounts.forget(p.OperatorID)
	return userError(ctx, p, "change account", err)
}

// UpdateUser changes a user's description. Errors: CodeUnknownUser, CodeBadDescription,
// CodeInternal.
func (s *Service) UpdateUser(ctx context.Context, p Principal, description string) error {
	if utf8.RuneCountInString(description) > maxDescription {
		return NewError(CodeBadDescription, maxDescription)
	}
	return s.changeAccount(ctx, p, func(a *Account) error {
		a.Description = description
		return nil
	})
}

// DeleteUser removes a SAM user. Its tokens and keys are void at once. Errors:
// CodeUnknownUser, CodeInternal.
func (s *Service) DeleteUser(ctx context.Context, p Principal) error {
	if p.Root() {
		return NewError(CodeUnknownUser, "")
	}
	err := s.store.DeleteAccount(ctx, p)
	s.accounts.forget(p.OperatorID)
	return userError(ctx, p, "delete user", err)
}

// SetPermission sets what a SAM user may do, besides what its roles and the default say;
// of the root user it sets that default. Empty text: nothing.
//
// Errors: CodeUnknownUser, CodeBadPermission, CodeInternal.
func (s *Service) SetPermission(ctx context.Context, p Principal, text string) error {
	if text != "" {
		if _, err := parsePermission(text); err != nil {
			return NewError(CodeBadPermission, err)
		}
	}
	return s.changeAccount(ctx, p, func(a *Account) error {
		a.Permission = text
		return nil
	})
}

// SetTrustPolicy says who may switch to a SAM user. Empty text: nobody. Errors:
// CodeUnknownUser, CodeBadTrustPolicy, CodeInternal.
func (s *Service) SetTrustPolicy(ctx context.Context, p Principal, text string) error {
	if text != "" {
		if _, err := parseTrustPolicy(text); err != nil {
			return NewError(CodeBadTrustPolicy, err)
		}
	}
	return s.changeAccount(ctx, p, func(a *Account) error {
		a.TrustPolicy = text
		return nil
	})
}

// hashPassword checks a new password and hashes it, when it is its turn.
func (s *Service) hashPassword(ctx context.Context, password string) (string, error) {
	if n := utf8.RuneCountInString(password); n < MinPassword || n > MaxPassword {
		return "", NewError(CodeBadPassword, MinPassword, MaxPassword)
	}
	select {
	case s.accounts.logins <- struct{}{}:
		defer func() { <-s.accounts.logins }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return HashSecret(password), nil
}

// CreatePassword gives a SAM user its first password. Errors: CodeUnknownUser,
// CodeBadPassword, CodePasswordExists, CodeInternal.
func (s *Service) CreatePassword(ctx context.Context, p Principal, password string) error {
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return s.changeAccount(ctx, p, func(a *Account) error {
		if a.Password != "" {
			return NewError(CodePasswordExists)
		}
		a.Password = hash
		return nil
	})
}

// UpdatePassword replaces an account's password, which must be known. Errors:
// CodeUnknownUser, CodeBadPassword, CodeNoPassword, CodeWrongPassword, CodeTooManyTries,
// CodeInternal.
func (s *Service) UpdatePassword(ctx context.Context, p Principal, current, password string) error {
	if n := utf8.RuneCountInString(password); n < MinPassword || n > MaxPassword {
		return NewError(CodeBadPassword, MinPassword, MaxPassword)
	}
	checked, err := s.checkPassword(ctx, p, current)
	if err != nil {
		return err
	}
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return s.changeAccount(ctx, p, func(a *Account) error {
		if err := a.still(checked); err != nil {
			return err
		}
		a.Password = hash
		return nil
	})
}

// still returns an error unless the account has the password with a hash that
// checkPassword returned: it may have been replaced or taken since.
func (a *Account) still(checked string) error {
	switch a.Password {
	case checked:
		return nil
	case "":
		return NewError(CodeNoPassword)
	}
	return NewError(CodeWrongPassword)
}

// DeletePassword takes a SAM user's password, and with it the second factor. Errors:
// CodeUnknownUser, CodeNoPassword, CodeInternal.
func (s *Service) DeletePassword(ctx context.Context, p Principal) error {
	return s.changeAccount(ctx, p, func(a *Account) error {
		if a.Password == "" {
			return NewError(CodeNoPassword)
		}
		a.Password, a.MFA = "", MFA{}
		return nil
	})
}

// checkPassword compares an account's password, slows down who guesses it, and returns
// the hash that it has.
func (s *Service) checkPassword(ctx context.Context, p Principal, password string) (hash string, err error) {
	a, err := s.store.Account(ctx, p)
	if err != nil {
		return "", userError(ctx, p, "check password", err)
	}
	if a.Password == "" {
		return "", NewError(CodeNoPassword)
	}
	if len(password) > maxSecret {
		return "", NewError(CodeWrongPassword)
	}
	t, err := s.tries(ctx, "p"+p.String())
	if err != nil {
		return "", err
	}
	ok, err := s.accounts.matches(ctx, a.Password, password)
	switch {
	case err != nil:
		t.leave()
		return "", err
	case !ok:
		t.failed()
		return "", NewError(CodeWrongPassword)
	}
	t.succeeded()
	return a.Password, nil
}

// tries waits for a turn at a secret that is asked of somebody who is logged in.
// Errors: CodeTooManyTries; ctx's.
func (s *Service) tries(ctx context.Context, name string) (turn, error) {
	t, err := s.accounts.guard.enter(ctx, name, netip.Addr{})
	if errors.Is(err, CodeTooManyLogins) {
		err = NewError(CodeTooManyTries)
	}
	return t, err
}

// AuthKeys lists an account's keys, without their secrets. Errors: CodeUnknownUser,
// CodeInternal.
func (s *Service) AuthKeys(ctx context.Context, p Principal) ([]AuthKey, error) {
	if _, err := s.Account(ctx, p); err != nil {
		return nil, err
	}
	s.accounts.flush(ctx) // so that LastUsed is up to date
	keys, err := s.store.AuthKeys(ctx, p)
	return keys, faultIn(ctx, "auth keys", err)
}

// CreateAuthKey makes a key for an account and returns it with its secret, which is not
// kept. Errors: CodeUnknownUser, CodeTooManyAuthKeys, CodeInternal.
func (s *Service) CreateAuthKey(ctx context.Context, p Principal) (k AuthKey, secret string, err error) {
	secret = "secret-" + randomText()
	hash, err := s.hashPassword(ctx, secret)
	if err != nil {
		return AuthKey{}, "", err
	}
	k = AuthKey{ID: "keyId-" + randomUUID(), Owner: p, Hash: hash, Created: now()}
	err = s.store.AddAuthKey(ctx, k, MaxAuthKeys)
	if errors.Is(err, ErrTooMany) {
		return AuthKey{}, "", NewError(CodeTooManyAuthKeys, MaxAuthKeys)
	}
	return k, secret, userError(ctx, p, "create auth key", err)
}

// DeleteAuthKey removes a key. Tokens that it gave last until they end, or until
// RevokeTokens. Errors: CodeUnknownAuthKey, CodeInternal.
func (s *Service) DeleteAuthKey(ctx context.Context, p Principal, id string) error {
	err := s.store.DeleteAuthKey(ctx, p, id)
	if errors.Is(err, ErrNotFound) {
		return NewError(CodeUnknownAuthKey, id)
	}
	return faultIn(ctx, "delete auth key", err)
}

// randomText returns 256 bits that cannot be guessed.
func randomText() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// digest is for what is too random to be guessed from its hash.
func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func equalText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
