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
		var until int64
		err := t.row(`SELECT until FROM quarantine WHERE address = ? AND port = ?`, address, port).Scan(&until)
		switch {
		case err == nil && until > e.Created.UnixMilli():
			return manager.ErrAddressTaken
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return err
		}
		_, err = t.exec(`INSERT INTO entries (`+entryColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			string(e.ID), string(e.OperatorID), string(e.IMSI), e.SIMID, string(e.Strategy), e.DevicePort, string(e.RelayID), address, port,
			formatRanges(e.Ranges), e.Created.UnixMilli(), e.Expires.UnixMilli(), e.TLS, string(e.CredentialID), e.ProxyProtocol, targets)
		if s.isUnique(err) {
			return manager.ErrAddressTaken
		}
		if err != nil {
			return err
		}
		t.notify(manager.Change{Kind: manager.ChangeEntryCreated, ID: string(e.ID), Address: e.Address, Relay: e.RelayID})
		return insertAudit(t, lifeRecords(manager.AuditCreated, e.Created, e)...)
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
	es, err := s.entries(ctx, `SELECT `+entryColumns+` FROM entries WHERE relay_id = ? AND expires > ? ORDER BY id`, string(relay), now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("store: entries of relay %s: %w", relay, err)
	}
	return es, nil
}

// AllEntries implements manager.EntryStore.
func (s *Store) AllEntries(ctx context.Context, now time.Time) ([]manager.Entry, error) {
	es, err := s.entries(ctx, `SELECT `+entryColumns+` FROM entries WHERE expires > ?`, now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("store: all entries: %w", err)
	}
	return es, nil
}

func (s *Store) entries(ctx context.Context, stmt string, args ...any) ([]manager.Entry, error) {
	var es []manager.Entry
	err := s.view(ctx, func(t *tx) (err error) {
		es, err = queryEntries(t, stmt, args...)
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
	return insertAudit(t, lifeRecords(what, at, es...)...)
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
		gone, err = queryEntries(t, `SELECT `+entryColumns+` FROM entries WHERE expires <= ? ORDER BY expires, id LIMIT ?`, now.UnixMilli(), limit)
		if err != nil {
			return err
		}
		if err := t.remove(gone, now, until, manager.ReasonExpired); err != nil {
			return err
		}
		_, err = t.exec(`DELETE FROM quarantine WHERE until <= ?`, now.UnixMilli())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: delete expired entries: %w", err)
	}
	return gone, nil
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

func queryEntries(t *tx, stmt string, args ...any) ([]manager.Entry, error) {
	rows, err := t.query(stmt, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var es []manager.Entry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	return es, rows.Err()
}

func scanEntry(row interface{ Scan(...any) error }) (manager.Entry, error) {
	var e manager.Entry
	var imsi, address, ranges, targets string
	var port uint16
	var created, expires int64
	err := row.Scan(&e.ID, &e.OperatorID, &imsi, &e.SIMID, &e.Strategy, &e.DevicePort, &e.RelayID, &address, &port, &ranges, &created, &expires,
		&e.TLS, &e.CredentialID, &e.ProxyProtocol, &targets)
	if err != nil {
		return manager.Entry{}, err
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	e.IMSI, e.Address = ident.IMSI(imsi), netip.AddrPortFrom(addr, port)
	if e.Ranges, err = parseRanges(ranges); err != nil {
		return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	if e.Targets, err = parseTargets(targets); err != nil {
		return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	e.Created, e.Expires = time.UnixMilli(created).UTC(), time.UnixMilli(expires).UTC()
	return e, nil
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
