package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store/pgtest"
)

// engineTest is a test of one engine. again opens the same database once more; it is
// nil where only one process may use it.
type engineTest func(t *testing.T, s *Store, again func(*testing.T) *Store)

// What all engines promise to the rest of the package.
func TestEngines(t *testing.T) {
	open := func(t *testing.T, c Config) *Store {
		t.Helper()
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if err := s.write(t.Context(), func(t *tx) error {
			_, err := t.exec(`CREATE TABLE IF NOT EXISTS scratch (k TEXT PRIMARY KEY, n BIGINT NOT NULL, u TEXT UNIQUE)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	run := func(t *testing.T, config func(*testing.T) Config, shared bool) {
		for name, test := range map[string]engineTest{
			"writes share no fate":       testWritesShareNoFate,
			"errors of writes":           testErrorsOfWrites,
			"a panic in a write":         testPanicInAWrite,
			"collisions are tried again": testCollisions,
			"changes are told":           testChanges,
		} {
			t.Run(name, func(t *testing.T) {
				c := config(t)
				var again func(*testing.T) *Store
				if shared {
					again = func(t *testing.T) *Store { return open(t, c) }
				}
				test(t, open(t, c), again)
			})
		}
	}
	t.Run("memory", func(t *testing.T) { run(t, func(*testing.T) Config { return Config{Path: ":memory:"} }, false) })
	t.Run("sqlite", func(t *testing.T) {
		run(t, func(t *testing.T) Config { return Config{Path: filepath.Join(t.TempDir(), "manager.db")} }, false)
	})
	t.Run("postgres", func(t *testing.T) {
		server := pgtest.Start(t)
		run(t, func(t *testing.T) Config { return Config{URL: server.Database(t)} }, true)
		t.Run("the caller has gone", func(t *testing.T) { testCallerGone(t, open(t, Config{URL: server.Database(t)})) })
		t.Run("the connection is lost", func(t *testing.T) { testListenerLost(t, server) })
	})
}

func count(t *testing.T, s *Store, query string, args ...any) (n int) {
	t.Helper()
	if err := s.view(t.Context(), func(t *tx) error { return t.row(query, args...).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// Writes at one time share transactions, but one that fails takes no other along.
func testWritesShareNoFate(t *testing.T, s *Store, _ func(*testing.T) *Store) {
	sour := errors.New("sour")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			err := s.write(t.Context(), func(t *tx) error {
				if _, err := t.exec(`INSERT INTO scratch (k, n, u) VALUES (?, ?, ?)`, fmt.Sprint(i), i, fmt.Sprint(i%150)); err != nil {
					return err
				}
				if i%3 == 0 {
					return sour
				}
				return nil
			})
			switch {
			case i%3 == 0 && !errors.Is(err, sour) && !s.isUnique(err):
				t.Errorf("write %d: %v; want its own error", i, err)
			case i%3 != 0 && err != nil && !s.isUnique(err):
				t.Errorf("write %d: %v; want none, or that the value is taken", i, err)
			}
		})
	}
	wg.Wait()
	if n := count(t, s, `SELECT COUNT(*) FROM scratch WHERE n % 3 = 0`); n != 0 {
		t.Errorf("%d rows of writes that failed", n)
	}
	if n := count(t, s, `SELECT COUNT(*) FROM scratch WHERE n % 3 <> 0 AND n >= 50 AND n < 150`); n != 67 {
		t.Errorf("%d rows of the writes that nothing stood against; want 67", n)
	}
}

func testErrorsOfWrites(t *testing.T, s *Store, _ func(*testing.T) *Store) {
	put := func(k, u string) error {
		return s.write(t.Context(), func(t *tx) error {
			_, err := t.exec(`INSERT INTO scratch (k, n, u) VALUES (?, 0, ?)`, k, u)
			return err
		})
	}
	if err := put("a", "what? 'it''s'"); err != nil {
		t.Fatal(err)
	}
	if err := put("a", "y"); !s.isDuplicate(err) || s.isUnique(err) {
		t.Errorf("the same key: %v; want a duplicate that is not isUnique's", err)
	}
	if err := put("b", "what? 'it''s'"); !s.isDuplicate(err) || !s.isUnique(err) {
		t.Errorf("a value that is taken: %v; want a duplicate", err)
	}
	if err := s.view(t.Context(), func(t *tx) error { _, err := t.exec(`DELETE FROM scratch`); return err }); err == nil && count(t, s, `SELECT COUNT(*) FROM scratch`) != 1 {
		t.Error("a view changed the database")
	}
	if err := s.write(t.Context(), func(t *tx) error { _, err := t.exec(`no SQL`); return err }); err == nil || s.isDuplicate(err) {
		t.Errorf("nonsense: %v; want another error", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	// Nothing has happened, or all of it: which, the error tells.
	err := s.write(ended, func(t *tx) error {
		_, err := t.exec(`INSERT INTO scratch (k, n) VALUES ('late', 0)`)
		return err
	})
	if n := count(t, s, `SELECT COUNT(*) FROM scratch WHERE k = 'late'`); (err == nil) != (n == 1) {
		t.Errorf("a write whose context ended: %v, but %d rows", err, n)
	}
}

// A panic in one function ends neither the store nor those that wait for it.
func testPanicInAWrite(t *testing.T, s *Store, _ func(*testing.T) *Store) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_ = s.write(t.Context(), func(*tx) error { panic("bug") })
	}()
	if err := s.write(t.Context(), func(*tx) error { return nil }); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

// Two stores on one database that read and write the same row lose no update: one of
// two transactions that collide is tried again.
func testCollisions(t *testing.T, s *Store, again func(*testing.T) *Store) {
	if again == nil {
		again = func(*testing.T) *Store { return s }
	}
	if err := s.write(t.Context(), func(t *tx) error { _, err := t.exec(`INSERT INTO scratch (k, n) VALUES ('x', 0)`); return err }); err != nil {
		t.Fatal(err)
	}
	const each = 100
	var wg sync.WaitGroup
	for _, s := range []*Store{s, again(t)} {
		for range each {
			wg.Go(func() {
				err := s.write(t.Context(), func(t *tx) error {
					var n int64
					if err := t.row(`SELECT n FROM scratch WHERE k = 'x'`).Scan(&n); err != nil {
						return err
					}
					_, err := t.exec(`UPDATE scratch SET n = ? WHERE k = 'x'`, n+1)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if n := count(t, s, `SELECT n FROM scratch WHERE k = 'x'`); n != 2*each {
		t.Errorf("counted to %d; want %d", n, 2*each)
	}
}

// watching collects changes.
func watching(t *testing.T, s *Store) <-chan manager.Change {
	t.Helper()
	ch := make(chan manager.Change, 10000)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := s.Watch(ctx, func(c manager.Change) { ch <- c }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	if c := <-ch; c.Kind != manager.ChangeResync {
		t.Fatalf("first change %+v; want a resynchronisation", c)
	}
	return ch
}

// All who watch get the changes of what was committed, in order, and no others.
func testChanges(t *testing.T, s *Store, again func(*testing.T) *Store) {
	other := s
	if again != nil {
		other = again(t)
	}
	here, there := watching(t, s), watching(t, other)
	var want []manager.Change
	for i := range 300 { // several messages' worth
		want = append(want, manager.Change{
			Kind: manager.ChangeEntryDeleted, ID: fmt.Sprintf("%026d", i), Address: netip.MustParseAddrPort("[2001:db8::1]:40000"), Relay: "outer1", Data: "revoked",
		})
	}
	_ = s.write(t.Context(), func(t *tx) error {
		t.notify(manager.Change{Kind: manager.ChangeSIM})
		return errors.New("no")
	})
	if err := s.Notify(t.Context(), want...); err != nil {
		t.Fatal(err)
	}
	for name, ch := range map[string]<-chan manager.Change{"who told": here, "another": there} {
		for i := range want {
			if d := cmp.Diff(want[i], <-ch, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
				t.Fatalf("%s, change %d (-want +got):\n%s", name, i, d)
			}
		}
	}
}

// Who is too slow is told to read everything again.
func TestSlowWatcher(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	began, goOn := make(chan struct{}), make(chan struct{})
	var got []manager.Change
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Watch(ctx, func(c manager.Change) {
			if got = append(got, c); len(got) == 1 {
				close(began)
				<-goOn
			}
			if len(got) == 2 {
				cancel()
			}
		})
	})
	<-began
	for range 3 {
		if err := s.Notify(t.Context(), make([]manager.Change, watchQueue/2)...); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	wg.Wait()
	if got[1].Kind != manager.ChangeResync {
		t.Errorf("after too many changes: %+v; want a resynchronisation", got[1])
	}
}

// What ends with its caller's context fails with the context's error, also where the
// transaction was rolled back before anybody looked at the context.
func testCallerGone(t *testing.T, s *Store) {
	ctx, cancel := context.WithCancel(t.Context())
	err := s.view(ctx, func(tx *tx) error {
		cancel()
		for {
			rows, err := tx.r.query(t.Context(), `SELECT 1`, nil)
			if err != nil {
				return nil // it is rolled back by now
			}
			rows.Close()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want that the context ended", err)
	}
}

// A manager that loses its connections to the server learns that it missed changes, and
// goes on.
func testListenerLost(t *testing.T, server *pgtest.Server) {
	s, err := Open(t.Context(), Config{URL: server.Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ch := watching(t, s)
	server.Disconnect(t)
	for _, want := range []manager.ChangeKind{manager.ChangeLost, manager.ChangeResync} {
		if c := <-ch; c.Kind != want {
			t.Fatalf("change %+v; want %s", c, want)
		}
	}
	if err := s.Notify(t.Context(), manager.Change{Kind: manager.ChangeSIM, ID: "1"}); err != nil {
		t.Fatalf("after the connections were lost: %v", err)
	}
	if c := <-ch; c.ID != "1" {
		t.Errorf("change %+v; want the one after the loss", c)
	}
}

func TestNumberArguments(t *testing.T) {
	for in, want := range map[string]string{
		`SELECT 1`:                         `SELECT 1`,
		`a = ? AND b = ?`:                  `a = $1 AND b = $2`,
		`a = '?' AND "b?" = ? AND c = 'é'`: `a = '?' AND "b?" = $1 AND c = 'é'`,
	} {
		if got := numberArguments(in); got != want {
			t.Errorf("%s: %s; want %s", in, got, want)
		}
	}
}

func TestPack(t *testing.T) {
	var cs []manager.Change
	for i := range 100 {
		cs = append(cs, manager.Change{Kind: manager.ChangeSIM, ID: fmt.Sprint(i)})
	}
	payloads, err := pack(cs, 200)
	if err != nil || len(payloads) < 2 {
		t.Fatalf("%d payloads, %v; want several", len(payloads), err)
	}
	var back []manager.Change
	for _, p := range payloads {
		if len(p) > 200 {
			t.Errorf("payload of %d bytes; want at most 200", len(p))
		}
		back = append(back, unpack(p)...)
	}
	if d := cmp.Diff(cs, back, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
		t.Errorf("changes (-packed +unpacked):\n%s", d)
	}
	if _, err := pack([]manager.Change{{Data: strings.Repeat("x", 300)}}, 200); err == nil {
		t.Error("a change that is too large: no error")
	}
}

func FuzzUnpack(f *testing.F) {
	for _, s := range []string{``, `[]`, `[{"kind":"sim","id":"1"}]`, `[{"kind":1}]`, `[{"address":"192.0.2.1:1"}]`, `{`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		payloads, err := pack(unpack(s), maxPayload)
		if err != nil {
			return // a change of that size cannot have come
		}
		for _, p := range payloads {
			unpack(p)
		}
	})
}
