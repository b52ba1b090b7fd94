package smf

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/simreach/simreach/internal/ident"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// slowPool is the obvious version: a list of all addresses, longest free first.
type slowPool struct {
	free   []netip.Addr
	used   map[netip.Addr]ident.SUPI
	static map[netip.Addr]ident.SUPI
}

func newSlowPool(pools, reserved []netip.Prefix) *slowPool {
	s := &slowPool{used: map[netip.Addr]ident.SUPI{}, static: map[netip.Addr]ident.SUPI{}}
	for _, p := range pools {
		var all []netip.Addr
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			all = append(all, a)
		}
		if p.Bits() < 30 {
			all = all[2 : len(all)-1]
		}
		for _, a := range all {
			if !within(reserved, a) {
				s.free = append(s.free, a)
			}
		}
	}
	return s
}

func (s *slowPool) take(supi ident.SUPI) (netip.Addr, bool) {
	for i, a := range s.free {
		if _, ok := s.static[a]; !ok {
			s.free = slices.Delete(s.free, i, i+1)
			s.used[a] = supi
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (s *slowPool) release(a netip.Addr) {
	delete(s.used, a)
	if _, ok := s.static[a]; !ok {
		s.free = append(s.free, a)
	}
}

// TestPoolAgainstSlow runs both through the same random life.
func TestPoolAgainstSlow(t *testing.T) {
	pools := prefixes("10.0.0.0/28", "10.0.1.0/30", "10.0.2.0/27", "10.0.3.7/32")
	reserved := prefixes("10.0.0.8/30", "10.0.2.16/28", "10.9.0.0/24")
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, s := newPool(pools, reserved), newSlowPool(pools, reserved)
		var held []netip.Addr
		for i := range 3000 {
			who := supi(r.IntN(1000))
			switch r.IntN(10) {
			case 0, 1, 2, 3:
				if len(held) > 0 {
					k := r.IntN(len(held))
					a := held[k]
					held = slices.Delete(held, k, k+1)
					p.release(a)
					s.release(a)
				}
			case 4: // a subscription with a static address shows up
				a := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))})
				owner, owned := s.static[a]
				_, used := s.used[a]
				want := (!owned || owner == who) && !used
				if used && s.used[a] == who {
					continue // the same UE twice: see TestStaticTwice
				}
				if !owned {
					s.static[a] = who
				}
				if got := p.takeStatic(who, a); got != want {
					t.Fatalf("seed %d step %d: takeStatic(%s, %s) = %t, want %t", seed, i, who, a, got, want)
				}
				if want {
					s.used[a] = who
					s.free = slices.DeleteFunc(s.free, func(f netip.Addr) bool { return f == a })
					held = append(held, a)
				}
			default:
				got, ok := p.take(who)
				want, wantOK := s.take(who)
				if got != want || ok != wantOK {
					t.Fatalf("seed %d step %d: got %s %t, want %s %t", seed, i, got, ok, want, wantOK)
				}
				if ok {
					held = append(held, got)
				}
			}
			if len(p.used) != len(s.used) {
				t.Fatalf("seed %d step %d: got %d in use, want %d", seed, i, len(p.used), len(s.used))
			}
		}
	}
}

// TestPoolRests: an address comes back only after all others were used.
func TestPoolRests(t *testing.T) {
	p := newPool(prefixes("10.0.0.0/24"), nil)
	first, _ := p.take("imsi-000001")
	p.release(first)
	for i := range 252 {
		a, ok := p.take("imsi-000001")
		if !ok || a == first {
			t.Fatalf("take %d: got %s %t, want another address", i, a, ok)
		}
		p.release(a)
	}
	if a, _ := p.take("imsi-000001"); a != first {
		t.Errorf("got %s, want %s, which rested longest", a, first)
	}
}

func TestStaticTwice(t *testing.T) {
	p := newPool(prefixes("10.0.0.0/24"), prefixes("10.9.0.0/24"))
	a := netip.MustParseAddr("10.9.0.5")
	for range 2 {
		if !p.takeStatic(supi(1), a) {
			t.Fatal("want the UE to have its address twice for a moment")
		}
	}
	p.release(a)
	if p.takeStatic(supi(2), a) {
		t.Error("another UE got a static address")
	}
	p.release(a)
	p.release(a)
	if len(p.used) != 0 {
		t.Errorf("got %d in use, want 0", len(p.used))
	}
	if p.takeStatic(supi(1), netip.MustParseAddr("192.0.2.1")) {
		t.Error("got an address of no pool")
	}
}

// TestLargePool: filling and emptying part of a /10 does not walk it.
func TestLargePool(t *testing.T) {
	p := newPool(prefixes("100.64.0.0/10"), prefixes("100.64.0.0/11"))
	seen := map[netip.Addr]bool{}
	for range 100_000 {
		a, ok := p.take("imsi-000001")
		if !ok || seen[a] || netip.MustParsePrefix("100.64.0.0/11").Contains(a) {
			t.Fatalf("got %s %t, want a fresh address outside the reserved half", a, ok)
		}
		seen[a] = true
	}
	for a := range seen {
		p.release(a)
	}
	if len(p.used) != 0 {
		t.Errorf("got %d in use, want 0", len(p.used))
	}
}

func BenchmarkPool(b *testing.B) {
	p := newPool(prefixes("100.64.0.0/10"), nil)
	for range 1_000_000 {
		p.take("imsi-000001")
	}
	b.ReportAllocs()
	for b.Loop() {
		a, _ := p.take("imsi-000001")
		p.release(a)
	}
}
