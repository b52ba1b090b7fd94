package manager_test

import (
	"testing"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

// Every outer relay that is attached here hears of a device that leaves a place, one that
// drains too, and of nothing else that happens to devices.
func TestDeviceLeaves(t *testing.T) {
	core := &smf{}
	dir := startDirectory(t, manager.DirectoryConfig{}, core)
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	m := startWith(t, config(), st, manager.Deps{Store: st, Directory: dir})
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
