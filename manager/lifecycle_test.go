package manager_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

func TestExpiryIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		r := attach(t, m.Service, outerRelay("outer1", wide))
		long := create(t, m.Service, lasting(time.Hour))
		short := create(t, m.Service, lasting(30*time.Second)) // made later, ends first
		<-time.After(30*time.Second - time.Millisecond)
		synctest.Wait()
		if n, _ := m.store.CountEntries(t.Context()); n != 2 {
			t.Errorf("1 ms before: %d entries; want 2", n)
		}
		<-time.After(time.Millisecond)
		synctest.Wait()
		if n, _ := m.store.CountEntries(t.Context()); n != 1 {
			t.Errorf("when its time has come: %d entries; want 1", n)
		}
		r.with(func(f *fakeRelay) {
			c := f.log[len(f.log)-1]
			if c.Kind != manager.CommandClose || c.EntryID != short.ID || c.Reason != manager.ReasonExpired {
				t.Errorf("the relay was told %+v; want to close the expired entry", c)
			}
		})
		wantCode(t, m.DeleteEntry(t.Context(), op1, short.Address), manager.CodeUnknownEntry, "delete what has expired")
		<-time.After(time.Until(long.Expires))
		synctest.Wait()
		if s, err := m.Status(t.Context()); err != nil || s.Entries != 0 || s.Expired != 2 {
			t.Errorf("status %+v, %v; want no entries and two expired", s, err)
		}
	})
}

// Entries survive the manager; what expired while it was away is removed when it
// is back, and the relay gets the rest.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		attach(t, m.Service, outerRelay("outer1", wide))
		short, long := create(t, m.Service, lasting(time.Second)), create(t, m.Service, lasting(time.Hour))
		token, err := m.Authenticate(t.Context(), manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1"})
		if err != nil {
			t.Fatal(err)
		}
		again := startOn(t, config(), m.store)
		r := attach(t, again.Service, outerRelay("outer1", wide))
		synctest.Wait()
		if ports := r.openPorts(); len(ports) != 2 {
			t.Errorf("snapshot has ports %v; want those of both entries", ports)
		}
		if op, err := again.VerifyToken(t.Context(), token.APIKey, token.Token); err != nil || op != (manager.Principal{OperatorID: op1}) {
			t.Errorf("a token from before the restart: %q, %v; want it to be valid", op, err)
		}
		<-time.After(2 * time.Second)
		third := startOn(t, config(), m.store)
		r = attach(t, third.Service, outerRelay("outer1", wide))
		synctest.Wait()
		if ports := r.openPorts(); !slices.Equal(ports, []uint16{long.Address.Port()}) {
			t.Errorf("snapshot has ports %v; want %d alone, %d has expired", ports, long.Address.Port(), short.Address.Port())
		}
	})
}

func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		r := attach(t, m.Service, outerRelay("outer1", wide))
		e := create(t, m.Service)
		wantCode(t, m.DeleteEntry(t.Context(), op2, e.Address), manager.CodeUnknownEntry, "another operator's entry")
		if err := m.DeleteEntry(t.Context(), op1, e.Address); err != nil {
			t.Fatal(err)
		}
		if len(r.openPorts()) != 0 {
			t.Error("the relay has the port open when DeleteEntry returns")
		}
		wantCode(t, m.DeleteEntry(t.Context(), op1, e.Address), manager.CodeUnknownEntry, "a second time")

		// A relay that does not answer loses its session: the next snapshot tells it.
		e = create(t, m.Service)
		r.with(func(f *fakeRelay) { f.mute = true })
		if err := m.DeleteEntry(t.Context(), op1, e.Address); err != nil {
			t.Fatal(err)
		}
		if err := <-r.ended; !errors.Is(err, manager.ErrRelayStalled) {
			t.Errorf("session: %v; want ErrRelayStalled", err)
		}
		// One that is away is no obstacle.
		r = attach(t, m.Service, outerRelay("outer1", wide))
		e = create(t, m.Service)
		r.End()
		if err := m.DeleteEntry(t.Context(), op1, e.Address); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEntriesOfOneOperator(t *testing.T) {
	m := start(t, config())
	attach(t, m.Service, outerRelay("outer1", wide))
	e := create(t, m.Service)
	for op, want := range map[manager.OperatorID]int{op1: 1, op2: 0} {
		es, err := m.Entries(t.Context(), manager.EntryQuery{OperatorID: op})
		if err != nil || len(es) != want || (want == 1 && es[0].ID != e.ID) {
			t.Errorf("entries of %s: %v, %v; want %d", op, es, err, want)
		}
	}
}

func TestAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		for _, c := range []struct {
			name   string
			change func(*manager.Relay)
		}{
			{"no id", func(r *manager.Relay) { r.ID = "" }},
			{"no kind", func(r *manager.Relay) { r.Kind = 0 }},
			{"no instance", func(r *manager.Relay) { r.Instance = "" }},
			{"an address nobody can connect to", func(r *manager.Relay) { *r = innerRelay("x", "0.0.0.0:1") }},
			{"an inner relay without port", func(r *manager.Relay) { *r = innerRelay("x", "192.0.2.1:0") }},
			{"no ports", func(r *manager.Relay) { r.Ports = manager.PortRange{First: 2, Last: 1} }},
		} {
			r := outerRelay("outer1", wide)
			c.change(&r)
			_, err := m.AttachRelay(r)
			wantCode(t, err, manager.CodeBadRelay, c.name)
		}
		first := attach(t, m.Service, outerRelay("outer1", wide))
		second := attach(t, m.Service, outerRelay("outer1", wide))
		if err := <-first.ended; !errors.Is(err, manager.ErrReplaced) || !errors.Is(err, manager.ErrSessionEnded) {
			t.Errorf("the first session: %v; want ErrReplaced", err)
		}
		if _, ok := m.Session(first.ID()); ok {
			t.Error("the first session is still found")
		}
		create(t, m.Service)
		if len(second.openPorts()) != 1 || len(first.openPorts()) != 0 {
			t.Error("the entry did not go to the second session")
		}
		first.End() // late: must not end the second
		if s, _ := m.Status(t.Context()); len(s.Relays) != 1 {
			t.Errorf("relays %v; want the second session", s.Relays)
		}
		second.Load(manager.RelayLoad{Live: 2, Accepted: 4, Opened: 3, Up: 3, Down: 4, Denied: map[string]uint64{"source-denied": 1}, At: time.Now()})
		s, _ := m.Status(t.Context())
		if r := s.Relays[0]; r.Live != 2 || r.Opened != 3 || r.Closed != 1 || r.Up != 3 || r.Down != 4 || r.Denied["source-denied"] != 1 {
			t.Errorf("relay %+v; want what was reported", r)
		}
	})
}

// A relay that takes no commands is dropped, and blocks nobody.
func TestRelayFallsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.RelayTimeout = time.Millisecond
		m := start(t, cfg)
		session, err := m.AttachRelay(outerRelay("outer1", wide))
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.CreateEntry(t.Context(), op1, request())
		wantCode(t, err, manager.CodeRelayRefused, "nobody takes the command")
		select {
		case <-session.Done():
		default:
			t.Error("the session still stands")
		}
	})
}
