package manager

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// Policy chooses the outer relay of a new entry (R5).
type Policy interface {
	// Choose returns the index of one of the candidates, of which there is at
	// least one.
	Choose(candidates []RelayStatus, req CreateRequest) int
}

// newPolicy returns the policy that a configuration names, or what is wrong with that
// part of it.
func newPolicy(c Config) (Policy, error) {
	regions, carriers := prefixTable[string]{}, prefixTable[map[RelayID]bool]{}
	for _, r := range c.Regions {
		if r.Region == "" {
			return nil, errors.New("regions: a region has no name")
		}
		for _, p := range r.Prefixes {
			if err := regions.add(p, r.Region); err != nil {
				return nil, fmt.Errorf("region %s: %w", r.Region, err)
			}
		}
	}
	for _, o := range c.Carriers {
		relays := map[RelayID]bool{}
		for _, id := range o.Relays {
			relays[id] = true
		}
		for _, p := range o.Prefixes {
			if err := carriers.add(p, relays); err != nil {
				return nil, fmt.Errorf("carrier %s: %w", o.Name, err)
			}
		}
	}
	switch c.Policy {
	case "", "random":
		return randomPolicy{}, nil
	case "region":
		return regionPolicy{regions}, nil
	case "operator":
		return carrierPolicy{carriers}, nil
	case "least-clients":
		return leastPolicy(func(r RelayStatus) uint64 { return uint64(max(r.Live, 0)) }), nil
	case "least-traffic":
		return leastPolicy(func(r RelayStatus) uint64 { return r.Rate }), nil
	}
	return nil, fmt.Errorf("policy %q: want random, region, operator, least-clients or least-traffic", c.Policy)
}

// chooseRelay returns the index of a candidate: the one that the request hints at, else
// the policy's, among those of the region that it hints at if there are any.
func chooseRelay(p Policy, candidates []RelayStatus, req CreateRequest) int {
	if req.RelayHint != "" {
		if i := slices.IndexFunc(candidates, func(r RelayStatus) bool { return string(r.ID) == req.RelayHint }); i >= 0 {
			return i
		}
	}
	if req.RegionHint == "" {
		return p.Choose(candidates, req)
	}
	return among(candidates, func(r RelayStatus) bool { return r.Region == req.RegionHint }, func(some []RelayStatus) int { return p.Choose(some, req) })
}

// among has choose choose from the candidates that fit, or from all if none does.
func among(candidates []RelayStatus, fits func(RelayStatus) bool, choose func([]RelayStatus) int) int {
	var some []RelayStatus
	var at []int
	for i, r := range candidates {
		if fits(r) {
			some, at = append(some, r), append(at, i)
		}
	}
	if len(some) == 0 {
		return choose(candidates)
	}
	return at[choose(some)]
}

func anyOf(candidates []RelayStatus) int { return drawInt(len(candidates)) }

type randomPolicy struct{}

func (randomPolicy) Choose(candidates []RelayStatus, _ CreateRequest) int { return anyOf(candidates) }

// regionPolicy takes a random relay of the client's region.
type regionPolicy struct{ regions prefixTable[string] }

func (p regionPolicy) Choose(candidates []RelayStatus, req CreateRequest) int {
	region, ok := p.regions.find(req.Caller)
	return among(candidates, func(r RelayStatus) bool { return ok && r.Region == region }, anyOf)
}

// carrierPolicy takes a random one of the relays that serve the client's carrier.
type carrierPolicy struct {
	carriers prefixTable[map[RelayID]bool]
}

func (p carrierPolicy) Choose(candidates []RelayStatus, req CreateRequest) int {
	relays, _ := p.carriers.find(req.Caller)
	return among(candidates, func(r RelayStatus) bool { return relays[r.ID] }, anyOf)
}

// leastPolicy takes a random one of the relays for which it returns the least.
type leastPolicy func(RelayStatus) uint64

func (load leastPolicy) Choose(candidates []RelayStatus, _ CreateRequest) int {
	least := load(slices.MinFunc(candidates, func(a, b RelayStatus) int { return cmp.Compare(load(a), load(b)) }))
	return among(candidates, func(r RelayStatus) bool { return load(r) == least }, anyOf)
}

// prefixTable finds what belongs to the longest prefix that an address has. The zero
// table is ready to be used.
type prefixTable[T any] map[netip.Prefix]T

func (t prefixTable[T]) add(p netip.Prefix, v T) error {
	if !p.IsValid() || p.Masked() != p || p.Addr().Is4In6() {
		return fmt.Errorf("prefix %s: want an address without bits beyond the length", p)
	}
	if _, ok := t[p]; ok {
		return fmt.Errorf("prefix %s: given twice", p)
	}
	t[p] = v
	return nil
}

func (t prefixTable[T]) find(a netip.Addr) (v T, ok bool) {
	a = a.Unmap().WithZone("")
	for bits := a.BitLen(); bits >= 0 && a.IsValid(); bits-- {
		p, err := a.Prefix(bits)
		if err != nil {
			return v, false
		}
		if v, ok := t[p]; ok {
			return v, true
		}
	}
	return v, false
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
