package audit

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// child is the process that TestKilled kills: its sink never succeeds, and it says on
// standard output what it has recorded.
func child(dir string) {
	s, err := New(Config{Dir: dir}, Deps{Relay: "outer1", Sink: SinkFunc(func(ctx context.Context, _ []manager.AuditRecord) error {
		<-ctx.Done()
		return ctx.Err()
	})})
	if err != nil {
		panic(err)
	}
	go func() { panic(s.Run(context.Background())) }()
	<-s.Ready()
	out := bufio.NewWriter(os.Stdout)
	for {
		c := connection()
		kinds := []manager.AuditType{manager.AuditAccess, manager.AuditConnected, manager.AuditClosed}
		for _, k := range kinds[:1+rand.IntN(3)] {
			r := record(k, c)
			s.Record(r)
			fmt.Fprintln(out, r.ID, r.Type, c)
		}
		// What the writer has had time to write must survive: it is woken by every
		// record, and this line says that it has come so far.
		for s.unwritten() > 0 {
			<-time.After(50 * time.Microsecond)
		}
		fmt.Fprintln(out, "written")
		out.Flush()
	}
}

// unwritten returns how many records are not in the log yet.
func (s *Spool) unwritten() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ends)
}

// A relay process is killed (SIGKILL) again and again: all records that were in the log
// arrive, once, and every connection has its end.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	want := map[string]bool{}
	conns := map[string]bool{}
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "SIMREACH_AUDIT_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		scan := bufio.NewScanner(out)
		var unsure []string
		for n := 0; scan.Scan(); {
			if scan.Text() == "written" {
				for _, l := range unsure {
					f := strings.Fields(l)
					want[f[0]], conns[f[2]] = true, true
				}
				unsure = nil
				if n++; n == 100+50*round {
					break
				}
				continue
			}
			unsure = append(unsure, scan.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	a := newArchive()
	s, _ := start(t, Config{Dir: dir}, a)
	late := time.After(10 * time.Second)
	for s.Status().Waiting > 0 {
		select {
		case <-late:
			t.Fatalf("%+v", s.Status())
		case <-time.After(time.Millisecond):
		}
	}
	for _, r := range a.records() {
		delete(want, r.ID)
	}
	if len(want) > 0 {
		t.Errorf("%d records that were written are lost", len(want))
	}
	complete(t, a.records(), conns)
}

// complete fails unless every connection has ACCESS, one answer and CLOSED, once each
// and in this order.
func complete(t *testing.T, rs []manager.AuditRecord, conns map[string]bool) {
	t.Helper()
	story := map[string]string{}
	for _, r := range rs {
		word := string(r.Type)
		if r.Type == manager.AuditConnected || r.Type == manager.AuditDenied || r.Type == manager.AuditRefused {
			word = "answer"
		}
		story[r.ConnectionID] += word + " "
	}
	for c := range conns {
		if _, ok := story[c]; !ok {
			t.Errorf("connection %s is not in the log", c)
		}
	}
	for c, s := range story {
		if s != "ACCESS answer CLOSED " {
			t.Errorf("connection %s: %s", c, s)
		}
	}
}

// TestRandomHistories: whatever is lost and repeated between relay and manager, and
// wherever the relay is killed (also in the middle of a write), every connection's
// story is told once.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			luck := rand.New(rand.NewPCG(seed, 2)) // guarded by the archive
			a := newArchive()
			var flaky bool
			a.fail = func(int) (error, error) {
				if !flaky {
					return nil, nil
				}
				switch luck.IntN(3) {
				case 0:
					return context.DeadlineExceeded, nil
				case 1:
					return nil, context.DeadlineExceeded
				}
				return nil, nil
			}
			set := func(b bool) { a.mu.Lock(); flaky = b; a.mu.Unlock() }
			dir := t.TempDir()
			conns := map[string]bool{}
			for range 4 { // lives of the relay
				set(true)
				s, stop := start(t, Config{Dir: dir, Batch: 1 + rnd.IntN(20), DrainTimeout: time.Millisecond}, a)
				for range 30 + rnd.IntN(100) {
					c := connection()
					conns[c] = true
					answer := []manager.AuditType{manager.AuditConnected, manager.AuditDenied, manager.AuditRefused}[rnd.IntN(3)]
					for _, k := range []manager.AuditType{manager.AuditAccess, answer, manager.AuditClosed}[:1+rnd.IntN(3)] {
						s.Record(record(k, c))
					}
				}
				for s.unwritten() > 0 {
					<-time.After(time.Millisecond)
				}
				killed := copyDir(t, dir)
				stop() // what it does from now on, a process that was killed did not do: the manager must not hear of it
				dir = killed
				if rnd.IntN(2) == 0 {
					half(t, rnd, filepath.Join(dir, "0"))
				}
			}
			set(false)
			s, _ := start(t, Config{Dir: dir}, a)
			for begin := time.Now(); s.Status().Waiting > 0; {
				if time.Since(begin) > 10*time.Second {
					t.Fatalf("%+v", s.Status())
				}
				<-time.After(time.Millisecond)
			}
			complete(t, a.records(), conns)
		})
	}
}

// half appends part of an entry, as a write that was interrupted does.
func half(t *testing.T, rnd *rand.Rand, dir string) {
	t.Helper()
	path, err := lastSegment(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := record(manager.AuditAccess, connection())
	e := appendEntry([]byte{0xc8, 0x01}, tagRecord, &r)
	if _, err := f.Write(e[:1+rnd.IntN(len(e)-3)]); err != nil {
		t.Fatal(err)
	}
}

// entries returns records of as many connections, as a log has them.
func entries(n int) (data []byte, ends []int) {
	for range n {
		r := record(manager.AuditConnected, connection())
		data = appendEntry(data, tagRecord, &r)
		ends = append(ends, len(data))
	}
	return data, ends
}

// fill makes a log that an earlier process left.
func fill(t *testing.T, dir string, data []byte, ends []int) {
	t.Helper()
	l, _, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.append(data, ends); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
}

// A log of which an early part is damaged, as a crash of the machine may leave it, holds up
// neither its own process nor another one: what can be read is handed over, the part is put
// aside.
func TestDamagedSegment(t *testing.T) {
	const records = 40_000 // more than a segment
	data, ends := entries(records)
	for name, damage := range map[string]func(path string, b []byte) error{
		"empty": func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"short": func(path string, b []byte) error { return os.Truncate(path, int64(len(b)/2)) },
		"rubbish": func(path string, b []byte) error {
			copy(b[len(b)/2:], bytes.Repeat([]byte{0xff}, 4096))
			return os.WriteFile(path, b, 0o600)
		},
		"zeros": func(path string, b []byte) error {
			clear(b[len(b)/2:])
			return os.WriteFile(path, b, 0o600)
		},
	} {
		for _, slot := range []string{"0", "1"} { // one's own, another's
			t.Run(name+slot, func(t *testing.T) {
				dir := t.TempDir()
				fill(t, filepath.Join(dir, slot), data, ends)
				paths, err := segments(filepath.Join(dir, slot))
				if err != nil || len(paths) < 2 {
					t.Fatalf("segments %v, %v; want at least two", paths, err)
				}
				b, err := os.ReadFile(paths[0])
				if err != nil {
					t.Fatal(err)
				}
				second, err := firstIndex(paths[1])
				if err != nil {
					t.Fatal(err)
				}
				before, _ := whole(b[:len(b)/2], second)
				if name == "empty" {
					before = 0
				}
				if err := damage(paths[0], b); err != nil {
					t.Fatal(err)
				}
				a := newArchive()
				s, stop := start(t, Config{Dir: dir}, a)
				want := int(before) + records - int(second-1)
				a.await(t, want)
				stop()
				if st := s.Status(); len(a.records()) != want || st.Waiting != 0 || st.Damaged == 0 {
					t.Errorf("%d records, status %+v; want %d, damaged ones counted and nothing waiting", len(a.records()), st, want)
				}
				if bad, err := filepath.Glob(filepath.Join(dir, slot+".bad-*")); err != nil || len(bad) != 1 {
					t.Errorf("put aside: %v, %v", bad, err)
				}
			})
		}
	}
}

// A wrong length in the last segment makes all behind it unreadable: that is kept beside,
// and told of, unlike an entry that is just not finished.
func TestDamagedEnd(t *testing.T) {
	const records, good = 100, 10
	for name, cut := range map[string]bool{"a wrong length": false, "an unfinished entry": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data, ends := entries(records)
			fill(t, filepath.Join(dir, "0"), data, ends)
			path, err := lastSegment(filepath.Join(dir, "0"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, aside := records-1, 0
			if cut {
				b = b[:len(b)-1]
			} else {
				want, aside = good, 1
				_, at := whole(b, good)
				b[at], b[at+1] = 0xff, 0x7f
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			a := newArchive()
			s, stop := start(t, Config{Dir: dir}, a)
			a.await(t, want)
			stop()
			if st := s.Status(); len(a.records()) != want || st.Waiting != 0 {
				t.Errorf("%d records, status %+v; want %d and nothing waiting", len(a.records()), st, want)
			}
			bad, err := filepath.Glob(filepath.Join(dir, "0.bad-tail-*"))
			if err != nil || len(bad) != aside {
				t.Errorf("put aside: %v, %v; want %d", bad, err, aside)
			}
		})
	}
}
