package manager_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
)

func TestSeveralManagers(t *testing.T) {
	server := pgtest.Start(t)
	for name, test := range map[string]func(*testing.T, *pgtest.Server){
		"a relay of another manager":                 testRelayOfAnotherManager,
		"a relay of another manager refuses":         testRelayOfAnotherManagerRefuses,
		"managers create entries together":           testManagersCreateTogether,
		"a ping through another manager's relay":     testPingElsewhere,
		"a relay moves":                              testRelayMoves,
		"the connections to the database are lost":   testDatabaseLost,
		"a successor at another manager":             testSuccessorElsewhere,
		"a successor of one that drains":             testSuccessorOfDraining,
		"a SIM is suspended at another manager":      testSuspendedElsewhere,
		"a SIM is barred beside a core that is away": testBarredElsewhere,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

// several runs managers on one PostgreSQL, each with a store of its own.
func several(t *testing.T, server *pgtest.Server, n int, change ...func(*manager.Config)) []*rig {
	t.Helper()
	url := server.Database(t)
	cfg := config()
	cfg.Heartbeat = 10 * time.Second // what they tell each other comes by changes
	for _, c := range change {
		c(&cfg)
	}
	rigs := make([]*rig, n)
	for i := range rigs {
		st, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		rigs[i] = startOn(t, cfg, st)
	}
	return rigs
}

// instanceOf returns the instance that a ticket is for.
func instanceOf(t *testing.T, ticket string) any {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(ticket, claims); err != nil {
		t.Fatal(err)
	}
	return claims["inst"]
}

// sees waits until a manager knows of as many attached relays.
func sees(t *testing.T, m *rig, n int) {
	t.Helper()
	seesThat(t, m, fmt.Sprintf("want %d", n), func(all []manager.RelayStatus) bool { return len(all) == n })
}

// seesThat waits until what a manager knows of attached relays is so.
func seesThat(t *testing.T, m *rig, want string, is func([]manager.RelayStatus) bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last []manager.RelayStatus
	for range 3000 {
		if last = m.Relays(); is(last) {
			return
		}
		<-tick.C
	}
	t.Fatalf("relays %+v; %s", last, want)
}

// A ping goes through the inner relay whichever manager it is attached to.
func testPingElsewhere(t *testing.T, server *pgtest.Server) {
	ms := several(t, server, 2)
	a, b := ms[0], ms[1]
	inner, err := b.AttachRelay(innerRelay("inner1", "192.0.2.11:7001"))
	if err != nil {
		t.Fatal(err)
	}
	sees(t, a, 1)
	a.dir.set(imsi1, "upf1", "10.0.0.1")
	for _, want := range []*manager.PingResult{{Sent: 2, Received: 1, RTT: time.Millisecond}, nil} {
		var got manager.PingResult
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err = a.Ping(t.Context(), op1, ref1, 2, time.Second)
		}()
		c, nextErr := inner.Next(t.Context())
		if nextErr != nil || c.Kind != manager.CommandPing || c.Ping.Device.String() != "10.0.0.1" || c.Ping.Count != 2 || c.Ping.Timeout != time.Second {
			t.Fatalf("command %+v, %v; want the ping that the other manager was asked for", c, nextErr)
		}
		inner.Acknowledge(manager.Acknowledgement{Session: c.Session, ID: c.ID, Ping: want})
		<-done
		if want == nil {
			wantCode(t, err, manager.CodePingFailed, "the relay could not ping")
		} else if err != nil || got != *want {
			t.Errorf("Ping: %+v, %v; want %+v", got, err, *want)
		}
	}
}

// An entry made at one manager on a relay that is attached to another is open when the
// request is answered, is resolved there, and is closed when its deletion is answered.
func testRelayOfAnotherManager(t *testing.T, server *pgtest.Server) {
	ms := several(t, server, 2)
	a, b := ms[0], ms[1]
	outer := attach(t, b.Service, outerRelay("outer1", wide))
	inner := innerRelay("inner1", "192.0.2.11:7001")
	attach(t, a.Service, inner)
	sees(t, a, 2)
	sees(t, b, 2)
	b.dir.set(imsi1, "upf1", "10.0.0.1")

	var es []manager.Entry
	for range 20 {
		e := create(t, a.Service)
		var open bool
		outer.with(func(f *fakeRelay) { _, open = f.open[e.ID] })
		if !open {
			t.Fatal("the request was answered before the port was open")
		}
		r, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address})
		if err != nil {
			t.Fatalf("Resolve at the relay's manager: %v", err)
		}
		if r.InnerID != "inner1" || r.Inner != inner.Address || instanceOf(t, r.Ticket) != inner.Instance {
			t.Errorf("route %+v; want the inner relay that is attached to the other manager, and a ticket for its process", r)
		}
		es = append(es, e)
	}
	for _, e := range es {
		if err := a.DeleteEntry(t.Context(), op1, e.Address); err != nil {
			t.Fatal(err)
		}
		var open bool
		outer.with(func(f *fakeRelay) { _, open = f.open[e.ID] })
		if open {
			t.Fatal("the deletion was answered before the port was closed")
		}
		_, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address})
		wantCode(t, err, manager.CodeUnknownEntry, "a deleted entry")
	}
	// What one manager resolved lately is gone there at once when the other deletes it.
	e := create(t, b.Service)
	if _, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address}); err != nil {
		t.Fatal(err)
	}
	if err := a.DeleteEntry(t.Context(), op1, e.Address); err != nil {
		t.Fatal(err)
	}
	_, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address})
	wantCode(t, err, manager.CodeUnknownEntry, "deleted at the other manager")
}

// What a relay answers reaches the manager that asked through another.
func testRelayOfAnotherManagerRefuses(t *testing.T, server *pgtest.Server) {
	ms := several(t, server, 2, func(c *manager.Config) { c.RelayTimeout = 300 * time.Millisecond })
	a, b := ms[0], ms[1]
	outer := attach(t, b.Service, outerRelay("outer1", wide))
	sees(t, a, 1)
	first := true
	outer.with(func(f *fakeRelay) {
		f.refuse = func(manager.Opening) error {
			if first {
				first = false
				return manager.ErrPortInUse
			}
			return nil
		}
	})
	create(t, a.Service) // a second port is tried
	outer.with(func(f *fakeRelay) { f.refuse = func(manager.Opening) error { return errors.New("no memory") } })
	_, err := a.CreateEntry(t.Context(), op1, request())
	wantCode(t, err, manager.CodeRelayRefused, "the relay cannot")
	outer.with(func(f *fakeRelay) { f.refuse, f.mute = nil, true })
	_, err = a.CreateEntry(t.Context(), op1, request())
	wantCode(t, err, manager.CodeRelayRefused, "the relay does not answer")
	if n, _ := a.store.CountEntries(t.Context()); n != 1 {
		t.Errorf("%d entries; want the one that was opened", n)
	}
}

// Both managers make entries on both relays at one time; no address is given twice.
func testManagersCreateTogether(t *testing.T, server *pgtest.Server) {
	ms := several(t, server, 2)
	for i, m := range ms {
		r := outerRelay([]string{"outer1", "outer2"}[i], manager.PortRange{First: 40000, Last: 40029})
		r.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 0)
		attach(t, m.Service, r)
	}
	sees(t, ms[0], 2)
	sees(t, ms[1], 2)
	var mu sync.Mutex
	seen := map[netip.AddrPort]bool{}
	var wg sync.WaitGroup
	for i := range 50 { // of 60 ports
		wg.Go(func() {
			e, err := ms[i%2].CreateEntry(t.Context(), op1, request())
			if err != nil {
				t.Errorf("CreateEntry: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[e.Address] {
				t.Errorf("%s was given twice", e.Address)
			}
			seen[e.Address] = true
		})
	}
	wg.Wait()
}

// A relay that attaches to another manager is there at once, with all its entries, and
// its session at the first one ends.
func testRelayMoves(t *testing.T, server *pgtest.Server) {
	ms := several(t, server, 2)
	a, b := ms[0], ms[1]
	first := attach(t, a.Service, outerRelay("outer1", wide))
	sees(t, b, 1)
	e := create(t, b.Service)
	second := attach(t, b.Service, outerRelay("outer1", wide))
	if err := <-first.ended; !errors.Is(err, manager.ErrReplaced) {
		t.Errorf("the session at the first manager: %v; want ErrReplaced", err)
	}
	create(t, a.Service)
	second.with(func(f *fakeRelay) {
		if _, ok := f.open[e.ID]; len(f.open) != 2 || !ok {
			t.Errorf("open at the second manager: %v; want both entries", f.open)
		}
	})
}

// heldStore lets a test hold up a manager between the loss of changes and their return.
type heldStore struct {
	manager.Store
	lost   chan struct{} // closed when the manager knows of the loss
	resume chan struct{} // the manager learns of the return when this is closed
}

func (h *heldStore) Watch(ctx context.Context, f func(manager.Change)) error {
	was := false
	return h.Store.Watch(ctx, func(c manager.Change) {
		if c.Kind == manager.ChangeResync && was {
			select {
			case <-h.resume:
			case <-ctx.Done():
			}
		}
		f(c)
		if c.Kind == manager.ChangeLost && !was {
			was = true
			close(h.lost)
		}
	})
}

// A manager that may have missed changes has its outer relays attach again, for a
// snapshot, and believes nothing that it read before.
func testDatabaseLost(t *testing.T, server *pgtest.Server) {
	st, err := store.Open(t.Context(), store.Config{URL: server.Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	held := &heldStore{Store: st, lost: make(chan struct{}), resume: make(chan struct{})}
	m := startWith(t, config(), st, manager.Deps{Store: held})
	m.dir.set(imsi1, "upf1", "10.0.0.1")
	attach(t, m.Service, innerRelay("inner1", "192.0.2.11:7001"))
	outer := attach(t, m.Service, outerRelay("outer1", wide))
	e, gone := create(t, m.Service), create(t, m.Service)
	for _, e := range []manager.Entry{e, gone} {
		if _, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address}); err != nil {
			t.Fatal(err)
		}
	}
	server.Disconnect(t)
	<-held.lost
	if err := m.store.DeleteEntry(t.Context(), gone.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err = outer.Resolve(t.Context(), manager.ResolveRequest{Hit: gone.Address})
	wantCode(t, err, manager.CodeUnknownEntry, "deleted while changes do not arrive")
	close(held.resume)
	if err := <-outer.ended; !errors.Is(err, manager.ErrSessionEnded) || errors.Is(err, manager.ErrReplaced) {
		t.Errorf("the outer relay's session: %v; want it ended, to attach again", err)
	}
	again := attach(t, m.Service, outerRelay("outer1", wide))
	if _, err := again.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address}); err != nil {
		t.Errorf("after the loss: %v", err)
	}
	create(t, m.Service)
	_, err = again.Resolve(t.Context(), manager.ResolveRequest{Hit: gone.Address})
	wantCode(t, err, manager.CodeUnknownEntry, "deleted while changes did not arrive")
	// And changes arrive again.
	if err := m.store.DeleteEntry(t.Context(), e.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	again.await(t, "the entry that another manager deleted is closed", func(f *fakeRelay) bool { _, open := f.open[e.ID]; return !open })
}

// process is one process of the outer relay.
func process(instance string) manager.Relay {
	r := outerRelay("outer1", wide)
	r.Instance = instance
	return r
}

func (f *fakeRelay) opened(id manager.EntryID) (open bool) {
	f.with(func(f *fakeRelay) { _, open = f.open[id] })
	return open
}

// An outer relay's successor, another process, attaches to another manager: the old one
// goes on until the new one has its ports open, and is then told to drain by the manager
// that it is attached to. What is deleted then is cut at both.
func testSuccessorElsewhere(t *testing.T, server *pgtest.Server) {
	ms := several(t, server, 2)
	a, b := ms[0], ms[1]
	old := attach(t, a.Service, process("i1"))
	sees(t, b, 1)
	before := create(t, b.Service)

	session, err := b.AttachRelay(process("i2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.End)
	c, err := session.Next(t.Context())
	if err != nil || c.Kind != manager.CommandSnapshot || len(c.Openings) != 1 || c.Openings[0].EntryID != before.ID {
		t.Fatalf("the successor's first command: %+v, %v; want a snapshot with the entry", c, err)
	}
	sees(t, a, 2)
	// Nobody accepts at the successor yet: the old one gets what is new.
	during := create(t, a.Service)
	if !old.opened(during.ID) || old.told(manager.CommandDrain) {
		t.Fatal("before its successor serves, the old process must open entries and not drain")
	}
	session.Acknowledge(manager.Acknowledgement{Session: c.Session, ID: c.ID})
	fresh := follow(t, session, before.ID)
	old.await(t, "the old process is told to drain", func(f *fakeRelay) bool { return f.has(manager.CommandDrain) })
	old.Load(manager.RelayLoad{Draining: true, Live: 1, At: time.Now()})

	after := create(t, a.Service)
	if old.opened(after.ID) || !fresh.opened(after.ID) {
		t.Error("an entry made at the old process's manager must be opened by its successor, and by it alone")
	}
	for i, e := range []manager.Entry{before, after} {
		if err := ms[i].DeleteEntry(t.Context(), op1, e.Address); err != nil {
			t.Fatal(err)
		}
		if old.opened(e.ID) || fresh.opened(e.ID) {
			t.Error("the deletion was answered before both processes had cut")
		}
	}
	fresh.with(func(f *fakeRelay) {
		if f.has(manager.CommandDrain) {
			t.Error("the successor was told to drain")
		}
	})
	select {
	case err := <-old.ended:
		t.Errorf("the old process's session ended: %v; want it to go on until its connections have ended", err)
	default:
	}
}

// An operator has one manager drain a relay; its successor attaches to the other.
func testSuccessorOfDraining(t *testing.T, server *pgtest.Server) {
	ms := several(t, server, 2)
	a, b := ms[0], ms[1]
	old := attach(t, a.Service, process("i1"))
	sees(t, b, 1)
	e := create(t, a.Service)
	if err := b.DrainRelay(t.Context(), "outer1"); err != nil {
		t.Fatal(err)
	}
	old.await(t, "the relay is told to drain", func(f *fakeRelay) bool { return f.has(manager.CommandDrain) })
	old.Load(manager.RelayLoad{Draining: true, Live: 1, At: time.Now()})
	fresh := attach(t, b.Service, process("i2"))
	fresh.await(t, "the successor has its snapshot", func(f *fakeRelay) bool { return f.has(manager.CommandSnapshot) })
	if !fresh.opened(e.ID) {
		t.Error("the successor's snapshot lacks the entry")
	}
	// Until the other manager knows that the successor serves, there is nobody to serve.
	seesThat(t, a, "want the old process draining and its successor serving", func(all []manager.RelayStatus) bool {
		return len(all) == 2 && all[0].Draining && !all[1].Draining
	})
	for _, m := range ms {
		made := create(t, m.Service)
		if old.opened(made.ID) || !fresh.opened(made.ID) {
			t.Error("an entry must be opened by the successor alone, whichever manager makes it")
		}
	}
	if err := a.DeleteEntry(t.Context(), op1, e.Address); err != nil {
		t.Fatal(err)
	}
	if old.opened(e.ID) || fresh.opened(e.ID) {
		t.Error("the deletion was answered before both processes had cut")
	}
	if fresh.told(manager.CommandDrain) {
		t.Error("the successor was told to drain")
	}
}

// The relays of a manager that says nothing more lapse after five heartbeats.
func TestManagerDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(context.WithoutCancel(t.Context()), store.Config{Path: ":memory:"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		cfg := config()
		cfg.Heartbeat = 2 * time.Second
		m := startOn(t, cfg, st)
		// A manager that is gone without a word: it says nothing more.
		dead := manager.RelayAttachment{Session: "s", Relay: innerRelay("inner1", "192.0.2.11:7001"), Since: time.Now(), Seen: time.Now()}
		if _, err := st.SyncAttachments(t.Context(), "dead", []manager.RelayAttachment{dead}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		relays := func() int {
			s, err := m.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(s.Relays)
		}
		if n := relays(); n != 1 {
			t.Fatalf("%d relays; want that of the other manager", n)
		}
		<-time.After(9 * time.Second)
		synctest.Wait()
		if n := relays(); n != 1 {
			t.Errorf("%d relays after 9 s of silence; want 1: five heartbeats are 10 s", n)
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		if n := relays(); n != 0 {
			t.Errorf("%d relays after 14 s of silence; want none", n)
		}
		if all, err := st.Attachments(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("attachments %v, %v; want none", all, err)
		}
	})
}
