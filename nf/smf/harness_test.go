package smf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	smfAddr = netip.MustParseAddrPort("10.0.4.1:8805")
	upfAddr = netip.MustParseAddrPort("10.0.4.2:8805")
	up2Addr = netip.MustParseAddrPort("10.0.4.3:8805")
	gnbA    = ident.FTEID{Addr: netip.MustParseAddr("10.0.3.101"), TEID: 0xa1}
	gnbB    = ident.FTEID{Addr: netip.MustParseAddr("10.0.3.102"), TEID: 0xb2}
	slice1  = ident.SNSSAI{SST: 1, SD: "010203"}
	mbps    = ident.AMBR{Uplink: 10_000_000, Downlink: 20_000_000}
)

const imsi1 ident.SUPI = "imsi-001010000000001"

func testConfig() Config {
	return Config{
		NFID: "smf-1",
		UPFs: []UPF{{Name: "upf1", N4: upfAddr, DNNs: []UPFDNN{{DNN: "internet", Pools: []netip.Prefix{netip.MustParsePrefix("10.45.0.0/16")}}}}},
		DNNs: []DNN{{Name: "internet", DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2620:fe::fe")}, MTU: 1420}},
	}
}

// harness is an SMF between a test UPF, a test AMF and a test UDM.
type harness struct {
	log logBuffer
	t   *testing.T
	net *memnet.Network
	smf *SMF
	upf *testUPF
	amf *testAMF
	udm *testUDM
	chf sbi.Charging // nil: none

	stop func()
}

// bubble runs f with a started SMF inside a synctest bubble. prepare may change
// the configuration and the doubles first.
func bubble(t *testing.T, prepare func(*Config, *harness), f func(h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, net: memnet.New(memnet.Config{}), amf: &testAMF{}, udm: &testUDM{data: sbi.SessionData{AMBR: mbps, FiveQI: 7, ARPPriority: 3}}}
		cfg := testConfig()
		h.upf = newTestUPF(h, upfAddr)
		if prepare != nil {
			prepare(&cfg, h)
		}
		conn, err := h.net.ListenUDP(smfAddr)
		if err != nil {
			t.Fatal(err)
		}
		h.smf, err = New(cfg, Deps{
			Log: slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), &h.log), nil)), N4: conn, SubscriberData: h.udm, UEContext: h.udm,
			AMF:  func(sbi.NFID) (sbi.Communication, error) { return h.amf, nil },
			Rand: bytes.NewReader(make([]byte, 64)), Charging: h.chf,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.smf.Run(ctx) }()
		h.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run returned %v, want nil after cancel", err)
			}
		})
		defer h.net.Close()
		defer h.upf.kill()
		defer h.stop()
		<-h.smf.Ready()
		synctest.Wait()
		f(h)
	})
}

// testUPF is a UPF that answers as one should, and remembers what it was asked.
type testUPF struct {
	h    *harness
	addr netip.AddrPort

	mu       sync.Mutex
	conn     dgram.Conn
	recovery time.Time
	assoc    bool
	sessions map[ident.SEID]*upfSession
	next     uint64
	got      []upfRequest
	answers  []pfcp.Message // responses received
	override func(pfcp.Message) (m pfcp.Message, answer bool)
	seq      uint32
}

type upfRequest struct {
	at  time.Time
	h   pfcp.Header
	m   pfcp.Message
	raw []byte
}

type upfSession struct {
	smf    pfcp.FSEID
	ue     ident.UEAddress
	uplink ident.FTEID
	chosen bool
	down   *pfcp.FAR
	qer    pfcp.QER
}

func newTestUPF(h *harness, addr netip.AddrPort) *testUPF {
	u := &testUPF{h: h, addr: addr}
	u.start()
	return u
}

// start binds the socket; a UPF that starts again knows nothing.
func (u *testUPF) start() {
	conn, err := u.h.net.ListenUDP(u.addr)
	if err != nil {
		u.h.t.Fatal(err)
	}
	u.mu.Lock()
	u.conn, u.recovery, u.assoc, u.sessions = conn, time.Now().UTC().Truncate(time.Second), false, map[ident.SEID]*upfSession{}
	u.mu.Unlock()
	go u.serve(conn)
}

func (u *testUPF) kill() { u.conn.Close() }

func (u *testUPF) serve(conn dgram.Conn) {
	ds := []dgram.Datagram{{Buf: make([]byte, 65535)}}
	for {
		if _, err := conn.ReadBatch(ds); err != nil {
			return
		}
		b := bytes.Clone(ds[0].Buf[:ds[0].N])
		h, m, err := pfcp.Decode(b)
		if err != nil {
			u.h.t.Errorf("the UPF got what it cannot read: %v", err)
			continue
		}
		u.handle(ds[0].Addr, upfRequest{time.Now(), h, m, b})
	}
}

func (u *testUPF) handle(from netip.AddrPort, r upfRequest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := r.h.Type.Response(); !ok {
		u.answers = append(u.answers, r.m)
		return
	}
	if _, ok := r.m.(*pfcp.HeartbeatRequest); !ok {
		u.got = append(u.got, r)
	}
	if u.override != nil {
		if m, answer := u.override(r.m); m != nil || !answer {
			if answer {
				u.send(from, pfcp.Header{SEID: u.peerSEID(r), Sequence: r.h.Sequence}, m)
			}
			return
		}
	}
	seid := u.peerSEID(r)
	u.send(from, pfcp.Header{SEID: seid, Sequence: r.h.Sequence}, u.answer(r))
}

func (u *testUPF) peerSEID(r upfRequest) ident.SEID {
	if m, ok := r.m.(*pfcp.SessionEstablishmentRequest); ok {
		return m.FSEID.SEID
	}
	if s := u.sessions[r.h.SEID]; s != nil {
		return s.smf.SEID
	}
	return 0
}

func (u *testUPF) answer(r upfRequest) pfcp.Message {
	node := pfcp.NodeID{Addr: u.addr.Addr()}
	switch m := r.m.(type) {
	case *pfcp.HeartbeatRequest:
		return &pfcp.HeartbeatResponse{Recovery: u.recovery}
	case *pfcp.AssociationSetupRequest:
		u.assoc, u.sessions = true, map[ident.SEID]*upfSession{}
		return &pfcp.AssociationSetupResponse{Node: node, Cause: pfcp.CauseAccepted, Recovery: u.recovery}
	case *pfcp.SessionEstablishmentRequest:
		if !u.assoc {
			return &pfcp.SessionEstablishmentResponse{Node: node, Cause: pfcp.CauseNoAssociation}
		}
		u.next++
		s := &upfSession{smf: m.FSEID, down: &m.Rules.FARs[1], qer: m.Rules.QERs[0], ue: *m.Rules.PDRs[1].PDI.UEAddress}
		out := &pfcp.SessionEstablishmentResponse{Node: node, Cause: pfcp.CauseAccepted, FSEID: &pfcp.FSEID{SEID: ident.SEID(u.next), Addr: u.addr.Addr()}}
		if s.chosen = m.Rules.PDRs[0].PDI.ChooseTEID; s.chosen {
			s.uplink = ident.FTEID{Addr: netip.MustParseAddr("10.0.3.1"), TEID: ident.TEID(0x1000 + u.next)}
			out.Created = []pfcp.CreatedPDR{{ID: 1, FTEID: s.uplink}}
		} else {
			s.uplink = *m.Rules.PDRs[0].PDI.FTEID
		}
		u.sessions[ident.SEID(u.next)] = s
		return out
	case *pfcp.SessionModificationRequest:
		s := u.sessions[r.h.SEID]
		if s == nil {
			return &pfcp.SessionModificationResponse{Cause: pfcp.CauseSessionNotFound}
		}
		for _, f := range m.Update.FARs {
			s.down = &f
		}
		for _, q := range m.Update.QERs {
			if q.MBR != nil {
				s.qer.MBR = q.MBR
			}
		}
		return &pfcp.SessionModificationResponse{Cause: pfcp.CauseAccepted}
	case *pfcp.SessionDeletionRequest:
		if u.sessions[r.h.SEID] == nil {
			return &pfcp.SessionDeletionResponse{Cause: pfcp.CauseSessionNotFound}
		}
		delete(u.sessions, r.h.SEID)
		return &pfcp.SessionDeletionResponse{Cause: pfcp.CauseAccepted, Usage: []pfcp.UsageReport{{URR: 1, Trigger: pfcp.TriggerTermination, UplinkBytes: 1}}}
	}
	u.h.t.Errorf("the UPF got a %T", r.m)
	return nil
}

func (u *testUPF) send(to netip.AddrPort, h pfcp.Header, m pfcp.Message) {
	b, err := pfcp.Encode(h, m)
	if err != nil {
		u.h.t.Errorf("test UPF: %v", err)
		return
	}
	u.raw(to, b)
}

func (u *testUPF) raw(to netip.AddrPort, b []byte) {
	if _, err := u.conn.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: to}}); err != nil {
		u.h.t.Logf("test UPF: %v", err)
	}
}

// request sends a request of the UPF's own and returns the answers since.
func (u *testUPF) request(seid ident.SEID, m pfcp.Message) []pfcp.Message {
	u.mu.Lock()
	u.seq++
	u.answers = nil
	u.send(smfAddr, pfcp.Header{SEID: seid, Sequence: u.seq}, m)
	u.mu.Unlock()
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.answers
}

func (u *testUPF) setOverride(f func(pfcp.Message) (pfcp.Message, bool)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.override = f
}

// taken returns the requests since the last call, without heartbeats.
func (u *testUPF) taken() []upfRequest {
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	g := u.got
	u.got = nil
	return g
}

// want is taken, failing unless the types are as listed.
func (u *testUPF) want(why string, types ...pfcp.MessageType) []upfRequest {
	u.h.t.Helper()
	g := u.taken()
	var got []pfcp.MessageType
	for _, r := range g {
		got = append(got, r.h.Type)
	}
	if !slices.Equal(got, types) {
		u.h.t.Fatalf("%s: the UPF got %v, want %v", why, got, types)
	}
	return g
}

// only returns the one session there is.
func (u *testUPF) only() (ident.SEID, *upfSession) {
	u.h.t.Helper()
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sessions) != 1 {
		u.h.t.Fatalf("the UPF has %d sessions, want 1", len(u.sessions))
	}
	for id, s := range u.sessions {
		c := *s
		return id, &c
	}
	return 0, nil
}

func (u *testUPF) count() int {
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.sessions)
}

type testAMF struct {
	mu       sync.Mutex
	got      []amfMessage
	released []sessionKey
	fail     func(sbi.N1N2Message) error
}

type amfMessage struct {
	at   time.Time
	supi ident.SUPI
	sbi.N1N2Message
}

func (a *testAMF) N1N2Transfer(_ context.Context, supi ident.SUPI, m sbi.N1N2Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail != nil {
		if err := a.fail(m); err != nil {
			return err
		}
	}
	a.got = append(a.got, amfMessage{time.Now(), supi, m})
	return nil
}

func (a *testAMF) SMContextReleased(_ context.Context, supi ident.SUPI, id ident.PDUSessionID, _ sbi.SMContextRef) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.released = append(a.released, sessionKey{supi, id})
	return nil
}

func (a *testAMF) Deregister(context.Context, ident.SUPI, sbi.DeregistrationReason) error {
	return nil
}

func (a *testAMF) setFail(f func(sbi.N1N2Message) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = f
}

func (a *testAMF) taken() []amfMessage {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.got
	a.got = nil
	return g
}

func (a *testAMF) gone() int {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.released)
}

type testUDM struct {
	mu         sync.Mutex
	data       sbi.SessionData
	static     map[ident.SUPI]netip.Addr
	err        error
	registered []string
}

func (u *testUDM) AccessMobility(context.Context, ident.SUPI) (sbi.AccessMobilityData, error) {
	return sbi.AccessMobilityData{}, errors.New("not for an SMF")
}

func (u *testUDM) SessionManagement(_ context.Context, supi ident.SUPI, _ ident.SNSSAI, _ ident.DNN) (sbi.SessionData, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d := u.data
	d.Static.V4 = u.static[supi]
	return d, u.err
}

func (u *testUDM) RegisterAMF(context.Context, ident.SUPI, sbi.AMFRegistration) error { return nil }
func (u *testUDM) DeregisterAMF(context.Context, ident.SUPI, sbi.NFID) error          { return nil }

func (u *testUDM) RegisterSMF(_ context.Context, supi ident.SUPI, r sbi.SMFRegistration) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.registered = append(u.registered, fmt.Sprintf("+%s/%d %s", supi, r.Session, r.DNN))
	return nil
}

func (u *testUDM) DeregisterSMF(_ context.Context, supi ident.SUPI, id ident.PDUSessionID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.registered = append(u.registered, fmt.Sprintf("-%s/%d", supi, id))
	return nil
}

// Shorthands.

func n1(t *testing.T, m nas.Message) []byte {
	t.Helper()
	b, err := nas.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func n2(t *testing.T, v any) []byte {
	t.Helper()
	b, err := ngap.EncodeTransfer(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decodeN1[T nas.Message](t *testing.T, b []byte) T {
	t.Helper()
	m, err := nas.Decode(b)
	if err != nil {
		t.Fatalf("5GSM message %x: %v", b, err)
	}
	v, ok := m.(T)
	if !ok {
		t.Fatalf("got a %T, want a %T", m, v)
	}
	return v
}

func request() *nas.PDUSessionEstablishmentRequest {
	return &nas.PDUSessionEstablishmentRequest{
		SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: 9}, SessionType: ident.IPv4, SSCMode: 1,
		PCO: &nas.PCO{RequestDNSv4: true, RequestMTU: true},
	}
}

func (h *harness) context(supi ident.SUPI) sbi.CreateSMContext {
	return sbi.CreateSMContext{
		SUPI: supi, Session: 5, DNN: "internet", SNSSAI: slice1, AMF: "amf-1",
		GUAMI: ident.GUAMI{PLMN: ident.PLMN{MCC: "001", MNC: "01"}}, N1: n1(h.t, request()),
	}
}

func (h *harness) create(supi ident.SUPI) sbi.SMContextRef {
	h.t.Helper()
	ref, err := h.smf.CreateSMContext(h.t.Context(), h.context(supi))
	if err != nil {
		h.t.Fatalf("create: %v", err)
	}
	return ref
}

func (h *harness) update(ref sbi.SMContextRef, req sbi.UpdateSMContext) sbi.UpdatedSMContext {
	h.t.Helper()
	out, err := h.smf.UpdateSMContext(h.t.Context(), ref, req)
	if err != nil {
		h.t.Fatalf("update: %v", err)
	}
	return out
}

func (h *harness) setupResponse(gnb ident.FTEID) sbi.UpdateSMContext {
	return sbi.UpdateSMContext{N2: n2(h.t, &ngap.SetupResponseTransfer{Downlink: gnb, Flows: []ident.QFI{1}}), N2Type: sbi.N2SetupResponse}
}

// active makes a session with its user plane up.
func (h *harness) active(supi ident.SUPI) sbi.SMContextRef {
	h.t.Helper()
	ref := h.create(supi)
	synctest.Wait()
	h.update(ref, h.setupResponse(gnbA))
	synctest.Wait()
	if s := h.session(supi); s.State != "active" || s.UserPlane != "activated" {
		h.t.Fatalf("got session %+v, want it active with its user plane up", s)
	}
	h.upf.taken()
	h.amf.taken()
	return ref
}

func (h *harness) session(supi ident.SUPI) SessionStatus {
	h.t.Helper()
	synctest.Wait()
	for _, s := range h.smf.Status().Sessions {
		if s.SUPI == supi {
			return s
		}
	}
	return SessionStatus{State: "none"}
}

// events subscribes and returns what arrived since the last call of the result.
func (h *harness) events(immediate bool) func() []string {
	h.t.Helper()
	var mu sync.Mutex
	var got []string
	_, err := h.smf.Subscribe(h.t.Context(), sbi.EventSubscription{ImmediateReport: immediate}, func(e sbi.SessionEvent) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s/%d %s %s", e.Type, e.SUPI.IMSI()[12:], e.Session, e.Address.V4, e.UPF))
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		g := got
		got = nil
		return g
	}
}

func wantStrings(t *testing.T, why string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", why, got, want)
	}
}

func supi(n int) ident.SUPI { return ident.SUPI(fmt.Sprintf("imsi-00101%010d", n)) }

// advance lets fake time pass.
// logBuffer keeps what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns the logged lines that contain every one of parts.
func (l *logBuffer) lines(parts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			out = append(out, line)
		}
	}
	return out
}

func (h *harness) advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
