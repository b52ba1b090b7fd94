package manager_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
)

// A range of devices has consecutive IMSIs and addresses; whoever is not in it is not
// attached.
func TestStaticDirectory(t *testing.T) {
	d, err := manager.NewStaticDirectory([]manager.StaticAttachment{
		{IMSI: "001010000000099", Count: 3, UPF: "upf1", Address: netip.MustParseAddr("10.45.0.255")},
		{IMSI: "001010000000500", UPF: "upf2", Address: netip.MustParseAddr("10.46.0.1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for imsi, want := range map[ident.IMSI]manager.Attachment{
		"001010000000099": {UPF: "upf1", Address: netip.MustParseAddr("10.45.0.255")},
		"001010000000101": {UPF: "upf1", Address: netip.MustParseAddr("10.45.1.1")},
		"001010000000500": {UPF: "upf2", Address: netip.MustParseAddr("10.46.0.1")},
	} {
		if got, err := d.Lookup(t.Context(), imsi); err != nil || got != want {
			t.Errorf("%s is at %v, %v; want %v", imsi, got, err, want)
		}
	}
	if _, err := d.Lookup(t.Context(), "001010000000102"); !errors.Is(err, manager.ErrNotAttached) {
		t.Errorf("a device outside of the list: %v; want ErrNotAttached", err)
	}
	if d.Size() != 4 {
		t.Errorf("size %d; want 4", d.Size())
	}
}

// What cannot be meant is refused with the IMSI it is about.
func TestStaticDirectoryRefuses(t *testing.T) {
	at := netip.MustParseAddr("10.45.0.1")
	for name, list := range map[string][]manager.StaticAttachment{
		"bad IMSI":          {{IMSI: "12ab", UPF: "u", Address: at}},
		"no UPF":            {{IMSI: "001010000000001", Address: at}},
		"no address":        {{IMSI: "001010000000001", UPF: "u"}},
		"negative count":    {{IMSI: "001010000000001", Count: -1, UPF: "u", Address: at}},
		"IMSIs run out":     {{IMSI: "999999999999999", Count: 2, UPF: "u", Address: at}},
		"addresses run out": {{IMSI: "001010000000001", Count: 2, UPF: "u", Address: netip.MustParseAddr("255.255.255.255")}},
		"listed twice":      {{IMSI: "001010000000001", Count: 2, UPF: "u", Address: at}, {IMSI: "001010000000002", UPF: "u", Address: at}},
	} {
		if _, err := manager.NewStaticDirectory(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A device whose SIM is barred is not reached, its connections are cut, and it comes back;
// also after a restart, and whatever manager was asked.
func TestBarredInAStaticDirectory(t *testing.T) {
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	m, outer := startStatic(t, st)
	e := create(t, m.Service)
	resolve := func(r *fakeRelay) error {
		_, err := r.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
		return err
	}
	place := []manager.Place{{IMSI: imsi1, Inner: "inner1", Address: netip.MustParseAddr("10.0.0.1")}}
	if err := resolve(outer); err != nil {
		t.Fatal(err)
	}
	for i, to := range []manager.SIMStatus{manager.SIMSuspended, manager.SIMInactive} {
		if _, err := m.SetSIMStatus(t.Context(), op1, ref1, to); err != nil {
			t.Fatal(err)
		}
		wantCode(t, resolve(outer), manager.CodeDeviceOffline, "its SIM is "+string(to))
		outer.await(t, "its connections are cut", func(f *fakeRelay) bool { return len(cuts(f)) == i+1 })
		outer.with(func(f *fakeRelay) {
			if c := cuts(f)[i]; c.IMSI != imsi1 || c.Device != place[0].Address {
				t.Errorf("told %+v; want a cut of the device", c)
			}
		})
		if left, err := outer.Departed(t.Context(), place); err != nil || len(left) != 1 {
			t.Errorf("%+v have left, %v; want the device", left, err)
		}
		if _, err := m.SetSIMStatus(t.Context(), op1, ref1, manager.SIMActive); err != nil {
			t.Fatal(err)
		}
		if err := resolve(outer); err != nil {
			t.Errorf("its SIM is active again: %v", err)
		}
	}
	if _, err := m.SetTerminationEnabled(t.Context(), op1, ref1, true); err != nil {
		t.Fatal(err)
	}
	if _, err := m.SetSIMStatus(t.Context(), op1, ref1, manager.SIMTerminated); err != nil {
		t.Fatal(err)
	}
	wantCode(t, resolve(outer), manager.CodeDeviceOffline, "its SIM is terminated")
	_, after := startStatic(t, st)
	wantCode(t, resolve(after), manager.CodeDeviceOffline, "its SIM was terminated before the restart")
}

// startStatic runs a manager with a directory of its own, and an outer relay at it.
func startStatic(t *testing.T, st *store.Store) (*rig, *fakeRelay) {
	t.Helper()
	dir, err := manager.NewStaticDirectory([]manager.StaticAttachment{{IMSI: imsi1, UPF: "upf1", Address: netip.MustParseAddr("10.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	m := startWith(t, config(), st, manager.Deps{Store: st, Directory: dir})
	attach(t, m.Service, innerRelay("inner1", "192.0.2.11:7001"))
	return m, attach(t, m.Service, process("i1"))
}

// What is said late of a SIM counts nothing, and who waits for a device is woken.
func TestStaticDirectoryBars(t *testing.T) {
	d, err := manager.NewStaticDirectory([]manager.StaticAttachment{{IMSI: imsi1, UPF: "upf1", Address: netip.MustParseAddr("10.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	var left []ident.IMSI
	d.Departed(func(imsi ident.IMSI, was manager.Attachment) { left = append(left, imsi) })
	for i, c := range []struct {
		version int64
		barred  bool
		there   bool
		change  bool
	}{{1, false, true, false}, {2, true, false, true}, {2, true, false, false}, {1, false, false, false}, {4, false, true, true}, {3, true, true, false}} {
		changed := d.Changed()
		d.Bar(imsi1, c.version, c.barred)
		d.Bar("001010000009999", c.version, c.barred)
		_, err := d.Lookup(t.Context(), imsi1)
		if there := err == nil; there != c.there || d.Size() != map[bool]int{true: 1}[there] {
			t.Errorf("%d: there %t, size %d; want there %t", i, there, d.Size(), c.there)
		}
		select {
		case <-changed:
			if !c.change {
				t.Errorf("%d: changed", i)
			}
		default:
			if c.change {
				t.Errorf("%d: not changed", i)
			}
		}
	}
	if len(left) != 1 {
		t.Errorf("%v left; want the one device, once", left)
	}
}

// testSuspendedElsewhere: each manager has a directory of its own, and relays.
func testSuspendedElsewhere(t *testing.T, server *pgtest.Server) {
	url := server.Database(t)
	open := func() *store.Store {
		st, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	_, outer := startStatic(t, open())
	other := startOn(t, config(), open())
	if _, err := other.SetSIMStatus(t.Context(), op1, ref1, manager.SIMSuspended); err != nil {
		t.Fatal(err)
	}
	outer.await(t, "its connections are cut", func(f *fakeRelay) bool { return len(cuts(f)) == 1 })
}
