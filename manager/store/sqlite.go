package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/simreach/simreach/manager"
)

// maxStatements bounds the statements that stay prepared: those whose text depends on
// the arguments must not fill the memory.
const maxStatements = 256

// checkpointPages is after how many pages of the log they go into the database: a page
// that is written again and again goes there once in 16 MB, not in 4.
const checkpointPages = "4000"

// maxReaders bounds the connections that read at one time.
const maxReaders = 4

// sqliteEngine is one connection that writes, and others that read beside it, each a
// snapshot (write-ahead log).
type sqliteEngine struct {
	db     *sql.DB
	writer chan *sqliteConn // holds the one connection that may write
	reader chan *sqliteConn // holds the others, nil until first used; the same as writer in memory
	closed chan struct{}
	once   sync.Once // guards closing
	watchers
}

// sqliteConn is a connection with its prepared statements. It belongs to whoever took
// it from its channel.
type sqliteConn struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func openSQLite(ctx context.Context, c Config) (_ *sqliteEngine, err error) {
	query := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "wal_autocheckpoint(" + checkpointPages + ")"}}.Encode()
	dsn := "file:" + (&url.URL{Path: c.Path}).EscapedPath() + "?" + query
	memory := c.Path == ":memory:"
	if memory {
		dsn = "file::memory:?" + query
	} else {
		// The signing key is in it: nobody else may read it. SQLite gives its other
		// files the same mode.
		f, err := os.OpenFile(c.Path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		f.Close()
	}
	e := &sqliteEngine{writer: make(chan *sqliteConn, 1), closed: make(chan struct{})}
	if e.db, err = sql.Open("sqlite", dsn); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			e.db.Close()
		}
	}()
	if memory { // every connection is a database of its own
		e.db.SetMaxOpenConns(1)
		e.reader = e.writer
	} else {
		e.db.SetMaxOpenConns(1 + maxReaders)
		e.reader = make(chan *sqliteConn, maxReaders)
		for range maxReaders {
			e.reader <- nil
		}
	}
	if err := migrate(ctx, goose.DialectSQLite3, e.db); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	w, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	e.writer <- w
	return e, nil
}

func (e *sqliteEngine) connect(ctx context.Context) (*sqliteConn, error) {
	conn, err := e.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &sqliteConn{conn: conn, stmts: map[string]*sql.Stmt{}}, nil
}

// use runs f on a connection of a channel, between two statements.
func (e *sqliteEngine) use(ctx context.Context, from chan *sqliteConn, begin, end string, f func(runner) error) (err error) {
	var c *sqliteConn
	select {
	case c = <-from:
	case <-e.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { from <- c }()
	if c == nil {
		if c, err = e.connect(ctx); err != nil {
			return err
		}
	}
	// The context of these has no end: a transaction must be ended, and an interrupted
	// statement would take all of it along.
	ctx = context.WithoutCancel(ctx)
	if _, err := c.exec(ctx, begin, nil); err != nil {
		return err
	}
	ended := false
	defer func() {
		if !ended { // f failed or panicked, or the commit did not happen
			// After some errors SQLite has rolled back by itself: then this fails, and
			// all is well.
			_, _ = c.exec(ctx, "ROLLBACK", nil)
		}
	}()
	if err := f(c); err != nil {
		return err
	}
	if _, err := c.exec(ctx, end, nil); err != nil {
		return err
	}
	ended = true
	return nil
}

// update takes the lock at the start of the transaction, so that none fails half-way
// because another process wrote first.
func (e *sqliteEngine) update(ctx context.Context, f func(runner) error) error {
	return e.use(ctx, e.writer, "BEGIN IMMEDIATE", "COMMIT", f)
}

func (e *sqliteEngine) view(ctx context.Context, f func(runner) error) error {
	return e.use(ctx, e.reader, "BEGIN", "ROLLBACK", f)
}

func (e *sqliteEngine) announce(context.Context, runner, []manager.Change) error { return nil }

func (e *sqliteEngine) committed(changes []manager.Change) { e.deliver(changes) }

func (e *sqliteEngine) again(error) bool { return false }

func (e *sqliteEngine) duplicate(err error) (is, primary bool) {
	x, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false, false
	}
	primary = x.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	return primary || x.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE, primary
}

var errClosed = errors.New("the database is closed")

// close waits for those who use a connection.
func (e *sqliteEngine) close() error {
	first := false
	e.once.Do(func() { first = true; close(e.closed) })
	if !first {
		return nil
	}
	var errs []error
	shut := func(from chan *sqliteConn) {
		for range cap(from) {
			if c := <-from; c != nil {
				errs = append(errs, c.close())
			}
		}
	}
	shut(e.writer)
	if e.reader != e.writer {
		shut(e.reader)
	}
	return errors.Join(append(errs, e.db.Close())...)
}

func (c *sqliteConn) close() error {
	for _, st := range c.stmts {
		_ = st.Close() // goes with the connection anyway
	}
	return c.conn.Close()
}

// stmt returns a prepared statement, and what to call when it is no longer needed.
func (c *sqliteConn) stmt(ctx context.Context, query string) (*sql.Stmt, func(), error) {
	if st := c.stmts[query]; st != nil {
		return st, func() {}, nil
	}
	st, err := c.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	if len(c.stmts) >= maxStatements {
		return st, func() { _ = st.Close() }, nil // rows under way keep it until they end
	}
	c.stmts[query] = st
	return st, func() {}, nil
}

// auditRows are how many records one statement inserts, the largest first: few texts,
// so that all stay prepared.
var auditRows = [...]int{64, 8, 1}

func (c *sqliteConn) addAudit(ctx context.Context, records []manager.AuditRecord) error {
	args := make([]any, 0, min(len(records), auditRows[0])*auditColumnCount)
	for _, n := range auditRows {
		if len(records) < n {
			continue
		}
		row := `(` + strings.Repeat(`?, `, auditColumnCount-1) + `?)`
		// For ON CONFLICT (id), which comes to the same, SQLite would keep a journal of the
		// pages that a statement changes.
		stmt := `INSERT OR IGNORE INTO audit (` + auditColumns + `) VALUES ` + strings.Repeat(row+`, `, n-1) + row
		for len(records) >= n {
			args = args[:0]
			for i := range records[:n] {
				r := &records[i]
				args = append(args, r.ID, string(r.Type), r.At.UnixMilli(), string(r.OperatorID), string(r.EntryID), r.ConnectionID,
					string(r.IMSI), r.SIMID, string(r.RelayID), formatAddrPort(r.Source), formatAddrPort(r.Destination),
					int64(r.DevicePort), r.TLS, string(r.Cause), r.Failure(), int64(r.Up), int64(r.Down))
			}
			if _, err := c.exec(ctx, stmt, args); err != nil {
				return err
			}
			records = records[n:]
		}
	}
	return nil
}

func (c *sqliteConn) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	st, free, err := c.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	defer free()
	return st.ExecContext(ctx, args...)
}

func (c *sqliteConn) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	st, free, err := c.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	defer free()
	return st.QueryContext(ctx, args...)
}
