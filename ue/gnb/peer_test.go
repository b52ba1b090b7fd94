package gnb

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testPLMN = ident.PLMN{MCC: "001", MNC: "01"}
	amfAddr  = netip.MustParseAddrPort("192.0.2.1:38412")
	n3Addr   = netip.MustParseAddrPort("192.0.2.10:2152")
	upfAddr  = netip.MustParseAddrPort("192.0.2.20:2152")
)

func testConfig() Config {
	return Config{
		Name: "gnb1", ID: ident.GNBID{PLMN: testPLMN, Value: 1, Bits: 24}, TAC: 7,
		Slices: []ident.SNSSAI{{SST: 1}}, N3: n3Addr, AMFs: []netip.AddrPort{amfAddr},
	}
}

// testNet is an AMF and a UPF driven by the test, in a bubble with the gNB.
type testNet struct {
	t   *testing.T
	g   *GNB
	l   *sctp.PipeListener
	n2  sctp.Conn
	upf *memnet.UDPConn
}

func bubble(t *testing.T, cfg Config, f func(t *testing.T, n *testNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(memnet.Config{})
		defer net.Close()
		n3, err := net.ListenUDP(n3Addr)
		if err != nil {
			t.Fatal(err)
		}
		upf, err := net.ListenUDP(upfAddr)
		if err != nil {
			t.Fatal(err)
		}
		n := &testNet{t: t, l: sctp.NewPipeListener(amfAddr), upf: upf}
		defer n.l.Close()
		if n.g, err = New(cfg, Deps{N2: n.l, N3: n3}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.g.Run(ctx) }()
		f(t, n)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// accept takes the gNB's next association.
func (n *testNet) accept(why string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Hour)
	defer cancel()
	c, err := n.l.Accept(ctx)
	if err != nil {
		n.t.Fatalf("%s: %v", why, err)
	}
	n.n2 = c
}

// up accepts and answers NG setup.
func (n *testNet) up() {
	n.t.Helper()
	n.accept("association")
	want[*ngap.NGSetupRequest](n, "NG setup comes first")
	n.send(&ngap.NGSetupResponse{
		AMFName: "amf1", GUAMIs: []ident.GUAMI{{PLMN: testPLMN, Region: 1, Set: 1, Pointer: 1}}, Capacity: 255,
		PLMNs: []ngap.BroadcastPLMN{{PLMN: testPLMN, Slices: []ident.SNSSAI{{SST: 1}}}},
	})
	<-n.g.Ready()
	synctest.Wait()
}

// want waits for the next message, which must be an M.
func want[M ngap.Message](n *testNet, why string) M {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Hour)
	defer cancel()
	m, err := n.n2.Recv(ctx)
	if err != nil {
		n.t.Fatalf("%s: %v", why, err)
	}
	msg, err := ngap.Decode(m.Data)
	if err != nil {
		n.t.Fatalf("%s: %v", why, err)
	}
	v, ok := msg.(M)
	if !ok {
		n.t.Fatalf("%s: got %T %+v, want %T", why, msg, msg, v)
	}
	return v
}

// silence says that the gNB sends nothing within d.
func (n *testNet) silence(why string, d time.Duration) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), d)
	defer cancel()
	if m, err := n.n2.Recv(ctx); err == nil {
		msg, _ := ngap.Decode(m.Data)
		n.t.Fatalf("%s: unexpected %T", why, msg)
	}
}

func (n *testNet) send(m ngap.Message) {
	n.t.Helper()
	b, err := ngap.Encode(m)
	if err != nil {
		n.t.Fatal(err)
	}
	n.raw(b)
}

func (n *testNet) raw(b []byte) {
	n.t.Helper()
	if err := n.n2.Send(n.t.Context(), sctp.Message{PPID: sctp.PPIDNGAP, Data: b}); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
}

// testUE is the UE's end of one radio.
type testUE struct {
	n   *testNet
	r   ue.Radio
	ids ngap.UEIDs
}

// attach connects a UE and has the AMF answer.
func (n *testNet) attach(amf int64) *testUE {
	n.t.Helper()
	r, err := n.g.Connect(n.t.Context(), ue.ConnectRequest{Cause: 3, NAS: []byte{1, byte(amf)}})
	if err != nil {
		n.t.Fatal(err)
	}
	i := want[*ngap.InitialUEMessage](n, "a connection begins with INITIAL UE MESSAGE")
	u := &testUE{n, r, ngap.UEIDs{AMF: amf, RAN: i.RAN}}
	n.send(&ngap.DownlinkNASTransport{IDs: u.ids, NAS: []byte("hi")})
	if e := wantEvent[ue.DownlinkNAS](u, "downlink NAS"); string(e.NAS) != "hi" {
		n.t.Errorf("NAS %q", e.NAS)
	}
	return u
}

func wantEvent[E ue.RadioEvent](u *testUE, why string) E {
	u.n.t.Helper()
	var zero E
	select {
	case e, ok := <-u.r.Events():
		v, is := e.(E)
		if !ok || !is {
			u.n.t.Fatalf("%s: got %T %+v, want %T", why, e, e, zero)
		}
		return v
	case <-time.After(time.Hour):
		u.n.t.Fatalf("%s: no %T", why, zero)
	}
	return zero
}

func setupItem(n *testNet, id ident.PDUSessionID, teid ident.TEID) ngap.SessionSetup {
	n.t.Helper()
	b, err := ngap.EncodeTransfer(&ngap.SetupRequestTransfer{
		AMBR: &ident.AMBR{Uplink: 1e9, Downlink: 1e9}, Uplink: ident.FTEID{Addr: upfAddr.Addr(), TEID: teid},
		Type: ident.IPv4, Flows: []ngap.QoSFlow{{QFI: 5, FiveQI: 9, ARPPriority: 8}},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return ngap.SessionSetup{ID: id, NAS: []byte{0xaa, byte(id)}, SNSSAI: ident.SNSSAI{SST: 1}, Transfer: b}
}

// session sets up PDU session 1 in an initial context and returns the gNB's TEID.
func (u *testUE) session(uplink ident.TEID) ident.TEID {
	u.n.t.Helper()
	u.n.send(&ngap.InitialContextSetupRequest{
		IDs: u.ids, GUAMI: ident.GUAMI{PLMN: testPLMN, Region: 1, Set: 1, Pointer: 1},
		Sessions: []ngap.SessionSetup{setupItem(u.n, 1, uplink)}, AllowedNSSAI: []ident.SNSSAI{{SST: 1}},
		AMBR: &ident.AMBR{Uplink: 1e9, Downlink: 1e9}, EA: 0xe, IA: 0xe,
	})
	r := want[*ngap.InitialContextSetupResponse](u.n, "context set up")
	if len(r.Sessions) != 1 || len(r.Failed) != 0 {
		u.n.t.Fatalf("response %+v", r)
	}
	tr, err := ngap.DecodeSetupResponseTransfer(r.Sessions[0].Transfer)
	if err != nil {
		u.n.t.Fatal(err)
	}
	if tr.Downlink.Addr != n3Addr.Addr() || len(tr.Flows) != 1 || tr.Flows[0] != 5 {
		u.n.t.Errorf("transfer %+v", tr)
	}
	if e := wantEvent[ue.BearerUp](u, "the bearer comes before the NAS message"); e.Session != 1 || e.QFIs[0] != 5 {
		u.n.t.Errorf("bearer %+v", e)
	}
	wantEvent[ue.DownlinkNAS](u, "session NAS")
	return tr.Downlink.TEID
}

// wantGTP reads one datagram at the UPF.
func (n *testNet) wantGTP(why string) (gtpu.Header, []byte) {
	n.t.Helper()
	ds := []dgram.Datagram{{Buf: make([]byte, 9000)}}
	got := make(chan error, 1)
	go func() { _, err := n.upf.ReadBatch(ds); got <- err }()
	select {
	case err := <-got:
		if err != nil {
			n.t.Fatalf("%s: %v", why, err)
		}
	case <-time.After(time.Hour):
		n.upf.Close()
		<-got
		n.t.Fatalf("%s: nothing on N3", why)
	}
	h, p, err := gtpu.Parse(ds[0].Buf[:ds[0].N])
	if err != nil {
		n.t.Fatalf("%s: %v", why, err)
	}
	return h, p
}

func (n *testNet) gtp(b []byte) {
	n.t.Helper()
	if _, err := n.upf.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: n3Addr}}); err != nil {
		n.t.Fatal(err)
	}
	synctest.Wait()
}

func gpdu(teid ident.TEID, payload string) []byte {
	h := gtpu.Header{Type: gtpu.GPDU, TEID: teid, HasQFI: true, QFI: 5}
	b := make([]byte, h.Size()+len(payload))
	copy(b[h.Put(b, len(payload)):], payload)
	return b
}

// collect registers a receiver and returns its channel.
func (u *testUE) collect() <-chan string {
	c := make(chan string, 64)
	u.r.SetReceiver(func(id ident.PDUSessionID, packets [][]byte) {
		for _, p := range packets {
			c <- fmt.Sprintf("%d %s", id, p)
		}
	})
	return c
}
