package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// chargingBatch applies reports in one transaction. What several of them change is
// written once, by flush.
type chargingBatch struct {
	t     *tx
	ids   *recordIDs
	usage map[usageKey]manager.Usage
}

type usageKey struct {
	subject string
	period  manager.Period
	bin     int64
	class   manager.SpeedClass
}

// liveRow is a row of sim_sessions.
type liveRow struct {
	id       string
	imsi     ident.IMSI
	sequence uint32
	ended    int64
	status   manager.SessionStatus
}

// ApplyCharging implements manager.ChargingStore.
func (s *Store) ApplyCharging(ctx context.Context, reports []manager.ChargingReport) ([]manager.ChargingOutcome, error) {
	out := make([]manager.ChargingOutcome, len(reports))
	err := s.write(ctx, func(t *tx) error {
		b := &chargingBatch{t, &s.ids, map[usageKey]manager.Usage{}}
		for i, r := range reports {
			var err error
			if out[i], err = b.apply(r); err != nil {
				return fmt.Errorf("report %d of imsi-%s: %w", r.Sequence, r.IMSI, err)
			}
		}
		return b.flush()
	})
	if err != nil {
		return nil, fmt.Errorf("store: apply charging: %w", err)
	}
	return out, nil
}

const liveColumns = `id, imsi, sequence, ended, doc`

func scanLive(r scanner) (liveRow, error) {
	var l liveRow
	var imsi, doc string
	if err := r.Scan(&l.id, &imsi, &l.sequence, &l.ended, &doc); err != nil {
		return l, err
	}
	l.imsi = ident.IMSI(imsi)
	if err := json.Unmarshal([]byte(doc), &l.status); err != nil {
		return l, fmt.Errorf("session %s: %w", l.id, err)
	}
	return l, nil
}

func (b *chargingBatch) apply(r manager.ChargingReport) (manager.ChargingOutcome, error) {
	by, arg := `id`, r.Ref
	if r.Kind == manager.ChargingCreate {
		by, arg = `charging_id`, r.ChargingID
	}
	live, err := scanLive(b.t.row(`SELECT `+liveColumns+` FROM sim_sessions WHERE `+by+` = ?`, arg))
	switch {
	case errors.Is(err, sql.ErrNoRows) && r.Kind == manager.ChargingCreate:
		return b.create(r)
	case errors.Is(err, sql.ErrNoRows):
		return manager.ChargingOutcome{}, nil
	case err != nil:
		return manager.ChargingOutcome{}, err
	case r.Sequence <= live.sequence:
		return manager.ChargingOutcome{Ref: live.id, Repeat: true}, nil
	}
	// The session's own subscriber counts: a reference is not a licence to charge another.
	r.IMSI = live.imsi
	o, sim, err := b.begin(r, live.id)
	if err != nil {
		return o, err
	}
	next, ended := live.status, live.ended
	if live.ended == 0 {
		next = r.Status
		next.ID, next.Created = live.id, live.status.Created
	}
	if r.Kind == manager.ChargingRelease && live.ended == 0 {
		next.Deleted = r.Status.Deleted
		if next.Deleted.IsZero() {
			next.Deleted = r.At
		}
		ended = max(next.Deleted.UnixMilli(), 1)
		o.Event = manager.SessionDeleted
	}
	doc, err := json.Marshal(next)
	if err != nil {
		return o, err
	}
	_, err = b.t.exec(`UPDATE sim_sessions SET sequence = ?, updated = ?, ended = ?, doc = ? WHERE id = ?`,
		int64(r.Sequence), r.At.UnixMilli(), ended, string(doc), live.id)
	if err != nil || !o.Known || live.ended != 0 {
		return o, err
	}
	switch {
	case o.Event == manager.SessionDeleted:
		err = b.ended(&sim, next)
	case sim.Session != nil && sim.Session.ID == live.id && moved(*sim.Session, next):
		o.Event = manager.SessionModified
		sim.Session = &next
		err = b.event(sim, o.Event, next, r.At)
	default:
		return o, nil
	}
	if err != nil {
		return o, err
	}
	return b.finish(o, sim, r.At)
}

// begin counts a report's usage and returns the SIM.
func (b *chargingBatch) begin(r manager.ChargingReport, ref string) (manager.ChargingOutcome, manager.SIM, error) {
	o := manager.ChargingOutcome{Ref: ref, Counted: r.Used}
	sim, err := scanSIM(b.t.row(`SELECT `+simColumns+` FROM sims WHERE imsi = ?`, string(r.IMSI)))
	switch {
	case errors.Is(err, sql.ErrNoRows): // the core has a subscriber that the manager does not
		return o, sim, nil
	case err != nil:
		return o, sim, err
	}
	o.Known, o.Before, o.After = true, sim, sim
	b.count(sim, r.At, r.Used)
	return o, sim.Clone(), nil
}

func (b *chargingBatch) count(sim manager.SIM, at time.Time, u manager.Usage) {
	if u == (manager.Usage{}) {
		return
	}
	add := func(subject string, periods ...manager.Period) {
		if subject == "" {
			return
		}
		for _, p := range periods {
			k := usageKey{subject, p, p.Start(at).UnixMilli(), sim.SpeedClass}
			b.usage[k] = b.usage[k].Add(u)
		}
	}
	add(string(sim.IMSI), manager.PeriodMinutes, manager.PeriodDay, manager.PeriodMonth, manager.PeriodAll)
	add(string(sim.GroupID), manager.PeriodDay, manager.PeriodMonth)
	add(string(sim.OperatorID), manager.PeriodDay, manager.PeriodMonth)
}

// create makes a session. An earlier one with the same number ended without our knowing.
func (b *chargingBatch) create(r manager.ChargingReport) (manager.ChargingOutcome, error) {
	o, sim, err := b.begin(r, r.Ref)
	if err != nil {
		return o, err
	}
	lost, err := b.lives(`imsi = ? AND ended = 0 AND pdu_session = ?`, string(r.IMSI), int64(r.Status.Session))
	if err != nil {
		return o, err
	}
	for _, l := range lost {
		if err := b.close(&sim, o.Known, l, r.At); err != nil {
			return o, err
		}
	}
	st := r.Status
	st.ID = r.Ref
	doc, err := json.Marshal(st)
	if err != nil {
		return o, err
	}
	_, err = b.t.exec(`INSERT INTO sim_sessions (id, charging_id, imsi, pdu_session, sequence, updated, ended, doc) VALUES (?, ?, ?, ?, ?, ?, 0, ?)`,
		r.Ref, r.ChargingID, string(r.IMSI), int64(st.Session), int64(r.Sequence), r.At.UnixMilli(), string(doc))
	if err != nil || !o.Known {
		return o, err
	}
	o.Event = manager.SessionCreated
	sim.Session = &st
	sim.Status = sim.Status.Attached()
	if err := b.event(sim, o.Event, st, r.At); err != nil {
		return o, err
	}
	return b.finish(o, sim, r.At)
}

func (b *chargingBatch) lives(where string, args ...any) ([]liveRow, error) {
	rows, err := b.t.query(`SELECT `+liveColumns+` FROM sim_sessions WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []liveRow
	for rows.Next() {
		l, err := scanLive(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, rows.Err()
}

// close ends a session that no release was heard of.
func (b *chargingBatch) close(sim *manager.SIM, known bool, l liveRow, at time.Time) error {
	l.status.Deleted = at
	doc, err := json.Marshal(l.status)
	if err != nil {
		return err
	}
	_, err = b.t.exec(`UPDATE sim_sessions SET ended = ?, doc = ? WHERE id = ?`, max(at.UnixMilli(), 1), string(doc), l.id)
	if err != nil || !known {
		return err
	}
	return b.ended(sim, l.status)
}

// ended records that a session has ended, and makes the latest of the others the SIM's.
func (b *chargingBatch) ended(sim *manager.SIM, st manager.SessionStatus) error {
	if err := b.event(*sim, manager.SessionDeleted, st, st.Deleted); err != nil {
		return err
	}
	if sim.Session != nil && sim.Session.ID != st.ID {
		return nil
	}
	sim.Previous, sim.Session = &st, nil
	rest, err := b.lives(`imsi = ? AND ended = 0 AND id <> ?`, string(sim.IMSI), st.ID)
	if err != nil || len(rest) == 0 {
		return err
	}
	latest := slices.MaxFunc(rest, func(x, y liveRow) int { return cmp.Compare(x.id, y.id) })
	sim.Session = &latest.status
	return nil
}

// moved reports whether a session changed in a way that clients are told.
func moved(a, b manager.SessionStatus) bool {
	return a.Address != b.Address || a.UPF != b.UPF || a.Location != b.Location || a.PEI != b.PEI || a.AMBR != b.AMBR
}

func (b *chargingBatch) event(sim manager.SIM, kind manager.SessionEventKind, st manager.SessionStatus, at time.Time) error {
	doc, err := json.Marshal(manager.SessionRecord{SIMID: sim.SIMID, OperatorID: sim.OperatorID, Kind: kind, Session: st})
	if err != nil {
		return err
	}
	_, err = b.t.exec(`INSERT INTO sim_session_events (id, imsi, at, doc) VALUES (?, ?, ?, ?)`,
		b.ids.next(at), string(sim.IMSI), at.UnixMilli(), string(doc))
	return err
}

// finish stores the SIM as the report left it.
func (b *chargingBatch) finish(o manager.ChargingOutcome, sim manager.SIM, at time.Time) (manager.ChargingOutcome, error) {
	if sim.Status.Barred() && o.Event == manager.SessionCreated {
		sim.Dirty = true // the core let in what it should not have
	}
	err := putSIM(b.t, b.ids, o.Before, &sim, at)
	o.After = sim
	return o, err
}

func (b *chargingBatch) flush() error {
	// In one order, so that managers that write at one time do not block each other.
	keys := slices.SortedFunc(maps.Keys(b.usage), func(x, y usageKey) int {
		return cmp.Or(cmp.Compare(x.subject, y.subject), cmp.Compare(x.period, y.period), cmp.Compare(x.bin, y.bin), cmp.Compare(x.class, y.class))
	})
	for _, k := range keys {
		u := b.usage[k]
		_, err := b.t.exec(`INSERT INTO sim_usage (subject, period, bin, speed_class, up, down, up_packets, down_packets) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (subject, period, bin, speed_class) DO UPDATE SET up = sim_usage.up + excluded.up, down = sim_usage.down + excluded.down,
			up_packets = sim_usage.up_packets + excluded.up_packets, down_packets = sim_usage.down_packets + excluded.down_packets`,
			k.subject, string(k.period), k.bin, string(k.class), int64(u.Up), int64(u.Down), int64(u.UpPackets), int64(u.DownPackets))
		if err != nil {
			return err
		}
	}
	return nil
}

// StaleSessions implements manager.ChargingStore.
func (s *Store) StaleSessions(ctx context.Context, before time.Time, limit int) ([]manager.LiveSession, error) {
	var out []manager.LiveSession
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(`SELECT id, imsi, pdu_session, updated FROM sim_sessions WHERE ended = 0 AND updated < ? ORDER BY updated LIMIT ?`, before.UnixMilli(), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var l manager.LiveSession
			var imsi string
			var updated int64
			if err := rows.Scan(&l.ID, &imsi, &l.Session, &updated); err != nil {
				return err
			}
			l.IMSI, l.Updated = ident.IMSI(imsi), time.UnixMilli(updated).UTC()
			out = append(out, l)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: stale sessions: %w", err)
	}
	return out, nil
}

// TouchSession implements manager.ChargingStore.
func (s *Store) TouchSession(ctx context.Context, id string, at time.Time) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE sim_sessions SET updated = ? WHERE id = ? AND updated < ?`, at.UnixMilli(), id, at.UnixMilli())
		return err
	})
	if err != nil {
		return fmt.Errorf("store: touch session %s: %w", id, err)
	}
	return nil
}

// EndSession implements manager.ChargingStore.
func (s *Store) EndSession(ctx context.Context, id string, at time.Time) (manager.ChargingOutcome, error) {
	var o manager.ChargingOutcome
	err := s.write(ctx, func(t *tx) error {
		o = manager.ChargingOutcome{}
		b := &chargingBatch{t, &s.ids, map[usageKey]manager.Usage{}}
		l, err := scanLive(t.row(`SELECT `+liveColumns+` FROM sim_sessions WHERE id = ? AND ended = 0`, id))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		var sim manager.SIM
		if o, sim, err = b.begin(manager.ChargingReport{IMSI: l.imsi}, id); err != nil {
			return err
		}
		if err := b.close(&sim, o.Known, l, at); err != nil || !o.Known {
			return err
		}
		o.Event = manager.SessionDeleted
		o, err = b.finish(o, sim, at)
		return err
	})
	if err != nil {
		return manager.ChargingOutcome{}, fmt.Errorf("store: end session %s: %w", id, err)
	}
	return o, nil
}

// SessionRecords implements manager.ChargingStore.
func (s *Store) SessionRecords(ctx context.Context, q manager.RecordQuery) ([]manager.SessionRecord, error) {
	var out []manager.SessionRecord
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := recordRows(t, `id, at, doc`, `sim_session_events`, q)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r manager.SessionRecord
			var id, doc string
			var at int64
			if err := rows.Scan(&id, &at, &doc); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(doc), &r); err != nil {
				return fmt.Errorf("session event %s: %w", id, err)
			}
			r.ID, r.IMSI, r.At = id, q.IMSI, time.UnixMilli(at).UTC()
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: session events of imsi-%s: %w", q.IMSI, err)
	}
	return out, nil
}

// Usage implements manager.ChargingStore.
func (s *Store) Usage(ctx context.Context, q manager.UsageQuery) ([]manager.UsageBin, error) {
	var out []manager.UsageBin
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(`SELECT bin, speed_class, up, down, up_packets, down_packets FROM sim_usage
			WHERE subject = ? AND period = ? AND bin >= ? AND bin <= ? ORDER BY bin, speed_class`,
			q.Subject, string(q.Period), q.From.UnixMilli(), q.To.UnixMilli())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b manager.UsageBin
			var bin int64
			var class string
			if err := rows.Scan(&bin, &class, &b.Up, &b.Down, &b.UpPackets, &b.DownPackets); err != nil {
				return err
			}
			b.Start, b.SpeedClass = time.UnixMilli(bin).UTC(), manager.SpeedClass(class)
			out = append(out, b)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: usage of %s: %w", q.Subject, err)
	}
	return out, nil
}

// UsageTotal implements manager.ChargingStore.
func (s *Store) UsageTotal(ctx context.Context, subject string, p manager.Period, start time.Time) (manager.Usage, error) {
	bins, err := s.Usage(ctx, manager.UsageQuery{Subject: subject, Period: p, From: start, To: start})
	var u manager.Usage
	for _, b := range bins {
		u = u.Add(b.Usage)
	}
	return u, err
}

// TrafficRanking implements manager.ChargingStore.
func (s *Store) TrafficRanking(ctx context.Context, op manager.OperatorID, from, to time.Time, limit int, ascending bool) ([]manager.Ranked, error) {
	order := `DESC`
	if ascending {
		order = `ASC`
	}
	var out []manager.Ranked
	err := s.view(ctx, func(t *tx) error {
		out = nil
		rows, err := t.query(`SELECT sim_usage.subject, CAST(SUM(sim_usage.up + sim_usage.down) AS BIGINT) AS volume
			FROM sim_usage JOIN sims ON sims.imsi = sim_usage.subject
			WHERE sims.operator_id = ? AND sim_usage.period = ? AND sim_usage.bin >= ? AND sim_usage.bin <= ?
			GROUP BY sim_usage.subject ORDER BY volume `+order+`, sim_usage.subject LIMIT ?`,
			string(op), string(manager.PeriodDay), from.UnixMilli(), to.UnixMilli(), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r manager.Ranked
			var imsi string
			if err := rows.Scan(&imsi, &r.Volume); err != nil {
				return err
			}
			r.IMSI = ident.IMSI(imsi)
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: traffic ranking of %s: %w", op, err)
	}
	return out, nil
}

// PurgeUsage implements manager.ChargingStore.
func (s *Store) PurgeUsage(ctx context.Context, fine, coarse time.Time) error {
	err := s.write(ctx, func(t *tx) error {
		for _, d := range []struct {
			stmt string
			args []any
		}{
			{`DELETE FROM sim_session_events WHERE at < ?`, []any{fine.UnixMilli()}},
			{`DELETE FROM sim_sessions WHERE ended > 0 AND ended < ?`, []any{fine.UnixMilli()}},
			{`DELETE FROM sim_usage WHERE period = ? AND bin < ?`, []any{string(manager.PeriodMinutes), fine.UnixMilli()}},
			{`DELETE FROM sim_usage WHERE period = ? AND bin < ?`, []any{string(manager.PeriodDay), coarse.UnixMilli()}},
		} {
			if _, err := t.exec(d.stmt, d.args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: purge usage: %w", err)
	}
	return nil
}
