package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

const entryColumns = `id, operator_id, imsi, sim_id, strategy, device_port, relay_id, address, port, ranges, created, expires,
	tls, credential_id, proxy_protocol, targets`

// CreateEntry implements manager.EntryStore.
func (s *Store) CreateEntry(ctx context.Context, e manager.Entry) error {
	address, port := e.Address.Addr().String(), e.Address.Port()
	targets, err := formatTargets(e.Targets)
	if err != nil {
		return fmt.Errorf("store: create entry %s: %w", e.ID, err)
	}
	err = s.write(ctx, func(t *tx) error {
		// One statement: each is a way to the server and back. PostgreSQL wants to know
		// the types of what is selected.
		n, err := t.exec(`INSERT INTO entries (`+entryColumns+`) SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT),
			CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT),
			CAST(? AS BOOLEAN), CAST(? AS TEXT), CAST(? AS BOOLEAN), CAST(? AS TEXT)
			WHERE NOT EXISTS (SELECT 1 FROM quarantine WHERE address = ? AND port = ? AND until > ?)`,
			string(e.ID), string(e.OperatorID), string(e.IMSI), e.SIMID, string(e.Strategy), int64(e.DevicePort), string(e.RelayID), address, int64(port),
			formatRanges(e.Ranges), e.Created.UnixMilli(), e.Expires.UnixMilli(), e.TLS, string(e.CredentialID), e.ProxyProtocol, targets,
			address, int64(port), e.Created.UnixMilli())
		if s.isUnique(err) || err == nil && n == 0 {
			return manager.ErrAddressTaken
		}
		if err != nil {
			return err
		}
		t.notify(manager.Change{Kind: manager.ChangeEntryCreated, ID: string(e.ID), Address: e.Address, Relay: e.RelayID})
		return t.record(lifeRecords(manager.AuditCreated, e.Created, e)...)
	})
	if err != nil && !errors.Is(err, manager.ErrAddressTaken) {
		return fmt.Errorf("store: create entry %s: %w", e.ID, err)
	}
	return err
}

// EntryByAddress implements manager.EntryStore.
func (s *Store) EntryByAddress(ctx context.Context, a netip.AddrPort) (manager.Entry, error) {
	var e manager.Entry
	err := s.view(ctx, func(t *tx) (err error) {
		e, err = scanEntry(t.row(`SELECT `+entryColumns+` FROM entries WHERE address = ? AND port = ?`, a.Addr().String(), a.Port()))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return manager.Entry{}, manager.ErrNotFound
	}
	if err != nil {
		return manager.Entry{}, fmt.Errorf("store: entry at %s: %w", a, err)
	}
	return e, nil
}

// Entries implements manager.EntryStore.
func (s *Store) Entries(ctx context.Context, q manager.EntryQuery, now time.Time) ([]manager.Entry, error) {
	where, args := []string{}, []any{}
	add := func(cond string, values ...any) {
		where, args = append(where, cond), append(args, values...)
	}
	add(`operator_id = ?`, string(q.OperatorID))
	add(`expires > ?`, now.UnixMilli())
	add(`id > ?`, string(q.After))
	if q.IMSI != "" {
		add(`strategy = ?`, string(manager.IMSIPrioritized))
		add(`imsi = ?`, string(q.IMSI))
	}
	if q.SIMID != "" {
		add(`sim_id <> ''`) // the index has only those
		add(`sim_id = ?`, q.SIMID)
	}
	stmt := `SELECT ` + entryColumns + ` FROM entries WHERE ` + strings.Join(where, ` AND `) + ` ORDER BY id`
	if q.Limit > 0 {
		args = append(args, q.Limit)
		stmt += ` LIMIT ?`
	}
	es, err := s.entries(ctx, stmt, args...)
	if err != nil {
		return nil, fmt.Errorf("store: entries of %s: %w", q.OperatorID, err)
	}
	return es, nil
}

// RelayEntries implements manager.EntryStore.
func (s *Store) RelayEntries(ctx context.Context, relay manager.RelayID, now time.Time) ([]manager.Entry, error) {
	es, err := s.manyEntries(ctx, `WHERE relay_id = ? AND expires > ?`, string(relay), now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("store: entries of relay %s: %w", relay, err)
	}
	return es, nil
}

// AllEntries implements manager.EntryStore.
func (s *Store) AllEntries(ctx context.Context, now time.Time) ([]manager.Entry, error) {
	es, err := s.manyEntries(ctx, `WHERE expires > ?`, now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("store: all entries: %w", err)
	}
	return es, nil
}

func (s *Store) entries(ctx context.Context, stmt string, args ...any) ([]manager.Entry, error) {
	var es []manager.Entry
	err := s.view(ctx, func(t *tx) (err error) {
		es, err = queryEntries(t, nil, stmt, args...)
		return err
	})
	return es, err
}

// manyEntries counts first: a list that grows to tens of thousands would leave several
// times its memory behind. Sorting them would, too.
func (s *Store) manyEntries(ctx context.Context, where string, args ...any) ([]manager.Entry, error) {
	var es []manager.Entry
	err := s.view(ctx, func(t *tx) error {
		var n int
		err := t.row(`SELECT COUNT(*) FROM entries `+where, args...).Scan(&n)
		if err == nil && n > 0 {
			es, err = queryEntries(t, make([]manager.Entry, 0, n), `SELECT `+entryColumns+` FROM entries `+where, args...)
		}
		return err
	})
	return es, err
}

const toQuarantine = `INSERT INTO quarantine (address, port, until) VALUES (?, ?, ?)
	ON CONFLICT (address, port) DO UPDATE SET until = excluded.until`

// lifeRecords are the audit records of something that happened to entries.
func lifeRecords(what manager.AuditType, at time.Time, es ...manager.Entry) []manager.AuditRecord {
	records := make([]manager.AuditRecord, len(es))
	for i, e := range es {
		records[i] = manager.AuditRecord{
			ID: ulid.MustNew(ulid.Timestamp(at), rand.Reader).String(), Type: what, At: at, OperatorID: e.OperatorID, EntryID: e.ID,
			IMSI: e.IMSI, SIMID: e.SIMID, RelayID: e.RelayID, DevicePort: e.DevicePort, TLS: e.TLS,
		}
	}
	return records
}

// remove deletes entries that a transaction has read.
func (t *tx) remove(es []manager.Entry, at, until time.Time, reason manager.CloseReason) error {
	for _, e := range es {
		if _, err := t.exec(toQuarantine, e.Address.Addr().String(), e.Address.Port(), until.UnixMilli()); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM entries WHERE id = ?`, string(e.ID)); err != nil {
			return err
		}
		t.notify(manager.Change{Kind: manager.ChangeEntryDeleted, ID: string(e.ID), Address: e.Address, Relay: e.RelayID, Data: reason.String()})
	}
	what := manager.AuditDeleted
	if reason == manager.ReasonExpired {
		what = manager.AuditExpired
	}
	return t.record(lifeRecords(what, at, es...)...)
}

// DeleteEntry implements manager.EntryStore.
func (s *Store) DeleteEntry(ctx context.Context, id manager.EntryID, until time.Time) error {
	at := time.Now().UTC().Truncate(time.Millisecond)
	err := s.write(ctx, func(t *tx) error {
		e, err := scanEntry(t.row(`SELECT `+entryColumns+` FROM entries WHERE id = ?`, string(id)))
		if errors.Is(err, sql.ErrNoRows) {
			return manager.ErrNotFound
		}
		if err != nil {
			return err
		}
		return t.remove([]manager.Entry{e}, at, until, manager.ReasonRevoked)
	})
	if err != nil && !errors.Is(err, manager.ErrNotFound) {
		return fmt.Errorf("store: delete entry %s: %w", id, err)
	}
	return err
}

// DeleteExpired implements manager.EntryStore.
func (s *Store) DeleteExpired(ctx context.Context, now, until time.Time, limit int) ([]manager.Entry, error) {
	var gone []manager.Entry
	err := s.write(ctx, func(t *tx) (err error) {
		gone, err = queryEntries(t, nil, `SELECT `+entryColumns+` FROM entries WHERE expires <= ? ORDER BY expires, id LIMIT ?`, now.UnixMilli(), limit)
		if err != nil {
			return err
		}
		return t.remove(gone, now, until, manager.ReasonExpired)
	})
	if err != nil {
		return nil, fmt.Errorf("store: delete expired entries: %w", err)
	}
	return gone, nil
}

// PurgeQuarantine implements manager.EntryStore.
func (s *Store) PurgeQuarantine(ctx context.Context, now time.Time, limit int) (int, error) {
	var n int64
	err := s.write(ctx, func(t *tx) (err error) {
		n, err = t.exec(`DELETE FROM quarantine WHERE (address, port) IN (SELECT address, port FROM quarantine WHERE until <= ? ORDER BY until LIMIT ?)`,
			now.UnixMilli(), limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("store: purge quarantine: %w", err)
	}
	return int(n), nil
}

// NextExpiry implements manager.EntryStore.
func (s *Store) NextExpiry(ctx context.Context) (time.Time, error) {
	var ms sql.NullInt64
	err := s.view(ctx, func(t *tx) error { return t.row(`SELECT MIN(expires) FROM entries`).Scan(&ms) })
	if err != nil {
		return time.Time{}, fmt.Errorf("store: next expiry: %w", err)
	}
	if !ms.Valid {
		return time.Time{}, nil
	}
	return time.UnixMilli(ms.Int64).UTC(), nil
}

// CountEntries implements manager.EntryStore.
func (s *Store) CountEntries(ctx context.Context) (int, error) {
	var n int
	err := s.view(ctx, func(t *tx) error { return t.row(`SELECT COUNT(*) FROM entries`).Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("store: count entries: %w", err)
	}
	return n, nil
}

// TakenPorts implements manager.EntryStore.
func (s *Store) TakenPorts(ctx context.Context, a netip.Addr, now time.Time) ([]uint16, error) {
	var ports []uint16
	err := s.view(ctx, func(t *tx) error {
		ports = nil
		rows, err := t.query(`SELECT port FROM entries WHERE address = ?
			UNION SELECT port FROM quarantine WHERE address = ? AND until > ? ORDER BY port`, a.String(), a.String(), now.UnixMilli())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p uint16
			if err := rows.Scan(&p); err != nil {
				return err
			}
			ports = append(ports, p)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("store: ports of %s: %w", a, err)
	}
	return ports, nil
}

// queryEntries appends what a statement selects.
func queryEntries(t *tx, es []manager.Entry, stmt string, args ...any) ([]manager.Entry, error) {
	rows, err := t.query(stmt, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var in entryScan
	for rows.Next() {
		e, err := in.scan(rows)
		if err != nil {
			return nil, err
		}
		if n := len(es); n > 0 { // what many have in common is kept once
			last := &es[n-1]
			share(&e.OperatorID, last.OperatorID)
			share(&e.RelayID, last.RelayID)
			share(&e.Strategy, last.Strategy)
		}
		es = append(es, e)
	}
	return es, rows.Err()
}

func share[T ~string](s *T, with T) {
	if *s == with {
		*s = with
	}
}

func scanEntry(row interface{ Scan(...any) error }) (manager.Entry, error) {
	var in entryScan
	return in.scan(row)
}

// entryScan is where the columns of an entry are read to: once for all rows.
type entryScan struct {
	e                              manager.Entry
	imsi, address, ranges, targets string
	port                           uint16
	created, expires               int64
	to                             []any
}

func (s *entryScan) scan(row interface{ Scan(...any) error }) (manager.Entry, error) {
	e := &s.e
	if s.to == nil {
		s.to = []any{&e.ID, &e.OperatorID, &s.imsi, &e.SIMID, &e.Strategy, &e.DevicePort, &e.RelayID, &s.address, &s.port, &s.ranges, &s.created, &s.expires,
			&e.TLS, &e.CredentialID, &e.ProxyProtocol, &s.targets}
	}
	if err := row.Scan(s.to...); err != nil {
		return manager.Entry{}, err
	}
	addr, err := netip.ParseAddr(s.address)
	if err != nil {
		return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	e.IMSI, e.Address = ident.IMSI(s.imsi), netip.AddrPortFrom(addr, s.port)
	if e.Ranges, err = parseRanges(s.ranges); err != nil {
		return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	if e.Targets, err = parseTargets(s.targets); err != nil {
		return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	e.Created, e.Expires = time.UnixMilli(s.created).UTC(), time.UnixMilli(s.expires).UTC()
	return *e, nil
}

func formatRanges(ps []netip.Prefix) string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.String()
	}
	return strings.Join(texts, " ")
}

func parseRanges(s string) ([]netip.Prefix, error) {
	var ps []netip.Prefix
	for t := range strings.FieldsSeq(s) {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// target is a manager.Target as it is stored.
type target struct {
	IMSI    string `json:"imsi"`
	SIMID   string `json:"sim_id,omitempty"`
	Port    uint16 `json:"port"`
	Ranges  string `json:"ranges,omitempty"`
	Expires int64  `json:"expires,omitempty"`
}

func formatTargets(ts []manager.Target) (string, error) {
	if len(ts) == 0 {
		return "", nil
	}
	out := make([]target, len(ts))
	for i, t := range ts {
		out[i] = target{IMSI: string(t.IMSI), SIMID: t.SIMID, Port: t.DevicePort, Ranges: formatRanges(t.Ranges)}
		if !t.Expires.IsZero() {
			out[i].Expires = t.Expires.UnixMilli()
		}
	}
	b, err := json.Marshal(out)
	return string(b), err
}

func parseTargets(s string) ([]manager.Target, error) {
	if s == "" {
		return nil, nil
	}
	var in []target
	if err := json.Unmarshal([]byte(s), &in); err != nil {
		return nil, err
	}
	ts := make([]manager.Target, len(in))
	for i, t := range in {
		ranges, err := parseRanges(t.Ranges)
		if err != nil {
			return nil, err
		}
		ts[i] = manager.Target{IMSI: ident.IMSI(t.IMSI), SIMID: t.SIMID, DevicePort: t.Port, Ranges: ranges}
		if t.Expires != 0 {
			ts[i].Expires = time.UnixMilli(t.Expires).UTC()
		}
	}
	return ts, nil
}
