package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
)

const (
	// compactBytes is how much must have been handed over before it is removed.
	compactBytes = 4 << 20
	lookForLeft  = 5 * time.Second
	// diskPause is the pause after the disk failed.
	diskPause = time.Second
	// sinkTimeout bounds handing over one batch.
	sinkTimeout = 10 * time.Second
	minPause    = 50 * time.Millisecond
	// writePause and givePause are the least times between two writes and between two
	// batches that are not full: on a busy relay many records then cost one system call
	// and one transaction of the manager. A record that comes after a quiet time waits
	// for neither.
	writePause = time.Millisecond
	givePause  = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

// Spool is a relay's audit log on its way to a manager. Record, Accepting, Lost and
// Status may be called from any goroutine, also before Run and after it.
type Spool struct {
	cfg   Config
	log   *slog.Logger
	sink  Sink
	relay manager.RelayID
	ready chan struct{}
	wake  chan struct{} // capacity 1: there is something to write
	more  chan struct{} // capacity 1: there is something to hand over
	look  time.Duration // how often the slots of processes that are gone are looked for

	register prometheus.Registerer

	mu    sync.Mutex // guards the rest up to the blank line
	over  bool       // Run has ended
	data  []byte     // entries that are not in the log yet
	ends  []int      // where each ends
	notes []note     // about each
	ids   *ulid.MonotonicEntropy

	pending  atomic.Int64 // bytes of records that are not handed over
	waiting  atomic.Int64 // their number
	failing  atomic.Bool  // the disk does not take them
	dirty    atomic.Bool  // there is something to sync
	lost     atomic.Uint64
	handed   atomic.Uint64
	damaged  atomic.Uint64
	acked    atomic.Uint64 // index of the last entry that was handed over
	ackBytes atomic.Int64  // bytes of those that are still in the log
	live     atomic.Int64
}

// note is what the writer needs to know of an entry.
type note struct {
	kind manager.AuditType
	key  connKey
}

// New checks cfg and d.
func New(cfg Config, d Deps) (*Spool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Sink == nil {
		return nil, errors.New("audit spool: Sink is required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Spool{
		register: d.Metrics, cfg: cfg.withDefaults(), log: d.Log.With("nf", "relay", "relay", d.Relay), sink: d.Sink, relay: d.Relay,
		ready: make(chan struct{}), wake: make(chan struct{}, 1), more: make(chan struct{}, 1),
		ids: ulid.Monotonic(rand.Reader, 0), look: lookForLeft,
	}, nil
}

// Ready is closed once the log is open and what a predecessor left has been taken over.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Status is a snapshot of a Spool.
type Status struct {
	Waiting      int64  // records that are not handed over
	WaitingBytes int64  // their size
	Handed       uint64 // records handed over since the process began
	Lost         uint64 // records that could not be kept
	Damaged      uint64 // entries of the log that could not be read
	Live         int64  // connections that have begun and are not over
	Failing      bool   // the disk does not take records
}

// Status returns a copy of the spool's state.
func (s *Spool) Status() Status {
	return Status{
		Waiting: s.waiting.Load(), WaitingBytes: s.pending.Load(), Handed: s.handed.Load(), Lost: s.lost.Load(),
		Damaged: s.damaged.Load(), Live: s.live.Load(), Failing: s.failing.Load(),
	}
}

// Lost returns how many records could not be kept since the process began.
func (s *Spool) Lost() uint64 { return s.lost.Load() }

// Accepting is false while the relay shall turn connections away because a record of
// them could not be kept: MaxBytes wait or the disk fails, and Config.OnFull is Refuse.
func (s *Spool) Accepting() bool {
	return s.cfg.OnFull == Drop || (s.pending.Load() < s.cfg.MaxBytes && !s.failing.Load())
}

// bound is where records are lost. With Refuse there is some room beyond MaxBytes for
// what was let in before.
func (s *Spool) bound() int64 {
	if s.cfg.OnFull == Drop {
		return s.cfg.MaxBytes
	}
	return s.cfg.MaxBytes + s.cfg.MaxBytes/4
}

// Record takes a record: it never waits. A record without an ID gets one, and one
// without a relay the spool's.
func (s *Spool) Record(r manager.AuditRecord) {
	if r.RelayID == "" {
		r.RelayID = s.relay
	}
	var key connKey
	if r.ConnectionID != "" {
		key = keyOf(r.ConnectionID)
	}
	s.mu.Lock()
	if s.over || s.pending.Load() >= s.bound() {
		s.mu.Unlock()
		s.lost.Add(1)
		return
	}
	if r.ID == "" {
		if id, err := ulid.New(ulid.Timestamp(r.At), s.ids); err == nil {
			r.ID = id.String()
		} else { // 2^80 in one millisecond
			r.ID = ulid.Make().String()
		}
	}
	before, first := len(s.data), len(s.ends) == 0
	s.data = appendEntry(s.data, tagRecord, &r)
	s.ends = append(s.ends, len(s.data))
	s.notes = append(s.notes, note{r.Type, key})
	s.pending.Add(int64(len(s.data) - before))
	s.waiting.Add(1)
	s.mu.Unlock()
	if first { // the writer has been told of those before it
		signal(s.wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run writes records to disk and hands them over until ctx ends, and then for up to
// Config.DrainTimeout, or until nothing waits. It returns an error if the folder cannot
// be used at all.
func (s *Spool) Run(ctx context.Context) (err error) {
	dir := s.cfg.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "simreach-audit-"); err != nil {
			return fmt.Errorf("audit spool: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	return s.run(ctx, dir)
}

func (s *Spool) run(ctx context.Context, dir string) error {
	unregister, err := observe.Register(s.register, s.collectors()...)
	if err != nil {
		return fmt.Errorf("audit spool: metrics: %w", err)
	}
	defer unregister()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
		if n := len(s.ends); n > 0 { // the disk failed until the end
			s.lost.Add(uint64(n))
		}
	}()
	mine, err := firstSlot(dir)
	if err != nil {
		return err
	}
	w := &writer{Spool: s, dir: dir, slot: mine, live: connections{}}
	err = w.open()
	if err == nil {
		err = w.recover()
	}
	if err == nil {
		err = w.takeOver()
	}
	if err != nil {
		if w.log != nil {
			err = errors.Join(err, w.log.close())
		}
		return errors.Join(err, mine.release())
	}
	close(s.ready)
	w.run(ctx)
	err = w.log.close()
	if s.waiting.Load() == 0 && err == nil && len(w.live) == 0 {
		err = os.RemoveAll(mine.dir)
	}
	if err = errors.Join(err, mine.release()); err != nil {
		return fmt.Errorf("audit spool: close: %w", err)
	}
	return nil
}
