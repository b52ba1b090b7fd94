package inproc

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/amf"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/scenariotest"
)

var (
	home     = ident.PLMN{MCC: "001", MNC: "01"}
	here     = ident.Location{NRCGI: ident.NRCGI{PLMN: home, Cell: 0x990}, TAI: ident.TAI{PLMN: home, TAC: 1}}
	nobody   = ngap.UEIDs{AMF: 1 << 39, RAN: 4_000_000_000} // identifiers of no UE
	setupReq = &ngap.NGSetupRequest{
		GNB: ident.GNBID{PLMN: home, Value: 99, Bits: 24}, Name: "stranger",
		Supported: []ngap.SupportedTA{{TAC: 1, Broadcast: []ngap.BroadcastPLMN{{PLMN: home, Slices: []ident.SNSSAI{{SST: 1}}}}}},
	}
)

// n2Peer is a gNB of the tests' own: an SCTP association to the AMF.
type n2Peer struct {
	t    *testing.T
	conn sctp.Conn
}

// dialAMF opens an association, which the end of t closes.
func (w *world) dialAMF(t *testing.T) *n2Peer {
	t.Helper()
	carrier, err := w.links.n2.ListenIP(w.strangerOn("amf", plan.N2), ipprotoSCTP)
	if err != nil {
		t.Fatal(err)
	}
	st, err := sctp.NewStack(carrier, sctp.StackConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := st.Dial(ctx, w.at("amf", plan.N2, sctp.PortNGAP), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		bye, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := conn.Close(bye); err != nil {
			t.Errorf("the AMF does not take part in the association's end: %v", err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &n2Peer{t, conn}
}

func (p *n2Peer) raw(b []byte, ppid uint32) {
	p.t.Helper()
	if err := p.conn.Send(p.t.Context(), sctp.Message{PPID: ppid, Data: b}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *n2Peer) send(m ngap.Message) {
	p.t.Helper()
	p.raw(encodeNGAP(p.t, m), sctp.PPIDNGAP)
}

func encodeNGAP(t *testing.T, m ngap.Message) []byte {
	t.Helper()
	b, err := ngap.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// next returns the AMF's next message.
func (p *n2Peer) next() ngap.Message {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	in, err := p.conn.Recv(ctx)
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	m, err := ngap.Decode(in.Data)
	if err != nil {
		p.t.Fatalf("answer %x: %v", in.Data, err)
	}
	return m
}

// want receives a message of type M.
func want[M ngap.Message](p *n2Peer) M {
	p.t.Helper()
	m := p.next()
	r, ok := m.(M)
	if !ok {
		p.t.Fatalf("got %T %+v, want %v", m, m, reflect.TypeFor[M]())
	}
	return r
}

// wantError receives an ERROR INDICATION with a cause.
func (p *n2Peer) wantError(c ngap.Cause) *ngap.ErrorIndication {
	p.t.Helper()
	e := want[*ngap.ErrorIndication](p)
	if e.Cause == nil || *e.Cause != c {
		p.t.Errorf("ERROR INDICATION %+v, want cause %d/%d", e, c.Group(), c.Value())
	}
	return e
}

// wantNothing makes sure that the AMF has not answered what was sent before: the
// answer to something else comes next.
func (p *n2Peer) wantNothing() {
	p.t.Helper()
	p.send(&ngap.UplinkNASTransport{IDs: nobody, NAS: []byte{0x7e, 0, 0x64, 0x6f}, Location: here})
	if e := p.wantError(ngap.RadioUnknownLocalUENGAPID); e.IDs.RAN == nil || *e.IDs.RAN != nobody.RAN {
		p.t.Errorf("got %+v, want the answer to another message", e)
	}
}

func (p *n2Peer) setUp() {
	p.t.Helper()
	p.send(setupReq)
	want[*ngap.NGSetupResponse](p)
}

// suci is the null-scheme SUCI of an MSIN in the home network.
func suci(t *testing.T, msin string) nas.MobileIdentity {
	t.Helper()
	b, err := aka.MSINToBCD(msin)
	if err != nil {
		t.Fatal(err)
	}
	return nas.MobileIdentity{SUCI: &nas.SUCI{PLMN: home, RoutingIndicator: "0", SchemeOutput: b}}
}

func registration(t *testing.T, id nas.MobileIdentity) []byte {
	return encodeNAS(t, &nas.RegistrationRequest{
		RegistrationType: nas.RegistrationInitial, NGKSI: nas.NoKey, Identity: id,
		Capability: &nas.SecurityCapability{EA: 0xf, IA: 0xf},
	})
}

func encodeNAS(t *testing.T, m nas.Message) []byte {
	t.Helper()
	b, err := nas.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func initial(ran uint32, pdu []byte) *ngap.InitialUEMessage {
	return &ngap.InitialUEMessage{RAN: ran, NAS: pdu, Location: here, EstablishmentCause: 3}
}

// witnessIDs are the identifiers of the witness's N2 connection, which is another
// gNB's.
func (w *world) witnessIDs(t *testing.T) ngap.UEIDs {
	t.Helper()
	for _, u := range w.parts.amf.Status().UEs {
		if u.SUPI == w.imsi.SUPI() {
			return ngap.UEIDs{AMF: u.AMFUEID, RAN: u.RANUEID}
		}
	}
	t.Fatal("the AMF does not know the witness")
	return ngap.UEIDs{}
}

// TestN2AnswersAsSpecified sends the AMF what no gNB should, each over an
// association of its own, and checks the answer (TS 38.413 clause 10), the counter,
// and that the UE on the other gNB notices nothing.
func TestN2AnswersAsSpecified(t *testing.T) {
	w := newWorld(t)
	strange := *setupReq
	strange.Supported = []ngap.SupportedTA{{TAC: 1, Broadcast: []ngap.BroadcastPLMN{{
		PLMN: ident.PLMN{MCC: "999", MNC: "99"}, Slices: []ident.SNSSAI{{SST: 1}},
	}}}}
	reg := registration(t, suci(t, "0000000002"))
	for _, tt := range []struct {
		name    string
		do      func(p *n2Peer)
		counter func(amf.Counters) uint64
	}{
		{"INITIAL UE MESSAGE before NG SETUP", func(p *n2Peer) {
			p.send(initial(1, reg))
			p.wantError(ngap.ProtocolNotCompatibleState)
		}, func(c amf.Counters) uint64 { return c.NGAPNotCompatible }},
		{"not NGAP at all", func(p *n2Peer) {
			p.raw([]byte("GET / HTTP/1.1\r\n\r\n"), sctp.PPIDNGAP)
			p.wantError(ngap.ProtocolTransferSyntax)
		}, func(c amf.Counters) uint64 { return c.NGAPUndecodable }},
		{"NG SETUP REQUEST truncated at every octet", func(p *n2Peer) {
			b := encodeNGAP(p.t, setupReq)
			for n := 1; n < len(b); n++ {
				p.raw(b[:n], sctp.PPIDNGAP)
				switch m := p.next().(type) {
				case *ngap.ErrorIndication, *ngap.NGSetupFailure:
				default:
					p.t.Errorf("%d octets: got %T, want an error", n, m)
				}
			}
		}, func(c amf.Counters) uint64 { return c.NGAPUndecodable }},
		{"INITIAL UE MESSAGE truncated at every octet", func(p *n2Peer) {
			p.setUp()
			b := encodeNGAP(p.t, initial(1, reg))
			for n := 1; n < len(b); n++ {
				p.raw(b[:n], sctp.PPIDNGAP)
				want[*ngap.ErrorIndication](p)
			}
		}, func(c amf.Counters) uint64 { return c.NGAPUndecodable }},
		{"another payload protocol", func(p *n2Peer) {
			p.setUp()
			p.raw(encodeNGAP(p.t, initial(1, reg)), 46)
			p.wantNothing()
		}, func(c amf.Counters) uint64 { return c.NGAPUndecodable }},
		{"undecodable ERROR INDICATION", func(p *n2Peer) {
			p.setUp()
			cause := ngap.MiscUnspecified
			b := encodeNGAP(p.t, &ngap.ErrorIndication{Cause: &cause})
			p.raw(b[:len(b)-1], sctp.PPIDNGAP)
			p.wantNothing()
		}, func(c amf.Counters) uint64 { return c.NGAPUndecodable }},
		{"NG SETUP for another PLMN", func(p *n2Peer) {
			p.send(&strange)
			if f := want[*ngap.NGSetupFailure](p); f.Cause != ngap.MiscUnknownPLMN {
				p.t.Errorf("cause %d/%d, want unknown PLMN", f.Cause.Group(), f.Cause.Value())
			}
		}, func(c amf.Counters) uint64 { return c.NGSetupsRejected }},
		{"NG SETUP twice", func(p *n2Peer) {
			p.setUp()
			p.setUp()
		}, func(c amf.Counters) uint64 { return c.NGSetups }},
		{"unknown UE identifiers", func(p *n2Peer) {
			p.setUp()
			p.send(&ngap.UplinkNASTransport{IDs: ngap.UEIDs{AMF: 12345, RAN: 6}, NAS: reg, Location: here})
			e := p.wantError(ngap.RadioUnknownLocalUENGAPID)
			if e.IDs.AMF == nil || *e.IDs.AMF != 12345 || e.IDs.RAN == nil || *e.IDs.RAN != 6 {
				p.t.Errorf("ERROR INDICATION for %+v, want the identifiers as received", e.IDs)
			}
		}, func(c amf.Counters) uint64 { return c.NGAPUnknownUE }},
		{"another gNB's UE", func(p *n2Peer) {
			p.setUp()
			ids := w.witnessIDs(p.t)
			for _, m := range []ngap.Message{
				&ngap.UplinkNASTransport{IDs: ids, NAS: reg, Location: here},
				&ngap.UEContextReleaseRequest{IDs: ids, Cause: ngap.RadioUserInactivity},
				&ngap.InitialContextSetupFailure{IDs: ids, Cause: ngap.RadioUnspecified},
			} {
				p.send(m)
				p.wantError(ngap.RadioUnknownLocalUENGAPID)
			}
			p.send(&ngap.UEContextReleaseComplete{IDs: ids})
			cause := ngap.RadioUnknownLocalUENGAPID
			p.send(&ngap.ErrorIndication{IDs: ngap.PartialIDs{AMF: &ids.AMF, RAN: &ids.RAN}, Cause: &cause})
			p.send(&ngap.ErrorIndication{IDs: ngap.PartialIDs{AMF: &ids.AMF}, Cause: &cause})
			p.wantNothing()
			if now := w.witnessIDs(p.t); now != ids {
				p.t.Errorf("the witness's connection is %+v, was %+v", now, ids)
			}
		}, func(c amf.Counters) uint64 { return c.NGAPUnknownUE }},
		{"right AMF UE NGAP ID, wrong RAN UE NGAP ID", func(p *n2Peer) {
			p.setUp()
			p.send(initial(7, reg))
			ids := want[*ngap.DownlinkNASTransport](p).IDs
			p.send(&ngap.UplinkNASTransport{IDs: ngap.UEIDs{AMF: ids.AMF, RAN: 8}, NAS: reg, Location: here})
			p.wantError(ngap.RadioInconsistentRemoteID)
		}, func(c amf.Counters) uint64 { return c.NGAPUnknownUE }},
		{"INITIAL UE MESSAGE twice with one RAN UE NGAP ID", func(p *n2Peer) {
			p.setUp()
			p.send(initial(7, reg))
			a := want[*ngap.DownlinkNASTransport](p).IDs
			p.send(initial(7, reg))
			b := want[*ngap.DownlinkNASTransport](p).IDs
			if a.AMF == b.AMF {
				p.t.Errorf("both connections have AMF UE NGAP ID %d", a.AMF)
			}
			p.send(&ngap.UplinkNASTransport{IDs: a, NAS: reg, Location: here})
			p.wantError(ngap.RadioUnknownLocalUENGAPID)
		}, func(c amf.Counters) uint64 { return c.NGAPUnknownUE }},
		{"a message that only an AMF sends", func(p *n2Peer) {
			p.setUp()
			p.send(&ngap.DownlinkNASTransport{IDs: w.witnessIDs(p.t), NAS: reg})
			p.wantError(ngap.ProtocolNotCompatibleState)
		}, func(c amf.Counters) uint64 { return c.NGAPNotCompatible }},
		{"the answer to a question never asked", func(p *n2Peer) {
			p.setUp()
			p.send(initial(7, reg))
			ids := want[*ngap.DownlinkNASTransport](p).IDs
			p.send(&ngap.InitialContextSetupResponse{IDs: ids})
			p.send(&ngap.PDUSessionResourceSetupResponse{IDs: ids, Sessions: []ngap.SessionTransfer{{ID: 5, Transfer: []byte{1, 2, 3}}}})
			p.send(&ngap.NGResetAcknowledge{})
			p.wantNothing()
		}, func(c amf.Counters) uint64 { return c.NGAPReceived }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			count := func() uint64 { return tt.counter(w.parts.amf.Status().Counters) }
			before := count()
			t.Run("peer", func(t *testing.T) { tt.do(w.dialAMF(t)) })
			counted(t, tt.name, before, count, 0)
			w.alive(t)
			w.strangersGone(t)
		})
	}
}

// strangersGone waits until the AMF has no gNB and no UE but the scenario's own.
func (w *world) strangersGone(t *testing.T) {
	t.Helper()
	scenariotest.Settle(t, func() []string {
		st := w.parts.amf.Status()
		if len(st.GNBs) == 1 && len(st.UEs) == 1 {
			return nil
		}
		return []string{fmt.Sprintf("the AMF has gNBs %+v and UEs %+v", st.GNBs, st.UEs)}
	})
}
