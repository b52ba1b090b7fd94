package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// AddHandler implements manager.HandlerStore.
func (s *Store) AddHandler(ctx context.Context, h manager.EventHandler, most int) error {
	doc, err := json.Marshal(h)
	if err == nil {
		err = s.write(ctx, func(t *tx) error {
			if err := t.canWatch(h, most); err != nil {
				return err
			}
			_, err := t.exec(`INSERT INTO event_handlers (id, operator_id, kind, target, active, created, doc) VALUES (?, ?, ?, ?, ?, ?, ?)`,
				string(h.ID), string(h.OperatorID), string(h.Kind), h.Target, h.Active, h.Created.UnixMilli(), string(doc))
			return err
		})
	}
	if err != nil && !errors.Is(err, manager.ErrTooMany) {
		return fmt.Errorf("store: add event handler %s: %w", h.ID, err)
	}
	return err
}

// canWatch returns why h may not get its target: manager.ErrTooMany, manager.ErrNoGroup.
func (t *tx) canWatch(h manager.EventHandler, most int) error {
	if h.Kind == manager.TargetGroup {
		if err := t.hasGroup(h.OperatorID, manager.GroupID(h.Target)); err != nil {
			return err
		}
	}
	return t.room(most, `event_handlers WHERE kind = ? AND target = ?`, string(h.Kind), h.Target)
}

func (s *Store) handlers(ctx context.Context, stmt string, args ...any) ([]manager.EventHandler, error) {
	var out []manager.EventHandler
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(stmt, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var doc string
			var h manager.EventHandler
			if err := rows.Scan(&doc); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(doc), &h); err != nil {
				return err
			}
			out = append(out, h)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: event handlers: %w", err)
	}
	return out, nil
}

// Handler implements manager.HandlerStore.
func (s *Store) Handler(ctx context.Context, id manager.HandlerID) (manager.EventHandler, error) {
	hs, err := s.handlers(ctx, `SELECT doc FROM event_handlers WHERE id = ?`, string(id))
	if err == nil && len(hs) == 0 {
		err = manager.ErrNotFound
	}
	if err != nil {
		return manager.EventHandler{}, err
	}
	return hs[0], nil
}

// Handlers implements manager.HandlerStore.
func (s *Store) Handlers(ctx context.Context, op manager.OperatorID, kind manager.TargetKind) ([]manager.EventHandler, error) {
	if kind == "" {
		return s.handlers(ctx, `SELECT doc FROM event_handlers WHERE operator_id = ? ORDER BY created, id`, string(op))
	}
	return s.handlers(ctx, `SELECT doc FROM event_handlers WHERE operator_id = ? AND kind = ? ORDER BY created, id`, string(op), string(kind))
}

// ActiveHandlers implements manager.HandlerStore.
func (s *Store) ActiveHandlers(ctx context.Context, targets []string) ([]manager.EventHandler, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	args := make([]any, len(targets))
	for i, x := range targets {
		args[i] = x
	}
	return s.handlers(ctx, `SELECT doc FROM event_handlers WHERE active AND target IN (?`+strings.Repeat(`, ?`, len(targets)-1)+`) ORDER BY created, id`, args...)
}

// PutHandler implements manager.HandlerStore.
func (s *Store) PutHandler(ctx context.Context, h manager.EventHandler, most int) error {
	doc, err := json.Marshal(h)
	if err == nil {
		err = s.write(ctx, func(t *tx) error {
			var kind, target string
			err := t.row(`SELECT kind, target FROM event_handlers WHERE id = ?`, string(h.ID)).Scan(&kind, &target)
			if errors.Is(err, sql.ErrNoRows) {
				return manager.ErrNotFound
			}
			if err == nil && (kind != string(h.Kind) || target != h.Target) {
				err = t.canWatch(h, most)
			}
			if err != nil {
				return err
			}
			if _, err = t.exec(`UPDATE event_handlers SET kind = ?, target = ?, active = ?, doc = ? WHERE id = ?`,
				string(h.Kind), h.Target, h.Active, string(doc), string(h.ID)); err != nil {
				return err
			}
			_, err = t.exec(`DELETE FROM event_firings WHERE handler_id = ?`, string(h.ID))
			return err
		})
	}
	if err != nil && !errors.Is(err, manager.ErrNotFound) {
		return fmt.Errorf("store: change event handler %s: %w", h.ID, err)
	}
	return err
}

// DeleteHandler implements manager.HandlerStore.
func (s *Store) DeleteHandler(ctx context.Context, id manager.HandlerID) error {
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec(`DELETE FROM event_handlers WHERE id = ?`, string(id))
		if err == nil && n == 0 {
			return manager.ErrNotFound
		}
		if err != nil {
			return err
		}
		for _, table := range []string{`event_firings`, `event_ignores`, `event_actions`} {
			if _, err := t.exec(`DELETE FROM `+table+` WHERE handler_id = ?`, string(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, manager.ErrNotFound) {
		return fmt.Errorf("store: delete event handler %s: %w", id, err)
	}
	return err
}

// SetIgnored implements manager.HandlerStore.
func (s *Store) SetIgnored(ctx context.Context, id manager.HandlerID, imsi ident.IMSI, ignored bool) (bool, error) {
	stmt := `DELETE FROM event_ignores WHERE handler_id = ? AND imsi = ?`
	if ignored {
		stmt = `INSERT INTO event_ignores (handler_id, imsi) VALUES (?, ?) ON CONFLICT DO NOTHING`
	}
	var n int64
	err := s.write(ctx, func(t *tx) (err error) {
		n, err = t.exec(stmt, string(id), string(imsi))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("store: ignore event handler %s: %w", id, err)
	}
	return n > 0, nil
}

// Ignored implements manager.HandlerStore.
func (s *Store) Ignored(ctx context.Context, imsi ident.IMSI) (map[manager.HandlerID]bool, error) {
	out := map[manager.HandlerID]bool{}
	err := s.view(ctx, func(t *tx) error {
		clear(out)
		rows, err := t.query(`SELECT handler_id FROM event_ignores WHERE imsi = ?`, string(imsi))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			out[manager.HandlerID(id)] = true
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: ignored event handlers of imsi-%s: %w", imsi, err)
	}
	return out, nil
}

// Fire implements manager.HandlerStore.
func (s *Store) Fire(ctx context.Context, f manager.Firing) (bool, error) {
	docs := make([]string, len(f.Actions))
	for i, a := range f.Actions {
		doc, err := json.Marshal(a)
		if err != nil {
			return false, fmt.Errorf("store: fire %s: %w", f.HandlerID, err)
		}
		docs[i] = string(doc)
	}
	fired := false
	err := s.write(ctx, func(t *tx) error {
		fired = false
		n, err := t.exec(`INSERT INTO event_firings (handler_id, subject, mark, until) VALUES (?, ?, ?, ?)
			ON CONFLICT (handler_id, subject) DO UPDATE SET mark = excluded.mark, until = excluded.until
			WHERE event_firings.until <= ? AND (excluded.mark = '' OR event_firings.mark <> excluded.mark)`,
			string(f.HandlerID), f.Subject, f.Mark, f.Until.UnixMilli(), f.At.UnixMilli())
		if err != nil || n == 0 {
			return err
		}
		for i, a := range f.Actions {
			_, err := t.exec(`INSERT INTO event_actions (id, handler_id, due, attempts, doc) VALUES (?, ?, ?, 0, ?)`,
				a.ID, string(a.HandlerID), a.Due.UnixMilli(), docs[i])
			if err != nil {
				return err
			}
		}
		fired = true
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("store: fire %s: %w", f.HandlerID, err)
	}
	return fired, nil
}

// ClaimActions implements manager.HandlerStore.
func (s *Store) ClaimActions(ctx context.Context, now, until time.Time, limit int) ([]manager.PendingAction, error) {
	var out []manager.PendingAction
	err := s.write(ctx, func(t *tx) error {
		var err error
		if out, err = dueActions(t, now, limit); err != nil {
			return err
		}
		for i := range out {
			out[i].Attempts++
			if _, err := t.exec(`UPDATE event_actions SET due = ?, attempts = ? WHERE id = ?`, until.UnixMilli(), out[i].Attempts, out[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: claim actions: %w", err)
	}
	return out, nil
}

func dueActions(t *tx, now time.Time, limit int) ([]manager.PendingAction, error) {
	rows, err := t.query(`SELECT attempts, doc FROM event_actions WHERE due <= ? ORDER BY due, id LIMIT ?`, now.UnixMilli(), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []manager.PendingAction
	for rows.Next() {
		var doc string
		var attempts int
		if err := rows.Scan(&attempts, &doc); err != nil {
			return nil, err
		}
		var a manager.PendingAction
		if err := json.Unmarshal([]byte(doc), &a); err != nil {
			return nil, err
		}
		a.Attempts = attempts
		out = append(out, a)
	}
	return out, rows.Err()
}

// FinishAction implements manager.HandlerStore.
func (s *Store) FinishAction(ctx context.Context, id string) error {
	return s.action(ctx, id, `DELETE FROM event_actions WHERE id = ?`, id)
}

// PostponeAction implements manager.HandlerStore.
func (s *Store) PostponeAction(ctx context.Context, id string, due time.Time) error {
	return s.action(ctx, id, `UPDATE event_actions SET due = ? WHERE id = ?`, due.UnixMilli(), id)
}

func (s *Store) action(ctx context.Context, id, stmt string, args ...any) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(stmt, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: action %s: %w", id, err)
	}
	return nil
}

// NextAction implements manager.HandlerStore.
func (s *Store) NextAction(ctx context.Context) (time.Time, error) {
	var ms sql.NullInt64
	err := s.view(ctx, func(t *tx) error { return t.row(`SELECT MIN(due) FROM event_actions`).Scan(&ms) })
	if err != nil {
		return time.Time{}, fmt.Errorf("store: next action: %w", err)
	}
	if !ms.Valid {
		return time.Time{}, nil
	}
	return time.UnixMilli(ms.Int64).UTC(), nil
}
