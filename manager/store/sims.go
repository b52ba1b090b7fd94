package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// recordIDs makes IDs that sort by a time and, within its millisecond, in the order in
// which they were made. Any goroutine may use it.
type recordIDs struct {
	mu   sync.Mutex // guards last
	last int64      // microseconds since 1970
}

// next returns an ID of a time: a ULID whose random part begins with the time of writing.
func (r *recordIDs) next(at time.Time) string {
	r.mu.Lock()
	r.last = max(time.Now().UnixMicro(), r.last+1)
	written := r.last
	r.mu.Unlock()
	var e [10]byte
	binary.BigEndian.PutUint64(e[:], uint64(written)<<8) // 56 bits last for 2000 years
	rand.Read(e[7:])                                     // never fails (crypto/rand)
	return ulid.MustNew(ulid.Timestamp(at), bytes.NewReader(e[:])).String()
}

const simColumns = `doc, group_id, version, dirty`

// SeedSIMs implements manager.SIMStore.
func (s *Store) SeedSIMs(ctx context.Context, sims []manager.SIM) (int, error) {
	added := 0
	for chunk := range slices.Chunk(sims, 500) {
		n := 0
		err := s.write(ctx, func(t *tx) error {
			n = 0
			ids := &s.ids
			for _, sim := range chunk {
				ok, err := insertSIM(t, sim)
				if err != nil {
					return err
				}
				if !ok {
					continue
				}
				n++
				if err := addStatus(t, ids, sim, sim.Created); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return added, fmt.Errorf("store: seed SIMs: %w", err)
		}
		added += n
	}
	return added, nil
}

func insertSIM(t *tx, sim manager.SIM) (bool, error) {
	args, err := simArgs(sim)
	if err != nil {
		return false, err
	}
	n, err := t.exec(`INSERT INTO sims (sim_id, operator_id, status, speed_class, group_id, serial_number, msisdn, iccid,
		name, tags, bundles, subscription, module_type, online, supervised, dirty, version, expires, doc, imsi)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, args...)
	if err != nil || n == 0 {
		return false, err
	}
	return true, putTags(t, sim.IMSI, nil, sim.Tags)
}

// simArgs are the columns of a SIM; the IMSI comes last.
func simArgs(sim manager.SIM) ([]any, error) {
	doc, err := json.Marshal(sim)
	if err != nil {
		return nil, err
	}
	var tags strings.Builder
	for _, k := range slices.Sorted(maps.Keys(sim.Tags)) {
		fmt.Fprintf(&tags, "%s=%s\n", k, sim.Tags[k])
	}
	var expires int64
	if !sim.ExpiryTime.IsZero() && !sim.Expired {
		expires = max(sim.ExpiryTime.UnixMilli(), 1)
	}
	fold := strings.ToLower
	return []any{
		sql.NullString{String: sim.SIMID, Valid: sim.SIMID != ""}, string(sim.OperatorID), string(sim.Status), string(sim.SpeedClass),
		string(sim.GroupID), sim.SerialNumber, sim.MSISDN, sim.ICCID, fold(sim.Name()), fold(tags.String()), fold(strings.Join(sim.Bundles, "\n")),
		fold(sim.Subscription), fold(sim.ModuleType), sim.Session != nil, sim.Supervised(), sim.Dirty, sim.Version, expires, string(doc), string(sim.IMSI),
	}, nil
}

// putTags brings the table of tags from one state to the other. The empty name is what
// every SIM has, and not kept.
func putTags(t *tx, imsi ident.IMSI, before, after map[string]string) error {
	for k := range before {
		if _, ok := after[k]; !ok {
			if _, err := t.exec(`DELETE FROM sim_tags WHERE imsi = ? AND name = ?`, string(imsi), k); err != nil {
				return err
			}
		}
	}
	for k, v := range after {
		if old, ok := before[k]; ok && old == v || v == "" && k == "name" && !ok {
			continue
		}
		_, err := t.exec(`INSERT INTO sim_tags (imsi, name, value) VALUES (?, ?, ?)
			ON CONFLICT (imsi, name) DO UPDATE SET value = excluded.value`, string(imsi), k, v)
		if err != nil {
			return err
		}
	}
	return nil
}

func addStatus(t *tx, ids *recordIDs, sim manager.SIM, at time.Time) error {
	_, err := t.exec(`INSERT INTO sim_statuses (id, imsi, at, status) VALUES (?, ?, ?, ?)`,
		ids.next(at), string(sim.IMSI), at.UnixMilli(), string(sim.Status))
	return err
}

// putSIM stores a SIM that changed, with what follows from the change.
func putSIM(t *tx, ids *recordIDs, before manager.SIM, after *manager.SIM, at time.Time) error {
	if after.CoreDiffers(before) {
		after.Version, after.Dirty = before.Version+1, true
	}
	args, err := simArgs(*after)
	if err != nil {
		return err
	}
	_, err = t.exec(`UPDATE sims SET sim_id = ?, operator_id = ?, status = ?, speed_class = ?, group_id = ?, serial_number = ?, msisdn = ?, iccid = ?,
		name = ?, tags = ?, bundles = ?, subscription = ?, module_type = ?, online = ?, supervised = ?, dirty = ?, version = ?, expires = ?, doc = ?
		WHERE imsi = ?`, args...)
	if err != nil {
		return err
	}
	if before.Status.Barred() != after.Status.Barred() {
		t.notify(manager.Change{Kind: manager.ChangeSIM, ID: string(after.IMSI)})
	}
	if before.Status != after.Status {
		if err := addStatus(t, ids, *after, at); err != nil {
			return err
		}
	}
	return putTags(t, after.IMSI, before.Tags, after.Tags)
}

type scanner interface{ Scan(...any) error }

func scanSIM(r scanner) (manager.SIM, error) {
	var sim manager.SIM
	var doc, group string
	var version int64
	var dirty bool
	if err := r.Scan(&doc, &group, &version, &dirty); err != nil {
		return sim, err
	}
	if err := json.Unmarshal([]byte(doc), &sim); err != nil {
		return sim, fmt.Errorf("SIM: %w", err)
	}
	sim.GroupID, sim.Version, sim.Dirty = manager.GroupID(group), version, dirty
	if sim.Tags == nil {
		sim.Tags = map[string]string{}
	}
	return sim, nil
}

func (s *Store) sim(ctx context.Context, where string, arg string) (manager.SIM, error) {
	var sim manager.SIM
	err := s.view(ctx, func(t *tx) (err error) {
		sim, err = scanSIM(t.row(`SELECT `+simColumns+` FROM sims WHERE `+where, arg))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return manager.SIM{}, manager.ErrNotFound
	}
	if err != nil {
		return manager.SIM{}, fmt.Errorf("store: SIM %s: %w", arg, err)
	}
	return sim, nil
}

// SIMByIMSI implements manager.SIMStore.
func (s *Store) SIMByIMSI(ctx context.Context, imsi ident.IMSI) (manager.SIM, error) {
	return s.sim(ctx, `imsi = ?`, string(imsi))
}

// SIMByID implements manager.SIMStore.
func (s *Store) SIMByID(ctx context.Context, id string) (manager.SIM, error) {
	return s.sim(ctx, `sim_id = ?`, id)
}

// UpdateSIM implements manager.SIMStore.
func (s *Store) UpdateSIM(ctx context.Context, imsi ident.IMSI, change func(*manager.SIM) error) (before, after manager.SIM, err error) {
	var refused error
	err = s.write(ctx, func(t *tx) error {
		refused = nil
		row := func() (manager.SIM, error) {
			return scanSIM(t.row(`SELECT `+simColumns+` FROM sims WHERE imsi = ?`, string(imsi)))
		}
		if before, err = row(); err != nil {
			return err
		}
		after = before.Clone()
		if refused = change(&after); refused != nil {
			return refused
		}
		if after.GroupID != "" && (after.GroupID != before.GroupID || after.OperatorID != before.OperatorID) {
			if err := t.hasGroup(after.OperatorID, after.GroupID); err != nil {
				return err
			}
		}
		return putSIM(t, &s.ids, before, &after, after.Modified)
	})
	switch {
	case refused != nil:
		return before, before, refused
	case errors.Is(err, sql.ErrNoRows):
		return before, after, manager.ErrNotFound
	case errors.Is(err, manager.ErrNoGroup):
		return before, after, manager.ErrNoGroup
	case err != nil:
		return before, after, fmt.Errorf("store: change SIM imsi-%s: %w", imsi, err)
	}
	return before, after, nil
}

func (s *Store) sims(ctx context.Context, stmt string, args ...any) ([]manager.SIM, error) {
	var sims []manager.SIM
	err := s.view(ctx, func(t *tx) error {
		sims = nil
		rows, err := t.query(stmt, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			sim, err := scanSIM(rows)
			if err != nil {
				return err
			}
			sims = append(sims, sim)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: SIMs: %w", err)
	}
	return sims, nil
}

// CountSIMs implements manager.SIMStore.
func (s *Store) CountSIMs(ctx context.Context, op manager.OperatorID) (map[manager.SIMStatus]int, error) {
	counts := map[manager.SIMStatus]int{}
	err := s.view(ctx, func(t *tx) error {
		clear(counts)
		rows, err := t.query(`SELECT status, COUNT(*) FROM sims WHERE operator_id = ? GROUP BY status`, string(op))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var status string
			var n int
			if err := rows.Scan(&status, &n); err != nil {
				return err
			}
			counts[manager.SIMStatus(status)] = n
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: count SIMs of %s: %w", op, err)
	}
	return counts, nil
}

// DirtySIMs implements manager.SIMStore.
func (s *Store) DirtySIMs(ctx context.Context, after ident.IMSI, limit int) ([]manager.SIM, error) {
	return s.sims(ctx, `SELECT `+simColumns+` FROM sims WHERE dirty AND imsi > ? ORDER BY imsi LIMIT ?`, string(after), limit)
}

// SupervisedSIMs implements manager.SIMStore.
func (s *Store) SupervisedSIMs(ctx context.Context, after ident.IMSI, limit int) ([]manager.SIM, error) {
	return s.sims(ctx, `SELECT `+simColumns+` FROM sims WHERE supervised AND imsi > ? ORDER BY imsi LIMIT ?`, string(after), limit)
}

// ExpiringSIMs implements manager.SIMStore.
func (s *Store) ExpiringSIMs(ctx context.Context, now time.Time, limit int) ([]manager.SIM, error) {
	return s.sims(ctx, `SELECT `+simColumns+` FROM sims WHERE expires > 0 AND expires <= ? ORDER BY expires LIMIT ?`, now.UnixMilli(), limit)
}

// MarkSynced implements manager.SIMStore.
func (s *Store) MarkSynced(ctx context.Context, imsi ident.IMSI, version int64) error {
	return s.mark(ctx, imsi, `UPDATE sims SET dirty = (version <> ?) WHERE imsi = ?`, version, string(imsi))
}

// MarkDirty implements manager.SIMStore.
func (s *Store) MarkDirty(ctx context.Context, imsi ident.IMSI) error {
	return s.mark(ctx, imsi, `UPDATE sims SET dirty = TRUE WHERE imsi = ?`, string(imsi))
}

func (s *Store) mark(ctx context.Context, imsi ident.IMSI, stmt string, args ...any) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(stmt, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("store: mark SIM imsi-%s: %w", imsi, err)
	}
	return nil
}

// NotePortMappings implements manager.SIMStore.
func (s *Store) NotePortMappings(ctx context.Context, at map[ident.IMSI]time.Time) error {
	// In one order, so that managers that write at one time do not block each other.
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(at)), 500) {
		err := s.write(ctx, func(t *tx) error {
			ids := &s.ids
			for _, imsi := range chunk {
				sim, err := scanSIM(t.row(`SELECT `+simColumns+` FROM sims WHERE imsi = ?`, string(imsi)))
				if errors.Is(err, sql.ErrNoRows) || err == nil && !sim.PortMapped.Before(at[imsi]) {
					continue
				}
				if err != nil {
					return err
				}
				before := sim
				sim.PortMapped = at[imsi]
				if err := putSIM(t, ids, before, &sim, at[imsi]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("store: note port mappings: %w", err)
		}
	}
	return nil
}

// StatusHistory implements manager.SIMStore.
func (s *Store) StatusHistory(ctx context.Context, q manager.RecordQuery) ([]manager.StatusRecord, error) {
	var out []manager.StatusRecord
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := recordRows(t, `id, at, status`, `sim_statuses`, q)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r := manager.StatusRecord{IMSI: q.IMSI}
			var at int64
			var status string
			if err := rows.Scan(&r.ID, &at, &status); err != nil {
				return err
			}
			r.At, r.Status = time.UnixMilli(at).UTC(), manager.SIMStatus(status)
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: history of imsi-%s: %w", q.IMSI, err)
	}
	return out, nil
}

// recordRows selects records of a SIM from a table with id, imsi and at.
func recordRows(t *tx, columns, table string, q manager.RecordQuery) (*sql.Rows, error) {
	stmt, args := `SELECT `+columns+` FROM `+table+` WHERE imsi = ?`, []any{string(q.IMSI)}
	add := func(cond string, arg any) {
		stmt, args = stmt+` AND `+cond, append(args, arg)
	}
	if !q.From.IsZero() {
		add(`at >= ?`, q.From.UnixMilli())
	}
	if !q.To.IsZero() {
		add(`at <= ?`, q.To.UnixMilli())
	}
	order := `id`
	switch {
	case q.Descending && q.After != "":
		add(`id < ?`, q.After)
	case q.After != "":
		add(`id > ?`, q.After)
	}
	if q.Descending {
		order = `id DESC`
	}
	stmt += ` ORDER BY ` + order
	if q.Limit > 0 {
		stmt, args = stmt+` LIMIT ?`, append(args, q.Limit)
	}
	return t.query(stmt, args...)
}
