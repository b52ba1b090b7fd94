package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/simreach/simreach/manager"
)

const credentialColumns = `id, operator_id, name, ca, public_key, created, revoked, serials`

// AddCredential implements manager.CredentialStore.
func (s *Store) AddCredential(ctx context.Context, c manager.Credential, most manager.CredentialLimits) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`DELETE FROM credentials WHERE operator_id = ? AND revoked > 0 AND revoked < ?`, string(c.OperatorID), most.Forget.UnixMilli())
		if err != nil {
			return err
		}
		if err := t.room(most.InForce, `credentials WHERE operator_id = ? AND revoked = 0`, string(c.OperatorID)); err != nil {
			return err
		}
		if err := t.room(most.Revoked+1, `credentials WHERE operator_id = ? AND revoked > 0`, string(c.OperatorID)); err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO credentials (`+credentialColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			string(c.ID), string(c.OperatorID), c.Name, base64.StdEncoding.EncodeToString(c.CA), base64.StdEncoding.EncodeToString(c.PublicKey),
			c.Created.UnixMilli(), milliOrZero(c.Revoked), strings.Join(c.RevokedSerials, " "))
		return err
	})
	if err != nil {
		return fmt.Errorf("store: add credential %s: %w", c.ID, err)
	}
	return nil
}

// Credential implements manager.CredentialStore.
func (s *Store) Credential(ctx context.Context, id manager.CredentialID) (manager.Credential, error) {
	var c manager.Credential
	err := s.view(ctx, func(t *tx) (err error) {
		c, err = credential(t, id)
		return err
	})
	if err != nil && !errors.Is(err, manager.ErrNotFound) {
		return manager.Credential{}, fmt.Errorf("store: credential %s: %w", id, err)
	}
	return c, err
}

func credential(t *tx, id manager.CredentialID) (manager.Credential, error) {
	c, err := scanCredential(t.row(`SELECT `+credentialColumns+` FROM credentials WHERE id = ?`, string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		err = manager.ErrNotFound
	}
	return c, err
}

// Credentials implements manager.CredentialStore.
func (s *Store) Credentials(ctx context.Context, q manager.CredentialQuery) ([]manager.Credential, error) {
	stmt, args := `SELECT `+credentialColumns+` FROM credentials WHERE operator_id = ? AND id > ? ORDER BY id`, []any{string(q.OperatorID), string(q.After)}
	if q.Limit > 0 {
		stmt, args = stmt+` LIMIT ?`, append(args, q.Limit)
	}
	var out []manager.Credential
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(stmt, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c, err := scanCredential(rows)
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: credentials of %s: %w", q.OperatorID, err)
	}
	return out, nil
}

// UpdateCredential implements manager.CredentialStore.
func (s *Store) UpdateCredential(ctx context.Context, id manager.CredentialID, change func(*manager.Credential) error) (manager.Credential, error) {
	var c manager.Credential
	var refused error
	err := s.write(ctx, func(t *tx) (err error) {
		refused = nil
		if c, err = credential(t, id); err != nil {
			return err
		}
		if refused = change(&c); refused != nil {
			return refused
		}
		_, err = t.exec(`UPDATE credentials SET name = ?, revoked = ?, serials = ? WHERE id = ?`,
			c.Name, milliOrZero(c.Revoked), strings.Join(c.RevokedSerials, " "), string(id))
		t.notify(manager.Change{Kind: manager.ChangeCredential, ID: string(id)})
		return err
	})
	switch {
	case refused != nil:
		return manager.Credential{}, refused
	case err != nil && !errors.Is(err, manager.ErrNotFound):
		return manager.Credential{}, fmt.Errorf("store: update credential %s: %w", id, err)
	}
	return c, err
}

func scanCredential(row interface{ Scan(...any) error }) (manager.Credential, error) {
	var c manager.Credential
	var ca, key, serials string
	var created, revoked int64
	if err := row.Scan(&c.ID, &c.OperatorID, &c.Name, &ca, &key, &created, &revoked, &serials); err != nil {
		return manager.Credential{}, err
	}
	var err1, err2 error
	c.CA, err1 = base64.StdEncoding.DecodeString(ca)
	c.PublicKey, err2 = base64.StdEncoding.DecodeString(key)
	if err := errors.Join(err1, err2); err != nil {
		return manager.Credential{}, fmt.Errorf("credential %s: %w", c.ID, err)
	}
	c.Created, c.RevokedSerials = time.UnixMilli(created).UTC(), strings.Fields(serials)
	if revoked != 0 {
		c.Revoked = time.UnixMilli(revoked).UTC()
	}
	return c, nil
}

func milliOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
