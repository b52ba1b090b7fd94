package inproc

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/nf/upf/datapath"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/ue/gnb"
)

// gtp builds a GTP-U message.
func gtp(h gtpu.Header, payload []byte) []byte {
	b := make([]byte, h.Size()+len(payload))
	h.Put(b, len(payload))
	copy(b[h.Size():], payload)
	return b
}

// datagram is a UDP packet from a UE to the data network.
func datagram(t *testing.T, src, dst netip.Addr) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP(src.AsSlice()), DstIP: net.IP(dst.AsSlice())}
	udp := &layers.UDP{SrcPort: 4000, DstPort: 4001}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload("hello")); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// wantEcho makes sure that nothing of what was sent before was answered: the next
// datagram is the answer to an Echo Request.
func (p *udpPeer) wantEcho(t *testing.T, to netip.AddrPort, seq uint16) {
	t.Helper()
	b, err := gtpu.EncodeEchoRequest(seq)
	if err != nil {
		t.Fatal(err)
	}
	p.send(t, to, b)
	got := p.next(t)
	h, _, err := gtpu.Parse(got)
	if err != nil || h.Type != gtpu.EchoResponse || !h.HasSequence || h.Sequence != seq {
		t.Errorf("got %x, want the Echo Response to number %d", got, seq)
	}
}

// wantErrorIndication is the answer to a G-PDU for a tunnel that does not exist.
func (p *udpPeer) wantErrorIndication(t *testing.T, of ident.FTEID) {
	t.Helper()
	got := p.next(t)
	h, payload, err := gtpu.Parse(got)
	if err != nil || h.Type != gtpu.ErrorIndication || h.TEID != 0 {
		t.Fatalf("got %x, want an Error Indication", got)
	}
	if at, err := gtpu.DecodeErrorIndication(payload); err != nil || at != of {
		t.Errorf("Error Indication for %+v, %v, want %+v", at, err, of)
	}
}

// n3Case is something that a node on N3 should not get.
type n3Case struct {
	name string
	send [][]byte
	// answer checks what comes; nil: nothing.
	answer func(t *testing.T, p *udpPeer, at netip.AddrPort)
	upf    func(datapath.Counters) uint64
	gnb    func(gnb.Counters) uint64 // nil: not sent to a gNB
}

func n3Cases(t *testing.T, w *world) []n3Case {
	const unknown = 0xdeadbeef
	packet := datagram(t, netip.AddrFrom4([4]byte{10, 45, 0, 99}), netip.AddrFrom4([4]byte{198, 19, 0, 7}))
	gpdu := gtp(gtpu.Header{Type: gtpu.GPDU, TEID: unknown, HasQFI: true, QFI: 1, Uplink: true}, packet)
	version2 := append([]byte(nil), gpdu...)
	version2[0] = 0x40 | version2[0]&0x1f
	long := append([]byte(nil), gpdu...)
	binary.BigEndian.PutUint16(long[2:], uint16(len(gpdu)))
	extension := append([]byte(nil), gpdu...)
	extension[11] = 0xc1 // comprehension required, and nobody knows it
	var truncated [][]byte
	for n := range len(gpdu) {
		truncated = append(truncated, gpdu[:n])
	}
	errorIndication, err := gtpu.EncodeErrorIndication(ident.FTEID{Addr: w.strangerOn("upf1", plan.N3), TEID: 1})
	if err != nil {
		t.Fatal(err)
	}
	cutIndication := append([]byte(nil), errorIndication[:len(errorIndication)-3]...)
	binary.BigEndian.PutUint16(cutIndication[2:], uint16(len(cutIndication)-8))
	malformed := func(c datapath.Counters) uint64 { return c.Malformed }
	gtpMalformed := func(c gnb.Counters) uint64 { return c.GTPMalformed }
	return []n3Case{
		{"G-PDU truncated at every octet", truncated, nil, malformed, gtpMalformed},
		{"another version", [][]byte{version2}, nil, malformed, gtpMalformed},
		{"GTP' instead of GTP", [][]byte{{0x20, 0xff, 0, 0, 0, 0, 0, 1}}, nil, malformed, gtpMalformed},
		{"a length beyond the datagram", [][]byte{long}, nil, malformed, gtpMalformed},
		{"Error Indication cut short", [][]byte{cutIndication}, nil, malformed, gtpMalformed},
		{"Error Indication for a tunnel that nobody has", [][]byte{errorIndication}, nil,
			func(c datapath.Counters) uint64 { return c.ErrorIndicationsReceived }, func(c gnb.Counters) uint64 { return c.GTPErrors }},
		{"Echo Response without a request", [][]byte{{0x32, 2, 0, 6, 0, 0, 0, 0, 0, 9, 0, 0, 14, 0}}, nil,
			func(c datapath.Counters) uint64 { return c.EchoResponses }, nil},
		{"a message type that does not exist", [][]byte{{0x30, 77, 0, 0, 0, 0, 0, 0}}, nil,
			func(c datapath.Counters) uint64 { return c.UnknownMessage }, gtpMalformed},
		{"End Marker for an unknown tunnel", [][]byte{gtpu.EncodeEndMarker(unknown)}, nil,
			func(c datapath.Counters) uint64 { return c.EndMarkersReceived }, func(c gnb.Counters) uint64 { return c.EndMarkers }},
		{"G-PDU for an unknown tunnel, twice", [][]byte{gpdu, gpdu}, func(t *testing.T, p *udpPeer, at netip.AddrPort) {
			of := ident.FTEID{Addr: at.Addr(), TEID: unknown}
			p.wantErrorIndication(t, of)
			p.wantErrorIndication(t, of)
		}, func(c datapath.Counters) uint64 { return c.UnknownTEID }, func(c gnb.Counters) uint64 { return c.UnknownTEID }},
		{"an extension header that must be understood", [][]byte{extension}, func(t *testing.T, p *udpPeer, _ netip.AddrPort) {
			got := p.next(t)
			if h, _, err := gtpu.Parse(got); err != nil || h.Type != gtpu.SupportedExtensionHeaders {
				t.Errorf("got %x, want Supported Extension Headers Notification", got)
			}
		}, func(c datapath.Counters) uint64 { return c.UnknownExtension }, gtpMalformed},
	}
}

// TestN3AnswersAsSpecified sends the UPF and the gNB what they should not get on N3
// (TS 29.281), and checks the answer, the counter, and that the witness's tunnel
// goes on.
func TestN3AnswersAsSpecified(t *testing.T) {
	w := newWorld(t)
	c, err := w.links.n3.ListenUDP(netip.AddrPortFrom(w.strangerOn("upf1", plan.N3), portGTPU))
	if err != nil {
		t.Fatal(err)
	}
	p := newUDPPeer(t, c)
	upf, g := w.parts.upfs["upf1"], w.parts.gnbs["gnb1"]
	for i, tt := range n3Cases(t, w) {
		for node, count := range map[string]func() uint64{
			"upf1": func() uint64 { return tt.upf(upf.Status().Datapath.Counters) },
			"gnb1": func() uint64 { return tt.gnb(g.Status().Counters) },
		} {
			if node == "gnb1" && tt.gnb == nil {
				continue
			}
			t.Run(tt.name+" to "+node, func(t *testing.T) {
				at := w.at(node, plan.N3, portGTPU)
				before := count()
				for _, b := range tt.send {
					p.send(t, at, b)
				}
				if tt.answer != nil {
					tt.answer(t, p, at)
				}
				p.wantEcho(t, at, uint16(1000+i))
				counted(t, tt.name, before, count, 0)
				w.alive(t)
			})
		}
	}
}

// TestN3TunnelOfAnotherUE sends G-PDUs into the witness's own uplink tunnel, as
// somebody on N3 can who has seen its TEID.
func TestN3TunnelOfAnotherUE(t *testing.T) {
	w := newWorld(t)
	c, err := w.links.n3.ListenUDP(netip.AddrPortFrom(w.strangerOn("upf1", plan.N3), portGTPU))
	if err != nil {
		t.Fatal(err)
	}
	p := newUDPPeer(t, c)
	upf := w.parts.upfs["upf1"]
	session := upf.Status().Sessions[0]
	dst := plan.On(w.spec, "inner1", plan.N6Of("upf1"))
	own := datagram(t, session.UE.V4, dst)
	for _, tt := range []struct {
		name    string
		payload []byte
		counter func(datapath.Counters) uint64
		grows   uint64
	}{
		{"another source address: dropped", datagram(t, netip.AddrFrom4([4]byte{10, 45, 0, 77}), dst), func(c datapath.Counters) uint64 { return c.Spoofed }, 3},
		{"no IP inside: dropped", []byte("no IP at all"), func(c datapath.Counters) uint64 { return c.Malformed }, 3},
		{"an IP header cut short: dropped", own[:19], func(c datapath.Counters) uint64 { return c.Malformed }, 3},
		// GTP-U has no protection against repetition: IP and what is above live with it.
		{"the UE's own packet again and again: forwarded", own, func(c datapath.Counters) uint64 { return c.UplinkPackets }, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			count := func() uint64 { return tt.counter(upf.Status().Datapath.Counters) }
			before := count()
			for range tt.grows {
				p.send(t, w.at("upf1", plan.N3, portGTPU), gtp(gtpu.Header{
					Type: gtpu.GPDU, TEID: session.TEIDs[0], HasQFI: true, QFI: 1, Uplink: true,
				}, tt.payload))
			}
			p.wantEcho(t, w.at("upf1", plan.N3, portGTPU), 1)
			counted(t, tt.name, before, count, tt.grows)
			w.alive(t)
		})
	}
}
