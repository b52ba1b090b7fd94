package manager

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"
	"unsafe"
)

// slow is a store whose reads let the test do something before they return.
type slow struct {
	EntryStore
	entries map[netip.AddrPort]Entry
	reads   int
	during  func()
}

func (s *slow) EntryByAddress(_ context.Context, a netip.AddrPort) (Entry, error) {
	s.reads++
	e, ok := s.entries[a]
	if s.during != nil {
		s.during()
	}
	if !ok {
		return Entry{}, ErrNotFound
	}
	return e, nil
}

func (s *slow) AllEntries(context.Context, time.Time) ([]Entry, error) {
	var es []Entry
	for _, e := range s.entries {
		es = append(es, e)
	}
	if s.during != nil {
		s.during()
	}
	return es, nil
}

func TestEntryTable(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.1:40001")
	st := &slow{entries: map[netip.AddrPort]Entry{a: {ID: "A", Address: a}, b: {ID: "B", Address: b}}}
	table := &entryTable{store: st}
	find := func(why string, at netip.AddrPort, id EntryID, reads int) {
		t.Helper()
		before := st.reads
		e, err := table.find(t.Context(), at)
		switch {
		case id == "" && !errors.Is(err, ErrNotFound):
			t.Errorf("%s: %v, %v; want ErrNotFound", why, e, err)
		case id != "" && (err != nil || e.ID != id):
			t.Errorf("%s: %v, %v; want %s", why, e, err, id)
		}
		if n := st.reads - before; n != reads {
			t.Errorf("%s: read %d times; want %d", why, n, reads)
		}
	}
	find("before changes arrive the store is asked", a, "A", 1)
	find("every time", a, "A", 1)
	if err := table.load(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	find("after loading it is not", a, "A", 0)

	delete(st.entries, a)
	table.remove(a, "A")
	find("what is removed is gone", a, "", 1)
	st.entries[a] = Entry{ID: "C", Address: a}
	table.remove(a, "A") // late
	find("another entry at the address", a, "C", 1)
	find("is kept", a, "C", 0)
	table.remove(a, "A") // later still
	find("whatever is said about the one before", a, "C", 0)

	// It is removed between the store's answer and its arrival.
	table.remove(b, "B")
	st.during = func() { delete(st.entries, b); table.remove(b, "B") }
	find("a reader that was slow has what it read", b, "B", 1)
	st.during = nil
	find("but nobody else", b, "", 1)

	st.during = func() { delete(st.entries, a); table.remove(a, "C") }
	if err := table.load(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	st.during = nil
	find("removed while all were read", a, "", 1)

	st.entries[b] = Entry{ID: "D", Address: b}
	find("asked for once", b, "D", 1)
	table.lost()
	find("when changes do not arrive any more", b, "D", 1)
	delete(st.entries, b)
	find("nothing is believed", b, "", 1)
	if p, ok := table.drawPort(a.Addr(), PortRange{40000, 40000}); !ok || p != 40000 {
		t.Errorf("drew %d, %t; want what may be free", p, ok)
	}
}

// Nothing of an entry is lost in memory: a new field of Entry fails here until it is kept.
func TestKeptEntry(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	full := Entry{
		ID: "01HF", OperatorID: "OP1", IMSI: "001010000000001", SIMID: "8942", Strategy: Dynamic, DevicePort: 22, RelayID: "outer1",
		Address: netip.MustParseAddrPort("192.0.2.1:40000"), Ranges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		Created: at, Expires: at.Add(time.Hour), TLS: true, CredentialID: "c", ProxyProtocol: true,
		Targets: []Target{{IMSI: "001010000000002", DevicePort: 80, Expires: at}},
	}
	for v, i := reflect.ValueOf(full), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("%s is empty: fill it in", v.Type().Field(i).Name)
		}
	}
	several := full
	several.IMSI, several.SIMID, several.DevicePort = "", "", 0
	for _, e := range []Entry{full, several, {ID: "A", IMSI: "001010000000001", Address: full.Address}} {
		if got := keep(&e).entry(e.Address); !reflect.DeepEqual(got, e) {
			t.Errorf("kept %+v; got %+v", e, got)
		}
	}
	if keep(&full).shared != keep(&several).shared {
		t.Error("two entries of one operator do not share what they have in common")
	}
	if n := unsafe.Sizeof(keptEntry{}); n > 96 { // a size that the allocator has
		t.Errorf("an entry takes %d bytes; want at most 96", n)
	}
	table := &entryTable{live: true, hosts: map[netip.Addr]*hostEntries{}}
	table.addIf(0, full)
	if n := testing.AllocsPerRun(100, func() { table.known(full.Address) }); n != 0 {
		t.Errorf("reading an entry allocates %g times", n)
	}
}
