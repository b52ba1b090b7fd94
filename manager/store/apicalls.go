package store

import (
	"context"
	"strings"
	"time"

	"github.com/simreach/simreach/manager"
)

const callColumns = `id, operator_id, user_name, api, path, status, source, at`

// maxCallsAtOnce bounds the rows of one statement: engines bound its arguments.
const maxCallsAtOnce = 100

// AddAPICalls implements manager.AccountStore.
func (s *Store) AddAPICalls(ctx context.Context, calls []manager.APICall) error {
	return accountError("add API calls", s.write(ctx, func(t *tx) error {
		for rest := calls; len(rest) > 0; {
			n := min(len(rest), maxCallsAtOnce)
			var args []any
			for _, c := range rest[:n] {
				args = append(args, c.ID, string(c.Principal.OperatorID), c.Principal.UserName, c.API, c.Path, c.Status, c.Source, c.At.UnixMilli())
			}
			rest = rest[n:]
			rows := strings.TrimSuffix(strings.Repeat(`(?, ?, ?, ?, ?, ?, ?, ?), `, n), ", ")
			if _, err := t.exec(`INSERT INTO api_calls (`+callColumns+`) VALUES `+rows+` ON CONFLICT (id) DO NOTHING`, args...); err != nil {
				return err
			}
		}
		return nil
	}))
}

// APICalls implements manager.AccountStore.
func (s *Store) APICalls(ctx context.Context, q manager.APICallQuery) (out []manager.APICall, err error) {
	query, args := `SELECT `+callColumns+` FROM api_calls WHERE operator_id = ?`, []any{string(q.OperatorID)}
	add := func(cond string, arg any) {
		query, args = query+` AND `+cond, append(args, arg)
	}
	if prefix, ok := strings.CutSuffix(q.API, "*"); ok {
		add(`SUBSTR(api, 1, LENGTH(CAST(? AS TEXT))) = ?`, prefix)
		args = append(args, prefix)
	} else if q.API != "" {
		add(`api = ?`, q.API)
	}
	if !q.From.IsZero() {
		add(`at >= ?`, q.From.UnixMilli())
	}
	if !q.To.IsZero() {
		add(`at < ?`, q.To.UnixMilli())
	}
	if q.Before != "" {
		add(`id < ?`, q.Before)
	}
	query, args = query+` ORDER BY id DESC LIMIT ?`, append(args, q.Limit)
	err = s.view(ctx, func(t *tx) error {
		rows, err := t.query(query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		out = nil
		for rows.Next() {
			var c manager.APICall
			var at int64
			if err := rows.Scan(&c.ID, &c.Principal.OperatorID, &c.Principal.UserName, &c.API, &c.Path, &c.Status, &c.Source, &at); err != nil {
				return err
			}
			c.At = time.UnixMilli(at).UTC()
			out = append(out, c)
		}
		return rows.Err()
	})
	return out, accountError("API calls of "+string(q.OperatorID), err)
}

// PurgeAPICalls implements manager.AccountStore.
func (s *Store) PurgeAPICalls(ctx context.Context, op manager.OperatorID, before time.Time, limit int) (int, error) {
	var n int64
	err := s.write(ctx, func(t *tx) (err error) {
		n, err = t.exec(`DELETE FROM api_calls WHERE id IN (SELECT id FROM api_calls WHERE operator_id = ? AND at < ? ORDER BY id LIMIT ?)`,
			string(op), before.UnixMilli(), limit)
		return err
	})
	return int(n), accountError("purge API calls of "+string(op), err)
}

const messageColumns = `id, operator_id, recipient, kind, token, digest, created, expires`

func scanMessage(r interface{ Scan(...any) error }) (manager.Message, error) {
	var m manager.Message
	var created, expires int64
	err := r.Scan(&m.ID, &m.OperatorID, &m.To, &m.Kind, &m.Token, &m.Digest, &created, &expires)
	m.Created, m.Expires = time.UnixMilli(created).UTC(), time.UnixMilli(expires).UTC()
	return m, err
}

// AddMessage implements manager.AccountStore.
func (s *Store) AddMessage(ctx context.Context, m manager.Message, most int) error {
	return accountError("add a message to "+string(m.OperatorID), s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM messages WHERE operator_id = ? AND (expires <= ? OR id IN
			(SELECT id FROM messages WHERE operator_id = ? ORDER BY id DESC LIMIT 1000 OFFSET ?))`,
			string(m.OperatorID), m.Created.UnixMilli(), string(m.OperatorID), most-1); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO messages (`+messageColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			m.ID, string(m.OperatorID), m.To, m.Kind, m.Token, m.Digest, m.Created.UnixMilli(), m.Expires.UnixMilli())
		return err
	}))
}

// Messages implements manager.AccountStore.
func (s *Store) Messages(ctx context.Context, op manager.OperatorID) (out []manager.Message, err error) {
	err = s.view(ctx, func(t *tx) error {
		rows, err := t.query(`SELECT `+messageColumns+` FROM messages WHERE operator_id = ? ORDER BY id DESC`, string(op))
		if err != nil {
			return err
		}
		defer rows.Close()
		out = nil
		for rows.Next() {
			m, err := scanMessage(rows)
			if err != nil {
				return err
			}
			out = append(out, m)
		}
		return rows.Err()
	})
	return out, accountError("messages to "+string(op), err)
}

// TakeMessage implements manager.AccountStore.
func (s *Store) TakeMessage(ctx context.Context, digest string) (m manager.Message, err error) {
	err = s.write(ctx, func(t *tx) (err error) {
		if m, err = scanMessage(t.row(`SELECT `+messageColumns+` FROM messages WHERE digest = ?`, digest)); err != nil {
			return err
		}
		return some(t.exec(`DELETE FROM messages WHERE id = ?`, m.ID))
	})
	return m, accountError("take a message", err)
}
