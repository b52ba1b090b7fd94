package faulttest_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
)

const (
	creates = 1000
	clients = 16
)

// ledger is what clients were told.
type ledger struct {
	progress chan int // how many creates were answered so far; closed at the end

	mu      sync.Mutex // guards the rest
	n       int
	retries int // requests that failed
	kept    []api.PortMapping
	deleted []api.PortMapping
}

func (l *ledger) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// churn has clients make 1,000 entries and delete every fourth of them again; they
// repeat what was not answered.
func (w *world) churn(s *site) *ledger {
	l := &ledger{progress: make(chan int, creates)}
	go func() {
		defer close(l.progress)
		each(creates, clients, func(i int) {
			var m api.PortMapping
			err := insist(w.t.Context(), func(ctx context.Context) bool {
				var err error
				m, err = s.api.Create(ctx, w.request())
				if err != nil {
					l.note(func() { l.retries++ })
				}
				return err == nil
			})
			if err != nil {
				w.t.Errorf("create: %v", err)
				return
			}
			l.note(func() { l.n++; l.progress <- l.n })
			if i%4 != 3 {
				l.note(func() { l.kept = append(l.kept, m) })
				return
			}
			if err := w.remove(s, l, m); err != nil {
				w.t.Errorf("delete %s: %v", m.Endpoint, err)
				return
			}
			l.note(func() { l.deleted = append(l.deleted, m) })
		})
	}()
	return l
}

// remove deletes an entry that was answered: it must be there.
func (w *world) remove(s *site, l *ledger, m api.PortMapping) error {
	unanswered := false
	var lost error
	err := insist(w.t.Context(), func(ctx context.Context) bool {
		err := s.api.Delete(ctx, netip.MustParseAddrPort(m.Endpoint))
		switch {
		case err == nil:
			return true
		case errors.Is(err, manager.CodeUnknownEntry):
			if !unanswered {
				lost = err
			}
			return true
		}
		unanswered = true
		l.note(func() { l.retries++ })
		return false
	})
	return errors.Join(err, lost)
}

// at waits until n creates were answered.
func (l *ledger) at(t *testing.T, n int) {
	t.Helper()
	for got := range l.progress {
		if got == n {
			return
		}
	}
	t.Fatalf("the clients ended before %d creates were answered", n)
}

// settle waits for the clients and checks what they were told: with the manager, and by
// connecting.
func (w *world) settle(s *site, l *ledger) {
	t := w.t
	t.Helper()
	for range l.progress {
	}
	t.Logf("%d creates and %d deletes were answered, %d requests repeated", len(l.kept)+len(l.deleted), len(l.deleted), l.retries)
	if l.retries == 0 {
		t.Error("no request failed: the fault came too late")
	}
	list, err := s.api.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int64{}
	for _, m := range list {
		have[m.Endpoint] = m.ExpiredTime
	}
	for _, m := range l.kept {
		if have[m.Endpoint] != m.ExpiredTime {
			t.Errorf("entry %s was answered with 201 and is gone", m.Endpoint)
		}
	}
	for _, m := range l.deleted {
		if _, is := have[m.Endpoint]; is {
			t.Errorf("entry %s was deleted and is there", m.Endpoint)
		}
	}
	if len(l.kept) == 0 || t.Failed() {
		return
	}
	took := w.within(5*time.Second, "the relay's return", w.connects(l.kept[0]))
	t.Logf("reachable %s later", took.Round(time.Millisecond))
	each(len(l.kept), clients, func(i int) {
		if err := w.connects(l.kept[i])(); err != nil {
			t.Errorf("entry %s was answered with 201, and cannot be connected to: %v", l.kept[i].Endpoint, err)
		}
	})
	each(len(l.deleted), clients, func(i int) {
		c, err := w.open(l.deleted[i], netip.AddrPort{})
		if c != nil {
			c.Close()
			t.Errorf("entry %s was deleted, and its port accepts (%v)", l.deleted[i].Endpoint, err)
		}
	})
}

// What a manager has answered outlives it: kill -9 twice in the middle of creates.
func TestManagerKilledWhileCreating(t *testing.T) {
	w := newWorld(t)
	m := w.manager("manager", "127.0.6.2", store.Config{Path: filepath.Join(w.dir, "manager.db")})
	w.inner(m)
	w.outer("outer1", "127.0.6.4", m)
	l := w.churn(m)
	for _, n := range []int{300, 650} {
		l.at(t, n)
		m.kill()
		m.launch()()
	}
	w.settle(m, l)
}

// The same when it is the database that dies; the manager lives on.
func TestPostgresKilledWhileCreating(t *testing.T) {
	pg := pgtest.Start(t)
	w := newWorld(t)
	m := w.manager("manager", "127.0.6.2", store.Config{URL: pg.Database(t)})
	w.inner(m)
	w.outer("outer1", "127.0.6.4", m)
	l := w.churn(m)
	for _, n := range []int{300, 650} {
		l.at(t, n)
		pg.Kill(t)
		pg.Restart(t)
	}
	w.settle(m, l)
	if !m.alive() {
		t.Error("the manager ended with its database")
	}
}
