// Package store keeps the manager's state in SQL. [Open] opens SQLite, one file
// per manager; the statements are plain enough for a second engine, and the suite
// in storetest is what any engine must pass.
//
// Writes are durable when a method returns: write-ahead log, synced at every
// commit. The package owns no goroutine beyond those of database/sql.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config says where the state is kept.
type Config struct {
	// Path is the SQLite file; it is created if missing. ":memory:" keeps
	// everything in memory until Close. Required.
	Path string `yaml:"path"`
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if c.Path == "" {
		return errors.New("store: path is required")
	}
	return nil
}

// Store is a manager.Store on SQLite. Its methods may be called from any goroutine.
type Store struct{ db *sql.DB }

// Open opens the database and brings its schema up to date. The caller closes the
// Store.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	// _txlock: a transaction takes the write lock at its start, so that none
	// fails half-way because another wrote first.
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
	dsn := "file:" + (&url.URL{Path: c.Path}).EscapedPath() + "?" + query.Encode()
	memory := c.Path == ":memory:"
	if memory {
		dsn = "file::memory:?" + query.Encode()
	}
	if !memory {
		// The signing key is in it: nobody else may read it. SQLite gives its other
		// files the same mode.
		f, err := os.OpenFile(c.Path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		f.Close()
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("store %s: open: %w", c.Path, err)
	}
	if memory { // every connection would be a database of its own
		db.SetMaxOpenConns(1)
		db.SetMaxIdleConns(1)
		db.SetConnMaxLifetime(0)
	} else {
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
	}
	if err := migrate(ctx, db); err != nil {
		db.Close()
		return nil, fmt.Errorf("store %s: migrate: %w", c.Path, err)
	}
	return &Store{db}, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// tx runs f in a transaction.
func (s *Store) tx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

const entryColumns = `id, operator_id, imsi, sim_id, strategy, device_port, relay_id, address, port, ranges, created, expires`

// CreateEntry implements manager.Store.
func (s *Store) CreateEntry(ctx context.Context, e manager.Entry) error {
	address, port := e.Address.Addr().String(), e.Address.Port()
	err := s.tx(ctx, func(tx *sql.Tx) error {
		var resting int
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM quarantine WHERE address = $1 AND port = $2 AND until > $3`,
			address, port, e.Created.UnixMilli()).Scan(&resting)
		if err != nil {
			return err
		}
		if resting > 0 {
			return manager.ErrAddressTaken
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO entries (`+entryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			e.ID, e.OperatorID, e.IMSI, e.SIMID, e.Strategy, e.DevicePort, e.RelayID, address, port,
			formatRanges(e.Ranges), e.Created.UnixMilli(), e.Expires.UnixMilli())
		if isUnique(err) {
			return manager.ErrAddressTaken
		}
		return err
	})
	if err != nil && !errors.Is(err, manager.ErrAddressTaken) {
		return fmt.Errorf("store: create entry %s: %w", e.ID, err)
	}
	return err
}

// isUnique reports whether err is a violation of UNIQUE. A duplicate primary key
// is another error: IDs are random, so it would be a fault.
func isUnique(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
}

// EntryByAddress implements manager.Store.
func (s *Store) EntryByAddress(ctx context.Context, a netip.AddrPort) (manager.Entry, error) {
	row := s.db.QueryRowContext(ctx, `SELECT `+entryColumns+` FROM entries WHERE address = $1 AND port = $2`, a.Addr().String(), a.Port())
	e, err := scanEntry(row)
	if errors.Is(err, sql.ErrNoRows) {
		return manager.Entry{}, manager.ErrNotFound
	}
	if err != nil {
		return manager.Entry{}, fmt.Errorf("store: entry at %s: %w", a, err)
	}
	return e, nil
}

// Entries implements manager.Store.
func (s *Store) Entries(ctx context.Context, q manager.EntryQuery, now time.Time) ([]manager.Entry, error) {
	where, args := []string{}, []any{}
	add := func(cond string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf(cond, len(args)))
	}
	add(`operator_id = $%d`, q.OperatorID)
	add(`expires > $%d`, now.UnixMilli())
	add(`id > $%d`, q.After)
	if q.IMSI != "" {
		add(`strategy = $%d`, manager.IMSIPrioritized)
		add(`imsi = $%d`, q.IMSI)
	}
	if q.SIMID != "" {
		add(`sim_id = $%d`, q.SIMID)
	}
	stmt := `SELECT ` + entryColumns + ` FROM entries WHERE ` + strings.Join(where, ` AND `) + ` ORDER BY id`
	if q.Limit > 0 {
		args = append(args, q.Limit)
		stmt += fmt.Sprintf(` LIMIT $%d`, len(args))
	}
	es, err := queryEntries(ctx, s.db, stmt, args...)
	if err != nil {
		return nil, fmt.Errorf("store: entries of %s: %w", q.OperatorID, err)
	}
	return es, nil
}

// RelayEntries implements manager.Store.
func (s *Store) RelayEntries(ctx context.Context, relay manager.RelayID, now time.Time) ([]manager.Entry, error) {
	es, err := queryEntries(ctx, s.db, `SELECT `+entryColumns+` FROM entries WHERE relay_id = $1 AND expires > $2 ORDER BY id`, relay, now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("store: entries of relay %s: %w", relay, err)
	}
	return es, nil
}

const toQuarantine = `INSERT INTO quarantine (address, port, until) SELECT address, port, $1 FROM entries WHERE id = $2
	ON CONFLICT (address, port) DO UPDATE SET until = excluded.until`

// DeleteEntry implements manager.Store.
func (s *Store) DeleteEntry(ctx context.Context, id manager.EntryID, until time.Time) error {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, toQuarantine, until.UnixMilli(), id); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM entries WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, manager.ErrNotFound)
		}
		return nil
	})
	if err != nil && !errors.Is(err, manager.ErrNotFound) {
		return fmt.Errorf("store: delete entry %s: %w", id, err)
	}
	return err
}

// DeleteExpired implements manager.Store.
func (s *Store) DeleteExpired(ctx context.Context, now, until time.Time, limit int) ([]manager.Entry, error) {
	var gone []manager.Entry
	err := s.tx(ctx, func(tx *sql.Tx) error {
		// The same entries three times: nobody else writes meanwhile.
		const due = `entries WHERE expires <= $1 ORDER BY expires, id LIMIT $2`
		var err error
		gone, err = queryEntries(ctx, tx, `SELECT `+entryColumns+` FROM `+due, now.UnixMilli(), limit)
		if err != nil {
			return err
		}
		if len(gone) > 0 {
			_, err := tx.ExecContext(ctx, `INSERT INTO quarantine (address, port, until)
				SELECT address, port, $3 FROM entries WHERE id IN (SELECT id FROM `+due+`)
				ON CONFLICT (address, port) DO UPDATE SET until = excluded.until`, now.UnixMilli(), limit, until.UnixMilli())
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM entries WHERE id IN (SELECT id FROM `+due+`)`, now.UnixMilli(), limit); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM quarantine WHERE until <= $1`, now.UnixMilli())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: delete expired entries: %w", err)
	}
	return gone, nil
}

// NextExpiry implements manager.Store.
func (s *Store) NextExpiry(ctx context.Context) (time.Time, error) {
	var ms sql.NullInt64
	if err := s.db.QueryRowContext(ctx, `SELECT MIN(expires) FROM entries`).Scan(&ms); err != nil {
		return time.Time{}, fmt.Errorf("store: next expiry: %w", err)
	}
	if !ms.Valid {
		return time.Time{}, nil
	}
	return time.UnixMilli(ms.Int64).UTC(), nil
}

// CountEntries implements manager.Store.
func (s *Store) CountEntries(ctx context.Context) (int, error) {
	var n int
	if err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM entries`).Scan(&n); err != nil {
		return 0, fmt.Errorf("store: count entries: %w", err)
	}
	return n, nil
}

// TakenPorts implements manager.Store.
func (s *Store) TakenPorts(ctx context.Context, a netip.Addr, now time.Time) ([]uint16, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT port FROM entries WHERE address = $1
		UNION SELECT port FROM quarantine WHERE address = $1 AND until > $2 ORDER BY port`, a.String(), now.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("store: ports of %s: %w", a, err)
	}
	defer rows.Close()
	var ports []uint16
	for rows.Next() {
		var p uint16
		if err := rows.Scan(&p); err != nil {
			return nil, fmt.Errorf("store: ports of %s: %w", a, err)
		}
		ports = append(ports, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("store: ports of %s: %w", a, err)
	}
	return ports, nil
}

// SigningKeys implements manager.Store.
func (s *Store) SigningKeys(ctx context.Context) ([]manager.SigningKey, error) {
	keys, err := signingKeys(ctx, s.db)
	if err != nil {
		return nil, fmt.Errorf("store: signing keys: %w", err)
	}
	return keys, nil
}

// AddSigningKey implements manager.Store.
func (s *Store) AddSigningKey(ctx context.Context, k manager.SigningKey) (manager.SigningKey, error) {
	newest := k
	err := s.tx(ctx, func(tx *sql.Tx) error {
		keys, err := signingKeys(ctx, tx)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			newest = keys[0]
			return nil
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO signing_keys (id, seed, created) VALUES ($1, $2, $3)`, k.ID, k.Seed, k.Created.UnixMilli())
		return err
	})
	if err != nil {
		return manager.SigningKey{}, fmt.Errorf("store: add signing key %s: %w", k.ID, err)
	}
	return newest, nil
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func signingKeys(ctx context.Context, q querier) ([]manager.SigningKey, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, seed, created FROM signing_keys ORDER BY created DESC, id DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []manager.SigningKey
	for rows.Next() {
		var k manager.SigningKey
		var created int64
		if err := rows.Scan(&k.ID, &k.Seed, &created); err != nil {
			return nil, err
		}
		k.Created = time.UnixMilli(created).UTC()
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

func queryEntries(ctx context.Context, q querier, stmt string, args ...any) ([]manager.Entry, error) {
	rows, err := q.QueryContext(ctx, stmt, args...)
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
	var imsi, address, ranges string
	var port uint16
	var created, expires int64
	err := row.Scan(&e.ID, &e.OperatorID, &imsi, &e.SIMID, &e.Strategy, &e.DevicePort, &e.RelayID, &address, &port, &ranges, &created, &expires)
	if err != nil {
		return manager.Entry{}, err
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
	}
	e.IMSI, e.Address = ident.IMSI(imsi), netip.AddrPortFrom(addr, port)
	for _, t := range strings.Fields(ranges) {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return manager.Entry{}, fmt.Errorf("entry %s: %w", e.ID, err)
		}
		e.Ranges = append(e.Ranges, p)
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
