package store

import (
	"context"
	"time"

	"github.com/simreach/simreach/manager"
)

const roleColumns = `operator_id, id, description, permission, created, updated`

// ofRole selects a role.
const ofRole = ` WHERE operator_id = ? AND id = ?`

func scanRole(r interface{ Scan(...any) error }) (manager.Role, error) {
	var role manager.Role
	var created, updated int64
	err := r.Scan(&role.OperatorID, &role.ID, &role.Description, &role.Permission, &created, &updated)
	role.Created, role.Updated = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	return role, err
}

func roles(t *tx, query string, args ...any) ([]manager.Role, error) {
	rows, err := t.query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []manager.Role
	for rows.Next() {
		r, err := scanRole(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func role(t *tx, op manager.OperatorID, id string) (manager.Role, error) {
	return scanRole(t.row(`SELECT `+roleColumns+` FROM roles`+ofRole, string(op), id))
}

// Role implements manager.AccountStore.
func (s *Store) Role(ctx context.Context, op manager.OperatorID, id string) (r manager.Role, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		r, err = role(t, op, id)
		return err
	})
	return r, accountError("role "+id, err)
}

// Roles implements manager.AccountStore.
func (s *Store) Roles(ctx context.Context, op manager.OperatorID) (out []manager.Role, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		out, err = roles(t, `SELECT `+roleColumns+` FROM roles WHERE operator_id = ? ORDER BY id`, string(op))
		return err
	})
	return out, accountError("roles of "+string(op), err)
}

// AddRole implements manager.AccountStore.
func (s *Store) AddRole(ctx context.Context, r manager.Role, most int) error {
	return accountError("add role "+r.ID, s.write(ctx, func(t *tx) error {
		if err := t.room(most, `roles WHERE operator_id = ?`, string(r.OperatorID)); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO roles (`+roleColumns+`) VALUES (?, ?, ?, ?, ?, ?)`,
			string(r.OperatorID), r.ID, r.Description, r.Permission, r.Created.UnixMilli(), r.Updated.UnixMilli())
		if s.isDuplicate(err) {
			return manager.ErrExists
		}
		accountChanged(t, r.OperatorID)
		return err
	}))
}

// UpdateRole implements manager.AccountStore.
func (s *Store) UpdateRole(ctx context.Context, r manager.Role) error {
	return accountError("update role "+r.ID, s.write(ctx, func(t *tx) error {
		err := some(t.exec(`UPDATE roles SET description = ?, permission = ?, updated = ?`+ofRole,
			r.Description, r.Permission, r.Updated.UnixMilli(), string(r.OperatorID), r.ID))
		if err == nil {
			accountChanged(t, r.OperatorID)
		}
		return err
	}))
}

// DeleteRole implements manager.AccountStore.
func (s *Store) DeleteRole(ctx context.Context, op manager.OperatorID, id string) error {
	return accountError("delete role "+id, s.write(ctx, func(t *tx) error {
		var n int
		if err := t.row(`SELECT COUNT(*) FROM user_roles WHERE operator_id = ? AND role_id = ?`, string(op), id).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return manager.ErrExists
		}
		err := some(t.exec(`DELETE FROM roles`+ofRole, string(op), id))
		if err == nil {
			accountChanged(t, op)
		}
		return err
	}))
}

// UserRoles implements manager.AccountStore.
func (s *Store) UserRoles(ctx context.Context, p manager.Principal) (out []manager.Role, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		if _, err := account(t, p); err != nil {
			return err
		}
		out, err = roles(t, `SELECT r.operator_id, r.id, r.description, r.permission, r.created, r.updated
			FROM user_roles u JOIN roles r ON r.operator_id = u.operator_id AND r.id = u.role_id
			WHERE u.operator_id = ? AND u.user_name = ? ORDER BY r.id`, string(p.OperatorID), p.UserName)
		return err
	})
	return out, accountError("roles of "+p.String(), err)
}

// RoleUsers implements manager.AccountStore.
func (s *Store) RoleUsers(ctx context.Context, op manager.OperatorID, id string) (out []manager.Account, err error) {
	err = s.view(ctx, func(t *tx) (err error) {
		if _, err := role(t, op, id); err != nil {
			return err
		}
		out, err = accounts(t, `SELECT `+accountColumns+` FROM accounts WHERE operator_id = ? AND user_name IN
			(SELECT user_name FROM user_roles WHERE operator_id = ? AND role_id = ?) ORDER BY user_name`, string(op), string(op), id)
		return err
	})
	return out, accountError("users of role "+id, err)
}

// AttachRole implements manager.AccountStore.
func (s *Store) AttachRole(ctx context.Context, p manager.Principal, id string) error {
	return accountError("attach role "+id, s.write(ctx, func(t *tx) error {
		if _, err := account(t, p); err != nil {
			return err
		}
		if _, err := role(t, p.OperatorID, id); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO user_roles (operator_id, user_name, role_id) VALUES (?, ?, ?) ON CONFLICT (operator_id, user_name, role_id) DO NOTHING`,
			string(p.OperatorID), p.UserName, id)
		accountChanged(t, p.OperatorID)
		return err
	}))
}

// DetachRole implements manager.AccountStore.
func (s *Store) DetachRole(ctx context.Context, p manager.Principal, id string) error {
	return accountError("detach role "+id, s.write(ctx, func(t *tx) error {
		err := some(t.exec(`DELETE FROM user_roles`+ofAccount+` AND role_id = ?`, string(p.OperatorID), p.UserName, id))
		if err == nil {
			accountChanged(t, p.OperatorID)
		}
		return err
	}))
}
