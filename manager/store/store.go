package store

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/manager"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Drivers.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Config says where the state is kept.
type Config struct {
	// Driver is "sqlite" or "postgres". Empty: postgres if URL is set, else sqlite.
	Driver string `yaml:"driver"`
	// Path is the SQLite file; it is created if missing. ":memory:" keeps
	// everything in memory until Close. Required for SQLite.
	Path string `yaml:"path"`
	// URL is PostgreSQL's, "postgres://user@host:5432/database?sslmode=verify-full",
	// or its keyword form. The password may come from the environment or from a
	// password file, as with psql. Required for PostgreSQL.
	URL string `yaml:"url"`
	// Connections bounds those to PostgreSQL, beside one for each Watch. 0: 8.
	Connections int `yaml:"connections"`
}

func (c Config) driver() string {
	if c.Driver == "" && c.URL != "" {
		return Postgres
	}
	return cmp.Or(c.Driver, SQLite)
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch d := c.driver(); {
	case d != SQLite && d != Postgres:
		return fmt.Errorf("store: driver %q: want %s or %s", d, SQLite, Postgres)
	case d == SQLite && c.Path == "":
		return errors.New("store: path is required")
	case d == SQLite && c.URL != "":
		return errors.New("store: url is for PostgreSQL")
	case d == Postgres && c.URL == "":
		return errors.New("store: url is required")
	case d == Postgres && c.Path != "":
		return errors.New("store: path is for SQLite")
	case c.Connections < 0:
		return fmt.Errorf("store: connections %d: must not be negative", c.Connections)
	}
	return nil
}

// Store is a manager.Store. Its methods may be called from any goroutine.
type Store struct {
	engine engine
	writer writer
	ids    recordIDs

	latency      *prometheus.HistogramVec
	reads, saves prometheus.Observer // of latency
}

// Open opens the database and brings its schema up to date. The caller closes the
// Store.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Store{writer: writer{turn: make(chan struct{}, 1)}, latency: newLatency()}
	s.reads, s.saves = s.latency.WithLabelValues("read"), s.latency.WithLabelValues("write")
	switch c.driver() {
	case SQLite:
		e, err := openSQLite(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("store %s: open: %w", c.Path, err)
		}
		s.engine = e
	case Postgres:
		e, err := openPostgres(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("store: open PostgreSQL: %w", err)
		}
		s.engine = e
	}
	return s, nil
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// Numbers are given by area: a lower one may be newer.
	options := []goose.ProviderOption{goose.WithAllowOutofOrder(true)}
	if dialect == goose.DialectPostgres {
		lock, err := sessionLock()
		if err != nil {
			return err
		}
		options = append(options, lock)
	}
	p, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Watch implements manager.Store.
func (s *Store) Watch(ctx context.Context, f func(manager.Change)) error {
	return s.engine.watch(ctx, f)
}

// Notify implements manager.Store.
func (s *Store) Notify(ctx context.Context, changes ...manager.Change) error {
	err := s.write(ctx, func(t *tx) error {
		for _, c := range changes {
			t.notify(c)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: notify: %w", err)
	}
	return nil
}

// Shared implements manager.Store.
func (s *Store) Shared() bool { _, is := s.engine.(*pgEngine); return is }

// Close waits for transactions under way and closes the database.
func (s *Store) Close() error { return s.engine.close() }
