package gnb

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

func netipPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

type noDialer struct{}

func (noDialer) Dial(context.Context, netip.AddrPort) (sctp.Conn, error) {
	return nil, errors.New("no network")
}

// noConn takes everything and brings nothing.
type noConn struct{}

func (noConn) ReadBatch([]dgram.Datagram) (int, error)     { return 0, net.ErrClosed }
func (noConn) WriteBatch(ds []dgram.Datagram) (int, error) { return len(ds), nil }
func (noConn) LocalAddr() netip.AddrPort                   { return n3Addr }
func (noConn) Close() error                                { return nil }

func TestTwoUEsUserPlane(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		a, b := n.attach(10), n.attach(20)
		ta, tb := a.session(100), b.session(200)
		if ta == tb || ta == 0 || tb == 0 {
			t.Fatalf("TEIDs %v and %v", ta, tb)
		}
		a.r.SendPackets(1, 5, [][]byte{[]byte("from a")})
		h, p := n.wantGTP("uplink of a")
		if h.Type != gtpu.GPDU || h.TEID != 100 || !h.HasQFI || !h.Uplink || h.QFI != 5 || string(p) != "from a" {
			t.Errorf("%+v %q: want TEID 100, UL PDU SESSION INFORMATION, QFI 5", h, p)
		}
		b.r.SendPackets(1, 9, [][]byte{[]byte("from b")})
		if h, p = n.wantGTP("uplink of b"); h.TEID != 200 || string(p) != "from b" || h.QFI != 5 {
			t.Errorf("%+v %q: want TEID 200 and the default flow for a QFI that is not set up", h, p)
		}
		a.r.SendPackets(2, 5, [][]byte{[]byte("no bearer")})
		ra, rb := a.collect(), b.collect()
		n.gtp(gpdu(ta, "to a"))
		n.gtp(gpdu(tb, "to b"))
		if x, y := <-ra, <-rb; x != "1 to a" || y != "1 to b" {
			t.Errorf("downlink %q %q", x, y)
		}
		c := n.g.Status().Counters
		if c.UplinkPackets != 2 || c.DownlinkPackets != 2 || c.UplinkNoBearer != 1 || c.DownlinkBytes != 8 {
			t.Errorf("counters %+v", c)
		}
	})
}

func TestGTPSignalling(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u := n.attach(10)
		teid := u.session(100)
		echo, err := gtpu.EncodeEchoRequest(77)
		if err != nil {
			t.Fatal(err)
		}
		n.gtp(echo)
		if h, _ := n.wantGTP("echo"); h.Type != gtpu.EchoResponse || h.Sequence != 77 {
			t.Errorf("answer %+v", h)
		}
		n.gtp(gpdu(0xdead, "?"))
		h, p := n.wantGTP("unknown TEID")
		at, err := gtpu.DecodeErrorIndication(p)
		if h.Type != gtpu.ErrorIndication || err != nil || at.TEID != 0xdead || at.Addr != n3Addr.Addr() {
			t.Errorf("answer %+v %+v %v", h, at, err)
		}
		n.gtp([]byte{1, 2, 3})
		n.gtp(gpdu(0, "all zeros")) // and this is not answered
		n.gtp(gtpu.EncodeEndMarker(teid))
		unknown := gpdu(teid, "x")
		unknown[11] = 0xc5 // an extension header that must be understood and is not
		n.gtp(unknown)
		if h, _ := n.wantGTP("unknown extension"); h.Type != gtpu.SupportedExtensionHeaders {
			t.Errorf("answer %+v", h)
		}
		// The UPF has lost our tunnel: release, once.
		ei, err := gtpu.EncodeErrorIndication(ident.FTEID{Addr: upfAddr.Addr(), TEID: 100})
		if err != nil {
			t.Fatal(err)
		}
		n.gtp(ei)
		n.gtp(ei)
		r := want[*ngap.UEContextReleaseRequest](n, "user plane lost")
		if r.Cause != ngap.TransportResourceUnavailable || len(r.Sessions) != 1 {
			t.Errorf("request %+v", r)
		}
		n.silence("asked once", time.Second)
		n.send(&ngap.UEContextReleaseCommand{IDs: u.ids, HasRAN: true, Cause: ngap.RadioReleaseNGRANReason})
		want[*ngap.UEContextReleaseComplete](n, "complete")
		if e := wantEvent[ue.Released](u, "released"); e.Err != nil {
			t.Errorf("released %v, want orderly", e.Err)
		}
		n.gtp(gpdu(teid, "late"))
		n.wantGTP("the old TEID is unknown now")
		c := n.g.Status().Counters
		if c.UnknownTEID != 3 || c.GTPMalformed != 2 || c.EndMarkers != 1 || c.GTPErrors != 2 {
			t.Errorf("counters %+v", c)
		}
	})
}

func TestImpairedAir(t *testing.T) {
	cfg := testConfig()
	cfg.Uplink = Impairment{Delay: 50 * time.Millisecond}
	cfg.Downlink = Impairment{Rate: 8000, Queue: 2}
	bubble(t, cfg, func(t *testing.T, n *testNet) {
		n.up()
		u := n.attach(10)
		teid := u.session(100)
		began := time.Now()
		u.r.SendPackets(1, 5, [][]byte{[]byte("slow")})
		n.wantGTP("uplink")
		if d := time.Since(began); d != 50*time.Millisecond {
			t.Errorf("uplink took %v, want 50 ms", d)
		}
		got := u.collect()
		began = time.Now()
		p := string(make([]byte, 1000)) // one second at 8 kbit/s
		for range 5 {
			n.gtp(gpdu(teid, p))
		}
		for i := range 3 {
			<-got
			if d := time.Since(began); d != time.Duration(i+1)*time.Second {
				t.Errorf("packet %d after %v", i, d)
			}
		}
		synctest.Wait()
		if c := n.g.Status().Counters; c.DownlinkImpaired != 2 {
			t.Errorf("dropped %d, want 2: one on the air and two queued", c.DownlinkImpaired)
		}
	})
	cfg.Uplink = Impairment{Loss: 1}
	bubble(t, cfg, func(t *testing.T, n *testNet) {
		n.up()
		u := n.attach(10)
		u.session(100)
		u.r.SendPackets(1, 5, [][]byte{[]byte("lost"), []byte("lost")})
		if c := n.g.Status().Counters; c.UplinkImpaired != 2 {
			t.Errorf("lost %d, want 2", c.UplinkImpaired)
		}
	})
}

func TestTEIDTable(t *testing.T) {
	var tab teidTable
	var all []*bearer
	seen := map[ident.TEID]bool{}
	for range 3000 {
		b := &bearer{}
		if err := tab.add(b); err != nil {
			t.Fatal(err)
		}
		if seen[b.teid] || tab.lookup(b.teid) != b {
			t.Fatalf("TEID %v", b.teid)
		}
		seen[b.teid] = true
		all = append(all, b)
	}
	for _, b := range all {
		tab.remove(b)
		if tab.lookup(b.teid) != nil {
			t.Fatal("a removed TEID is unknown")
		}
	}
	for range 3000 {
		b := &bearer{}
		if err := tab.add(b); err != nil || seen[b.teid] {
			t.Fatalf("TEID %v used again: %v", b.teid, err)
		}
	}
	if tab.lookup(0) != nil || tab.lookup(0xffffffff) != nil {
		t.Error("unknown TEIDs")
	}
}

// radioFor returns a radio with one bearer, for measurements.
func radioFor(g *GNB) (*radio, *bearer) {
	r := &radio{g: g, events: make(chan ue.RadioEvent, radioQueue), ended: make(chan struct{})}
	b := &bearer{id: 1, uplink: ident.FTEID{TEID: 1}, upf: upfAddr, flows: 1 << 5, def: 5, radio: r}
	if err := g.teids.add(b); err != nil {
		panic(err)
	}
	r.bearers[1].Store(b)
	return r, b
}

func TestPacketPathDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
	g := testCore().owner
	r, b := radioFor(g)
	r.SetReceiver(func(ident.PDUSessionID, [][]byte) {})
	packets := make([][]byte, 32)
	for i := range packets {
		packets[i] = make([]byte, 1400)
	}
	if a := testing.AllocsPerRun(200, func() { r.SendPackets(1, 5, packets) }); a != 0 {
		t.Errorf("uplink: %v allocations per batch, want 0", a)
	}
	if a := testing.AllocsPerRun(200, func() {
		if g.teids.lookup(b.teid) == nil {
			t.Fatal("lookup")
		}
		g.deliverDownlink(b, packets)
	}); a != 0 {
		t.Errorf("downlink: %v allocations per batch, want 0", a)
	}
}

func BenchmarkUplink(b *testing.B) {
	g := testCore().owner
	r, _ := radioFor(g)
	packets := make([][]byte, 64)
	for i := range packets {
		packets[i] = make([]byte, 1400)
	}
	b.SetBytes(64 * 1400)
	for b.Loop() {
		r.SendPackets(1, 5, packets)
	}
}
