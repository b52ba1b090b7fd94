package datapath

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/tuntest"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

func TestApplyRefusesAndChangesNothing(t *testing.T) {
	r, n6 := oneNetwork(t)
	r.apply(basic())
	second := func(change func(*Session)) Session {
		s := basic()
		s.ID = 2
		s.PDRs[0].TEID = 0x101
		for i := range s.PDRs {
			s.PDRs[i].UE.V4 = netip.MustParseAddr("10.60.0.3")
		}
		change(&s)
		return s
	}
	for name, tt := range map[string]struct {
		change func(*Session)
		want   error
	}{
		"TEID of another session":      {func(s *Session) { s.PDRs[0].TEID = upTEID }, ErrTEIDInUse},
		"address of another session":   {func(s *Session) { s.PDRs[1].UE.V4 = ueAddr }, ErrAddressInUse},
		"unknown network, downlink":    {func(s *Session) { s.PDRs[1].Network = "x" }, ErrNoNetwork},
		"unknown network, uplink":      {func(s *Session) { s.PDRs[0].Network = "x" }, ErrNoNetwork},
		"no FAR":                       {func(s *Session) { s.PDRs[0].FAR = 9 }, ErrInvalidRules},
		"no QER":                       {func(s *Session) { s.PDRs[0].QERs = []uint32{9} }, ErrInvalidRules},
		"no URR":                       {func(s *Session) { s.PDRs[0].URRs = []uint32{9} }, ErrInvalidRules},
		"uplink without TEID":          {func(s *Session) { s.PDRs[0].TEID = 0 }, ErrInvalidRules},
		"downlink without UE address":  {func(s *Session) { s.PDRs[1].UE = ident.UEAddress{} }, ErrInvalidRules},
		"downlink without outer":       {func(s *Session) { s.FARs[1].Outer = ident.FTEID{} }, ErrInvalidRules},
		"IPv6 prefix other than a /64": {func(s *Session) { s.PDRs[1].UE.V6 = netip.MustParsePrefix("fd00::/56") }, ErrInvalidRules},
	} {
		if _, err := r.Apply(second(tt.change)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	bad := basic()
	bad.FARs[1].Outer.TEID = 0x777
	bad.PDRs[0].FAR = 9
	if _, err := r.Apply(bad); !errors.Is(err, ErrInvalidRules) {
		t.Errorf("bad modification: %v", err)
	}
	writeOne(t, n6, ipPacket(dnAddr, ueAddr, 8))
	if h, _, _ := gtpu.Parse(r.down()); h.TEID != downTEID {
		t.Errorf("session 1 now sends to TEID %#x, want %#x: a refused change took hold", h.TEID, downTEID)
	}
	if n := r.Status().Sessions; n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	// What the refused ones named is free.
	r.apply(second(func(*Session) {}))
}

func TestApplyReplacesKeysAndKeepsCounts(t *testing.T) {
	r, n6 := oneNetwork(t)
	r.apply(basic())
	p := ipPacket(ueAddr, dnAddr, 80)
	r.up(gpdu(upTEID, 9, p))
	readOne(t, n6)

	moved := basic()
	moved.PDRs[0].TEID = 0x555
	addr := netip.MustParseAddr("10.60.0.44")
	moved.PDRs[0].UE.V4, moved.PDRs[1].UE.V4 = addr, addr
	r.apply(moved)
	r.up(gpdu(0x555, 9, ipPacket(addr, dnAddr, 80)))
	readOne(t, n6)
	r.up(gpdu(upTEID, 9, p)) // the old tunnel is gone
	h, payload, err := gtpu.Parse(r.down())
	if err != nil || h.Type != gtpu.ErrorIndication {
		t.Fatalf("got %v, %v, want an Error Indication", h.Type, err)
	}
	if peer, err := gtpu.DecodeErrorIndication(payload); err != nil || peer != (ident.FTEID{Addr: upfAddr, TEID: upTEID}) {
		t.Errorf("Error Indication names %v, %v, want our old end", peer, err)
	}

	want := map[uint32]Usage{1: {UplinkBytes: 200, UplinkPackets: 2}}
	if got, err := r.Usage(1); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("usage %v, %v, want %v", got, err, want)
	}
	without := moved
	without.URRs = []URR{{ID: 2}}
	for i := range without.PDRs {
		without.PDRs[i].URRs = []uint32{2}
	}
	if got, err := r.Apply(without); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("removed URR %v, %v, want %v", got, err, want)
	}
	got, err := r.Remove(1)
	if err != nil || cmp.Diff(map[uint32]Usage{2: {}}, got) != "" {
		t.Errorf("remove %v, %v", got, err)
	}
	if _, err := r.Remove(1); !errors.Is(err, ErrNoSession) {
		t.Errorf("second remove: %v, want ErrNoSession", err)
	}
	if _, err := r.Usage(1); !errors.Is(err, ErrNoSession) {
		t.Errorf("usage after remove: %v, want ErrNoSession", err)
	}
}

func TestManySessionsComeAndGo(t *testing.T) {
	a, _ := tuntest.NewPair(1456)
	r := newRig(t, map[ident.DNN]tun.Device{"internet": a})
	const n = 10_000
	for i := range n {
		r.apply(numbered(i))
	}
	for i := range n {
		s := r.sessions.byTEID.lookup(teidKey(0x1000 + i))
		if s == nil || s.id != ident.SEID(i+1) {
			t.Fatalf("TEID of session %d leads to %v", i+1, s)
		}
		if s = r.n6["internet"].byUE.lookup(keyV4(numberedAddr(i).AsSlice())); s == nil || s.id != ident.SEID(i+1) {
			t.Fatalf("address of session %d leads to %v", i+1, s)
		}
	}
	most := 0
	for i := range r.sessions.byTEID.shards {
		if m := r.sessions.byTEID.shards[i].Load(); m != nil {
			most = max(most, len(*m))
		}
	}
	if most > 64 {
		t.Errorf("a shard has %d of %d sessions: badly spread", most, n)
	}
	for i := range n {
		if _, err := r.Remove(ident.SEID(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range r.sessions.byTEID.shards {
		if r.sessions.byTEID.shards[i].Load() != nil || r.n6["internet"].byUE.shards[i].Load() != nil {
			t.Fatal("tables are not empty after the last session")
		}
	}
}

func numberedAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// numbered is basic with numbers of its own.
func numbered(i int) Session {
	s := basic()
	s.ID = ident.SEID(i + 1)
	s.PDRs[0].TEID = ident.TEID(0x1000 + i)
	s.FARs[1].Outer.TEID = ident.TEID(0x100000 + i)
	for k := range s.PDRs {
		s.PDRs[k].UE.V4 = numberedAddr(i)
	}
	return s
}

func BenchmarkApplyAmong10000(b *testing.B) {
	a, _ := tuntest.NewPair(1456)
	p := benchPlain(b, a)
	for i := range 10_000 {
		if _, err := p.Apply(numbered(i)); err != nil {
			b.Fatal(err)
		}
	}
	s := numbered(10_001)
	b.ReportAllocs()
	for b.Loop() {
		p.Apply(s)
		p.Remove(s.ID)
	}
}
