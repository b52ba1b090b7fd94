package manager

import "testing"

// Against counting one by one: all free ports come, none else, and none much more often.
func TestDrawFree(t *testing.T) {
	for _, r := range []PortRange{{1, 1}, {65535, 65535}, {60, 70}, {64, 127}, {63, 64}, {40000, 40199}, {2, 1}} {
		var taken portSet
		free := map[uint16]int{}
		for p := int(r.First); p <= int(r.Last); p++ {
			if p%3 == 0 {
				taken.add(uint16(p))
			} else {
				free[uint16(p)] = 0
			}
		}
		taken.add(r.First - 1) // beside the range: no matter
		const each = 300
		for range each * len(free) {
			p, ok := taken.drawFree(r)
			if _, is := free[p]; !ok || !is {
				t.Fatalf("%v: drew %d, %t", r, p, ok)
			}
			free[p]++
		}
		for p, n := range free {
			if n < each/2 || n > each*2 { // ten deviations
				t.Errorf("%v: port %d came %d times; want about %d", r, p, n, each)
			}
			taken.add(p)
		}
		if p, ok := taken.drawFree(r); ok {
			t.Errorf("%v: drew %d of none", r, p)
		}
		for p := range free {
			taken.remove(p)
			if got, ok := taken.drawFree(r); !ok || got != p || taken.has(p) {
				t.Errorf("%v: drew %d, %t; want %d, the only one", r, got, ok, p)
			}
			break
		}
	}
}
