package smf

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/simreach/simreach/internal/ident"
)

// pool gives out UE addresses of one UPF and DNN. Addresses are taken in order
// until each has been used once, then the one that has been free longest is next:
// so an address rests as long as the pool allows before somebody else gets it, and
// a late packet or connection for its last holder does not reach a stranger.
// Taking and returning cost the same in a /28 and in a /10; memory grows with the
// addresses that have been used. It is not safe for concurrent use.
type pool struct {
	prefixes []netip.Prefix
	reserved []netip.Prefix

	span  int    // prefix that the cursor is in
	next  uint32 // next fresh address in it, as an offset
	freed fifo   // used before, free now

	used   map[netip.Addr]holder
	static map[netip.Addr]ident.SUPI // addresses that belong to a subscription
}

// holder of an address: the same UE may hold its static address twice for a
// moment, while an old session is being removed and its successor set up.
type holder struct {
	supi ident.SUPI
	n    int
}

func newPool(prefixes, reserved []netip.Prefix) *pool {
	return &pool{
		prefixes: slices.Clone(prefixes), reserved: slices.Clone(reserved),
		used: map[netip.Addr]holder{}, static: map[netip.Addr]ident.SUPI{},
	}
}

// bounds returns the first and last offset of p that may be given out.
func bounds(p netip.Prefix) (first, last uint32) {
	last = uint32(1)<<(32-p.Bits()) - 1
	if p.Bits() >= 30 {
		return 0, last
	}
	return 2, last - 1
}

func addrAt(p netip.Prefix, offset uint32) netip.Addr {
	b := p.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+offset)
	return netip.AddrFrom4(b)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// take returns a dynamic address, false when there is none.
func (p *pool) take(supi ident.SUPI) (netip.Addr, bool) {
	for p.span < len(p.prefixes) {
		prefix := p.prefixes[p.span]
		first, last := bounds(prefix)
		for off := max(p.next, first); off <= last; off++ {
			a := addrAt(prefix, off)
			if r := slices.IndexFunc(p.reserved, func(r netip.Prefix) bool { return r.Contains(a) }); r >= 0 {
				off = p.skip(prefix, p.reserved[r])
				continue
			}
			p.next = off + 1
			if p.give(a, supi) {
				return a, true
			}
		}
		p.span, p.next = p.span+1, 0
	}
	for {
		a, ok := p.freed.pop()
		if !ok {
			return netip.Addr{}, false
		}
		if p.give(a, supi) {
			return a, true
		}
	}
}

// skip returns the offset in prefix of the last address of r, so that a large
// reserved range costs one step.
func (p *pool) skip(prefix, r netip.Prefix) uint32 {
	if r.Bits() <= prefix.Bits() {
		_, last := bounds(prefix)
		return last
	}
	b, r4 := prefix.Addr().As4(), r.Masked().Addr().As4()
	return binary.BigEndian.Uint32(r4[:]) - binary.BigEndian.Uint32(b[:]) + uint32(1)<<(32-r.Bits()) - 1
}

// give hands a to supi unless it is in use or belongs to a subscription.
func (p *pool) give(a netip.Addr, supi ident.SUPI) bool {
	if _, used := p.used[a]; used {
		return false
	}
	if _, static := p.static[a]; static {
		return false
	}
	p.used[a] = holder{supi, 1}
	return true
}

// takeStatic gives supi the address of its subscription. It is false when the
// address is in no pool or reserved range, belongs to another subscription, or
// was given to another UE before it was known to be static.
func (p *pool) takeStatic(supi ident.SUPI, a netip.Addr) bool {
	if !within(p.prefixes, a) && !within(p.reserved, a) {
		return false
	}
	if owner, ok := p.static[a]; ok && owner != supi {
		return false
	}
	p.static[a] = supi
	h := p.used[a]
	if h.n > 0 && h.supi != supi {
		return false
	}
	p.used[a] = holder{supi, h.n + 1}
	return true
}

// release returns an address.
func (p *pool) release(a netip.Addr) {
	h, ok := p.used[a]
	if !ok {
		return
	}
	if h.n > 1 {
		p.used[a] = holder{h.supi, h.n - 1}
		return
	}
	delete(p.used, a)
	if _, static := p.static[a]; !static {
		p.freed.push(a)
	}
}

// fifo is a queue of addresses on a slice that it reuses.
type fifo struct {
	items []netip.Addr
	head  int
}

func (f *fifo) push(a netip.Addr) {
	if f.head > 64 && f.head > len(f.items)/2 {
		f.items = f.items[:copy(f.items, f.items[f.head:])]
		f.head = 0
	}
	f.items = append(f.items, a)
}

func (f *fifo) pop() (netip.Addr, bool) {
	if f.head == len(f.items) {
		return netip.Addr{}, false
	}
	a := f.items[f.head]
	f.head++
	return a, true
}
