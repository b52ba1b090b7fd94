package manager_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

var wide = manager.DefaultPorts()

func TestCreateChecksTheRequest(t *testing.T) {
	m := start(t, config())
	attach(t, m.Service, outerRelay("outer1", wide))
	ok := func(r *manager.CreateRequest) {}
	ranges := func(rs ...string) func(*manager.CreateRequest) {
		return func(r *manager.CreateRequest) { r.Ranges = rs }
	}
	for _, c := range []struct {
		name   string
		change func(*manager.CreateRequest)
		want   manager.Code // empty: created
	}{
		{"by IMSI", ok, ""},
		{"by SIM ID", func(r *manager.CreateRequest) { r.IMSI, r.SIMID = "", sim1 }, ""},
		{"the SIM ID wins over the IMSI", func(r *manager.CreateRequest) { r.SIMID, r.IMSI = sim1, "999990000000000" }, ""},
		{"the shortest life", lasting(time.Second), ""},
		{"the longest life", lasting(8 * time.Hour), ""},
		{"ranges and an address", ranges("203.0.113.0/24", "2001:db8::/32", "198.51.100.9"), ""},
		{"no device", func(r *manager.CreateRequest) { r.IMSI = "" }, manager.CodeNoDestination},
		{"not an IMSI", func(r *manager.CreateRequest) { r.IMSI = "12a" }, manager.CodeBadIMSI},
		{"unknown IMSI", func(r *manager.CreateRequest) { r.IMSI = "001010000000009" }, manager.CodeUnknownSubscriber},
		{"another operator's IMSI looks unknown", func(r *manager.CreateRequest) { r.IMSI = imsi2 }, manager.CodeUnknownSubscriber},
		{"unknown SIM", func(r *manager.CreateRequest) { r.SIMID = "89" }, manager.CodeUnknownSIM},
		{"another service", func(r *manager.CreateRequest) { r.SIMID, r.Service = sim1, "arc" }, manager.CodeBadService},
		{"port 0", func(r *manager.CreateRequest) { r.Port = 0 }, manager.CodeBadPort},
		{"port 65536", func(r *manager.CreateRequest) { r.Port = 65536 }, manager.CodeBadPort},
		{"no life", lasting(0), manager.CodeBadDuration},
		{"negative life", lasting(-time.Second), manager.CodeBadDuration},
		{"a second too long", lasting(8*time.Hour + time.Second), manager.CodeBadDuration},
		{"not whole seconds", lasting(1500 * time.Millisecond), manager.CodeBadDuration},
		{"not a range", ranges("198.51.100.0/33"), manager.CodeBadRanges},
		{"a name as range", ranges("localhost"), manager.CodeBadRanges},
		{"too many ranges", ranges(slices.Repeat([]string{"10.0.0.0/8"}, 65)...), manager.CodeBadRanges},
		{"nobody to let in", func(r *manager.CreateRequest) { r.Caller = netip.Addr{} }, manager.CodeBadRanges},
	} {
		_, err := m.CreateEntry(t.Context(), op1, request(c.change))
		if c.want == "" && err != nil {
			t.Errorf("%s: %v; want an entry", c.name, err)
		}
		if c.want != "" {
			wantCode(t, err, c.want, c.name)
		}
	}
}

func TestCreateFillsTheEntry(t *testing.T) {
	m := start(t, config())
	r := attach(t, m.Service, outerRelay("outer1", wide))
	e := create(t, m.Service)
	if e.Duration() != 30*time.Minute || e.IMSI != imsi1 || e.SIMID != "" || e.Strategy != manager.IMSIPrioritized || e.DevicePort != 22 || e.RelayID != "outer1" {
		t.Errorf("entry %+v: want the defaults and the request", e)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")}; !slices.Equal(e.Ranges, want) {
		t.Errorf("ranges %v; want the caller alone, %v", e.Ranges, want)
	}
	if !slices.Contains(r.openPorts(), e.Address.Port()) {
		t.Error("the relay has not opened the port when CreateEntry returns")
	}
	e = create(t, m.Service, func(r *manager.CreateRequest) {
		r.SIMID, r.IMSI = sim1, ""
		r.Ranges = []string{"203.0.113.77/24", "::ffff:203.0.113.1/128", "203.0.113.0/24"}
		r.Caller = netip.MustParseAddr("::ffff:198.51.100.7")
	})
	if e.IMSI != imsi1 || e.SIMID != sim1 || e.Strategy != manager.Dynamic {
		t.Errorf("entry by SIM ID %+v", e)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("203.0.113.1/32")}; !slices.Equal(e.Ranges, want) {
		t.Errorf("ranges %v; want %v: masked, unmapped, once each", e.Ranges, want)
	}
	e = create(t, m.Service, func(r *manager.CreateRequest) { r.Caller = netip.MustParseAddr("2001:db8::9") })
	if want := netip.MustParsePrefix("2001:db8::9/128"); e.Ranges[0] != want {
		t.Errorf("ranges %v; want %v for a caller by IPv6", e.Ranges, want)
	}
}

func TestCreateWithoutRelay(t *testing.T) {
	m := start(t, config())
	attach(t, m.Service, innerRelay("inner1", "192.0.2.9:1"))
	_, err := m.CreateEntry(t.Context(), op1, request())
	wantCode(t, err, manager.CodeNoOuterRelay, "only an inner relay is attached")
}

// R6: ports are spread evenly over the range and never one that is in use.
func TestPortsAreRandomAndFree(t *testing.T) {
	m := start(t, config())
	ports := manager.PortRange{First: 50000, Last: 51999}
	attach(t, m.Service, outerRelay("outer1", ports))
	const n, buckets = 600, 10
	seen := map[uint16]bool{}
	var count [buckets]int
	ascending, last := 0, uint16(0)
	for range n {
		p := create(t, m.Service).Address.Port()
		if !ports.Contains(p) || seen[p] {
			t.Fatalf("port %d is outside of %v or in use", p, ports)
		}
		seen[p] = true
		count[int(p-ports.First)*buckets/ports.Size()]++
		if p > last {
			ascending++
		}
		last = p
	}
	// Chi-square with 9 degrees of freedom: 33.7 is exceeded once in 10,000 runs,
	// and less than that here because ports are drawn without repetition.
	var chi float64
	for _, c := range count {
		d := float64(c) - n/buckets
		chi += d * d / (n / buckets)
	}
	if chi > 33.7 {
		t.Errorf("ports are not spread evenly: %v, chi-square %.1f", count, chi)
	}
	if ascending < n/3 || ascending > 2*n/3 {
		t.Errorf("%d of %d ports are above the one before: they can be guessed", ascending, n)
	}
}

func TestPortsRunOutAndRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		attach(t, m.Service, outerRelay("outer1", manager.PortRange{First: 7000, Last: 7019}))
		var es []manager.Entry
		for range 20 { // every single one is found
			es = append(es, create(t, m.Service))
		}
		_, err := m.CreateEntry(t.Context(), op1, request())
		wantCode(t, err, manager.CodeNoFreePort, "all ports are in use")
		if err := m.DeleteEntry(t.Context(), op1, es[7].Address); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute - time.Millisecond)
		_, err = m.CreateEntry(t.Context(), op1, request())
		wantCode(t, err, manager.CodeNoFreePort, "1 ms before the quarantine of the port ends")
		<-time.After(time.Millisecond)
		if e := create(t, m.Service); e.Address != es[7].Address {
			t.Errorf("address %v; want %v, the only free one", e.Address, es[7].Address)
		}
	})
}

func TestPortHeldByAnotherProgram(t *testing.T) {
	m := start(t, config())
	r := attach(t, m.Service, outerRelay("outer1", manager.PortRange{First: 7000, Last: 7001}))
	r.with(func(f *fakeRelay) {
		f.refuse = func(o manager.Opening) error {
			if o.Address.Port() == 7000 {
				return fmt.Errorf("listen: %w", manager.ErrPortInUse)
			}
			return nil
		}
	})
	if e := create(t, m.Service); e.Address.Port() != 7001 {
		t.Errorf("port %d; want 7001, the other is in use", e.Address.Port())
	}
	_, err := m.CreateEntry(t.Context(), op1, request())
	wantCode(t, err, manager.CodeNoFreePort, "one port is used by us and one by another program")
	if n, err := m.store.CountEntries(t.Context()); err != nil || n != 1 {
		t.Errorf("%d entries, %v; want 1: failed attempts leave nothing", n, err)
	}
}

func TestAnotherRelayIsTried(t *testing.T) {
	m := start(t, config())
	bad := attach(t, m.Service, outerRelay("outer1", wide))
	bad.with(func(f *fakeRelay) { f.refuse = func(manager.Opening) error { return errors.New("no such address") } })
	_, err := m.CreateEntry(t.Context(), op1, request())
	wantCode(t, err, manager.CodeRelayRefused, "the only relay fails")
	good := outerRelay("outer2", wide)
	good.Address = netip.MustParseAddrPort("192.0.2.2:0")
	attach(t, m.Service, good)
	used := map[manager.RelayID]int{}
	for range 10 {
		used[create(t, m.Service).RelayID]++
	}
	if used["outer2"] != 10 {
		t.Errorf("relays used %v; want only outer2", used)
	}
	bad.with(func(f *fakeRelay) { f.refuse = nil })
	for range 40 {
		used[create(t, m.Service).RelayID]++
	}
	if used["outer1"] < 5 || used["outer2"] < 15 {
		t.Errorf("relays used %v; want both, at random", used)
	}
}

func TestSilentRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		r := attach(t, m.Service, outerRelay("outer1", wide))
		r.with(func(f *fakeRelay) { f.mute = true })
		begin := time.Now()
		_, err := m.CreateEntry(t.Context(), op1, request())
		wantCode(t, err, manager.CodeRelayRefused, "a relay that does not answer")
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("gave up after %s; want the relay timeout, 3 s", took)
		}
		if err := <-r.ended; !errors.Is(err, manager.ErrRelayStalled) {
			t.Errorf("its session: %v; want ErrRelayStalled", err)
		}
		if n, _ := m.store.CountEntries(t.Context()); n != 0 {
			t.Errorf("%d entries; want none", n)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		r := attach(t, m.Service, outerRelay("outer1", wide))
		r.with(func(f *fakeRelay) { f.mute = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.CreateEntry(ctx, op1, request()); err == nil {
			t.Error("an entry without the relay's answer")
		}
		synctest.Wait()
		if n, _ := m.store.CountEntries(t.Context()); n != 0 || len(r.openPorts()) != 0 {
			t.Errorf("%d entries, ports %v; want neither: the caller is gone", n, r.openPorts())
		}
		select {
		case err := <-r.ended:
			t.Errorf("the relay's session ended (%v) although the caller gave up first", err)
		default:
		}
	})
}
