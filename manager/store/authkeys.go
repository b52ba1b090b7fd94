package store

import (
	"context"
	"time"

	"github.com/simreach/simreach/manager"
)

const keyColumns = `id, operator_id, user_name, hash, created, last_used`

func insertKey(t *tx, k manager.AuthKey, clause string) (int64, error) {
	return t.exec(`INSERT INTO auth_keys (`+keyColumns+`, deleted) VALUES (?, ?, ?, ?, ?, 0, ?)`+clause,
		k.ID, string(k.Owner.OperatorID), k.Owner.UserName, k.Hash, k.Created.UnixMilli(), false)
}

func scanKey(r interface{ Scan(...any) error }) (manager.AuthKey, error) {
	var k manager.AuthKey
	var created, used int64
	err := r.Scan(&k.ID, &k.Owner.OperatorID, &k.Owner.UserName, &k.Hash, &created, &used)
	k.Created = time.UnixMilli(created).UTC()
	if used > 0 {
		k.LastUsed = time.UnixMilli(used).UTC()
	}
	return k, err
}

// AuthKey implements manager.AccountStore.
func (s *Store) AuthKey(ctx context.Context, id string) (k manager.AuthKey, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		k, err = scanKey(t.row(`SELECT `+keyColumns+` FROM auth_keys WHERE id = ? AND NOT deleted`, id))
		return err
	})
	return k, accountError("auth key", err)
}

// AuthKeys implements manager.AccountStore.
func (s *Store) AuthKeys(ctx context.Context, p manager.Principal) (out []manager.AuthKey, err error) {
	err = s.view(ctx, func(t *tx) error {
		rows, err := t.query(`SELECT `+keyColumns+` FROM auth_keys`+ofAccount+` AND NOT deleted ORDER BY created, id`, string(p.OperatorID), p.UserName)
		if err != nil {
			return err
		}
		defer rows.Close()
		out = nil
		for rows.Next() {
			k, err := scanKey(rows)
			if err != nil {
				return err
			}
			out = append(out, k)
		}
		return rows.Err()
	})
	return out, accountError("auth keys of "+p.String(), err)
}

// AddAuthKey implements manager.AccountStore.
func (s *Store) AddAuthKey(ctx context.Context, k manager.AuthKey, most int) error {
	return accountError("add auth key of "+k.Owner.String(), s.write(ctx, func(t *tx) error {
		if _, err := account(t, k.Owner); err != nil {
			return err
		}
		if err := t.room(most, `auth_keys`+ofAccount+` AND NOT deleted`, string(k.Owner.OperatorID), k.Owner.UserName); err != nil {
			return err
		}
		_, err := insertKey(t, k, "")
		accountChanged(t, k.Owner.OperatorID)
		return err
	}))
}

// DeleteAuthKey implements manager.AccountStore.
func (s *Store) DeleteAuthKey(ctx context.Context, p manager.Principal, id string) error {
	return accountError("delete auth key of "+p.String(), s.write(ctx, func(t *tx) error {
		err := some(t.exec(`UPDATE auth_keys SET deleted = ?, hash = ''`+ofAccount+` AND id = ? AND NOT deleted`, true, string(p.OperatorID), p.UserName, id))
		if err == nil {
			accountChanged(t, p.OperatorID)
		}
		return err
	}))
}

// UseAuthKeys implements manager.AccountStore.
func (s *Store) UseAuthKeys(ctx context.Context, at map[string]time.Time) error {
	return accountError("note the use of auth keys", s.write(ctx, func(t *tx) error {
		for id, when := range at {
			if _, err := t.exec(`UPDATE auth_keys SET last_used = ? WHERE id = ? AND last_used < ?`, when.UnixMilli(), id, when.UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	}))
}
