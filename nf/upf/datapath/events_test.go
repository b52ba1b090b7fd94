package datapath

import (
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

func TestBufferingNotifiesOnce(t *testing.T) {
	r, n6 := oneNetwork(t)
	s := basic()
	s.FARs[1] = FAR{ID: 2, Action: Buffer, Notify: true}
	want := Event{Kind: DownlinkData, Session: 1, PDR: 2}
	for range 2 { // each Apply arms it anew
		r.apply(s)
		for range 5 {
			writeOne(t, n6, ipPacket(dnAddr, ueAddr, 8))
		}
		if e := <-r.Events(); e != want {
			t.Errorf("event %+v, want %+v", e, want)
		}
		forward := basic()
		r.apply(forward)
		writeOne(t, n6, ipPacket(dnAddr, ueAddr, 8))
		r.down()
	}
	select {
	case e := <-r.Events():
		t.Errorf("event %+v again", e)
	default:
	}
}

func TestVolumeLimitMakesOneEvent(t *testing.T) {
	r, n6 := oneNetwork(t)
	s := basic()
	s.URRs[0].VolumeLimit = 250
	r.apply(s)
	p := ipPacket(ueAddr, dnAddr, 80) // 100 octets
	for i := range 5 {
		r.up(gpdu(upTEID, 9, p))
		readOne(t, n6)
		if i == 1 && len(r.Events()) != 0 {
			t.Error("event at 200 octets, want none below 250")
		}
	}
	want := Event{Kind: VolumeReached, Session: 1, URR: 1}
	if e := <-r.Events(); e != want {
		t.Errorf("event %+v, want %+v", e, want)
	}
	if len(r.Events()) != 0 {
		t.Error("second event without a new limit")
	}
	r.SetVolumeLimit(1, 1, 600)
	r.up(gpdu(upTEID, 9, p))
	readOne(t, n6)
	if e := <-r.Events(); e != want {
		t.Errorf("event %+v after SetVolumeLimit, want %+v", e, want)
	}
}

func TestErrorIndicationReceivedIsAnEvent(t *testing.T) {
	r, _ := oneNetwork(t)
	peer := ident.FTEID{Addr: gnbAddr, TEID: downTEID}
	b, err := gtpu.EncodeErrorIndication(peer)
	if err != nil {
		t.Fatal(err)
	}
	r.up(b)
	if e := <-r.Events(); e != (Event{Kind: ErrorIndication, Peer: peer}) {
		t.Errorf("event %+v", e)
	}
}

func TestErrorIndicationsAreRateLimited(t *testing.T) {
	r, _ := oneNetwork(t)
	const n = 500
	for range n {
		r.up(gpdu(0xdead, 9, ipPacket(ueAddr, dnAddr, 8)))
	}
	r.barrier()
	r.barrier()
	c := r.counters()
	if c.UnknownTEID != n || c.ErrorIndicationsSent+c.RepliesSuppressed != n {
		t.Errorf("%d unknown, %d sent, %d suppressed, want %d in all", c.UnknownTEID, c.ErrorIndicationsSent, c.RepliesSuppressed, n)
	}
	if c.ErrorIndicationsSent < 100 || c.ErrorIndicationsSent == n {
		t.Errorf("%d sent, want the second's allowance of 100 and hardly more", c.ErrorIndicationsSent)
	}
}

func TestUnknownExtensionIsNotified(t *testing.T) {
	r, _ := oneNetwork(t)
	r.up([]byte{0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x84, 1, 0, 0, 0})
	h, payload, err := gtpu.Parse(r.down())
	if err != nil || h.Type != gtpu.SupportedExtensionHeaders {
		t.Fatalf("got %v, %v", h.Type, err)
	}
	if types, err := gtpu.DecodeSupportedExtensionHeaders(payload); err != nil || len(types) != 1 || types[0] != 0x85 {
		t.Errorf("supported types % x, %v, want 85", types, err)
	}
}

func TestEchoAndEndMarker(t *testing.T) {
	r, _ := oneNetwork(t)
	b, err := gtpu.EncodeEchoRequest(0x4242)
	if err != nil {
		t.Fatal(err)
	}
	r.up(b)
	if h, _, err := gtpu.Parse(r.down()); err != nil || h.Type != gtpu.EchoResponse || h.Sequence != 0x4242 {
		t.Errorf("echo: %+v, %v", h, err)
	}
	if err := r.SendEndMarker(ident.FTEID{Addr: gnbAddr, TEID: downTEID}); err != nil {
		t.Fatal(err)
	}
	if h, _, err := gtpu.Parse(r.down()); err != nil || h.Type != gtpu.EndMarker || h.TEID != downTEID {
		t.Errorf("end marker: %+v, %v", h, err)
	}
}
