package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

const auditColumns = `id, type, at, operator_id, entry_id, connection_id, imsi, sim_id, relay_id, source, destination,
	device_port, tls, cause, failure, up, down`

const auditColumnCount = 17

// AddAudit implements manager.AuditStore.
func (s *Store) AddAudit(ctx context.Context, records []manager.AuditRecord) error {
	err := s.write(ctx, func(t *tx) error { return t.record(records...) })
	if err != nil {
		return fmt.Errorf("store: add %d audit records: %w", len(records), err)
	}
	return nil
}

// Audit implements manager.AuditStore.
func (s *Store) Audit(ctx context.Context, q manager.AuditQuery) ([]manager.AuditRecord, error) {
	where, args := []string{`operator_id = ?`}, []any{string(q.OperatorID)}
	add := func(cond string, values ...any) {
		where, args = append(where, cond), append(args, values...)
	}
	if q.IMSI != "" {
		add(`imsi = ?`, string(q.IMSI))
	}
	if !q.From.IsZero() {
		add(`at >= ?`, q.From.UnixMilli())
	}
	if !q.To.IsZero() {
		add(`at < ?`, q.To.UnixMilli())
	}
	if q.Before != "" {
		at, id, err := manager.ParseAuditKey(q.Before)
		if err != nil {
			return nil, err
		}
		add(`(at, id) < (?, ?)`, at.UnixMilli(), id)
	}
	if q.Failures {
		add(`failure`)
	}
	stmt := `SELECT ` + auditColumns + ` FROM audit WHERE ` + strings.Join(where, ` AND `) + ` ORDER BY at DESC, id DESC`
	if q.Limit > 0 {
		stmt, args = stmt+` LIMIT ?`, append(args, q.Limit)
	}
	var out []manager.AuditRecord
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(stmt, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scanAudit(rows)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: audit log of %s: %w", q.OperatorID, err)
	}
	return out, nil
}

func scanAudit(row interface{ Scan(...any) error }) (manager.AuditRecord, error) {
	var r manager.AuditRecord
	var imsi, source, destination string
	var at, port, up, down int64
	var failure bool
	err := row.Scan(&r.ID, &r.Type, &at, &r.OperatorID, &r.EntryID, &r.ConnectionID, &imsi, &r.SIMID, &r.RelayID, &source, &destination,
		&port, &r.TLS, &r.Cause, &failure, &up, &down)
	if err != nil {
		return manager.AuditRecord{}, err
	}
	r.IMSI, r.At, r.DevicePort, r.Up, r.Down = ident.IMSI(imsi), time.UnixMilli(at).UTC(), uint16(port), uint64(up), uint64(down)
	if r.Source, err = parseAddrPort(source); err == nil {
		r.Destination, err = parseAddrPort(destination)
	}
	if err != nil {
		return manager.AuditRecord{}, fmt.Errorf("audit record %s: %w", r.ID, err)
	}
	return r, nil
}

func formatAddrPort(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func parseAddrPort(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	return netip.ParseAddrPort(s)
}

// PurgeAudit implements manager.AuditStore.
func (s *Store) PurgeAudit(ctx context.Context, op manager.OperatorID, before time.Time, limit int) (int, error) {
	var n int64
	err := s.write(ctx, func(t *tx) (err error) {
		n, err = t.exec(`DELETE FROM audit WHERE id IN
			(SELECT id FROM audit WHERE operator_id = ? AND at < ? ORDER BY at, id LIMIT ?)`, string(op), before.UnixMilli(), limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("store: purge audit log of %s: %w", op, err)
	}
	return int(n), nil
}

// AuditOperators implements manager.AuditStore.
func (s *Store) AuditOperators(ctx context.Context) ([]manager.OperatorID, error) {
	var out []manager.OperatorID
	err := s.view(ctx, func(t *tx) error {
		out = nil
		for last := ""; ; {
			// One step of the index each: DISTINCT would read all records.
			var next sql.NullString
			if err := t.row(`SELECT MIN(operator_id) FROM audit WHERE operator_id > ?`, last).Scan(&next); err != nil {
				return err
			}
			if !next.Valid {
				return nil
			}
			last = next.String
			out = append(out, manager.OperatorID(last))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("store: operators of the audit log: %w", err)
	}
	return out, nil
}

// EntryOwner implements manager.AuditStore.
func (s *Store) EntryOwner(ctx context.Context, id manager.EntryID) (op manager.OperatorID, relay manager.RelayID, err error) {
	err = s.view(ctx, func(t *tx) error {
		err := t.row(`SELECT operator_id, relay_id FROM entries WHERE id = ?`, string(id)).Scan(&op, &relay)
		if errors.Is(err, sql.ErrNoRows) { // it may have ended
			err = t.row(`SELECT operator_id, relay_id FROM audit WHERE entry_id = ? AND type = 'CREATED'`, string(id)).Scan(&op, &relay)
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", manager.ErrNotFound
	}
	if err != nil {
		return "", "", fmt.Errorf("store: owner of entry %s: %w", id, err)
	}
	return op, relay, nil
}

// AddAuditExport implements manager.AuditStore.
func (s *Store) AddAuditExport(ctx context.Context, op manager.OperatorID, month string, bytes int64) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO audit_exports (operator_id, month, bytes) VALUES (?, ?, ?)
			ON CONFLICT (operator_id, month) DO UPDATE SET bytes = audit_exports.bytes + excluded.bytes`, string(op), month, bytes)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: count audit export of %s: %w", op, err)
	}
	return nil
}

// AuditExport implements manager.AuditStore.
func (s *Store) AuditExport(ctx context.Context, op manager.OperatorID, month string) (int64, error) {
	var n int64
	err := s.view(ctx, func(t *tx) error {
		return t.row(`SELECT bytes FROM audit_exports WHERE operator_id = ? AND month = ?`, string(op), month).Scan(&n)
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("store: audit exports of %s: %w", op, err)
	}
	return n, nil
}

// Contracts implements manager.ContractStore.
func (s *Store) Contracts(ctx context.Context, op manager.OperatorID) ([]string, error) {
	var out []string
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(`SELECT name FROM contracts WHERE operator_id = ?`, string(op))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			out = append(out, name)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: contracts of %s: %w", op, err)
	}
	slices.Sort(out)
	return out, nil
}

// AddContract implements manager.ContractStore.
func (s *Store) AddContract(ctx context.Context, op manager.OperatorID, name string, at time.Time) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO contracts (operator_id, name, created) VALUES (?, ?, ?) ON CONFLICT (operator_id, name) DO NOTHING`,
			string(op), name, at.UnixMilli())
		return err
	})
	if err != nil {
		return fmt.Errorf("store: add contract %s of %s: %w", name, op, err)
	}
	return nil
}

// DeleteContract implements manager.ContractStore.
func (s *Store) DeleteContract(ctx context.Context, op manager.OperatorID, name string) error {
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec(`DELETE FROM contracts WHERE operator_id = ? AND name = ?`, string(op), name)
		if err == nil && n == 0 {
			return manager.ErrNotFound
		}
		return err
	})
	if err != nil && !errors.Is(err, manager.ErrNotFound) {
		return fmt.Errorf("store: delete contract %s of %s: %w", name, op, err)
	}
	return err
}
