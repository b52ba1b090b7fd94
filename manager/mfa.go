package manager

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"github.com/pquerna/otp/totp"
)

// backupCodes is how many backup codes an account gets.
const backupCodes = 10

// EnrolMFA gives an account a secret for one-time passwords (RFC 6238: SHA-1, 6 digits,
// 30 s) and returns it as an otpauth URI. Logins need no code before VerifyMFA has seen
// one. Asking again gives another secret.
//
// Errors: CodeUnknownUser, CodeMFAActive, CodeInternal.
func (s *Service) EnrolMFA(ctx context.Context, p Principal) (uri string, err error) {
	err = s.changeAccount(ctx, p, func(a *Account) error {
		if a.MFA.Status == MFAActive {
			return NewError(CodeMFAActive)
		}
		name := a.Email
		if name == "" {
			name = strings.TrimSuffix(string(a.OperatorID)+"/"+a.UserName, "/")
		}
		key, err := totp.Generate(totp.GenerateOpts{Issuer: "simreach", AccountName: name})
		if err != nil {
			return err
		}
		a.MFA = MFA{Status: MFAUnconfirmed, Secret: key.Secret()}
		uri = key.URL()
		return nil
	})
	return uri, err
}

// VerifyMFA shows that the account's owner has the secret of EnrolMFA: from now on a
// login by password needs a code. With withBackups it returns backup codes, of which each
// stands for one code once; they are not kept.
//
// Errors: CodeUnknownUser, CodeMFANotRequested, CodeMFAActive, CodeWrongOTP,
// CodeTooManyTries, CodeInternal.
func (s *Service) VerifyMFA(ctx context.Context, p Principal, code string, withBackups bool) (backups []string, err error) {
	t, err := s.tries(ctx, "m"+p.String())
	if err != nil {
		return nil, err
	}
	err = s.changeAccount(ctx, p, func(a *Account) error {
		switch {
		case a.MFA.Status == MFAActive:
			return NewError(CodeMFAActive)
		case a.MFA.Status != MFAUnconfirmed:
			return NewError(CodeMFANotRequested)
		case !a.MFA.use(code, time.Now()):
			return NewError(CodeWrongOTP)
		}
		a.MFA.Status, a.MFA.Backups, backups = MFAActive, nil, nil
		for range backupCodes {
			if !withBackups {
				break
			}
			b := newBackupCode()
			backups, a.MFA.Backups = append(backups, b), append(a.MFA.Backups, digest(b))
		}
		return nil
	})
	switch {
	case errors.Is(err, CodeWrongOTP):
		t.failed()
	case err != nil:
		t.leave()
	default:
		t.succeeded()
	}
	return backups, err
}

// newBackupCode returns 60 random bits in a form that people can copy.
func newBackupCode() string {
	b := make([]byte, 8)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))[:12]
}

// RevokeMFA takes an account's second factor. password is the account's; nil where the
// right to do so is enough.
//
// Errors: CodeUnknownUser, CodeMFANotRequested, CodeNoPassword, CodeWrongPassword,
// CodeTooManyTries, CodeInternal.
func (s *Service) RevokeMFA(ctx context.Context, p Principal, password *string) error {
	checked := ""
	if password != nil {
		var err error
		if checked, err = s.checkPassword(ctx, p, *password); err != nil {
			return err
		}
	}
	return s.changeAccount(ctx, p, func(a *Account) error {
		if password != nil {
			if err := a.still(checked); err != nil {
				return err
			}
		}
		if a.MFA.Status == "" || a.MFA.Status == MFAInactive {
			return NewError(CodeMFANotRequested)
		}
		a.MFA = MFA{}
		return nil
	})
}
