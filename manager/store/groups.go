package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/simreach/simreach/manager"
)

// AddGroup implements manager.GroupStore.
func (s *Store) AddGroup(ctx context.Context, g manager.Group, most int) error {
	doc, err := json.Marshal(g)
	if err == nil {
		err = s.write(ctx, func(t *tx) error {
			if err := t.room(most, `sim_groups WHERE operator_id = ?`, string(g.OperatorID)); err != nil {
				return err
			}
			_, err := t.exec(`INSERT INTO sim_groups (id, operator_id, name, doc) VALUES (?, ?, ?, ?)`,
				string(g.ID), string(g.OperatorID), strings.ToLower(g.Tags["name"]), string(doc))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("store: add group %s: %w", g.ID, err)
	}
	return nil
}

// hasGroup returns manager.ErrNoGroup unless the operator has the group.
func (t *tx) hasGroup(op manager.OperatorID, id manager.GroupID) error {
	var one int
	err := t.row(`SELECT 1 FROM sim_groups WHERE id = ? AND operator_id = ?`, string(id), string(op)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return manager.ErrNoGroup
	}
	return err
}

func scanGroup(r scanner) (manager.Group, error) {
	var g manager.Group
	var doc string
	if err := r.Scan(&doc); err != nil {
		return g, err
	}
	if err := json.Unmarshal([]byte(doc), &g); err != nil {
		return g, fmt.Errorf("group: %w", err)
	}
	return g, nil
}

// Group implements manager.GroupStore.
func (s *Store) Group(ctx context.Context, id manager.GroupID) (manager.Group, error) {
	var g manager.Group
	err := s.view(ctx, func(t *tx) (err error) {
		g, err = scanGroup(t.row(`SELECT doc FROM sim_groups WHERE id = ?`, string(id)))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return g, manager.ErrNotFound
	}
	if err != nil {
		return g, fmt.Errorf("store: group %s: %w", id, err)
	}
	return g, nil
}

// Groups implements manager.GroupStore. Tags are compared here: operators have few groups.
func (s *Store) Groups(ctx context.Context, q manager.GroupQuery) ([]manager.Group, error) {
	var out []manager.Group
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(`SELECT doc FROM sim_groups WHERE operator_id = ? AND id > ? ORDER BY id`, string(q.OperatorID), string(q.After))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() && (q.Limit == 0 || len(out) < q.Limit) {
			g, err := scanGroup(rows)
			if err != nil {
				return err
			}
			v, ok := g.Tags[q.TagName]
			if q.TagName == "" || ok && (v == q.TagValue || q.TagPrefix && strings.HasPrefix(v, q.TagValue)) {
				out = append(out, g)
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: groups of %s: %w", q.OperatorID, err)
	}
	return out, nil
}

// UpdateGroup implements manager.GroupStore.
func (s *Store) UpdateGroup(ctx context.Context, id manager.GroupID, change func(*manager.Group) error) (manager.Group, error) {
	var g manager.Group
	var refused error
	err := s.write(ctx, func(t *tx) error {
		refused = nil
		var err error
		if g, err = scanGroup(t.row(`SELECT doc FROM sim_groups WHERE id = ?`, string(id))); err != nil {
			return err
		}
		if refused = change(&g); refused != nil {
			return refused
		}
		doc, err := json.Marshal(g)
		if err != nil {
			return err
		}
		_, err = t.exec(`UPDATE sim_groups SET name = ?, doc = ? WHERE id = ?`, strings.ToLower(g.Tags["name"]), string(doc), string(id))
		return err
	})
	switch {
	case refused != nil:
		return g, refused
	case errors.Is(err, sql.ErrNoRows):
		return g, manager.ErrNotFound
	case err != nil:
		return g, fmt.Errorf("store: change group %s: %w", id, err)
	}
	return g, nil
}

// DeleteGroup implements manager.GroupStore.
func (s *Store) DeleteGroup(ctx context.Context, id manager.GroupID) error {
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec(`DELETE FROM sim_groups WHERE id = ?`, string(id))
		if err != nil {
			return err
		}
		if n == 0 {
			return manager.ErrNotFound
		}
		if _, err := t.exec(`UPDATE sims SET group_id = '' WHERE group_id = ?`, string(id)); err != nil {
			return err
		}
		of := `SELECT id FROM event_handlers WHERE kind = ? AND target = ?`
		for _, table := range []string{`event_firings`, `event_ignores`, `event_actions`} {
			if _, err := t.exec(`DELETE FROM `+table+` WHERE handler_id IN (`+of+`)`, string(manager.TargetGroup), string(id)); err != nil {
				return err
			}
		}
		_, err = t.exec(`DELETE FROM event_handlers WHERE kind = ? AND target = ?`, string(manager.TargetGroup), string(id))
		return err
	})
	if err != nil && !errors.Is(err, manager.ErrNotFound) {
		return fmt.Errorf("store: delete group %s: %w", id, err)
	}
	return err
}
