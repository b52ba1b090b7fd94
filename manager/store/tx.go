package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/simreach/simreach/manager"
)

const (
	// maxBatch bounds how many writes share a transaction, and so how much is done
	// again when it fails.
	maxBatch = 256
	// writeTimeout bounds a batch: an engine that does not answer must not hold its
	// callers for ever.
	writeTimeout = 15 * time.Second
	// maxAttempts bounds how often a transaction is tried that collides with others.
	maxAttempts = 12
)

// runner runs statements in a transaction, with ? for arguments.
type runner interface {
	exec(ctx context.Context, query string, args []any) (sql.Result, error)
	query(ctx context.Context, query string, args []any) (*sql.Rows, error)
	// addAudit inserts audit records, but those whose ID is there.
	addAudit(ctx context.Context, records []manager.AuditRecord) error
}

// engine is what differs between databases.
type engine interface {
	// update runs f in a transaction that may write, and commits it if f returns nil.
	// Nobody else is in update of the same engine.
	update(ctx context.Context, f func(runner) error) error
	// view runs f in a transaction that sees one state and writes nothing.
	view(ctx context.Context, f func(runner) error) error
	// announce delivers changes to whoever watches, once r is committed.
	announce(ctx context.Context, r runner, changes []manager.Change) error
	// committed is called after update returned nil, with what announce was given.
	committed(changes []manager.Change)
	// watch implements Store.Watch.
	watch(ctx context.Context, f func(manager.Change)) error
	// again reports whether err says that the transaction would do if tried again.
	again(err error) bool
	// duplicate reports whether err is a violation of UNIQUE or PRIMARY KEY, and
	// whether of the latter.
	duplicate(err error) (is, primary bool)
	close() error
}

// tx is a transaction under way. It belongs to the function that got it and ends with
// it, which is why it holds its context.
type tx struct {
	ctx     context.Context
	r       runner
	changes []manager.Change
	records []manager.AuditRecord
}

// exec runs a statement that returns no rows, and returns how many it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	if err := storable(args); err != nil {
		return 0, err
	}
	res, err := t.r.exec(t.ctx, query, args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query runs a statement that returns rows. They must be read to their end, or closed,
// before the next statement.
func (t *tx) query(query string, args ...any) (*sql.Rows, error) {
	if err := storable(args); err != nil {
		return nil, err
	}
	return t.r.query(t.ctx, query, args)
}

// storable returns manager.ErrBadText for text that PostgreSQL refuses, on all engines.
func storable(args []any) error {
	for _, a := range args {
		text, ok := a.(string)
		if n, is := a.(sql.NullString); is {
			text, ok = n.String, true
		}
		if ok && !storableText(text) {
			return manager.ErrBadText
		}
	}
	return nil
}

func storableText(s string) bool { return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) }

// row runs a statement that returns at most one row.
func (t *tx) row(query string, args ...any) row {
	rows, err := t.query(query, args...)
	return row{rows, err}
}

// row is what is read with Scan, once.
type row struct {
	rows *sql.Rows
	err  error
}

// Scan reads the row. sql.ErrNoRows: there is none.
func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		return cmp.Or(r.rows.Err(), sql.ErrNoRows)
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	return r.rows.Close()
}

// room returns manager.ErrTooMany if there are most rows of a table, named with its
// condition. What follows in the transaction may add one: engines see to it that of
// transactions at one time as many pass as there is room for.
func (t *tx) room(most int, from string, args ...any) error {
	var n int
	if err := t.row(`SELECT COUNT(*) FROM `+from, args...).Scan(&n); err != nil {
		return err
	}
	if n >= most {
		return manager.ErrTooMany
	}
	return nil
}

// record adds audit records at the end of the transaction, with those of the others in
// it. ErrBadText: none of them.
func (t *tx) record(records ...manager.AuditRecord) error {
	for i := range records {
		r := &records[i]
		for _, text := range [...]string{
			r.ID, string(r.Type), string(r.OperatorID), string(r.EntryID), r.ConnectionID, string(r.IMSI), r.SIMID, string(r.RelayID), string(r.Cause),
		} {
			if !storableText(text) {
				return manager.ErrBadText
			}
		}
	}
	t.records = together(t.records, records)
	return nil
}

// together returns two lists as one; that is one of them where the other is empty.
func together(a, b []manager.AuditRecord) []manager.AuditRecord {
	if len(a) == 0 {
		return b[:len(b):len(b)]
	}
	return append(a, b...)
}

// notify tells all managers on the store of c, after the commit and only if it happens.
func (t *tx) notify(c manager.Change) { t.changes = append(t.changes, c) }

// job is one write that waits for, or is in, a transaction.
type job struct {
	ctx     context.Context
	f       func(*tx) error
	done    chan struct{} // closed when err is final
	err     error
	changes []manager.Change
	records []manager.AuditRecord
}

// writer puts writes that come at one time into one transaction.
type writer struct {
	mu    sync.Mutex    // guards queue
	queue []*job        // in the order in which they came
	turn  chan struct{} // capacity 1; whoever fills it runs batches
}

// write runs f in a transaction that is durable when write returns nil. If f returns an
// error, what it did is undone and write returns that error. f may run several times,
// must do nothing but use t, and must not call the Store: it holds up all other writes.
//
// If ctx ends before f began, write returns its error and nothing has happened;
// after that it waits for the outcome.
func (s *Store) write(ctx context.Context, f func(t *tx) error) error {
	defer since(time.Now(), s.saves)
	j := &job{ctx: ctx, f: f, done: make(chan struct{})}
	w := &s.writer
	w.mu.Lock()
	w.queue = append(w.queue, j)
	w.mu.Unlock()
	for {
		select {
		case <-j.done:
			return j.err
		case w.turn <- struct{}{}:
			s.runTurn()
		case <-ctx.Done():
			if w.withdraw(j) {
				return ctx.Err()
			}
			<-j.done
			return j.err
		}
	}
}

// withdraw takes a job from the queue; false if it has been taken up.
func (w *writer) withdraw(j *job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.queue {
		if other == j {
			w.queue = append(w.queue[:i:i], w.queue[i+1:]...)
			return true
		}
	}
	return false
}

// runTurn runs what is queued, as one batch.
func (s *Store) runTurn() {
	w := &s.writer
	w.mu.Lock()
	n := min(len(w.queue), maxBatch)
	batch := w.queue[:n:n]
	w.queue = w.queue[n:]
	w.mu.Unlock()
	defer func() { // also if a function of somebody panicked
		for _, j := range batch {
			close(j.done)
		}
		<-w.turn
	}()
	for _, j := range batch {
		j.err = errAbandoned
	}
	if n > 0 {
		s.runBatch(batch)
	}
}

var errAbandoned = errors.New("store: the transaction was abandoned")

// runBatch sets the outcome of every job.
func (s *Store) runBatch(batch []*job) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), writeTimeout)
	defer cancel()
	err := s.attempt(ctx, batch)
	for n := 1; n < maxAttempts && err != nil && s.engine.again(err); n++ {
		if n == 3 && len(batch) > 1 { // perhaps one of them is the cause
			for i := range batch {
				s.runBatch(batch[i : i+1])
			}
			return
		}
		if pause(ctx, n) != nil {
			break
		}
		err = s.attempt(ctx, batch)
	}
	if err != nil {
		for _, j := range batch {
			j.err = err
		}
	}
}

// pause waits longer with every attempt, and each waiter another while, so that those
// who collided do not collide again.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(time.Duration(1+rand.IntN(2<<min(attempt, 7))) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errJobFailed rolls a batch back that is run without savepoints.
var errJobFailed = errors.New("store: a job of the batch failed")

// attempt runs a batch in one transaction. An error is the transaction's; those of jobs
// are in them.
//
// Most jobs succeed, and savepoints would be two of the few statements of each: so they
// are made only when a batch has turned out to need them.
func (s *Store) attempt(ctx context.Context, batch []*job) error {
	err := s.attemptWith(ctx, batch, false)
	if errors.Is(err, errJobFailed) {
		return s.attemptWith(ctx, batch, true)
	}
	return err
}

// attemptWith runs a batch with a savepoint for each job, or without: then the first
// error of a job undoes all of them, and is errJobFailed unless the job is alone.
func (s *Store) attemptWith(ctx context.Context, batch []*job, savepoints bool) error {
	var all []manager.Change
	err := s.engine.update(ctx, func(r runner) error {
		all = nil
		var records []manager.AuditRecord
		for _, j := range batch {
			if err := s.attemptJob(ctx, r, j, savepoints); err != nil {
				return err
			}
			switch {
			case j.err == nil:
				all = append(all, j.changes...)
				records = together(records, j.records)
			case len(batch) == 1:
				return j.err
			case !savepoints:
				return errJobFailed
			}
		}
		if len(records) > 0 {
			if err := r.addAudit(ctx, records); err != nil {
				return err
			}
		}
		if len(all) == 0 {
			return nil
		}
		return s.engine.announce(ctx, r, all)
	})
	if err == nil && len(all) > 0 {
		s.engine.committed(all)
	}
	return err
}

// attemptJob runs one job, in a savepoint if so told.
func (s *Store) attemptJob(ctx context.Context, r runner, j *job, savepoint bool) error {
	if savepoint {
		if _, err := r.exec(ctx, "SAVEPOINT job", nil); err != nil {
			return err
		}
	}
	t := &tx{ctx: ctx, r: r}
	j.err = j.f(t)
	j.changes, j.records = t.changes, t.records
	if j.err != nil && s.engine.again(j.err) {
		return j.err // the whole transaction is lost
	}
	if !savepoint {
		return nil
	}
	if j.err != nil {
		if _, err := r.exec(ctx, "ROLLBACK TO SAVEPOINT job", nil); err != nil {
			return err
		}
	}
	_, err := r.exec(ctx, "RELEASE SAVEPOINT job", nil)
	return err
}

// view runs f in a transaction that sees one state and writes nothing. The rules of
// write apply to f.
func (s *Store) view(ctx context.Context, f func(t *tx) error) error {
	defer since(time.Now(), s.reads)
	run := func(r runner) error { return f(&tx{ctx: ctx, r: r}) }
	err := s.engine.view(ctx, run)
	for n := 1; n < maxAttempts && err != nil && s.engine.again(err); n++ {
		if err := pause(ctx, n); err != nil {
			return err
		}
		err = s.engine.view(ctx, run)
	}
	return err
}

// isUnique reports whether err is a violation of UNIQUE. A duplicate primary key is
// another error: where IDs are random it is a fault.
func (s *Store) isUnique(err error) bool {
	is, primary := s.engine.duplicate(err)
	return is && !primary
}

// isDuplicate reports whether err is a violation of UNIQUE or PRIMARY KEY.
func (s *Store) isDuplicate(err error) bool {
	is, _ := s.engine.duplicate(err)
	return is
}
