package gnb

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

func TestNGSetup(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		if _, err := n.g.Cell(t.Context()); !errors.Is(err, ErrNotServing) {
			t.Errorf("Cell before NG setup: %v, want ErrNotServing", err)
		}
		n.accept("association")
		r := want[*ngap.NGSetupRequest](n, "first message")
		if r.Name != "gnb1" || r.GNB.Value != 1 || len(r.Supported) != 1 || r.Supported[0].TAC != 7 {
			t.Errorf("request %+v", r)
		}
		n.send(&ngap.NGSetupFailure{Cause: ngap.MiscUnknownPLMN, TimeToWait: 5})
		began := time.Now()
		n.accept("a new association")
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("retried after %v, want the time to wait of 5 s", d)
		}
		if e, ok := errors.AsType[*SetupRejected](n.g.Status().Err); !ok || e.Cause != ngap.MiscUnknownPLMN {
			t.Errorf("status error %v", n.g.Status().Err)
		}
		want[*ngap.NGSetupRequest](n, "again")
		began = time.Now()
		n.accept("an AMF that does not answer is left")
		if d := time.Since(began); d != 5*time.Second+400*time.Millisecond {
			t.Errorf("left after %v, want 5 s and the second pause", d)
		}
		n.raw([]byte{0xff, 0xff})
		want[*ngap.NGSetupRequest](n, "again")
		want[*ngap.ErrorIndication](n, "nonsense is answered")
		n.send(&ngap.NGSetupResponse{AMFName: "amf1", GUAMIs: []ident.GUAMI{{PLMN: testPLMN}},
			PLMNs: []ngap.BroadcastPLMN{{PLMN: testPLMN, Slices: []ident.SNSSAI{{SST: 1}}}}})
		<-n.g.Ready()
		cell, err := n.g.Cell(t.Context())
		if err != nil || cell.Location.TAI.TAC != 7 || cell.Location.NRCGI.Cell != 1<<12|1 {
			t.Errorf("cell %+v %v", cell, err)
		}
	})
}

func TestAssociationLost(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u := n.attach(10)
		u.session(100)
		n.n2.Abort()
		if e := wantEvent[ue.Released](u, "RRC connections end"); e.Err != nil {
			t.Errorf("released %v, want orderly: the gNB itself is fine", e.Err)
		}
		if _, ok := <-u.r.Events(); ok {
			t.Error("events are closed after Released")
		}
		if _, err := n.g.Cell(t.Context()); !errors.Is(err, ErrNotServing) {
			t.Errorf("Cell: %v, want ErrNotServing", err)
		}
		began := time.Now()
		n.up()
		if d := time.Since(began); d != 200*time.Millisecond {
			t.Errorf("reconnected after %v, want the shortest pause", d)
		}
		if s := n.g.Status(); s.UEs != 0 || s.Sessions != 0 || s.Counters.Associations != 2 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestUEContextLife(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u := n.attach(10)
		if err := u.r.SendNAS(t.Context(), []byte("up")); err != nil {
			t.Fatal(err)
		}
		m := want[*ngap.UplinkNASTransport](n, "uplink NAS")
		if string(m.NAS) != "up" || m.IDs != u.ids || m.Location.TAI.TAC != 7 {
			t.Errorf("message %+v", m)
		}
		u.session(100)
		ctxs, err := n.g.Contexts(t.Context())
		if err != nil || len(ctxs) != 1 || ctxs[0].AMF != 10 || len(ctxs[0].Sessions) != 1 {
			t.Errorf("contexts %+v %v", ctxs, err)
		}
		n.send(&ngap.UEContextReleaseCommand{IDs: u.ids, HasRAN: true, Cause: ngap.NASNormalRelease})
		c := want[*ngap.UEContextReleaseComplete](n, "complete")
		if len(c.Sessions) != 1 || c.Sessions[0] != 1 {
			t.Errorf("complete %+v: want session 1", c)
		}
		if e := wantEvent[ue.Released](u, "released"); e.Err != nil {
			t.Errorf("released %v, want orderly", e.Err)
		}
		if err := u.r.SendNAS(t.Context(), nil); !errors.Is(err, ue.ErrRadioLinkFailure) {
			t.Errorf("SendNAS afterwards: %v", err)
		}
		// By AMF UE NGAP ID alone.
		u = n.attach(11)
		n.send(&ngap.UEContextReleaseCommand{IDs: ngap.UEIDs{AMF: 11}, Cause: ngap.NASNormalRelease})
		want[*ngap.UEContextReleaseComplete](n, "complete")
		wantEvent[ue.Released](u, "released")
	})
}

func TestRadioClosedByUE(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u := n.attach(10)
		u.session(100)
		u.r.Close()
		r := want[*ngap.UEContextReleaseRequest](n, "the AMF is asked to release")
		if r.Cause != ngap.RadioConnectionWithUELost || len(r.Sessions) != 1 {
			t.Errorf("request %+v", r)
		}
		n.send(&ngap.DownlinkNASTransport{IDs: u.ids, NAS: []byte("late")})
		d := want[*ngap.NASNonDeliveryIndication](n, "NAS for a UE that has gone")
		if string(d.NAS) != "late" || d.Cause != ngap.RadioConnectionWithUELost {
			t.Errorf("indication %+v", d)
		}
		// No command comes: after 10 s a partial reset frees both sides.
		n.silence("Release is 10 s", 10*time.Second-time.Millisecond)
		rs := want[*ngap.NGReset](n, "partial reset")
		if rs.All || len(rs.Connections) != 1 || *rs.Connections[0].RAN != u.ids.RAN || *rs.Connections[0].AMF != 10 {
			t.Errorf("reset %+v", rs)
		}
		if s := n.g.Status(); s.UEs != 0 || s.Sessions != 0 {
			t.Errorf("status %+v", s)
		}
		// Closed before the AMF has answered at all.
		radio, err := n.g.Connect(t.Context(), ue.ConnectRequest{Cause: 3, NAS: []byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		i := want[*ngap.InitialUEMessage](n, "initial")
		radio.Close()
		ids := ngap.UEIDs{AMF: 12, RAN: i.RAN}
		n.send(&ngap.DownlinkNASTransport{IDs: ids, NAS: []byte("hi")})
		want[*ngap.NASNonDeliveryIndication](n, "gone")
		want[*ngap.UEContextReleaseRequest](n, "and to be released")
		n.send(&ngap.UEContextReleaseCommand{IDs: ids, HasRAN: true, Cause: ngap.NASNormalRelease})
		want[*ngap.UEContextReleaseComplete](n, "complete")
		// And if the AMF never answers, the context does not stay for ever.
		if radio, err = n.g.Connect(t.Context(), ue.ConnectRequest{Cause: 3, NAS: []byte{1}}); err != nil {
			t.Fatal(err)
		}
		i = want[*ngap.InitialUEMessage](n, "initial")
		radio.Close()
		n.silence("Release is 10 s", 10*time.Second-time.Millisecond)
		if rs := want[*ngap.NGReset](n, "partial reset"); *rs.Connections[0].RAN != i.RAN || rs.Connections[0].AMF != nil {
			t.Errorf("reset %+v: want the RAN UE NGAP ID alone", rs)
		}
		if s := n.g.Status(); s.UEs != 0 {
			t.Errorf("%d UE contexts left", s.UEs)
		}
	})
}

func TestSessionResources(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u := n.attach(10)
		n.send(&ngap.PDUSessionResourceSetupRequest{IDs: u.ids, Sessions: []ngap.SessionSetup{setupItem(n, 2, 200)}})
		e := want[*ngap.ErrorIndication](n, "sessions need a UE context")
		if *e.Cause != ngap.ProtocolNotCompatibleState || e.Diagnostics == nil || e.Diagnostics.Procedure != ngap.ProcPDUSessionResourceSetup {
			t.Errorf("indication %+v", e)
		}
		u.session(100)
		bad := setupItem(n, 3, 300)
		bad.Transfer = []byte{0xff}
		v6 := setupItem(n, 4, 400)
		v6.Transfer, _ = ngap.EncodeTransfer(&ngap.SetupRequestTransfer{
			Uplink: ident.FTEID{Addr: ident.UEAddress{V6: netipPrefix("2001:db8::/64")}.Reach(), TEID: 1},
			Type:   ident.IPv4, Flows: []ngap.QoSFlow{{QFI: 1, FiveQI: 9, ARPPriority: 8}},
		})
		n.send(&ngap.PDUSessionResourceSetupRequest{IDs: u.ids, Sessions: []ngap.SessionSetup{
			setupItem(n, 1, 101), setupItem(n, 2, 200), bad, v6,
		}})
		r := want[*ngap.PDUSessionResourceSetupResponse](n, "partial success")
		if len(r.Sessions) != 1 || r.Sessions[0].ID != 2 || len(r.Failed) != 3 {
			t.Fatalf("response %+v", r)
		}
		for i, c := range []ngap.Cause{ngap.RadioMultipleSessionIDs, ngap.ProtocolTransferSyntax, ngap.TransportResourceUnavailable} {
			f, err := ngap.DecodeUnsuccessfulTransfer(r.Failed[i].Transfer)
			if err != nil || f.Cause != c {
				t.Errorf("session %d: cause %v %v, want %v", r.Failed[i].ID, f, err, c)
			}
		}
		if b := wantEvent[ue.BearerUp](u, "session 2"); b.Session != 2 {
			t.Errorf("bearer %+v", b)
		}
		if m := wantEvent[ue.DownlinkNAS](u, "NAS of the good one only"); m.NAS[1] != 2 {
			t.Errorf("NAS %x", m.NAS)
		}
		tr, err := ngap.EncodeTransfer(&ngap.ModifyRequestTransfer{AMBR: &ident.AMBR{Uplink: 1e6, Downlink: 1e6}})
		if err != nil {
			t.Fatal(err)
		}
		n.send(&ngap.PDUSessionResourceModifyRequest{IDs: u.ids, Sessions: []ngap.SessionSetup{
			{ID: 2, NAS: []byte("mod"), Transfer: tr}, {ID: 9, Transfer: tr},
		}})
		m := want[*ngap.PDUSessionResourceModifyResponse](n, "modified")
		if len(m.Sessions) != 1 || len(m.Failed) != 1 || m.Failed[0].ID != 9 {
			t.Errorf("response %+v", m)
		}
		wantEvent[ue.DownlinkNAS](u, "NAS of the modification")
		if tr, err = ngap.EncodeTransfer(&ngap.ReleaseCommandTransfer{Cause: ngap.NASNormalRelease}); err != nil {
			t.Fatal(err)
		}
		n.send(&ngap.PDUSessionResourceReleaseCommand{IDs: u.ids, NAS: []byte("rel"),
			Sessions: []ngap.SessionTransfer{{ID: 2, Transfer: tr}}})
		want[*ngap.PDUSessionResourceReleaseResponse](n, "released")
		wantEvent[ue.DownlinkNAS](u, "NAS first")
		wantEvent[ue.BearerDown](u, "then the bearer")
		if s := n.g.Status(); s.Sessions != 1 {
			t.Errorf("%d sessions left, want 1", s.Sessions)
		}
		n.send(&ngap.InitialContextSetupRequest{IDs: u.ids, GUAMI: ident.GUAMI{PLMN: testPLMN},
			AllowedNSSAI: []ident.SNSSAI{{SST: 1}}, EA: 0xe, IA: 0xe})
		want[*ngap.InitialContextSetupFailure](n, "a second context")
	})
}

func TestUnknownIdentifiers(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u, other := n.attach(10), n.attach(20)
		n.send(&ngap.DownlinkNASTransport{IDs: ngap.UEIDs{AMF: 99, RAN: 4711}, NAS: []byte{1}})
		e := want[*ngap.ErrorIndication](n, "unknown RAN UE NGAP ID")
		if *e.Cause != ngap.RadioUnknownLocalUENGAPID || *e.IDs.RAN != 4711 || *e.IDs.AMF != 99 {
			t.Errorf("indication %+v", e)
		}
		// "an inconsistent remote AP ID": the connection that has it is released, not the
		// one addressed (clause 10.6).
		for _, amf := range []int64{99, u.ids.AMF} {
			n.send(&ngap.DownlinkNASTransport{IDs: ngap.UEIDs{AMF: amf, RAN: other.ids.RAN}, NAS: []byte{1}})
			if e := want[*ngap.ErrorIndication](n, "wrong AMF UE NGAP ID"); *e.Cause != ngap.RadioInconsistentRemoteID {
				t.Errorf("indication %+v", e)
			}
		}
		if e := wantEvent[ue.Released](u, "local release of who has that identifier"); !errors.Is(e.Err, ue.ErrRadioLinkFailure) {
			t.Errorf("released %v", e.Err)
		}
		n.send(&ngap.DownlinkNASTransport{IDs: other.ids, NAS: []byte("well")})
		wantEvent[ue.DownlinkNAS](other, "the UE addressed is unharmed")
		// The AMF says which identifier is erroneous: nobody's, then the other UE's.
		inconsistent, unknown, nobody := ngap.RadioInconsistentRemoteID, ngap.RadioUnknownLocalUENGAPID, uint32(4711)
		n.send(&ngap.ErrorIndication{IDs: ngap.PartialIDs{AMF: &other.ids.AMF, RAN: &nobody}, Cause: &inconsistent})
		n.send(&ngap.DownlinkNASTransport{IDs: other.ids, NAS: []byte("still")})
		wantEvent[ue.DownlinkNAS](other, "the error was about another's RAN UE NGAP ID")
		n.send(&ngap.ErrorIndication{IDs: ngap.PartialIDs{AMF: &other.ids.AMF, RAN: &other.ids.RAN}, Cause: &unknown})
		wantEvent[ue.Released](other, "the AMF does not know it")
		n.silence("an error indication is not answered", time.Minute)
		if c := n.g.Status().Counters; c.UnknownID != 3 || c.ErrorIndications != 2 {
			t.Errorf("counters %+v", c)
		}
	})
}

func TestReset(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		a, b := n.attach(10), n.attach(20)
		n.send(&ngap.NGReset{Cause: ngap.MiscUnspecified, Connections: []ngap.PartialIDs{{RAN: &a.ids.RAN}, {AMF: new(int64)}}})
		ack := want[*ngap.NGResetAcknowledge](n, "partial reset")
		if len(ack.Connections) != 2 {
			t.Errorf("acknowledge %+v: want both connections", ack)
		}
		wantEvent[ue.Released](a, "reset")
		n.send(&ngap.NGReset{Cause: ngap.MiscUnspecified, All: true})
		want[*ngap.NGResetAcknowledge](n, "reset")
		wantEvent[ue.Released](b, "reset")
		c := n.attach(30)
		done := make(chan error, 1)
		go func() { done <- n.g.Reset(t.Context()) }()
		if r := want[*ngap.NGReset](n, "ours"); !r.All {
			t.Errorf("reset %+v", r)
		}
		wantEvent[ue.Released](c, "reset")
		n.send(&ngap.NGResetAcknowledge{})
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestUEThatDoesNotRead(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u, other := n.attach(10), n.attach(20)
		for range radioQueue {
			n.send(&ngap.DownlinkNASTransport{IDs: u.ids, NAS: []byte("x")})
		}
		want[*ngap.UEContextReleaseRequest](n, "its queue is full: it is released")
		want[*ngap.NASNonDeliveryIndication](n, "and the message returned")
		n.send(&ngap.DownlinkNASTransport{IDs: other.ids, NAS: []byte("x")})
		wantEvent[ue.DownlinkNAS](other, "others are not affected")
	})
}

func TestStopEndsRadios(t *testing.T) {
	var u *testUE
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.up()
		u = n.attach(10)
		go func() {
			for e := range u.r.Events() {
				if r, ok := e.(ue.Released); ok && !errors.Is(r.Err, ue.ErrRadioLinkFailure) {
					t.Errorf("released %v, want radio link failure", r.Err)
				}
			}
		}()
		synctest.Wait()
	})
}

// Every cell of the tables has a handler that survives its message in that state,
// and every absent one is counted.
func TestTableCells(t *testing.T) {
	for k := kindSetupResponse; k <= kindSessionRelease; k++ {
		msg := sample(k)
		if kindOf(msg) != k {
			t.Fatalf("sample of kind %d is %T", k, msg)
		}
		if row, ok := nodeTable[k]; ok {
			for s := n2Down; s <= n2Up; s++ {
				c := testCore()
				c.n2 = s
				c.step(msg)
				if _, legal := row[s]; legal != (c.counters.WrongState == 0) {
					t.Errorf("%T in N2 state %d: legal %v, wrong %d", msg, s, legal, c.counters.WrongState)
				}
			}
			continue
		}
		for s := ueInitial; s <= ueReleasing; s++ {
			c := testCore()
			c.n2 = n2Up
			u := &ueContext{ran: 1, amf: 1, hasAMF: s != ueInitial, state: s, bearers: map[sessionID]*bearer{}}
			c.ues[1] = u
			if u.hasAMF {
				c.byAMF[1] = u
			}
			c.step(msg)
			state := s
			if s == ueInitial && k != kindContextRelease {
				state = ueSignalling // the message itself makes the AMF's ID known
			}
			_, legal := ueTable[k][state]
			again := k == kindContextSetup && state == ueContextUp // counted by its handler
			if legal != (c.counters.WrongState == 0) && !again {
				t.Errorf("%T in UE state %d: legal %v, wrong %d", msg, s, legal, c.counters.WrongState)
			}
			if len(c.take()) == 0 {
				t.Errorf("%T in UE state %d: no answer", msg, s)
			}
		}
	}
}

func testCore() *core {
	g, err := New(testConfig(), Deps{N2: noDialer{}, N3: noConn{}})
	if err != nil {
		panic(err)
	}
	c := newCore(g)
	c.now = time.Unix(0, 0)
	return c
}

func sample(k kind) ngap.Message {
	ids := ngap.UEIDs{AMF: 1, RAN: 1}
	switch k {
	case kindSetupResponse:
		return &ngap.NGSetupResponse{}
	case kindSetupFailure:
		return &ngap.NGSetupFailure{}
	case kindReset:
		return &ngap.NGReset{All: true}
	case kindResetAck:
		return &ngap.NGResetAcknowledge{}
	case kindErrorIndication:
		return &ngap.ErrorIndication{}
	case kindDownlinkNAS:
		return &ngap.DownlinkNASTransport{IDs: ids}
	case kindContextSetup:
		return &ngap.InitialContextSetupRequest{IDs: ids}
	case kindContextRelease:
		return &ngap.UEContextReleaseCommand{IDs: ids, HasRAN: true}
	case kindSessionSetup:
		return &ngap.PDUSessionResourceSetupRequest{IDs: ids}
	case kindSessionModify:
		return &ngap.PDUSessionResourceModifyRequest{IDs: ids}
	default:
		return &ngap.PDUSessionResourceReleaseCommand{IDs: ids}
	}
}
