package audit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oklog/ulid/v2"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/manager"
)

// archive is what a manager does with records: it keeps one of each ID.
type archive struct {
	mu    sync.Mutex
	fail  func(n int) (before, after error) // of the n-th call
	calls int
	log   []manager.AuditRecord // in the order in which they were new
	ids   map[string]bool
	grew  chan struct{} // closed and replaced when something is new
}

func newArchive() *archive { return &archive{ids: map[string]bool{}, grew: make(chan struct{})} }

func (a *archive) AddAudit(_ context.Context, rs []manager.AuditRecord) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	var before, after error
	if a.fail != nil {
		before, after = a.fail(a.calls)
	}
	if before != nil {
		return before
	}
	for _, r := range rs {
		if !a.ids[r.ID] {
			a.ids[r.ID] = true
			a.log = append(a.log, r)
		}
	}
	close(a.grew)
	a.grew = make(chan struct{})
	return after
}

func (a *archive) records() []manager.AuditRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]manager.AuditRecord(nil), a.log...)
}

// await waits until there are n records.
func (a *archive) await(t *testing.T, n int) []manager.AuditRecord {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		a.mu.Lock()
		got, grew := len(a.log), a.grew
		a.mu.Unlock()
		if got >= n {
			return a.records()
		}
		select {
		case <-grew:
		case <-late:
			t.Fatalf("%d records after 10 s, want %d", got, n)
		}
	}
}

func spool(t *testing.T, cfg Config, sink Sink) *Spool {
	t.Helper()
	s, err := New(cfg, Deps{Sink: sink, Relay: "outer1"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t *testing.T, cfg Config, sink Sink) (*Spool, func()) {
	t.Helper()
	s := spool(t, cfg, sink)
	return s, begin(t, s)
}

func begin(t *testing.T, s *Spool) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("not ready after 10 s")
	}
	return stop
}

func record(kind manager.AuditType, conn string) manager.AuditRecord {
	return manager.AuditRecord{
		ID: ulid.Make().String(), Type: kind, At: time.Now().UTC().Truncate(time.Millisecond), OperatorID: "OP0000000001", EntryID: "entry",
		ConnectionID: conn, IMSI: "001010000000001", RelayID: "outer1", Source: netip.MustParseAddrPort("198.51.100.1:5555"), DevicePort: 22,
	}
}

func connection() string { return ulid.Make().String() }

var equal = cmpopts.EquateComparable(netip.AddrPort{})

func TestMain(m *testing.M) {
	if dir := os.Getenv("SIMREACH_AUDIT_CHILD"); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// Whatever the manager answers, every record arrives, and in order.
func TestInOrderAtLeastOnce(t *testing.T) {
	a := newArchive()
	away := errors.New("away")
	a.fail = func(n int) (error, error) {
		switch n % 3 {
		case 1:
			return away, nil
		case 2:
			return nil, away // stored, but the answer was lost
		}
		return nil, nil
	}
	s, stop := start(t, Config{Dir: t.TempDir(), Batch: 7}, a)
	var want []manager.AuditRecord
	for range 50 {
		r := record(manager.AuditAccess, connection())
		want = append(want, r)
		s.Record(r)
	}
	got := a.await(t, len(want))
	if d := cmp.Diff(want, got, equal); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	stop()
	if st := s.Status(); st.Waiting != 0 || st.WaitingBytes != 0 || st.Lost != 0 || st.Handed != 50 || st.Live != 50 {
		t.Errorf("status %+v; want nothing waiting, 50 handed over, 50 connections", st)
	}
}

// Records without an ID get one that sorts behind the one before.
func TestIDs(t *testing.T) {
	a := newArchive()
	s, _ := start(t, Config{Dir: t.TempDir()}, a)
	for range 100 {
		r := record(manager.AuditAccess, connection())
		r.ID, r.RelayID, r.At = "", "", time.UnixMilli(1e12)
		s.Record(r)
	}
	last := ""
	for _, r := range a.await(t, 100) {
		if r.ID <= last || r.RelayID != "outer1" {
			t.Fatalf("record %q of %q after %q", r.ID, r.RelayID, last)
		}
		last = r.ID
	}
}

// The manager is away for the whole life of a process: the next one hands over, and a
// clean end leaves nothing behind.
func TestNextProcessHandsOver(t *testing.T) {
	dir := t.TempDir()
	a := newArchive()
	away := true
	a.fail = func(int) (error, error) {
		if away {
			return errors.New("away"), nil
		}
		return nil, nil
	}
	s, stop := start(t, Config{Dir: dir, DrainTimeout: time.Millisecond}, a)
	c := connection()
	for _, k := range []manager.AuditType{manager.AuditAccess, manager.AuditConnected, manager.AuditClosed} {
		s.Record(record(k, c))
	}
	stop()
	a.mu.Lock()
	away = false
	a.mu.Unlock()
	_, stop = start(t, Config{Dir: dir}, a)
	if got := a.await(t, 3); got[0].Type != manager.AuditAccess || got[2].Type != manager.AuditClosed {
		t.Errorf("records %+v", got)
	}
	stop()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 || filepath.Base(files[0]) != "0.lock" {
		t.Errorf("left behind: %v, %v; want the lock's file only", files, err)
	}
	if got := a.records(); len(got) != 3 {
		t.Errorf("%d records, want 3", len(got))
	}
}

func TestFull(t *testing.T) {
	for _, c := range []struct {
		onFull    string
		accepting bool
		max       int64
	}{{Refuse, false, minBytes + minBytes/4}, {Drop, true, minBytes}, {"", false, minBytes + minBytes/4}} {
		t.Run(c.onFull, func(t *testing.T) {
			a := newArchive()
			gate := make(chan struct{})
			sink := SinkFunc(func(ctx context.Context, rs []manager.AuditRecord) error {
				select {
				case <-gate:
					return a.AddAudit(ctx, rs)
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			s, _ := start(t, Config{Dir: t.TempDir(), MaxBytes: minBytes, OnFull: c.onFull}, sink)
			if !s.Accepting() {
				t.Error("not accepting while empty")
			}
			n := 0
			for ; n < 2000; n++ {
				s.Record(record(manager.AuditAccess, connection()))
			}
			st := s.Status()
			if s.Accepting() != c.accepting || st.Lost == 0 || st.Lost != s.Lost() || st.WaitingBytes < c.max || st.WaitingBytes > c.max+1000 {
				t.Errorf("accepting %t, status %+v; want accepting %t, %d bytes kept and the rest lost", s.Accepting(), st, c.accepting, c.max)
			}
			close(gate)
			a.await(t, n-int(st.Lost))
			for begin := time.Now(); !s.Accepting() || s.Status().Waiting > 0; {
				if time.Since(begin) > 5*time.Second {
					t.Fatalf("still full: %+v", s.Status())
				}
				<-time.After(time.Millisecond)
			}
			s.Record(record(manager.AuditAccess, connection()))
			a.await(t, n-int(st.Lost)+1)
		})
	}
}

// What was handed over is removed, but connections that live on are remembered: when the
// process dies they are ended, with a denial where there was no answer yet.
func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	a := newArchive()
	s, _ := start(t, Config{Dir: dir}, a)
	connected, waiting := connection(), connection()
	s.Record(record(manager.AuditAccess, connected))
	s.Record(record(manager.AuditAccess, waiting))
	s.Record(record(manager.AuditConnected, connected))
	n := 3
	for range 3 * compactBytes / 1000 { // much more than once round
		c := connection()
		for _, k := range []manager.AuditType{manager.AuditAccess, manager.AuditConnected, manager.AuditClosed} {
			s.Record(record(k, c))
			n++
		}
		if n%600 == 0 {
			a.await(t, n-300)
		}
	}
	a.await(t, n)
	if size := dirSize(t, dir); size > 3*compactBytes {
		t.Errorf("the log has %d bytes after %d records", size, n)
	}
	if first, err := filepath.Glob(filepath.Join(dir, "0", fmt.Sprintf("%020d", 1))); err != nil || len(first) > 0 {
		t.Errorf("the log begins with %v: nothing was removed (%v)", first, err)
	}
	before := len(a.records())
	// Another process finds the folder as this one left it when it was killed.
	copied := copyDir(t, dir)
	_, _ = start(t, Config{Dir: copied}, a)
	got := a.await(t, before+3)[before:]
	want := map[string]bool{connected + "CLOSED": true, waiting + "DENIED": true, waiting + "CLOSED": true}
	for _, r := range got {
		if !want[r.ConnectionID+string(r.Type)] || r.Cause != manager.CauseStopped || r.Source.Port() != 5555 {
			t.Errorf("record %+v", r)
		}
		delete(want, r.ConnectionID+string(r.Type))
	}
	if len(want) > 0 {
		t.Errorf("not recorded: %v", want)
	}
}

func dirSize(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if fi, ierr := d.Info(); err == nil && ierr == nil && !d.IsDir() {
			n += fi.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// copyDir copies a slot's folder as a process that is killed now would leave it.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Two processes of one relay: each has its slot, and the one that lives on takes over
// what the other leaves when it dies.
func TestSlots(t *testing.T) {
	dir := t.TempDir()
	a, silent := newArchive(), newArchive()
	silent.fail = func(int) (error, error) { return errors.New("away"), nil }
	old, stopOld := start(t, Config{Dir: dir, DrainTimeout: time.Millisecond}, silent)
	fresh := spool(t, Config{Dir: dir}, a)
	fresh.look = 10 * time.Millisecond
	begin(t, fresh)
	c := connection()
	old.Record(record(manager.AuditAccess, c))
	fresh.Record(record(manager.AuditAccess, connection()))
	a.await(t, 1)
	stopOld() // nothing of it was handed over, and its connection has no end
	if got := a.await(t, 4); got[1].ConnectionID != c || got[3].Type != manager.AuditClosed || got[3].ConnectionID != c {
		t.Errorf("records %+v; want those of the other process and its connection's end", got)
	}
	for begin := time.Now(); ; <-time.After(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "0")); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatal("the other's slot is still there")
		}
	}
}

// A log that makes no sense is put aside; the relay goes on.
func TestUnreadableLog(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "0"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"00000000000000000001.START": "x", "00000000000000000002.END": "y"} {
		if err := os.WriteFile(filepath.Join(dir, "0", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := newArchive()
	s, _ := start(t, Config{Dir: dir}, a)
	s.Record(record(manager.AuditAccess, connection()))
	a.await(t, 1)
	if bad, err := filepath.Glob(filepath.Join(dir, "0.bad-*")); err != nil || len(bad) != 1 {
		t.Errorf("put aside: %v, %v", bad, err)
	}
}

func TestDamagedEntriesArePassedOver(t *testing.T) {
	dir := t.TempDir()
	l, _, err := openLog(filepath.Join(dir, "0"))
	if err != nil {
		t.Fatal(err)
	}
	r := record(manager.AuditConnected, connection())
	good := appendEntry(nil, tagRecord, &r)
	bad := append([]byte(nil), good...)
	bad[9] ^= 1
	data := append(append(bad, good...), "rubbish"...)
	if _, err := l.append(data, []int{len(bad), len(bad) + len(good), len(data)}); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	a := newArchive()
	a.fail = func(n int) (before, after error) {
		if n <= 3 {
			before = errors.New("not now")
		}
		return before, nil
	}
	s, stop := start(t, Config{Dir: dir}, a)
	if got := a.await(t, 1); got[0].ID != r.ID {
		t.Errorf("record %+v", got)
	}
	stop()
	if st := s.Status(); st.Damaged != 2 || st.Waiting != 0 {
		t.Errorf("status %+v; want each damaged entry counted once and nothing waiting", st)
	}
}

// Without a folder the log is in a temporary one, which does not stay.
func TestTemporary(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	a := newArchive()
	s, stop := start(t, Config{DrainTimeout: time.Millisecond}, a)
	s.Record(record(manager.AuditAccess, connection()))
	a.await(t, 1)
	if n := dirSize(t, tmp); n == 0 {
		t.Error("nothing was written")
	}
	stop()
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRecordAfterTheEndIsCounted(t *testing.T) {
	a := newArchive()
	s, stop := start(t, Config{Dir: t.TempDir()}, a)
	stop()
	s.Record(record(manager.AuditAccess, connection()))
	if s.Lost() != 1 {
		t.Errorf("%d lost, want 1", s.Lost())
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []Config{
		{Dir: "x", MaxBytes: 1}, {Dir: "x", OnFull: "wait"}, {Dir: "x", SyncInterval: -1}, {Dir: "x", Batch: -1}, {Dir: "x", DrainTimeout: -1},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	if _, err := New(Config{Dir: "x"}, Deps{}); err == nil {
		t.Error("a spool without a sink is accepted")
	}
}
