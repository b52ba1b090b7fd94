package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/simreach/simreach/manager"
)

const accountColumns = `operator_id, user_name, email, description, password, permission, trust_policy,
	mfa_status, mfa_secret, mfa_backups, mfa_step, generation, created, updated`

// ofAccount selects an account.
const ofAccount = ` WHERE operator_id = ? AND user_name = ?`

func accountChanged(t *tx, op manager.OperatorID) {
	t.notify(manager.Change{Kind: manager.ChangeAccount, ID: string(op)})
}

// accountError makes the error of an operation on accounts: those of the contract
// as they are.
func accountError(what string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return manager.ErrNotFound
	}
	for _, known := range []error{manager.ErrNotFound, manager.ErrExists, manager.ErrTooMany} {
		if err == known {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("store: %s: %w", what, err)
	}
	return nil
}

// some returns ErrNotFound if a statement changed nothing.
func some(n int64, err error) error {
	if err == nil && n == 0 {
		return manager.ErrNotFound
	}
	return err
}

// SeedAccount implements manager.AccountStore.
func (s *Store) SeedAccount(ctx context.Context, a manager.Account, keys []manager.AuthKey) error {
	return accountError("seed operator "+string(a.OperatorID), s.write(ctx, func(t *tx) error {
		n, err := insertAccount(t, a, ` ON CONFLICT (operator_id, user_name) DO NOTHING`)
		if err != nil {
			return err
		}
		for _, k := range keys {
			m, err := insertKey(t, k, ` ON CONFLICT (id) DO NOTHING`)
			if err != nil {
				return err
			}
			n += m
		}
		if n > 0 {
			accountChanged(t, a.OperatorID)
		}
		return nil
	}))
}

func insertAccount(t *tx, a manager.Account, clause string) (int64, error) {
	return t.exec(`INSERT INTO accounts (`+accountColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`+clause,
		string(a.OperatorID), a.UserName, a.Email, a.Description, a.Password, a.Permission, a.TrustPolicy,
		string(a.MFA.Status), a.MFA.Secret, strings.Join(a.MFA.Backups, " "), a.MFA.Step, a.Generation, a.Created.UnixMilli(), a.Updated.UnixMilli())
}

func scanAccount(r interface{ Scan(...any) error }) (manager.Account, error) {
	var a manager.Account
	var backups string
	var created, updated int64
	err := r.Scan(&a.OperatorID, &a.UserName, &a.Email, &a.Description, &a.Password, &a.Permission, &a.TrustPolicy,
		&a.MFA.Status, &a.MFA.Secret, &backups, &a.MFA.Step, &a.Generation, &created, &updated)
	a.MFA.Backups = strings.Fields(backups)
	a.Created, a.Updated = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	return a, err
}

func account(t *tx, p manager.Principal) (manager.Account, error) {
	return scanAccount(t.row(`SELECT `+accountColumns+` FROM accounts`+ofAccount, string(p.OperatorID), p.UserName))
}

func accounts(t *tx, query string, args ...any) ([]manager.Account, error) {
	rows, err := t.query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []manager.Account
	for rows.Next() {
		a, err := scanAccount(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// Account implements manager.AccountStore.
func (s *Store) Account(ctx context.Context, p manager.Principal) (a manager.Account, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		a, err = account(t, p)
		return err
	})
	return a, accountError("account "+p.String(), err)
}

// AccountByEmail implements manager.AccountStore.
func (s *Store) AccountByEmail(ctx context.Context, email string) (a manager.Account, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		a, err = scanAccount(t.row(`SELECT `+accountColumns+` FROM accounts WHERE email = ? AND email <> ''`, email))
		return err
	})
	return a, accountError("account by email", err)
}

// Accounts implements manager.AccountStore.
func (s *Store) Accounts(ctx context.Context, op manager.OperatorID, after string, limit int) (out []manager.Account, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		out, err = accounts(t, `SELECT `+accountColumns+` FROM accounts WHERE operator_id = ? AND user_name <> '' AND user_name > ? ORDER BY user_name LIMIT ?`,
			string(op), after, limit)
		return err
	})
	return out, accountError("accounts of "+string(op), err)
}

// AddAccount implements manager.AccountStore.
func (s *Store) AddAccount(ctx context.Context, a manager.Account, most int) error {
	return accountError("add account "+a.Principal().String(), s.write(ctx, func(t *tx) error {
		if err := t.room(most, `accounts WHERE operator_id = ? AND user_name <> ''`, string(a.OperatorID)); err != nil {
			return err
		}
		_, err := insertAccount(t, a, "")
		if s.isDuplicate(err) {
			return manager.ErrExists
		}
		accountChanged(t, a.OperatorID)
		return err
	}))
}

// errOfCaller carries the error of a caller's function through a transaction.
type errOfCaller struct{ error }

// ChangeAccount implements manager.AccountStore.
func (s *Store) ChangeAccount(ctx context.Context, p manager.Principal, f func(*manager.Account) error) (a manager.Account, err error) {
	err = s.write(ctx, func(t *tx) (err error) {
		if a, err = account(t, p); err != nil {
			return err
		}
		if err := f(&a); err != nil {
			return errOfCaller{err}
		}
		_, err = t.exec(`UPDATE accounts SET email = ?, description = ?, password = ?, permission = ?, trust_policy = ?,
			mfa_status = ?, mfa_secret = ?, mfa_backups = ?, mfa_step = ?, generation = ?, updated = ?`+ofAccount,
			a.Email, a.Description, a.Password, a.Permission, a.TrustPolicy,
			string(a.MFA.Status), a.MFA.Secret, strings.Join(a.MFA.Backups, " "), a.MFA.Step, a.Generation, a.Updated.UnixMilli(),
			string(p.OperatorID), p.UserName)
		accountChanged(t, p.OperatorID)
		return err
	})
	if e, ok := errors.AsType[errOfCaller](err); ok {
		return a, e.error
	}
	return a, accountError("change account "+p.String(), err)
}

// DeleteAccount implements manager.AccountStore.
func (s *Store) DeleteAccount(ctx context.Context, p manager.Principal) error {
	return accountError("delete account "+p.String(), s.write(ctx, func(t *tx) error {
		if err := some(t.exec(`DELETE FROM accounts`+ofAccount, string(p.OperatorID), p.UserName)); err != nil {
			return err
		}
		for _, stmt := range []string{`DELETE FROM user_roles`, `DELETE FROM revoked_tokens`, `DELETE FROM auth_keys`} {
			if _, err := t.exec(stmt+ofAccount, string(p.OperatorID), p.UserName); err != nil {
				return err
			}
		}
		accountChanged(t, p.OperatorID)
		return nil
	}))
}

// RevokeTokens implements manager.AccountStore.
func (s *Store) RevokeTokens(ctx context.Context, p manager.Principal, all bool) error {
	return accountError("revoke tokens of "+p.String(), s.write(ctx, func(t *tx) error {
		query, args := `UPDATE accounts SET generation = generation + 1 WHERE operator_id = ?`, []any{string(p.OperatorID)}
		if !all {
			query, args = query+` AND user_name = ?`, append(args, p.UserName)
		}
		if err := some(t.exec(query, args...)); err != nil {
			return err
		}
		accountChanged(t, p.OperatorID)
		return nil
	}))
}

// RevokeToken implements manager.AccountStore.
func (s *Store) RevokeToken(ctx context.Context, p manager.Principal, id string, expires time.Time) error {
	return accountError("revoke a token of "+p.String(), s.write(ctx, func(t *tx) error {
		// Those that have ended are forgotten along the way.
		if _, err := t.exec(`DELETE FROM revoked_tokens WHERE expires < ?`, time.Now().Add(-time.Hour).UnixMilli()); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO revoked_tokens (id, operator_id, user_name, expires) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			id, string(p.OperatorID), p.UserName, expires.UnixMilli())
		accountChanged(t, p.OperatorID)
		return err
	}))
}

// Identity implements manager.AccountStore.
func (s *Store) Identity(ctx context.Context, p manager.Principal, now time.Time) (id manager.Identity, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		id = manager.Identity{}
		if id.Account, err = account(t, p); err != nil {
			return err
		}
		op := string(p.OperatorID)
		if id.Revoked, err = texts(t, `SELECT id FROM revoked_tokens`+ofAccount+` AND expires >= ?`, op, p.UserName, now.UnixMilli()); err != nil || p.Root() {
			return err
		}
		if id.Permissions, err = texts(t, `SELECT r.permission FROM user_roles u JOIN roles r ON r.operator_id = u.operator_id AND r.id = u.role_id
			WHERE u.operator_id = ? AND u.user_name = ?`, op, p.UserName); err != nil {
			return err
		}
		others, err := texts(t, `SELECT permission FROM accounts WHERE operator_id = ? AND user_name = '' AND permission <> ''`, op)
		id.Permissions = append(id.Permissions, others...)
		if id.Account.Permission != "" {
			id.Permissions = append(id.Permissions, id.Account.Permission)
		}
		return err
	})
	return id, accountError("identity of "+p.String(), err)
}

// texts reads the first column of rows.
func texts(t *tx, query string, args ...any) ([]string, error) {
	rows, err := t.query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// Operators implements manager.AccountStore.
func (s *Store) Operators(ctx context.Context) (out []manager.OperatorID, err error) {
	err = s.view(ctx, func(t *tx) error {
		ids, err := texts(t, `SELECT operator_id FROM accounts WHERE user_name = '' ORDER BY operator_id`)
		out = nil
		for _, id := range ids {
			out = append(out, manager.OperatorID(id))
		}
		return err
	})
	return out, accountError("operators", err)
}
