package manager_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/manager"
)

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, t := range texts {
		ps = append(ps, netip.MustParsePrefix(t))
	}
	return ps
}

// Each policy's distribution over 3,000 choices (R5). A share of a third is off by more
// than 150 less than once in ten thousand runs: the deviation is 26.
func TestPolicies(t *testing.T) {
	const n = 3000
	east := netip.MustParseAddr("198.51.100.7")
	fleet := []manager.RelayStatus{
		{ID: "a", Region: "east", Live: 5, Rate: 100},
		{ID: "b", Region: "east", Live: 3, Rate: 900},
		{ID: "c", Region: "west", Live: 3, Rate: 100},
	}
	regions := []manager.RegionConfig{
		{Region: "west", Prefixes: prefixes("198.0.0.0/8", "2001:db8::/32")},
		{Region: "east", Prefixes: prefixes("198.51.100.0/24")},
		{Region: "north", Prefixes: prefixes("203.0.113.0/24")},
	}
	carriers := []manager.CarrierConfig{
		{Name: "large", Prefixes: prefixes("198.51.0.0/16"), Relays: []manager.RelayID{"a", "b", "c"}},
		{Name: "small", Prefixes: prefixes("198.51.100.0/24"), Relays: []manager.RelayID{"a", "c", "away"}},
		{Name: "none here", Prefixes: prefixes("203.0.113.0/24"), Relays: []manager.RelayID{"away"}},
	}
	all := map[string]int{"a": n / 3, "b": n / 3, "c": n / 3}
	for _, c := range []struct {
		why, policy string
		caller      netip.Addr
		hint        manager.CreateRequest
		want        map[string]int
	}{
		{why: "any", policy: "random", caller: east, want: all},
		{why: "any without a name", caller: east, want: all},
		{why: "the longest prefix says east", policy: "region", caller: east, want: map[string]int{"a": n / 2, "b": n / 2}},
		{why: "a shorter one says west", policy: "region", caller: netip.MustParseAddr("198.18.0.1"), want: map[string]int{"c": n}},
		{why: "a mapped address is an IPv4 one", policy: "region", caller: netip.MustParseAddr("::ffff:198.18.0.1"), want: map[string]int{"c": n}},
		{why: "IPv6", policy: "region", caller: netip.MustParseAddr("2001:db8::1"), want: map[string]int{"c": n}},
		{why: "no relay in the region: any", policy: "region", caller: netip.MustParseAddr("203.0.113.1"), want: all},
		{why: "in no region: any", policy: "region", caller: netip.MustParseAddr("192.0.2.1"), want: all},
		{why: "no address: any", policy: "region", want: all},
		{why: "relays of the carrier", policy: "operator", caller: east, want: map[string]int{"a": n / 2, "c": n / 2}},
		{why: "carrier without relays here: any", policy: "operator", caller: netip.MustParseAddr("203.0.113.1"), want: all},
		{why: "fewest clients", policy: "least-clients", caller: east, want: map[string]int{"b": n / 2, "c": n / 2}},
		{why: "least traffic", policy: "least-traffic", caller: east, want: map[string]int{"a": n / 2, "c": n / 2}},
		{why: "a hint at a relay", policy: "least-clients", caller: east, hint: manager.CreateRequest{RelayHint: "a"}, want: map[string]int{"a": n}},
		{why: "a hint at a relay that is not there", policy: "least-clients", hint: manager.CreateRequest{RelayHint: "x"}, want: map[string]int{"b": n / 2, "c": n / 2}},
		{why: "a hint at a region, the policy within it", policy: "least-clients", hint: manager.CreateRequest{RegionHint: "east"}, want: map[string]int{"b": n}},
		{why: "a hint at a region without relays", policy: "random", hint: manager.CreateRequest{RegionHint: "south"}, want: all},
	} {
		t.Run(fmt.Sprintf("%s: %s", c.policy, c.why), func(t *testing.T) {
			choose, err := manager.PolicyOf(manager.Config{Policy: c.policy, Regions: regions, Carriers: carriers})
			if err != nil {
				t.Fatal(err)
			}
			req := c.hint
			req.Caller = c.caller
			got := map[string]int{}
			for range n {
				got[string(fleet[choose(fleet, req)].ID)]++
			}
			for _, r := range fleet {
				if d := got[string(r.ID)] - c.want[string(r.ID)]; d < -150 || d > 150 {
					t.Errorf("chosen %v; want about %v", got, c.want)
					break
				}
			}
		})
	}
}

func TestPolicyConfig(t *testing.T) {
	for name, c := range map[string]manager.Config{
		"unknown":           {Policy: "best"},
		"host bits":         {Regions: []manager.RegionConfig{{Region: "r", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}},
		"a prefix twice":    {Regions: []manager.RegionConfig{{Region: "r", Prefixes: prefixes("192.0.2.0/24")}, {Region: "s", Prefixes: prefixes("192.0.2.0/24")}}},
		"no name":           {Regions: []manager.RegionConfig{{Prefixes: prefixes("192.0.2.0/24")}}},
		"no prefix":         {Carriers: []manager.CarrierConfig{{Name: "c", Prefixes: []netip.Prefix{{}}}}},
		"a mapped prefix":   {Carriers: []manager.CarrierConfig{{Name: "c", Prefixes: prefixes("::ffff:0:0/96")}}},
		"a heartbeat below": {Heartbeat: -1},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
