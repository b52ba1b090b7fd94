package datapath

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
)

// shards bounds what a change costs: it copies one shard, a thousandth of the table.
const shards = 1 << 10

// shardOf spreads x over the shards (Fibonacci hashing).
func shardOf(x uint64) uint { return uint(x * 0x9e3779b97f4a7c15 >> 54) }

type tableKey interface {
	comparable
	shard() uint
}

// table maps keys to sessions. Readers see an immutable map per shard; writers,
// which hold sessions.mu, replace it.
type table[K tableKey] struct {
	shards [shards]atomic.Pointer[map[K]*session]
}

func (t *table[K]) lookup(k K) *session {
	if m := t.shards[k.shard()].Load(); m != nil {
		return (*m)[k]
	}
	return nil
}

func (t *table[K]) put(k K, s *session) {
	old := t.shards[k.shard()].Load()
	m := make(map[K]*session, 1)
	if old != nil {
		m = make(map[K]*session, len(*old)+1)
		for k, s := range *old {
			m[k] = s
		}
	}
	m[k] = s
	t.shards[k.shard()].Store(&m)
}

func (t *table[K]) remove(k K) {
	old := t.shards[k.shard()].Load()
	if old == nil {
		return
	}
	m := make(map[K]*session, len(*old))
	for o, s := range *old {
		if o != k {
			m[o] = s
		}
	}
	if len(m) == 0 {
		t.shards[k.shard()].Store(nil)
		return
	}
	t.shards[k.shard()].Store(&m)
}

// teidKey is a local TEID.
type teidKey ident.TEID

func (k teidKey) shard() uint { return shardOf(uint64(k)) }

// ueKey is an IPv4 address in its IPv4-mapped form or the upper half of an IPv6
// prefix of 64 bits; the two cannot be equal, since a mapped address has an upper
// half of zero and a low half that is not.
type ueKey struct{ hi, lo uint64 }

func (k ueKey) shard() uint { return shardOf(k.hi ^ k.lo) }

func keyV4(b []byte) ueKey {
	return ueKey{lo: 0xffff<<32 | uint64(binary.BigEndian.Uint32(b))}
}

func keyV6(b []byte) ueKey { return ueKey{hi: binary.BigEndian.Uint64(b)} }

// keysOf returns the table keys of a; ok is false for a prefix that is not a /64.
func keysOf(a ident.UEAddress) (keys []ueKey, ok bool) {
	if a.V4.IsValid() {
		v4 := a.V4.Unmap()
		if !v4.Is4() {
			return nil, false
		}
		keys = append(keys, keyV4(v4.AsSlice()))
	}
	if a.V6.IsValid() {
		if a.V6.Bits() != 64 || !a.V6.Addr().Is6() {
			return nil, false
		}
		keys = append(keys, keyV6(a.V6.Addr().AsSlice()))
	}
	return keys, true
}

// Offsets in IP headers.
const (
	v4MinHeader = 20
	v4Source    = 12
	v4Dest      = 16
	v6MinHeader = 40
	v6Source    = 8
	v6Dest      = 24
)

// addresses returns the keys of a packet's source and destination; ok is false if
// it is not IP.
func addresses(p []byte) (src, dst ueKey, ok bool) {
	if len(p) < v4MinHeader {
		return src, dst, false
	}
	switch p[0] >> 4 {
	case 4:
		return keyV4(p[v4Source:]), keyV4(p[v4Dest:]), true
	case 6:
		if len(p) < v6MinHeader {
			return src, dst, false
		}
		return keyV6(p[v6Source:]), keyV6(p[v6Dest:]), true
	}
	return src, dst, false
}

// outerAddr is the destination of a tunnel.
func outerAddr(t ident.FTEID, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(t.Addr.Unmap(), port)
}
