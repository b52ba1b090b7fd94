package manager

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
)

// Policy chooses the outer relay of a new entry (R5).
type Policy interface {
	// Choose returns the index of one of the candidates, of which there is at
	// least one.
	Choose(candidates []RelayStatus, req CreateRequest) int
}

func newPolicy(name string) (Policy, error) {
	switch name {
	case "", "random":
		return randomPolicy{}, nil
	}
	return nil, fmt.Errorf("policy %q: want random", name)
}

type randomPolicy struct{}

func (randomPolicy) Choose(candidates []RelayStatus, _ CreateRequest) int {
	return drawInt(len(candidates))
}

// drawInt returns a number from 0 to n-1, uniform and unpredictable; n is at least 1.
func drawInt(n int) int {
	// Numbers from the incomplete last run of n would favour the small ones.
	limit := math.MaxUint64 - math.MaxUint64%uint64(n)
	for {
		var b [8]byte
		rand.Read(b[:]) // never fails (crypto/rand)
		if v := binary.NativeEndian.Uint64(b[:]); v < limit {
			return int(v % uint64(n))
		}
	}
}

// drawPort returns a port of r (R6).
func drawPort(r PortRange) uint16 { return r.First + uint16(drawInt(r.Size())) }

// drawFreePort returns a port of r that is not in taken, uniformly; false if
// there is none. taken is in ascending order.
func drawFreePort(r PortRange, taken []uint16) (uint16, bool) {
	used := make(map[uint16]bool, len(taken))
	for _, p := range taken {
		if r.Contains(p) {
			used[p] = true
		}
	}
	free := r.Size() - len(used)
	if free <= 0 {
		return 0, false
	}
	n := drawInt(free)
	for p := int(r.First); p <= int(r.Last); p++ {
		if used[uint16(p)] {
			continue
		}
		if n == 0 {
			return uint16(p), true
		}
		n--
	}
	return 0, false
}
