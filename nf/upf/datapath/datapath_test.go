package datapath

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/tuntest"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

func TestUplinkDecapsulates(t *testing.T) {
	r, n6 := oneNetwork(t)
	r.apply(basic())
	want := ipPacket(ueAddr, dnAddr, 100)
	plain := gtpu.Header{Type: gtpu.GPDU, TEID: upTEID}
	sequenced := gtpu.Header{Type: gtpu.GPDU, TEID: upTEID, HasSequence: true, Sequence: 3}
	for name, h := range map[string]gtpu.Header{
		"with QFI":             {Type: gtpu.GPDU, TEID: upTEID, HasQFI: true, QFI: 9, Uplink: true},
		"without container":    plain,
		"with sequence number": sequenced,
	} {
		b := make([]byte, h.Size()+len(want))
		copy(b[h.Put(b, len(want)):], want)
		r.up(b)
		if got := readOne(t, n6); !bytes.Equal(got, want) {
			t.Errorf("%s: N6 got % x, want the packet as it was", name, got)
		}
	}
	r.barrier()
	if c := r.counters(); c.UplinkPackets != 3 || c.UplinkBytes != 360 {
		t.Errorf("counted %d packets, %d bytes, want 3 and 360", c.UplinkPackets, c.UplinkBytes)
	}
}

func TestDownlinkEncapsulates(t *testing.T) {
	r, n6 := oneNetwork(t)
	r.apply(basic())
	want := ipPacket(dnAddr, ueAddr, 100)
	writeOne(t, n6, want)
	h, got, err := gtpu.Parse(r.down())
	if err != nil {
		t.Fatal(err)
	}
	if w := (gtpu.Header{Type: gtpu.GPDU, TEID: downTEID, HasQFI: true, QFI: 9}); h != w || !bytes.Equal(got, want) {
		t.Errorf("gNB got %+v % x, want %+v and the packet as it was", h, got, w)
	}

	// Without a QER there is no QFI and thus no container: peers that know no
	// extension headers can be served.
	s := basic()
	s.PDRs[1].QERs = nil
	r.apply(s)
	writeOne(t, n6, want)
	h, got, err = gtpu.Parse(r.down())
	if w := (gtpu.Header{Type: gtpu.GPDU, TEID: downTEID}); err != nil || h != w || !bytes.Equal(got, want) {
		t.Errorf("gNB got %+v %v, want %+v and the packet as it was", h, err, w)
	}
}

func TestUplinkDrops(t *testing.T) {
	stranger := netip.MustParseAddr("10.60.0.66")
	ok := ipPacket(ueAddr, dnAddr, 8)
	tests := []struct {
		name   string
		change func(*Session)
		in     []byte
		count  func(Counters) uint64
	}{
		{"not GTP", nil, []byte("hello"), func(c Counters) uint64 { return c.Malformed }},
		{"cut off", nil, gpdu(upTEID, 9, ok)[:20], func(c Counters) uint64 { return c.Malformed }},
		{"not IP inside", nil, gpdu(upTEID, 9, bytes.Repeat([]byte{0x99}, 40)), func(c Counters) uint64 { return c.Malformed }},
		{"empty G-PDU", nil, gpdu(upTEID, 9, nil), func(c Counters) uint64 { return c.Malformed }},
		{"malformed Error Indication", nil, []byte{0x32, 26, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0}, func(c Counters) uint64 { return c.Malformed }},
		{"unknown message type", nil, []byte{0x30, 99, 0, 0, 0, 0, 0, 0}, func(c Counters) uint64 { return c.UnknownMessage }},
		{"TEID zero is not even answered", nil, gpdu(0, 9, ok), func(c Counters) uint64 { return c.UnknownTEID - c.ErrorIndicationsSent }},
		{"unknown TEID, whatever is inside", nil, gpdu(0x999, 9, []byte("no IP")), func(c Counters) uint64 { return c.UnknownTEID * c.ErrorIndicationsSent }},
		{"spoofed source", nil, gpdu(upTEID, 9, ipPacket(stranger, dnAddr, 8)), func(c Counters) uint64 { return c.Spoofed }},
		{"spoofed source, address only in the downlink PDR", func(s *Session) { s.PDRs[0].UE = ident.UEAddress{} },
			gpdu(upTEID, 9, ipPacket(stranger, dnAddr, 8)), func(c Counters) uint64 { return c.Spoofed }},
		{"spoofed source, IPv6", nil, gpdu(upTEID, 9, ipPacket(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 8)), func(c Counters) uint64 { return c.Spoofed }},
		{"QFI of no PDR", func(s *Session) { s.PDRs[0].HasQFI, s.PDRs[0].QFI = true, 5 }, gpdu(upTEID, 9, ok), func(c Counters) uint64 { return c.NoRule }},
		{"FAR drop", func(s *Session) { s.FARs[0].Action = Drop }, gpdu(upTEID, 9, ok), func(c Counters) uint64 { return c.ActionDrop }},
		{"gate closed", func(s *Session) { s.QERs[0].UplinkClosed = true }, gpdu(upTEID, 9, ok), func(c Counters) uint64 { return c.GateClosed }},
		{"End Marker", nil, gtpu.EncodeEndMarker(upTEID), func(c Counters) uint64 { return c.EndMarkersReceived }},
		{"Echo Response", nil, []byte{0x32, 2, 0, 6, 0, 0, 0, 0, 1, 2, 0, 0, 14, 0}, func(c Counters) uint64 { return c.EchoResponses }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, n6 := oneNetwork(t)
			s := basic()
			if tt.change != nil {
				tt.change(&s)
			}
			r.apply(s)
			r.up(tt.in)
			r.barrier()
			r.barrier() // the first one may share the batch that is not yet counted
			if n := tt.count(r.counters()); n != 1 {
				t.Errorf("counted %d, want 1: %+v", n, r.counters())
			}
			// Nothing has come out: what comes next is the next good packet.
			r.apply(basic())
			mark := ipPacket(ueAddr, dnAddr, 3)
			r.up(gpdu(upTEID, 9, mark))
			if got := readOne(t, n6); !bytes.Equal(got, mark) {
				t.Errorf("N6 got % x", got)
			}
		})
	}
}

func TestDownlinkDrops(t *testing.T) {
	ok := ipPacket(dnAddr, ueAddr, 8)
	tests := []struct {
		name   string
		change func(*Session)
		in     []byte
		count  func(Counters) uint64
	}{
		{"not IP", nil, []byte("hello"), func(c Counters) uint64 { return c.NotIP }},
		{"nobody's address", nil, ipPacket(dnAddr, netip.MustParseAddr("10.60.0.3"), 8), func(c Counters) uint64 { return c.UnknownUE }},
		{"FAR drop", func(s *Session) { s.FARs[1].Action = Drop }, ok, func(c Counters) uint64 { return c.ActionDrop }},
		{"FAR buffer", func(s *Session) { s.FARs[1].Action = Buffer }, ok, func(c Counters) uint64 { return c.Buffered }},
		{"gate closed", func(s *Session) { s.QERs[0].DownlinkClosed = true }, ok, func(c Counters) uint64 { return c.GateClosed }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, n6 := oneNetwork(t)
			s := basic()
			if tt.change != nil {
				tt.change(&s)
			}
			r.apply(s)
			writeOne(t, n6, tt.in)
			// A second session behind it shows that the first packet has been handled.
			other := netip.MustParseAddr("10.60.0.9")
			r.apply(Session{ID: 2,
				PDRs: []PDR{{ID: 1, UE: ident.UEAddress{V4: other}, Network: "internet", FAR: 1}},
				FARs: []FAR{{ID: 1, Action: Forward, Outer: ident.FTEID{Addr: gnbAddr, TEID: 0x999}}}})
			writeOne(t, n6, ipPacket(dnAddr, other, 8))
			for {
				if h, _, err := gtpu.Parse(r.down()); err != nil || h.TEID == 0x999 {
					break
				}
			}
			writeOne(t, n6, ipPacket(dnAddr, other, 8)) // and this one that it is counted
			r.down()
			if n := tt.count(r.counters()); n != 1 {
				t.Errorf("counted %d, want 1: %+v", n, r.counters())
			}
		})
	}
}

func TestRatesAreHeldPerDirection(t *testing.T) {
	r, n6 := oneNetwork(t)
	s := basic()
	s.QERs[0].MBR = ident.AMBR{Uplink: 8, Downlink: 0} // a bucket of 32 KiB, then a byte per second
	r.apply(s)
	const n = 40
	for range n {
		r.up(gpdu(upTEID, 9, ipPacket(ueAddr, dnAddr, 980)))
		writeOne(t, n6, ipPacket(dnAddr, ueAddr, 980))
		r.down()
	}
	r.barrier()
	r.barrier()
	if c := r.counters(); c.UplinkPackets != 32 || c.RateExceeded != n-32 {
		t.Errorf("%d uplink packets passed and %d did not, want 32 and %d", c.UplinkPackets, c.RateExceeded, n-32)
	}
	if u, _ := r.Usage(1); u[1].UplinkPackets != 32 || u[1].DownlinkPackets != n {
		t.Errorf("usage %+v, want what was forwarded only", u[1])
	}
}

func TestPrecedenceAndQFIChooseThePDR(t *testing.T) {
	a, aEnd := tuntest.NewPair(1456)
	b, bEnd := tuntest.NewPair(1456)
	r := newRig(t, map[ident.DNN]tun.Device{"internet": a, "ims": b})
	s := basic()
	s.FARs = append(s.FARs, FAR{ID: 3, Action: Forward, Network: "ims"})
	s.PDRs = append(s.PDRs, PDR{ID: 3, Precedence: 10, Uplink: true, TEID: upTEID, HasQFI: true, QFI: 5, FAR: 3})
	r.apply(s)
	p := ipPacket(ueAddr, dnAddr, 8)
	r.up(gpdu(upTEID, 5, p))
	if got := readOne(t, bEnd); !bytes.Equal(got, p) {
		t.Error("QFI 5 should go to ims by the PDR of precedence 10")
	}
	r.up(gpdu(upTEID, 9, p))
	if got := readOne(t, aEnd); !bytes.Equal(got, p) {
		t.Error("QFI 9 should go to internet")
	}
}

func TestSameUEAddressOnTwoNetworks(t *testing.T) {
	a, aEnd := tuntest.NewPair(1456)
	b, bEnd := tuntest.NewPair(1456)
	r := newRig(t, map[ident.DNN]tun.Device{"internet": a, "ims": b})
	r.apply(basic())
	s := basic()
	s.ID = 2
	s.PDRs[0].TEID = 0x101
	s.PDRs[0].Network, s.PDRs[1].Network = "ims", "ims"
	s.FARs[1].Outer.TEID = 0x201
	r.apply(s)
	for dev, want := range map[*tuntest.Channel]ident.TEID{aEnd: downTEID, bEnd: 0x201} {
		writeOne(t, dev, ipPacket(dnAddr, ueAddr, 8))
		if h, _, err := gtpu.Parse(r.down()); err != nil || h.TEID != want {
			t.Errorf("got TEID %#x, want %#x", h.TEID, want)
		}
	}
	r.up(gpdu(0x101, 9, ipPacket(ueAddr, dnAddr, 8)))
	readOne(t, bEnd)
}

func TestIPv6Prefix(t *testing.T) {
	r, n6 := oneNetwork(t)
	s := basic()
	ue := ident.UEAddress{V4: ueAddr, V6: netip.MustParsePrefix("fd00:60:0:7::/64")}
	s.PDRs[0].UE, s.PDRs[1].UE = ue, ue
	r.apply(s)
	host, dn := netip.MustParseAddr("fd00:60:0:7::beef"), netip.MustParseAddr("fd00::1")
	writeOne(t, n6, ipPacket(dn, host, 8))
	if h, p, err := gtpu.Parse(r.down()); err != nil || h.TEID != downTEID || len(p) != 48 {
		t.Errorf("downlink: %+v %v", h, err)
	}
	r.up(gpdu(upTEID, 9, ipPacket(host, dn, 8)))
	if got := readOne(t, n6); len(got) != 48 {
		t.Errorf("uplink: % x", got)
	}
}

func TestRunFailsIfADeviceDoes(t *testing.T) {
	a, _ := tuntest.NewPair(1456)
	r := newRig(t, map[ident.DNN]tun.Device{"internet": a})
	broken := errors.New("broken")
	p, err := New(Config{N3: upfAddr}, Deps{N3: r.gnb, N6: map[ident.DNN]tun.Device{"x": failing{a, broken}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(context.Background()); !errors.Is(err, broken) {
		t.Errorf("Run: %v, want the device's error", err)
	}
}

type failing struct {
	*tuntest.Channel
	err error
}

func (f failing) Read([][]byte, []int, int) (int, error) { return 0, f.err }
