package manager

import "math/bits"

// portSet is a set of TCP ports. The zero value is empty.
type portSet [1 << 16 / 64]uint64

func (s *portSet) add(p uint16)      { s[p/64] |= 1 << (p % 64) }
func (s *portSet) remove(p uint16)   { s[p/64] &^= 1 << (p % 64) }
func (s *portSet) has(p uint16) bool { return s[p/64]&(1<<(p%64)) != 0 }

// drawFree returns a port of r that is not in s, each with the same chance and
// unpredictably (R6); false if there is none.
func (s *portSet) drawFree(r PortRange) (uint16, bool) {
	free := 0
	s.eachFree(r, func(_ int, word uint64) bool {
		free += bits.OnesCount64(word)
		return true
	})
	if free == 0 {
		return 0, false
	}
	n, port := drawInt(free), uint16(0)
	s.eachFree(r, func(i int, word uint64) bool {
		if c := bits.OnesCount64(word); n >= c {
			n -= c
			return true
		}
		for ; n > 0; n-- {
			word &= word - 1 // without its lowest port
		}
		port = uint16(i*64 + bits.TrailingZeros64(word))
		return false
	})
	return port, true
}

// eachFree calls f with the ports of r that are not in s, 64 at a time, until it
// returns false.
func (s *portSet) eachFree(r PortRange, f func(i int, word uint64) bool) {
	if r.Size() == 0 {
		return
	}
	first, last := int(r.First/64), int(r.Last/64)
	for i := first; i <= last; i++ {
		word := ^s[i]
		if i == first {
			word &= ^uint64(0) << (r.First % 64)
		}
		if i == last {
			word &= ^uint64(0) >> (63 - r.Last%64)
		}
		if word != 0 && !f(i, word) {
			return
		}
	}
}
