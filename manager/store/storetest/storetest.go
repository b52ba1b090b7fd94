// Package storetest is the suite that every manager.Store must pass. It starts
// goroutines only inside the tests it runs and joins them.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/manager"
)

var (
	t0    = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	equal = []cmp.Option{cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})}
)

const op = manager.OperatorID("OP0000000001")

func entry(id string, port uint16, change ...func(*manager.Entry)) manager.Entry {
	e := manager.Entry{
		ID: manager.EntryID(id), OperatorID: op, IMSI: "001010000000001", Strategy: manager.IMSIPrioritized,
		DevicePort: 22, RelayID: "outer1", Address: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port),
		Ranges:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		Created: t0, Expires: t0.Add(time.Hour),
	}
	for _, c := range change {
		c(&e)
	}
	return e
}

// Run runs the suite. open returns an empty store; it is closed by the test's
// clean-up that open registers.
func Run(t *testing.T, open func(t *testing.T) manager.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, manager.Store)
	}{
		{"an entry comes back as it was stored", testRoundTrip},
		{"an address in use is taken", testTaken},
		{"an address rests in quarantine", testQuarantine},
		{"lists select by operator, target and page", testLists},
		{"what expired is removed once", testExpiry},
		{"two claims of one address have one winner", testRace},
		{"the first signing key stays", testSigningKeys},
		{"an audit record comes back as it was stored", testAudit},
		{"audit records are kept once", testAuditOnce},
		{"old audit records are removed", testPurge},
		{"contracts and exports", testContracts},
		{"credentials", testCredentials},
		{"the life of an entry is in the audit log", testLife},
		{"attachments of several managers", testAttachments},
		{"changes are told to those who watch", testWatch},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	for _, c := range accountTests {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	for _, c := range simTests {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func create(t *testing.T, s manager.Store, es ...manager.Entry) {
	t.Helper()
	for _, e := range es {
		if err := s.CreateEntry(t.Context(), e); err != nil {
			t.Fatalf("CreateEntry(%s): %v", e.ID, err)
		}
	}
}

func testRoundTrip(t *testing.T, s manager.Store) {
	for i, e := range []manager.Entry{
		entry("A", 40001),
		entry("B", 40002, func(e *manager.Entry) { e.SIMID, e.Strategy = "8942310000000000001", manager.Dynamic }),
		entry("C", 40003, func(e *manager.Entry) {
			e.Address = netip.MustParseAddrPort("[2001:db8::1]:40003")
			e.Ranges = e.Ranges[:1]
		}),
		entry("D", 40004, func(e *manager.Entry) { e.TLS, e.CredentialID, e.ProxyProtocol = true, "01CRED", true }),
		entry("E", 40005, func(e *manager.Entry) {
			e.IMSI, e.DevicePort, e.TLS = "", 0, true
			e.Targets = []manager.Target{
				{IMSI: "001010000000001", DevicePort: 22},
				{IMSI: "001010000000002", SIMID: "894", DevicePort: 443, Ranges: e.Ranges, Expires: t0.Add(time.Minute)},
			}
		}),
	} {
		create(t, s, e)
		got, err := s.EntryByAddress(t.Context(), e.Address)
		if err != nil {
			t.Fatalf("EntryByAddress: %v", err)
		}
		if d := cmp.Diff(e, got, equal...); d != "" {
			t.Errorf("entry changed in the store (-stored +read):\n%s", d)
		}
		if n, err := s.CountEntries(t.Context()); err != nil || n != i+1 {
			t.Errorf("CountEntries = %d, %v; want %d", n, err, i+1)
		}
	}
	if _, err := s.EntryByAddress(t.Context(), netip.MustParseAddrPort("192.0.2.1:1")); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("EntryByAddress of an unknown address: %v; want ErrNotFound", err)
	}
}

// testLife: what happens to an entry is recorded with it, once, and with nothing else.
func testLife(t *testing.T, s manager.Store) {
	ctx := t.Context()
	create(t, s, entry("A", 40001), entry("B", 40002))
	_ = s.CreateEntry(ctx, entry("C", 40001)) // taken
	if err := s.DeleteEntry(ctx, "A", t0); err != nil {
		t.Fatal(err)
	}
	_ = s.DeleteEntry(ctx, "A", t0) // gone
	for range 2 {
		if _, err := s.DeleteExpired(ctx, t0.Add(2*time.Hour), t0.Add(2*time.Hour), 10); err != nil {
			t.Fatal(err)
		}
	}
	log, err := s.Audit(ctx, manager.AuditQuery{OperatorID: op})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range log {
		got[string(r.Type)+" "+string(r.EntryID)]++
		if r.IMSI != "001010000000001" || r.RelayID != "outer1" || r.DevicePort != 22 || r.ConnectionID != "" {
			t.Errorf("record %+v; want what the entry says", r)
		}
	}
	if d := cmp.Diff(map[string]int{"CREATED A": 1, "CREATED B": 1, "DELETED A": 1, "EXPIRED B": 1}, got); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

func testAttachments(t *testing.T, s manager.Store) {
	ctx := t.Context()
	at := func(session, relay string, change ...func(*manager.RelayAttachment)) manager.RelayAttachment {
		a := manager.RelayAttachment{
			Session: session, Since: t0, Seen: t0, Opened: 1, Closed: 2, Up: 3, Down: 1 << 40, Rate: 5,
			Relay: manager.Relay{
				ID: manager.RelayID(relay), Kind: manager.OuterRelay, Instance: "i-" + session, Address: netip.MustParseAddrPort("[2001:db8::1]:0"),
				Ports: manager.PortRange{First: 40000, Last: 65000}, Region: "east", Live: 7,
			},
		}
		for _, c := range change {
			c(&a)
		}
		return a
	}
	from := func(name string, sequence int64, a manager.RelayAttachment) manager.RelayAttachment {
		a.Manager, a.Sequence = name, sequence
		return a
	}
	sync := func(name string, lapsed time.Time, own ...manager.RelayAttachment) {
		t.Helper()
		if _, err := s.SyncAttachments(ctx, name, own, lapsed); err != nil {
			t.Fatalf("SyncAttachments: %v", err)
		}
	}
	want := func(why string, want ...manager.RelayAttachment) {
		t.Helper()
		got, err := s.Attachments(ctx)
		if err != nil {
			t.Fatalf("Attachments: %v", err)
		}
		if d := cmp.Diff(want, got, append(equal, cmpopts.EquateEmpty())...); d != "" {
			t.Errorf("%s (-want +got):\n%s", why, d)
		}
	}
	a, b := at("s1", "outer1"), at("s2", "outer2", func(a *manager.RelayAttachment) { a.Relay.Kind = manager.InnerRelay })
	sync("A", time.Time{}, a)
	sync("B", time.Time{}, b)
	want("one each", from("A", 1, a), from("B", 2, b))
	a2 := at("s1", "outer1", func(a *manager.RelayAttachment) {
		a.Seen, a.Relay.Live, a.Relay.Draining, a.Up = t0.Add(time.Second), 9, true, 100
	})
	moved := at("s3", "outer1")
	sync("A", time.Time{}, a2, moved)
	want("what changes, changes, and a new one has the highest sequence", from("A", 1, a2), from("B", 2, b), from("A", 3, moved))
	sync("B", t0.Add(time.Millisecond), b)
	want("those of another that were not seen lately are gone, one's own stand", from("A", 1, a2), from("B", 2, b))
	sync("B", time.Time{})
	want("none of B", from("A", 1, a2))
	sync("A", time.Time{})
	want("none")
}

// testWatch: all methods that promise it tell of their changes.
func testWatch(t *testing.T, s manager.Store) {
	ch := make(chan manager.Change, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Watch(ctx, func(c manager.Change) { ch <- c }); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	want := func(c manager.Change) {
		t.Helper()
		if d := cmp.Diff(c, <-ch, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Fatalf("change (-want +got):\n%s", d)
		}
	}
	want(manager.Change{Kind: manager.ChangeResync})
	a, b := entry("A", 40001), entry("B", 40002)
	create(t, s, a, b)
	want(manager.Change{Kind: manager.ChangeEntryCreated, ID: "A", Address: a.Address, Relay: "outer1"})
	want(manager.Change{Kind: manager.ChangeEntryCreated, ID: "B", Address: b.Address, Relay: "outer1"})
	if err := s.DeleteEntry(ctx, "A", t0); err != nil {
		t.Fatal(err)
	}
	want(manager.Change{Kind: manager.ChangeEntryDeleted, ID: "A", Address: a.Address, Relay: "outer1", Data: "revoked"})
	if _, err := s.DeleteExpired(ctx, t0.Add(2*time.Hour), t0, 10); err != nil {
		t.Fatal(err)
	}
	want(manager.Change{Kind: manager.ChangeEntryDeleted, ID: "B", Address: b.Address, Relay: "outer1", Data: "expired"})
	r := manager.RelayAttachment{Session: "s", Relay: manager.Relay{ID: "outer1", Kind: manager.OuterRelay, Instance: "i", Address: netip.MustParseAddrPort("192.0.2.1:0")}, Since: t0, Seen: t0}
	for range 2 { // the second time nothing has changed
		if _, err := s.SyncAttachments(ctx, "A", []manager.RelayAttachment{r}, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	want(manager.Change{Kind: manager.ChangeRelay, Relay: "outer1", Origin: "A"})
	seed(t, s, simOf(simA))
	for _, change := range []func(*manager.SIM){
		func(sim *manager.SIM) { sim.Tags["name"] = "x" }, // bars nobody
		func(sim *manager.SIM) { sim.Status = manager.SIMSuspended },
		func(sim *manager.SIM) { sim.Status = manager.SIMInactive },
		func(sim *manager.SIM) { sim.Status = manager.SIMActive },
	} {
		if _, _, err := s.UpdateSIM(ctx, simA, func(sim *manager.SIM) error { change(sim); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	want(manager.Change{Kind: manager.ChangeSIM, ID: string(simA)})
	want(manager.Change{Kind: manager.ChangeSIM, ID: string(simA)})
	if err := s.Notify(ctx, manager.Change{Kind: manager.ChangePing, ID: "1"}); err != nil {
		t.Fatal(err)
	}
	want(manager.Change{Kind: manager.ChangePing, ID: "1"})
}

func testTaken(t *testing.T, s manager.Store) {
	create(t, s, entry("A", 40001))
	if err := s.CreateEntry(t.Context(), entry("B", 40001)); !errors.Is(err, manager.ErrAddressTaken) {
		t.Errorf("same address again: %v; want ErrAddressTaken", err)
	}
	create(t, s, entry("C", 40001, func(e *manager.Entry) { e.Address = netip.MustParseAddrPort("192.0.2.2:40001") }))
	if err := s.CreateEntry(t.Context(), entry("A", 40009)); err == nil || errors.Is(err, manager.ErrAddressTaken) {
		t.Errorf("same ID at another address: %v; want an error other than ErrAddressTaken", err)
	}
}

func testQuarantine(t *testing.T, s manager.Store) {
	ctx, addr := t.Context(), netip.MustParseAddr("192.0.2.1")
	create(t, s, entry("A", 40001), entry("B", 40000))
	if err := s.DeleteEntry(ctx, "A", t0.Add(time.Minute)); err != nil {
		t.Fatalf("DeleteEntry: %v", err)
	}
	if err := s.DeleteEntry(ctx, "A", t0.Add(time.Minute)); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("DeleteEntry again: %v; want ErrNotFound", err)
	}
	at := func(id string, d time.Duration) manager.Entry {
		return entry(id, 40001, func(e *manager.Entry) { e.Created = t0.Add(d) })
	}
	ports := func(d time.Duration) []uint16 {
		ps, err := s.TakenPorts(ctx, addr, t0.Add(d))
		if err != nil {
			t.Fatalf("TakenPorts: %v", err)
		}
		return ps
	}
	if err := s.CreateEntry(ctx, at("C", time.Minute-time.Millisecond)); !errors.Is(err, manager.ErrAddressTaken) {
		t.Errorf("1 ms before the quarantine ends: %v; want ErrAddressTaken", err)
	}
	if d := cmp.Diff([]uint16{40000, 40001}, ports(time.Minute-time.Millisecond)); d != "" {
		t.Errorf("ports in use and in quarantine (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]uint16{40000}, ports(time.Minute)); d != "" {
		t.Errorf("ports after the quarantine (-want +got):\n%s", d)
	}
	create(t, s, at("D", time.Minute))
	if err := s.DeleteEntry(ctx, "D", t0.Add(3*time.Minute)); err != nil {
		t.Fatalf("a second quarantine of the same port: %v", err)
	}
	if err := s.CreateEntry(ctx, at("E", 2*time.Minute)); !errors.Is(err, manager.ErrAddressTaken) {
		t.Errorf("in the second quarantine: %v; want ErrAddressTaken", err)
	}
	// What is over is forgotten when told to, and not before, whether or not any entry
	// ever expires.
	create(t, s, entry("F", 40002))
	ok(t, s.DeleteEntry(ctx, "F", t0.Add(2*time.Minute)))
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{2*time.Minute - time.Millisecond, 0}, {2 * time.Minute, 1}, {2 * time.Minute, 0}, {time.Hour, 1}, {time.Hour, 0}} {
		n, err := s.PurgeQuarantine(ctx, t0.Add(c.at), 1)
		if err != nil || n != c.want {
			t.Errorf("PurgeQuarantine at %s = %d, %v; want %d", c.at, n, err, c.want)
		}
	}
}

func testLists(t *testing.T, s manager.Store) {
	bySIM := func(e *manager.Entry) { e.SIMID, e.Strategy = "894", manager.Dynamic }
	create(t, s,
		entry("A", 1), entry("B", 2, bySIM), entry("C", 3, func(e *manager.Entry) { e.IMSI = "001010000000002" }),
		entry("D", 4, func(e *manager.Entry) { e.OperatorID = "OP0000000002" }),
		entry("E", 5, func(e *manager.Entry) { e.Expires = t0.Add(time.Second) }),
		entry("F", 6, func(e *manager.Entry) { e.RelayID = "outer2" }))
	for _, c := range []struct {
		name string
		q    manager.EntryQuery
		at   time.Duration
		want string
	}{
		{"all of one operator", manager.EntryQuery{OperatorID: op}, 0, "ABCEF"},
		{"none that expired", manager.EntryQuery{OperatorID: op}, time.Second, "ABCF"},
		{"by IMSI leaves out what was made by SIM ID", manager.EntryQuery{OperatorID: op, IMSI: "001010000000001"}, 0, "AEF"},
		{"by SIM ID", manager.EntryQuery{OperatorID: op, SIMID: "894"}, 0, "B"},
		{"first page", manager.EntryQuery{OperatorID: op, Limit: 2}, 0, "AB"},
		{"next page", manager.EntryQuery{OperatorID: op, Limit: 2, After: "B"}, 0, "CE"},
		{"another operator", manager.EntryQuery{OperatorID: "OP0000000002"}, 0, "D"},
		{"nobody", manager.EntryQuery{OperatorID: "OP0000000003"}, 0, ""},
	} {
		es, err := s.Entries(t.Context(), c.q, t0.Add(c.at))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := ids(es); got != c.want {
			t.Errorf("%s: %q; want %q", c.name, got, c.want)
		}
	}
	es, err := s.RelayEntries(t.Context(), "outer1", t0.Add(time.Second))
	slices.SortFunc(es, func(a, b manager.Entry) int { return strings.Compare(string(a.ID), string(b.ID)) })
	if err != nil || ids(es) != "ABCD" {
		t.Errorf("RelayEntries = %q, %v; want ABCD: all operators, nothing expired", ids(es), err)
	}
	if es, err := s.AllEntries(t.Context(), t0.Add(time.Second)); err != nil || len(es) != 5 {
		t.Errorf("AllEntries = %q, %v; want all but E, which expired", ids(es), err)
	}
}

func ids(es []manager.Entry) string {
	var s string
	for _, e := range es {
		s += string(e.ID)
	}
	return s
}

func testExpiry(t *testing.T, s manager.Store) {
	ctx := t.Context()
	if next, err := s.NextExpiry(ctx); err != nil || !next.IsZero() {
		t.Errorf("NextExpiry of an empty store = %v, %v; want the zero time", next, err)
	}
	in := func(d time.Duration) func(*manager.Entry) {
		return func(e *manager.Entry) { e.Expires = t0.Add(d) }
	}
	create(t, s, entry("A", 1, in(3*time.Second)), entry("B", 2, in(time.Second)), entry("C", 3, in(2*time.Second)))
	if next, err := s.NextExpiry(ctx); err != nil || !next.Equal(t0.Add(time.Second)) {
		t.Errorf("NextExpiry = %v, %v; want B's", next, err)
	}
	expire := func(at time.Duration, limit int, want string) {
		t.Helper()
		gone, err := s.DeleteExpired(ctx, t0.Add(at), t0.Add(at+time.Minute), limit)
		if err != nil || ids(gone) != want {
			t.Errorf("DeleteExpired at %s = %q, %v; want %q", at, ids(gone), err, want)
		}
	}
	expire(time.Second-time.Millisecond, 10, "")
	expire(2*time.Second, 1, "B")
	expire(2*time.Second, 10, "C")
	expire(2*time.Second, 10, "")
	if err := s.CreateEntry(ctx, entry("D", 2, func(e *manager.Entry) { e.Created = t0.Add(30 * time.Second) })); !errors.Is(err, manager.ErrAddressTaken) {
		t.Errorf("the port of an expired entry at once: %v; want ErrAddressTaken", err)
	}
	expire(2*time.Minute, 10, "A")
	create(t, s, entry("E", 2, func(e *manager.Entry) { e.Created = t0.Add(2 * time.Minute) }))
}

func testRace(t *testing.T, s manager.Store) {
	var wg sync.WaitGroup
	var won, other atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			err := s.CreateEntry(context.WithoutCancel(t.Context()), entry(fmt.Sprintf("E%d", i), 40001))
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, manager.ErrAddressTaken):
				other.Add(1)
				t.Errorf("CreateEntry: %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d claims of one address succeeded; want 1", won.Load())
	}
}

func testSigningKeys(t *testing.T, s manager.Store) {
	ctx := t.Context()
	if keys, err := s.SigningKeys(ctx); err != nil || len(keys) != 0 {
		t.Fatalf("SigningKeys of an empty store = %v, %v", keys, err)
	}
	first := manager.SigningKey{ID: "k1", Seed: make([]byte, 32), Created: t0}
	for _, id := range []string{"k1", "k2"} {
		k := first
		k.ID = id
		got, err := s.AddSigningKey(ctx, k)
		if err != nil {
			t.Fatalf("AddSigningKey(%s): %v", id, err)
		}
		if d := cmp.Diff(first, got); d != "" {
			t.Errorf("AddSigningKey(%s) (-want +got):\n%s", id, d)
		}
	}
	keys, err := s.SigningKeys(ctx)
	if err != nil || len(keys) != 1 {
		t.Errorf("SigningKeys = %v, %v; want only the first", keys, err)
	}
}
