package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/simreach/simreach/manager"
)

const (
	// channel is what NOTIFY and LISTEN name.
	channel = "simreach"
	// maxPayload is less than the 8000 bytes that NOTIFY takes.
	maxPayload = 7900
	// listenRetry is the pause before listening again after a failure.
	listenRetry = 500 * time.Millisecond
	// listenCheck is how long there may be silence before the server is asked whether it
	// is there, and how long it may take to answer.
	listenCheck = 3 * time.Second
)

// Codes of PostgreSQL (its documentation, appendix A).
const (
	pgUniqueViolation      = "23505"
	pgSerializationFailure = "40001"
	pgDeadlock             = "40P01"
	pgConnectionException  = "08"   // a class of codes
	pgShutdown             = "57P0" // the server or its operator ends the connection
)

// pgEngine is PostgreSQL or a database that speaks its protocol and SQL, several
// managers on one.
type pgEngine struct {
	config  *pgx.ConnConfig
	db      *sql.DB
	queries sync.Map // of texts with ? to texts with $1, $2...
}

func openPostgres(ctx context.Context, c Config) (_ *pgEngine, err error) {
	e := &pgEngine{}
	if e.config, err = pgx.ParseConfig(c.URL); err != nil {
		return nil, err // pgx leaves the password out
	}
	e.db = stdlib.OpenDB(*e.config)
	n := c.Connections
	if n == 0 {
		n = 8
	}
	e.db.SetMaxOpenConns(n)
	e.db.SetMaxIdleConns(n)
	if err := migrate(ctx, goose.DialectPostgres, e.db); err != nil {
		e.db.Close()
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return e, nil
}

// sessionLock keeps several managers that start at one time from migrating together.
func sessionLock() (goose.ProviderOption, error) {
	l, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return nil, err
	}
	return goose.WithSessionLocker(l), nil
}

// update is serialisable, as SQLite's transactions are: what f read is still so when it
// commits.
func (e *pgEngine) update(ctx context.Context, f func(runner) error) error {
	return e.transact(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, f)
}

func (e *pgEngine) view(ctx context.Context, f func(runner) error) error {
	return e.transact(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, f)
}

func (e *pgEngine) transact(ctx context.Context, o *sql.TxOptions, f func(runner) error) error {
	t, err := e.db.BeginTx(ctx, o)
	if err != nil {
		return lost(ctx, err)
	}
	defer t.Rollback() // does nothing after Commit
	if err = f(pgRunner{e, t}); err == nil {
		err = t.Commit()
	}
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil { // it was rolled back when ctx ended
		err = ctx.Err()
	}
	return err
}

type pgRunner struct {
	e  *pgEngine
	tx *sql.Tx
}

func (r pgRunner) exec(ctx context.Context, query string, args []any) (sql.Result, error) {
	res, err := r.tx.ExecContext(ctx, r.e.rewritten(query), args...)
	return res, lost(ctx, err)
}

// maxAuditRows bounds the records of one statement.
const maxAuditRows = 4000

// addAudit inserts many with one statement, a list for each column.
func (r pgRunner) addAudit(ctx context.Context, records []manager.AuditRecord) error {
	for part := range slices.Chunk(records, maxAuditRows) {
		n := len(part)
		texts := func() []string { return make([]string, n) }
		numbers := func() []int64 { return make([]int64, n) }
		id, kind, operator, entry, connection, imsi, sim := texts(), texts(), texts(), texts(), texts(), texts(), texts()
		relay, source, destination, cause := texts(), texts(), texts(), texts()
		at, port, up, down := numbers(), numbers(), numbers(), numbers()
		tls, failure := make([]bool, n), make([]bool, n)
		for i := range part {
			a := &part[i]
			id[i], kind[i], operator[i], entry[i], connection[i] = a.ID, string(a.Type), string(a.OperatorID), string(a.EntryID), a.ConnectionID
			imsi[i], sim[i], relay[i], cause[i] = string(a.IMSI), a.SIMID, string(a.RelayID), string(a.Cause)
			source[i], destination[i] = formatAddrPort(a.Source), formatAddrPort(a.Destination)
			at[i], port[i], up[i], down[i] = a.At.UnixMilli(), int64(a.DevicePort), int64(a.Up), int64(a.Down)
			tls[i], failure[i] = a.TLS, a.Failure()
		}
		_, err := r.exec(ctx, `INSERT INTO audit (`+auditColumns+`) SELECT * FROM unnest(?::text[], ?::text[], ?::bigint[], ?::text[], ?::text[], ?::text[],
			?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::bigint[], ?::boolean[], ?::text[], ?::boolean[], ?::bigint[], ?::bigint[])
			ON CONFLICT (id) DO NOTHING`,
			[]any{id, kind, at, operator, entry, connection, imsi, sim, relay, source, destination, port, tls, cause, failure, up, down})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r pgRunner) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	rows, err := r.tx.QueryContext(ctx, r.e.rewritten(query), args...)
	return rows, lost(ctx, err)
}

// lostError is the loss of the connection before the transaction was committed: nothing
// has happened.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// lost returns err as a lostError if it is one.
func lost(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if x, ok := errors.AsType[*pgconn.PgError](err); ok {
		if strings.HasPrefix(x.Code, pgConnectionException) || strings.HasPrefix(x.Code, pgShutdown) {
			return lostError{err}
		}
		return err
	}
	if _, ok := errors.AsType[net.Error](err); ok || pgconn.SafeToRetry(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) {
		return lostError{err}
	}
	return err
}

// rewritten returns a statement with $1, $2... for its question marks.
func (e *pgEngine) rewritten(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	if s, ok := e.queries.Load(query); ok {
		return s.(string)
	}
	s := numberArguments(query)
	e.queries.Store(query, s)
	return s
}

// numberArguments puts $1, $2... for question marks outside of quotes.
func numberArguments(query string) string {
	var b strings.Builder
	n, quote := 0, rune(0)
	for _, c := range query {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '?':
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// announce sends changes with the commit, several in one message.
func (e *pgEngine) announce(ctx context.Context, r runner, changes []manager.Change) error {
	payloads, err := pack(changes, maxPayload)
	if err != nil {
		return err
	}
	for _, p := range payloads {
		if _, err := r.exec(ctx, `SELECT pg_notify('`+channel+`', ?)`, []any{p}); err != nil {
			return err
		}
	}
	return nil
}

// pack writes changes as JSON arrays of at most limit bytes.
func pack(changes []manager.Change, limit int) ([]string, error) {
	var out []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			b.WriteByte(']')
			out = append(out, b.String())
			b.Reset()
		}
	}
	for _, c := range changes {
		j, err := json.Marshal(c)
		if err != nil {
			return nil, fmt.Errorf("change %s: %w", c.Kind, err)
		}
		if len(j)+2 > limit {
			return nil, fmt.Errorf("change %s of %q: %d bytes; want at most %d", c.Kind, c.ID, len(j), limit)
		}
		if b.Len()+len(j)+2 > limit {
			flush()
		}
		if b.Len() == 0 {
			b.WriteByte('[')
		} else {
			b.WriteByte(',')
		}
		b.Write(j)
	}
	flush()
	return out, nil
}

// unpack reads what pack wrote. What cannot be read, because a newer manager wrote it,
// means that everything must be read again.
func unpack(payload string) []manager.Change {
	var changes []manager.Change
	if json.Unmarshal([]byte(payload), &changes) != nil {
		return []manager.Change{{Kind: manager.ChangeResync}}
	}
	return changes
}

func (e *pgEngine) committed([]manager.Change) {}

// watch listens on a connection of its own, and on another when that one is lost.
func (e *pgEngine) watch(ctx context.Context, f func(manager.Change)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		if e.listen(ctx, f) {
			f(manager.Change{Kind: manager.ChangeLost})
		}
		timer.Reset(listenRetry)
	}
}

// listen returns when the connection is lost. It reports whether it listened at all.
func (e *pgEngine) listen(ctx context.Context, f func(manager.Change)) bool {
	conn, err := pgx.ConnectConfig(ctx, e.config)
	if err != nil {
		return false
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return false
	}
	f(manager.Change{Kind: manager.ChangeResync})
	for {
		n, err := wait(ctx, conn)
		if err != nil {
			return true
		}
		if n == nil {
			continue
		}
		for _, c := range unpack(n.Payload) {
			f(c)
		}
	}
}

// wait returns the next message, or nil when there was none for a while but the server
// still answers.
func wait(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	waiting, cancel := context.WithTimeout(ctx, listenCheck)
	defer cancel()
	n, err := conn.WaitForNotification(waiting)
	if err == nil || ctx.Err() != nil || !errors.Is(waiting.Err(), context.DeadlineExceeded) {
		return n, err
	}
	checking, done := context.WithTimeout(ctx, listenCheck)
	defer done()
	return nil, conn.Ping(checking)
}

func (e *pgEngine) again(err error) bool {
	if _, ok := errors.AsType[lostError](err); ok {
		return true
	}
	x, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (x.Code == pgSerializationFailure || x.Code == pgDeadlock)
}

func (e *pgEngine) duplicate(err error) (is, primary bool) {
	x, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || x.Code != pgUniqueViolation {
		return false, false
	}
	return true, strings.HasSuffix(x.ConstraintName, "_pkey")
}

func (e *pgEngine) close() error { return e.db.Close() }
