package amf

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

var (
	testPLMN  = ident.PLMN{MCC: "001", MNC: "01"}
	testSlice = ident.SNSSAI{SST: 1}
	n2Addr    = netip.MustParseAddrPort("127.0.0.1:38412")
)

func testConfig() Config {
	return Config{
		NFID: "11111111-1111-4111-8111-111111111111", Name: "amf1",
		GUAMI: ident.GUAMI{PLMN: testPLMN, Region: 2, Set: 1, Pointer: 3},
		PLMNs: []PLMNSupport{{PLMN: testPLMN, TACs: []ident.TAC{1, 2}, Slices: []ident.SNSSAI{testSlice, {SST: 2, SD: "010203"}}}},
	}
}

// testCore is an AMF in a synctest bubble with everything around it faked.
type testCore struct {
	*core
	t      *testing.T
	amf    *AMF
	l      *sctp.PipeListener
	cancel context.CancelFunc
	done   chan error
}

// bubble runs f with an AMF that serves, and ends the AMF afterwards. A goroutine
// that outlives Run fails the test.
func bubble(t *testing.T, change func(*Config), subs []*subscriber, f func(*testing.T, *testCore)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		if change != nil {
			change(&cfg)
		}
		tc := &testCore{core: newCore(subs...), t: t, l: sctp.NewPipeListener(n2Addr), done: make(chan error, 1)}
		var err error
		d := Deps{N2: tc.l, Authentication: tc.core, SubscriberData: tc.core, UEContext: tc.core, Sessions: tc.core}
		if cfg.Name == withEIR {
			d.Equipment = tc.core
		}
		tc.amf, err = New(cfg, d)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		tc.cancel = cancel
		go func() { tc.done <- tc.amf.Run(ctx) }()
		<-tc.amf.Ready()
		f(t, tc)
		cancel()
		if err := <-tc.done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// testGNB plays a gNB.
type testGNB struct {
	tc   *testCore
	t    *testing.T
	conn sctp.Conn
	ran  uint32
	tai  ident.TAI
}

// dial opens an association without NG Setup.
func (tc *testCore) dial() *testGNB {
	tc.t.Helper()
	conn, err := tc.l.Dial(tc.t.Context(), n2Addr)
	if err != nil {
		tc.t.Fatal(err)
	}
	return &testGNB{tc: tc, t: tc.t, conn: conn, tai: ident.TAI{PLMN: testPLMN, TAC: 1}}
}

func setupRequest(id uint32) *ngap.NGSetupRequest {
	return &ngap.NGSetupRequest{
		GNB: ident.GNBID{PLMN: testPLMN, Value: id, Bits: 24}, Name: "gnb",
		Supported: []ngap.SupportedTA{{TAC: 1, Broadcast: []ngap.BroadcastPLMN{{PLMN: testPLMN, Slices: []ident.SNSSAI{testSlice}}}}},
	}
}

// gnb is a gNB that has been set up.
func (tc *testCore) gnb(id uint32) *testGNB {
	tc.t.Helper()
	g := tc.dial()
	g.write(setupRequest(id))
	want[*ngap.NGSetupResponse](g, "NG Setup is answered")
	return g
}

func (g *testGNB) writeOn(stream uint16, m ngap.Message) {
	g.t.Helper()
	b, err := ngap.Encode(m)
	if err != nil {
		g.t.Fatalf("encode %T: %v", m, err)
	}
	g.writeBytes(stream, b)
}

func (g *testGNB) writeBytes(stream uint16, b []byte) {
	g.t.Helper()
	if err := g.conn.Send(g.t.Context(), sctp.Message{Stream: stream, PPID: sctp.PPIDNGAP, Data: b}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *testGNB) write(m ngap.Message) {
	g.t.Helper()
	g.writeOn(1, m)
}

// poll returns what has arrived, nil if nothing has. Fake time stands still.
func (g *testGNB) poll() (ngap.Message, error) {
	g.t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m, err := g.conn.Recv(ctx)
	if err != nil {
		return nil, err
	}
	msg, err := ngap.Decode(m.Data)
	if err != nil {
		g.t.Fatalf("AMF sent undecodable NGAP: %v", err)
	}
	return msg, nil
}

// want is the next message from the AMF, which must be a T and be there already.
func want[T ngap.Message](g *testGNB, why string) T {
	g.t.Helper()
	m, err := g.poll()
	if err != nil {
		g.t.Fatalf("%s: want %v, got nothing (%v)", why, reflect.TypeFor[T](), err)
	}
	v, ok := m.(T)
	if !ok {
		g.t.Fatalf("%s: want %v, got %T %+v", why, reflect.TypeFor[T](), m, m)
	}
	return v
}

// wantIdle fails if the AMF sent anything.
func (g *testGNB) wantIdle(why string) {
	g.t.Helper()
	if m, err := g.poll(); err == nil {
		g.t.Fatalf("%s: want nothing, got %T %+v", why, m, m)
	}
}

// wantClosed fails unless the AMF ended the association.
func (g *testGNB) wantClosed(why string) {
	g.t.Helper()
	if _, err := g.poll(); err == nil || errors.Is(err, context.Canceled) {
		g.t.Fatalf("%s: association still stands (%v)", why, err)
	}
}

// testUE plays a UE behind a gNB.
type testUE struct {
	*subscriber
	t       *testing.T
	g       *testGNB
	ids     ngap.UEIDs
	sec     *nas.SecurityContext
	pending *nas.SecurityContext // until SECURITY MODE COMMAND is verified
	kamf    [32]byte
	kgnb    [32]byte // received from the AMF
	guti    *ident.GUTI
	caps    nas.SecurityCapability
	request *nas.RegistrationRequest
	accept  *nas.RegistrationAccept
	ics     *ngap.InitialContextSetupRequest
	smc     *nas.SecurityModeCommand
	auth    *nas.AuthenticationRequest
	cipher  []byte // the last protected uplink message, for replay
}

func (g *testGNB) ue(s *subscriber) *testUE {
	return &testUE{subscriber: s, t: g.t, g: g, caps: nas.SecurityCapability{EA: 0x0f, IA: 0x0f}}
}

// initialRequest is REGISTRATION REQUEST for initial registration with the SUCI.
func (u *testUE) initialRequest() *nas.RegistrationRequest {
	c := u.caps
	return &nas.RegistrationRequest{
		RegistrationType: nas.RegistrationInitial, FollowOnRequest: true, NGKSI: nas.NoKey,
		Identity: nas.MobileIdentity{SUCI: u.suci()}, Capability: &c,
	}
}

// gutiRequest is a REGISTRATION REQUEST by 5G-GUTI.
func (u *testUE) gutiRequest(typ uint8) *nas.RegistrationRequest {
	r := u.initialRequest()
	r.RegistrationType = typ
	r.Identity = nas.MobileIdentity{GUTI: u.guti}
	if u.sec != nil {
		r.NGKSI = u.sec.NGKSI()
	}
	return r
}

func (u *testUE) encode(m nas.Message) []byte {
	u.t.Helper()
	b, err := nas.Encode(m)
	if err != nil {
		u.t.Fatalf("encode %T: %v", m, err)
	}
	return b
}

func (u *testUE) protect(m nas.Message, h nas.SecurityHeader) []byte {
	u.t.Helper()
	b, err := u.sec.Protect(u.encode(m), h)
	if err != nil {
		u.t.Fatal(err)
	}
	u.cipher = b
	return b
}

// connect sends an INITIAL UE MESSAGE on a new RAN UE NGAP ID.
func (u *testUE) connect(pdu []byte) {
	u.t.Helper()
	u.g.ran++
	u.ids = ngap.UEIDs{RAN: u.g.ran}
	u.g.write(&ngap.InitialUEMessage{
		RAN: u.ids.RAN, NAS: pdu, EstablishmentCause: 3, ContextRequested: true,
		Location: ident.Location{NRCGI: ident.NRCGI{PLMN: testPLMN, Cell: 16}, TAI: u.g.tai},
	})
}

// connectProtected sends an initial message integrity protected (TS 24.501 clause
// 4.4.6), everything in cleartext.
func (u *testUE) connectProtected(m nas.Message) {
	u.t.Helper()
	u.connect(u.protect(m, nas.HeaderIntegrity))
}

// uplink sends bytes in UPLINK NAS TRANSPORT.
func (u *testUE) uplink(pdu []byte) {
	u.t.Helper()
	u.g.write(&ngap.UplinkNASTransport{IDs: u.ids, NAS: pdu, Location: ident.Location{
		NRCGI: ident.NRCGI{PLMN: testPLMN, Cell: 16}, TAI: u.g.tai}})
}

func (u *testUE) sendPlain(m nas.Message) {
	u.t.Helper()
	u.uplink(u.encode(m))
}

func (u *testUE) send(m nas.Message) {
	u.t.Helper()
	u.uplink(u.protect(m, nas.HeaderIntegrityCiphered))
}

// nasOf takes the NAS message and identifiers out of an NGAP message.
func (u *testUE) nasOf(m ngap.Message) []byte {
	var pdu []byte
	switch m := m.(type) {
	case *ngap.DownlinkNASTransport:
		u.ids, pdu = m.IDs, m.NAS
	case *ngap.InitialContextSetupRequest:
		u.ids, pdu, u.ics, u.kgnb = m.IDs, m.NAS, m, m.SecurityKey
	}
	return pdu
}

// open removes the protection of a downlink message.
func (u *testUE) open(pdu []byte) nas.Message {
	u.t.Helper()
	h, err := nas.PeekSecurityHeader(pdu)
	if err != nil {
		u.t.Fatal(err)
	}
	plain := pdu
	switch h {
	case nas.HeaderPlain:
	case nas.HeaderIntegrityNew: // SECURITY MODE COMMAND: the keys follow from its content
		if plain, err = nas.PeekPlain(pdu); err != nil {
			u.t.Fatal(err)
		}
		m, err := nas.Decode(plain)
		if err != nil {
			u.t.Fatal(err)
		}
		cmd := m.(*nas.SecurityModeCommand)
		if u.pending == nil {
			enc, integ := aka.NASKeys(u.kamf, cmd.Ciphering, cmd.Integrity)
			u.pending = nas.NewSecurityContext(cmd.NGKSI, cmd.Ciphering, cmd.Integrity, enc, integ, false)
		}
		if _, _, err := u.pending.Unprotect(pdu); err != nil {
			u.t.Fatalf("SECURITY MODE COMMAND: %v", err)
		}
		u.smc = cmd
		return m
	default:
		if u.sec == nil {
			u.t.Fatalf("protected message (type %d) without security context", h)
		}
		if plain, _, err = u.sec.Unprotect(pdu); err != nil {
			u.t.Fatalf("downlink NAS: %v", err)
		}
	}
	m, err := nas.Decode(plain)
	if err != nil {
		u.t.Fatalf("AMF sent undecodable NAS: %v", err)
	}
	return m
}

// wantDownlink is the next message for the UE, a T, in whatever NGAP message.
func wantDownlink[T nas.Message](u *testUE, why string) T {
	u.t.Helper()
	m, err := u.g.poll()
	if err != nil {
		u.t.Fatalf("%s: want %v, got nothing (%v)", why, reflect.TypeFor[T](), err)
	}
	pdu := u.nasOf(m)
	if pdu == nil {
		u.t.Fatalf("%s: want %v, got %T %+v", why, reflect.TypeFor[T](), m, m)
	}
	got := u.open(pdu)
	v, ok := got.(T)
	if !ok {
		u.t.Fatalf("%s: want %v, got %T %+v", why, reflect.TypeFor[T](), got, got)
	}
	return v
}

// wantStatus is a 5GMM STATUS with the cause.
func (u *testUE) wantStatus(cause nas.MMCause, why string) {
	u.t.Helper()
	if m := wantDownlink[*nas.MMStatus](u, why); m.Cause != cause {
		u.t.Fatalf("%s: 5GMM STATUS with cause %d, want %d", why, m.Cause, cause)
	}
}

// answerChallenge computes what the USIM answers and derives K_AMF.
func (u *testUE) answerChallenge(m *nas.AuthenticationRequest) *nas.AuthenticationResponse {
	snn := testPLMN.ServingNetworkName()
	res, kseaf := u.keys(snn, m.RAND, m.AUTN)
	u.kamf = aka.KAMF(kseaf, u.supi, m.ABBA)
	u.pending = nil
	return &nas.AuthenticationResponse{RESStar: res[:]}
}

// completeSecurity answers SECURITY MODE COMMAND with the complete initial message.
func (u *testUE) completeSecurity(initial nas.Message) {
	u.t.Helper()
	u.sec = u.pending
	c := &nas.SecurityModeComplete{PEI: "imeisv-4370816125816151"}
	if initial != nil {
		c.NASContainer = u.encode(initial)
	}
	u.uplink(u.protect(c, nas.HeaderIntegrityCipheredNew))
}

// The steps of an initial registration; each leaves the AMF in the state named.

func (u *testUE) toAuthentication() {
	u.t.Helper()
	u.request = u.initialRequest()
	u.connect(u.encode(u.request))
	u.auth = wantDownlink[*nas.AuthenticationRequest](u, "a SUCI is authenticated")
}

func (u *testUE) toSecurityMode() {
	u.t.Helper()
	u.toAuthentication()
	u.sendPlain(u.answerChallenge(u.auth))
	wantDownlink[*nas.SecurityModeCommand](u, "a correct RES* is followed by security mode control")
}

func (u *testUE) toAccepted() {
	u.t.Helper()
	u.toSecurityMode()
	u.completeSecurity(u.request)
	u.takeAccept()
}

func (u *testUE) takeAccept() {
	u.t.Helper()
	u.accept = wantDownlink[*nas.RegistrationAccept](u, "registration is accepted")
	u.guti = u.accept.GUTI
}

func (u *testUE) contextDone() {
	u.t.Helper()
	u.g.write(&ngap.InitialContextSetupResponse{IDs: u.ids})
}

func (u *testUE) register() {
	u.t.Helper()
	u.toAccepted()
	u.contextDone()
	u.send(&nas.RegistrationComplete{})
	u.wantState("REGISTERED", "after REGISTRATION COMPLETE")
}

// status is the UE's entry in Status; ok is false without one.
func (u *testUE) status() (UEStatus, bool) {
	synctest.Wait()
	for _, s := range u.g.tc.amf.Status().UEs {
		if s.SUPI == u.supi {
			return s, true
		}
	}
	return UEStatus{}, false
}

func (u *testUE) wantState(state, why string) {
	u.t.Helper()
	s, ok := u.status()
	if !ok || s.State != state {
		u.t.Fatalf("%s: state %q (known %v), want %q", why, s.State, ok, state)
	}
}

func (u *testUE) wantUnknown(why string) {
	u.t.Helper()
	if s, ok := u.status(); ok {
		u.t.Fatalf("%s: UE still in state %s", why, s.State)
	}
}

// wantRelease is a UE CONTEXT RELEASE COMMAND, which the gNB completes.
func (u *testUE) wantRelease(cause ngap.Cause, why string) {
	u.t.Helper()
	m := want[*ngap.UEContextReleaseCommand](u.g, why)
	if m.IDs.RAN != u.ids.RAN || m.Cause != cause {
		u.t.Fatalf("%s: release of RAN UE %d with cause %d/%d, want %d with %d/%d", why,
			m.IDs.RAN, m.Cause.Group(), m.Cause.Value(), u.ids.RAN, cause.Group(), cause.Value())
	}
	u.g.write(&ngap.UEContextReleaseComplete{IDs: m.IDs})
	synctest.Wait()
}

// session establishes PDU session id: N1 to the SMF, N1N2Transfer back, resources.
func (u *testUE) session(id ident.PDUSessionID) {
	u.t.Helper()
	u.send(&nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: smRequest(id), PDUSessionID: id, RequestType: nas.RequestInitial})
	synctest.Wait()
	err := u.g.tc.amf.N1N2Transfer(u.t.Context(), u.supi, sbi.N1N2Message{
		Session: id, N1: []byte{0x2e, byte(id), 1, 0xc2}, N2: []byte{9, 9}, N2Type: sbi.N2SetupRequest, SNSSAI: testSlice})
	if err != nil {
		u.t.Fatalf("N1N2Transfer: %v", err)
	}
	m := want[*ngap.PDUSessionResourceSetupRequest](u.g, "resources are set up")
	u.open(m.Sessions[0].NAS)
	u.g.write(&ngap.PDUSessionResourceSetupResponse{IDs: u.ids, Sessions: []ngap.SessionTransfer{{ID: id, Transfer: []byte{1}}}})
	synctest.Wait()
}

// smRequest is some PDU SESSION ESTABLISHMENT REQUEST.
func smRequest(id ident.PDUSessionID) []byte {
	return []byte{0x2e, byte(id), 1, 0xc1, 0xff, 0xff, 0x91}
}

// sessions lists the UE's sessions as Status shows them.
func (u *testUE) sessions() []ident.PDUSessionID {
	s, _ := u.status()
	var ids []ident.PDUSessionID
	for _, x := range s.Sessions {
		ids = append(ids, x.ID)
	}
	return ids
}

func (tc *testCore) wantCalls(why string, lines ...string) {
	tc.t.Helper()
	synctest.Wait()
	if got := tc.calls(); !slices.Equal(got, lines) {
		tc.t.Fatalf("%s: calls\n  %q\nwant\n  %q", why, got, lines)
	}
}

// sleep advances fake time.
func sleep(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
