package manager_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/manager"
)

// One entry for several devices (R9b): each target has its own conditions on top of the
// entry's.
func TestTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		m.dir.set(imsi1, "upf1", "10.0.0.1")
		m.dir.set(imsi3, "upf2", "10.0.0.1") // the same address at another UPF
		outer := attach(t, m.Service, outerRelay("outer1", wide))
		attach(t, m.Service, innerRelay("inner1", "192.0.2.11:7001"))
		attach(t, m.Service, innerRelay("inner2", "192.0.2.12:7001"))
		minute := time.Minute
		e := create(t, m.Service, func(r *manager.CreateRequest) {
			*r = manager.CreateRequest{
				TLS: true, ProxyProtocol: true, Ranges: []string{"198.51.100.0/24", "2001:db8::/32"}, Caller: client,
				Targets: []manager.TargetRequest{
					{SIMID: sim1, Port: 22},
					{IMSI: imsi3, Port: 80, Duration: &minute, Ranges: []string{"198.51.0.0/16", "198.51.100.128/25", "203.0.113.0/24"}},
				},
			}
		})
		outer.with(func(f *fakeRelay) {
			if o := f.open[e.ID]; !o.Many || !o.TLS || o.IMSI != "" || o.DevicePort != 0 || o.OperatorID != op1 {
				t.Errorf("the relay was told %+v; want an entry for several devices", o)
			}
		})
		resolve := func(target string) (manager.Route, error) {
			return outer.Resolve(t.Context(), manager.ResolveRequest{ConnectionID: "c1", Hit: e.Address, Target: target})
		}
		for _, name := range []string{"imsi-" + imsi1 + ":22", sim1 + ":22"} {
			r, err := resolve(name)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if r.Ticket == "" {
				t.Errorf("%s: no ticket", name)
			}
			r.Ticket = ""
			want := manager.Route{
				EntryID: e.ID, ConnectionID: "c1", OperatorID: op1, IMSI: imsi1, SIMID: sim1, TLS: true, ProxyProtocol: true, Ranges: e.Ranges, Expires: e.Expires,
				Device: netip.MustParseAddrPort("10.0.0.1:22"), InnerID: "inner1", Inner: netip.MustParseAddrPort("192.0.2.11:7001"),
			}
			if d := cmp.Diff(want, r, cmpopts.EquateComparable(netip.Prefix{}, netip.AddrPort{})); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		}
		r, err := resolve("imsi-" + imsi3 + ":80")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(prefixes("198.51.100.0/24", "198.51.100.128/25"), r.Ranges, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Errorf("ranges that both allow (-want +got):\n%s", d)
		}
		if !r.Expires.Equal(e.Created.Add(minute)) || r.InnerID != "inner2" {
			t.Errorf("route %+v; want the target's expiry and inner relay", r)
		}
		for _, name := range []string{"", "imsi-" + imsi1 + ":80", "imsi-" + imsi2 + ":22", sim1, ":22", "imsi-:22", sim1 + ":65558", sim1 + ":-1"} {
			_, err := resolve(name)
			wantCode(t, err, manager.CodeConnUnknownTarget, "target "+name)
		}
		<-time.After(minute)
		_, err = resolve("imsi-" + imsi3 + ":80")
		wantCode(t, err, manager.CodeEntryExpired, "the target's own expiry")
		if _, err := resolve(sim1 + ":22"); err != nil {
			t.Errorf("the other target: %v", err)
		}
		one := create(t, m.Service)
		_, err = outer.Resolve(t.Context(), manager.ResolveRequest{Hit: one.Address, Target: sim1 + ":22"})
		wantCode(t, err, manager.CodeConnUnknownTarget, "a target on an entry for one device")
	})
}

func TestTargetsRefused(t *testing.T) {
	m := start(t, config())
	attach(t, m.Service, outerRelay("outer1", wide))
	two, long := 2*time.Second, 2*time.Hour
	good := manager.TargetRequest{IMSI: imsi1, Port: 22}
	for _, c := range []struct {
		why  string
		req  manager.CreateRequest
		want manager.Code
	}{
		{"without TLS", manager.CreateRequest{Targets: []manager.TargetRequest{good}}, manager.CodeTargetsNeedTLS},
		{"with a device of the entry", manager.CreateRequest{TLS: true, IMSI: imsi1, Targets: []manager.TargetRequest{good}}, manager.CodeTargetsAlone},
		{"another operator's", manager.CreateRequest{TLS: true, Targets: []manager.TargetRequest{good, {IMSI: imsi2, Port: 22}}}, manager.CodeUnknownSubscriber},
		{"no port", manager.CreateRequest{TLS: true, Targets: []manager.TargetRequest{{IMSI: imsi1}}}, manager.CodeBadPort},
		{"no device", manager.CreateRequest{TLS: true, Targets: []manager.TargetRequest{{Port: 1}}}, manager.CodeNoDestination},
		{"the same twice", manager.CreateRequest{TLS: true, Targets: []manager.TargetRequest{good, {SIMID: sim1, Port: 22}}}, manager.CodeTargetTwice},
		{"too many", manager.CreateRequest{TLS: true, Targets: make([]manager.TargetRequest, 101)}, manager.CodeTooManyTargets},
		{"longer than the entry", manager.CreateRequest{TLS: true, Duration: &two, Targets: []manager.TargetRequest{{IMSI: imsi1, Port: 22, Duration: &long}}}, manager.CodeBadDuration},
		{"a bad range", manager.CreateRequest{TLS: true, Targets: []manager.TargetRequest{{IMSI: imsi1, Port: 22, Ranges: []string{"x"}}}}, manager.CodeBadRanges},
		{"a credential without TLS", manager.CreateRequest{IMSI: imsi1, Port: 22, CredentialID: "c"}, manager.CodeCredentialNeedsTLS},
		{"an unknown credential", manager.CreateRequest{IMSI: imsi1, Port: 22, TLS: true, CredentialID: "c"}, manager.CodeUnknownCredential},
	} {
		c.req.Caller = client
		_, err := m.CreateEntry(t.Context(), op1, c.req)
		wantCode(t, err, c.want, c.why)
	}
}

// One request for several entries (R9a): all or none.
func TestCreateEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		outer := attach(t, m.Service, outerRelay("outer1", manager.PortRange{First: 40000, Last: 40003}))
		reqs := []manager.CreateRequest{request(), request(lasting(time.Minute)), request(func(r *manager.CreateRequest) { r.IMSI = imsi3 })}
		es, err := m.CreateEntries(t.Context(), op1, reqs)
		if err != nil || len(es) != 3 || es[2].IMSI != imsi3 || es[1].Duration() != time.Minute || es[0].Address == es[1].Address {
			t.Fatalf("CreateEntries = %+v, %v; want three entries in the order of the requests", es, err)
		}
		_, err = m.CreateEntries(t.Context(), op1, reqs)
		wantCode(t, err, manager.CodeNoFreePort, "one port for three")
		synctest.Wait()
		if n, _ := m.store.CountEntries(t.Context()); n != 3 {
			t.Errorf("%d entries; want those of the first request alone", n)
		}
		if n := len(outer.openPorts()); n != 3 {
			t.Errorf("%d ports open; want 3", n)
		}
		_, err = m.CreateEntries(t.Context(), op1, append(reqs, request(func(r *manager.CreateRequest) { r.IMSI = imsi2 })))
		wantCode(t, err, manager.CodeUnknownSubscriber, "one of them is another operator's")
		_, err = m.CreateEntries(t.Context(), op1, nil)
		wantCode(t, err, manager.CodeTooManyRequests, "none")
	})
}
