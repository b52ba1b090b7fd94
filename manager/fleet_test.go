package manager_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

func (f *fakeRelay) closed(id manager.EntryID) (n int) {
	f.with(func(f *fakeRelay) {
		for _, c := range f.log {
			if c.Kind == manager.CommandClose && c.EntryID == id {
				n++
			}
		}
	})
	return n
}

// A process that drains stays attached beside its replacement: what ends reaches both,
// new entries the replacement alone.
func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		process := func(instance string, draining bool) manager.Relay {
			r := outerRelay("outer1", wide)
			r.Instance, r.Draining = instance, draining
			return r
		}
		old := attach(t, m.Service, process("i1", false))
		e1 := create(t, m.Service)
		old.Load(manager.RelayLoad{Live: 3, Draining: true, At: time.Now()})
		_, err := m.CreateEntry(t.Context(), op1, request())
		wantCode(t, err, manager.CodeNoOuterRelay, "the only relay drains")

		pass(time.Second) // Relays orders the two by their time
		fresh := attach(t, m.Service, process("i2", false))
		e2 := create(t, m.Service)
		for _, r := range []*fakeRelay{old, fresh} {
			select {
			case <-r.Done():
				t.Fatal("a session ended")
			default:
			}
			if _, err := r.Resolve(t.Context(), manager.ResolveRequest{Hit: e1.Address}); !errors.Is(err, manager.CodeDeviceOffline) {
				t.Errorf("resolve: %v; want an answer to both", err)
			}
		}
		old.with(func(f *fakeRelay) {
			if _, open := f.open[e2.ID]; open {
				t.Error("the process that drains was told to open an entry")
			}
		})
		s, _ := m.Status(t.Context())
		if len(s.Relays) != 2 || !s.Relays[0].Draining || s.Relays[1].Draining || s.Relays[0].Live != 3 {
			t.Errorf("relays %+v; want the old one, draining, and the new one", s.Relays)
		}
		if err := m.DeleteEntry(t.Context(), op1, e1.Address); err != nil {
			t.Fatal(err)
		}
		if old.closed(e1.ID) == 0 || fresh.closed(e1.ID) == 0 {
			t.Error("the deletion did not reach both")
		}

		// It is away for a moment and attaches again, which replaces its own session only.
		old.End()
		if err := m.DeleteEntry(t.Context(), op1, e2.Address); err != nil {
			t.Fatal(err)
		}
		back := attach(t, m.Service, process("i1", true))
		synctest.Wait()
		back.with(func(f *fakeRelay) {
			if slices.ContainsFunc(f.log, func(c manager.Command) bool {
				return c.Kind == manager.CommandSnapshot || c.Kind == manager.CommandOpen
			}) {
				t.Errorf("a process that drains was told %+v; want no openings", f.log)
			}
		})
		if back.closed(e2.ID) == 0 {
			t.Error("what was revoked while it was away did not reach it")
		}
		create(t, m.Service)
		third := attach(t, m.Service, process("i1", true))
		if err := <-back.ended; !errors.Is(err, manager.ErrReplaced) {
			t.Errorf("an earlier session of the same process: %v; want ErrReplaced", err)
		}
		fourth := attach(t, m.Service, process("i3", false))
		synctest.Wait()
		if !fresh.told(manager.CommandDrain) || old.told(manager.CommandDrain) {
			t.Error("want the process that served told to drain, once its replacement serves, and nobody else")
		}
		for _, r := range []*fakeRelay{third, fourth, fresh} {
			select {
			case <-r.Done():
				t.Error("a session ended")
			default:
			}
		}
	})
}

// Until the process that replaces another one has its ports open, nobody is told to drain;
// if it goes before, all is as it was.
func TestReplacedOnceItServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		process := func(instance string) manager.Relay {
			r := outerRelay("outer1", wide)
			r.Instance = instance
			return r
		}
		old := attach(t, m.Service, process("i1"))
		synctest.Wait()
		for range 2 { // the first fails to come up; the second replaces it, and fails, too
			next, err := m.AttachRelay(process("i2")) // it never takes its snapshot
			if err != nil {
				t.Fatal(err)
			}
			if old.told(manager.CommandDrain) {
				t.Fatal("told to drain by one that does not serve")
			}
			again, err := m.AttachRelay(process("i3"))
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-next.Done():
			default:
				t.Error("the session of the one that never served goes on")
			}
			again.End()
		}
		e := create(t, m.Service)
		old.with(func(f *fakeRelay) {
			if _, ok := f.open[e.ID]; !ok {
				t.Error("the old process does not serve again")
			}
		})
		next := attach(t, m.Service, process("i4"))
		synctest.Wait()
		if !old.told(manager.CommandDrain) || next.told(manager.CommandDrain) {
			t.Error("want the old process told to drain, and not the next")
		}
		select {
		case <-old.Done():
			t.Error("the old session ended")
		default:
		}

		// An inner relay listens before it attaches.
		inner := innerRelay("inner1", "192.0.2.11:7001")
		first := attach(t, m.Service, inner)
		inner.Instance = "another"
		second := attach(t, m.Service, inner)
		synctest.Wait()
		if !first.told(manager.CommandDrain) || second.told(manager.CommandDrain) {
			t.Error("inner relays: want the first told to drain, and not the second")
		}
	})
}

// The rate follows the reports, and nothing that a relay says makes it absurd.
func TestRate(t *testing.T) {
	m := start(t, config())
	r := attach(t, m.Service, outerRelay("outer1", wide))
	at := time.Now()
	rate := func() uint64 {
		s, err := m.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Relays[0].Rate
	}
	for i := range 20 { // 1000 bytes per second up, 500 down
		r.Load(manager.RelayLoad{Up: uint64(i) * 2000, Down: uint64(i) * 1000, At: at.Add(time.Duration(2*i) * time.Second)})
	}
	if got := rate(); got < 1490 || got > 1500 {
		t.Errorf("rate %d; want about 1500 bytes per second", got)
	}
	r.Load(manager.RelayLoad{Up: 1, At: at.Add(time.Minute)})            // its counters began anew
	r.Load(manager.RelayLoad{Up: 1 << 60, At: at.Add(30 * time.Second)}) // its clock went back
	if got := rate(); got < 1490 || got > 1500 {
		t.Errorf("rate %d; want it unchanged", got)
	}
}
