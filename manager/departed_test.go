package manager_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

// startBeside starts a manager that a core tells where devices are.
func startBeside(t *testing.T, core *smf) *rig {
	t.Helper()
	dir := startDirectory(t, manager.DirectoryConfig{}, core)
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return startWith(t, config(), st, manager.Deps{Store: st, Directory: dir})
}

// Every outer relay that is attached here hears of a device that leaves a place, one that
// drains too, and of nothing else that happens to devices.
func TestDeviceLeaves(t *testing.T) {
	core := &smf{}
	m := startBeside(t, core)
	old := process("i0")
	old.Draining = true
	relays := []*fakeRelay{attach(t, m.Service, process("i1")), attach(t, m.Service, old)}
	attach(t, m.Service, innerRelay("inner1", "192.0.2.11:7001"))

	at := func(typ sbi.EventType, upf, address string) { core.notify(event(typ, imsi1, 1, upf, address)) }
	at(sbi.SessionEstablished, "upf1", "10.0.0.1")
	at(sbi.SessionEstablished, "upf1", "10.0.0.1") // told again
	at(sbi.SessionEstablished, "upf2", "10.1.0.1") // it moved
	at(sbi.SessionReleased, "upf1", "10.0.0.1")    // of what it left
	at(sbi.SessionReleased, "upf2", "10.1.0.1")
	at(sbi.SessionReleased, "upf2", "10.1.0.1")
	want := []string{"10.0.0.1", "10.1.0.1"}
	for i, r := range relays {
		r.await(t, "two cuts", func(f *fakeRelay) bool { return len(cuts(f)) >= 2 })
		r.with(func(f *fakeRelay) {
			got := cuts(f)
			if len(got) != 2 || got[0].Device.String() != want[0] || got[1].Device.String() != want[1] || got[0].IMSI != imsi1 {
				t.Errorf("relay %d was told %+v; want cuts of %v alone", i, got, want)
			}
		})
	}
}

func cuts(f *fakeRelay) (out []manager.Command) {
	for _, c := range f.log {
		if c.Kind == manager.CommandCut {
			out = append(out, c)
		}
	}
	return out
}

// Departures for which a relay's queue has no room are not lost: the relay is told to ask, and
// keeps its session.
func TestDeparturesBeyondTheQueue(t *testing.T) {
	core := &smf{}
	m := startBeside(t, core)
	relay, err := m.AttachRelay(process("i1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.End)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if c, err := relay.Next(ctx); err != nil || c.Kind != manager.CommandSnapshot {
		t.Fatalf("%+v, %v; want a snapshot", c, err)
	}
	const n = 5000 // more than the queue holds
	var places []manager.Place
	address := netip.MustParseAddr("10.0.0.1")
	for i := range n {
		imsi := fmt.Sprintf("0010100001%05d", i)
		core.notify(event(sbi.SessionEstablished, imsi, 1, "upf1", address.String()))
		places = append(places, manager.Place{IMSI: ident.IMSI(imsi), Inner: "inner1", Address: address})
		address = address.Next()
	}
	if left, err := relay.Departed(ctx, places); err != nil || len(left) != 0 {
		t.Fatalf("%d have left, %v; want none", len(left), err)
	}
	for _, p := range places {
		core.notify(event(sbi.SessionReleased, string(p.IMSI), 1, "upf1", p.Address.String()))
	}
	told, review := map[ident.IMSI]bool{}, false
	for !review || len(told) < n/10 { // in no order
		c, err := relay.Next(ctx)
		if err != nil {
			t.Fatalf("after %d cuts: %v; want word that there are more", len(told), err)
		}
		switch c.Kind {
		case manager.CommandCut:
			told[c.IMSI] = true
		case manager.CommandReview:
			review = true
			if c.ID == 0 || c.Session != relay.ID() {
				t.Errorf("command %+v", c)
			}
		}
	}
	left, err := relay.Departed(ctx, places)
	if err != nil || !slices.Equal(left, places) {
		t.Errorf("%d have left, %v; want all %d", len(left), err, n)
	}
	select {
	case <-relay.Done():
		t.Error("the relay has lost its session")
	default:
	}
}

// A place is left when the device has no session there, of several none; and nobody has left
// as long as the SMF has not told of all sessions.
func TestDeparted(t *testing.T) {
	core := &smf{silent: true, exist: []sbi.SessionEvent{
		event(sbi.SessionEstablished, imsi1, 1, "upf1", "10.0.0.1"),
		event(sbi.SessionEstablished, imsi1, 2, "upf1", "10.0.0.2"),
		event(sbi.SessionEstablished, imsi3, 1, "upf2", "10.0.0.1"),
	}}
	m := startBeside(t, core)
	outer, inner := attach(t, m.Service, process("i1")), attach(t, m.Service, innerRelay("inner1", "192.0.2.11:7001"))
	place := func(imsi, inner, address string) manager.Place {
		return manager.Place{IMSI: ident.IMSI(imsi), Inner: manager.RelayID(inner), Address: netip.MustParseAddr(address)}
	}
	there := []manager.Place{place(imsi1, "inner1", "10.0.0.1"), place(imsi1, "inner1", "10.0.0.2"), place(imsi3, "inner2", "10.0.0.1")}
	left := []manager.Place{place(imsi1, "inner1", "10.0.0.3"), place(imsi3, "inner1", "10.0.0.1"), place(imsi2, "inner1", "10.0.0.1")}
	_, err := outer.Departed(t.Context(), there)
	wantCode(t, err, manager.CodeNotReady, "the SMF has not told of all sessions")
	core.report()
	if got, err := outer.Departed(t.Context(), slices.Concat(there, left)); err != nil || !slices.Equal(got, left) {
		t.Errorf("%+v have left, %v; want %+v", got, err, left)
	}
	_, err = inner.Departed(t.Context(), there)
	wantCode(t, err, manager.CodeRelayNotAttached, "an inner relay has no connections of clients")
	outer.End()
	_, err = outer.Departed(t.Context(), there)
	wantCode(t, err, manager.CodeRelayNotAttached, "the session is over")
}

// A relay that drains gets no snapshot, after which it would ask; it is told to.
func TestDrainingRelayReviews(t *testing.T) {
	m := start(t, config())
	old := process("i0")
	old.Draining = true
	attach(t, m.Service, old).await(t, "it is told to ask", func(f *fakeRelay) bool { return f.has(manager.CommandReview) })
}
