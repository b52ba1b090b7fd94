package manager

import (
	"context"
	"errors"
	"time"
)

const (
	// resetLife is how long a password reset token may be used.
	resetLife = time.Hour
	// maxMessages bounds an operator's outbox.
	maxMessages = 20
)

// IssuePasswordReset makes a token that sets a root user's password anew. The testbed
// has no mail: the token goes to the operator's Outbox. Whether there is an account with
// the address is not told.
//
// Errors: CodeBadEmail, CodeInternal.
func (s *Service) IssuePasswordReset(ctx context.Context, email string) error {
	if email == "" || len(email) > maxSecret {
		return NewError(CodeBadEmail)
	}
	a, err := s.store.AccountByEmail(ctx, email)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return faultIn(ctx, "password reset", err)
	}
	t := now()
	m := Message{ID: newID(t), OperatorID: a.OperatorID, To: email, Kind: "passwordReset", Token: randomText(), Created: t, Expires: t.Add(resetLife)}
	m.Digest = digest(m.Token)
	return faultIn(ctx, "password reset", s.store.AddMessage(ctx, m, maxMessages))
}

// VerifyPasswordReset sets the password of the account that a token is for, and makes
// the account's tokens void. A second factor stays. A token is good for one attempt with
// a valid password.
//
// Errors: CodeBadPassword, CodeBadResetToken, CodeResetExpired, CodeInternal.
func (s *Service) VerifyPasswordReset(ctx context.Context, token, password string) error {
	if token == "" || len(token) > maxSecret {
		return NewError(CodeBadResetToken)
	}
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	m, err := s.store.TakeMessage(ctx, digest(token))
	switch {
	case errors.Is(err, ErrNotFound):
		return NewError(CodeBadResetToken)
	case err != nil:
		return faultIn(ctx, "password reset", err)
	case !now().Before(m.Expires):
		return NewError(CodeResetExpired)
	}
	return s.changeAccount(ctx, Principal{OperatorID: m.OperatorID}, func(a *Account) error {
		if a.Email != m.To { // the address is another's by now
			return NewError(CodeBadResetToken)
		}
		a.Password = hash
		a.Generation++
		return nil
	})
}

// Outbox lists what would have been mailed to an operator, newest first.
func (s *Service) Outbox(ctx context.Context, op OperatorID) ([]Message, error) {
	ms, err := s.store.Messages(ctx, op)
	return ms, faultIn(ctx, "outbox", err)
}
