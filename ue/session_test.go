package ue

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

func TestSessionLife(t *testing.T) {
	cfg := testConfig()
	cfg.Sessions = []SessionConfig{{ID: 1, DNN: "internet", SNSSAI: &ident.SNSSAI{SST: 1}}}
	bubble(t, cfg, func(t *testing.T, n *testNet) {
		done := n.register("")
		c := n.wantConn("registration")
		if r := c.admit(); !r.FollowOnRequest {
			t.Error("a UE that wants a session says so (follow-on request)")
		}
		if err := n.result("register", done); err != nil {
			t.Fatal(err)
		}
		req, tr := wantSM[*nas.PDUSessionEstablishmentRequest](c, "configured sessions follow the registration")
		if tr.DNN != "internet" || tr.RequestType != nas.RequestInitial || tr.SNSSAI == nil || tr.PDUSessionID != 1 {
			t.Errorf("transport %+v", tr)
		}
		c.events <- BearerUp{Session: 1, QFIs: []ident.QFI{5}}
		a := acceptSession(req)
		a.PCO = &nas.PCO{MTU: 1420}
		c.sm(a, 1)
		if err := n.u.Wait(t.Context(), func(s Status) bool { v, _ := s.Session(1); return v.Bearer && v.State == SMActive }); err != nil {
			t.Fatal(err)
		}
		s, _ := n.u.Status().Session(1)
		if s.Info.MTU != 1420 || s.Info.Address.V4.String() != "10.45.0.2" || s.Info.DNN != "internet" {
			t.Errorf("info %+v", s.Info)
		}
		dev := n.host.dev(1)
		dev.in <- []byte("hello")
		if got := <-c.packets; got != "1/5 hello" {
			t.Errorf("uplink %q", got)
		}
		c.recv(1, [][]byte{[]byte("x"), []byte("y")})
		if a, b := <-dev.out, <-dev.out; a != "x" || b != "y" {
			t.Errorf("downlink %q %q", a, b)
		}
		s, _ = n.u.Status().Session(1)
		if s.UplinkPackets != 1 || s.DownlinkPackets != 2 || s.UplinkBytes != 5 {
			t.Errorf("counters %+v", s)
		}
		// Modification by the network, the command twice: the second is answered from
		// memory only if it carries the PTI; a network-requested one has none.
		c.sm(&nas.PDUSessionModificationCommand{SMHeader: nas.SMHeader{PDUSessionID: 1}, AMBR: &ident.AMBR{Uplink: 1e6, Downlink: 1e6}}, 1)
		wantSM[*nas.PDUSessionModificationComplete](c, "accepted")
		// UE-requested release.
		done = start(func() error { return n.u.ReleaseSession(t.Context(), 1) })
		rel, _ := wantSM[*nas.PDUSessionReleaseRequest](c, "release request")
		cmd := &nas.PDUSessionReleaseCommand{SMHeader: rel.SMHeader, Cause: nas.SMRegularDeactivation}
		c.sm(cmd, 1)
		wantSM[*nas.PDUSessionReleaseComplete](c, "release complete")
		if err := n.result("release", done); err != nil {
			t.Error(err)
		}
		c.sm(cmd, 1)
		wantSM[*nas.PDUSessionReleaseComplete](c, "a command sent again is completed again (clause 7.3.1)")
		if !dev.closed() {
			t.Error("the interface is closed")
		}
		c.wantSilence("a released session is not wanted any more", time.Hour)
	})
}

// T3580 and T3582 are 16 s: five transmissions, then the procedure is aborted.
func TestSessionTimers(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		done := start(func() error {
			_, err := n.u.EstablishSession(t.Context(), SessionConfig{ID: 4})
			return err
		})
		var pti ident.PTI
		for i := range 5 {
			r, _ := wantSM[*nas.PDUSessionEstablishmentRequest](c, "transmission")
			if i > 0 && r.PTI != pti {
				t.Error("a retransmission keeps its PTI")
			}
			pti = r.PTI
			c.wantSilence("T3580 is 16 s", 16*time.Second-time.Millisecond)
		}
		if err := n.result("establish", done); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("EstablishSession: %v, want ErrNoAnswer after five transmissions", err)
		}
		c.wantSilence("given up", time.Hour)
		c.established()
		for _, x := range []struct {
			why string
			f   func() error
			get func()
		}{
			{"T3581", func() error { return n.u.ModifySession(t.Context(), 1) }, func() { wantSM[*nas.PDUSessionModificationRequest](c, "T3581") }},
			{"T3582", func() error { return n.u.ReleaseSession(t.Context(), 1) }, func() { wantSM[*nas.PDUSessionReleaseRequest](c, "T3582") }},
		} {
			done = start(x.f)
			for range 5 {
				x.get()
				c.wantSilence(x.why+" is 16 s", 16*time.Second-time.Millisecond)
			}
			if err := n.result(x.why, done); !errors.Is(err, ErrNoAnswer) {
				t.Errorf("%s: %v, want ErrNoAnswer", x.why, err)
			}
		}
		if s, _ := n.u.Status().Session(1); s.State != SMInactive {
			t.Error("after the fifth T3582 the session is released locally")
		}
	})
}

func TestSessionRefusals(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		establish := func() <-chan error {
			return start(func() error {
				_, err := n.u.EstablishSession(t.Context(), SessionConfig{ID: 2, DNN: "no"})
				return err
			})
		}
		done := establish()
		r, _ := wantSM[*nas.PDUSessionEstablishmentRequest](c, "request")
		c.sm(&nas.PDUSessionEstablishmentReject{SMHeader: r.SMHeader, Cause: nas.SMMissingOrUnknownDNN}, 2)
		if e, ok := errors.AsType[*SessionRejected](n.result("establish", done)); !ok || e.Cause != nas.SMMissingOrUnknownDNN {
			t.Errorf("want SessionRejected cause 27, got %v", e)
		}
		done = establish()
		_, tr := wantSM[*nas.PDUSessionEstablishmentRequest](c, "request")
		c.send(&nas.DLNASTransport{PayloadType: nas.PayloadN1SM, Payload: tr.Payload, PDUSessionID: 2, Cause: nas.MMDNNNotSupported})
		if e, ok := errors.AsType[*NotForwarded](n.result("establish", done)); !ok || e.Cause != nas.MMDNNNotSupported {
			t.Errorf("want NotForwarded cause 91, got %v", e)
		}
		// An interface that cannot be opened gives the session back.
		n.host.fail = errors.New("no tun")
		done = establish()
		c.acceptNext()
		if err := n.result("establish", done); !errors.Is(err, n.host.fail) {
			t.Errorf("establish: %v, want the host's error", err)
		}
		wantSM[*nas.PDUSessionReleaseRequest](c, "the session is given back")
		// PTI and identity checks, clause 7.3.
		st := func(m nas.Message, why string, want nas.SMCause) {
			t.Helper()
			c.sm(m, 9)
			if s, _ := wantSM[*nas.SMStatus](c, why); s.Cause != want {
				t.Errorf("%s: cause %d, want %d", why, s.Cause, want)
			}
		}
		st(&nas.PDUSessionReleaseCommand{SMHeader: nas.SMHeader{PDUSessionID: 9}, Cause: 36}, "no such session", nas.SMInvalidPDUSessionIdentity)
		st(&nas.PDUSessionEstablishmentReject{SMHeader: nas.SMHeader{PDUSessionID: 9, PTI: 77}, Cause: 36}, "PTI of nobody", smPTIMismatch)
		if _, err := n.u.EstablishSession(t.Context(), SessionConfig{ID: 16}); err == nil {
			t.Error("session 16 does not exist")
		}
		if err := n.u.ReleaseSession(t.Context(), 7); !errors.Is(err, ErrUnknownSession) {
			t.Errorf("release of a session that is not: %v", err)
		}
	})
}

func TestReactivationRequested(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		c.sm(&nas.PDUSessionReleaseCommand{SMHeader: nas.SMHeader{PDUSessionID: 1}, Cause: nas.SMReactivationRequested}, 1)
		wantSM[*nas.PDUSessionReleaseComplete](c, "complete")
		wantSM[*nas.PDUSessionEstablishmentRequest](c, "cause 39 asks for it again")
	})
}

func TestTableCells(t *testing.T) {
	t.Run("5GMM", func(t *testing.T) {
		samples := map[nas.MessageType]nas.Message{
			nas.TypeRegistrationAccept: &nas.RegistrationAccept{}, nas.TypeRegistrationReject: &nas.RegistrationReject{Cause: 3},
			nas.TypeAuthenticationRequest: &nas.AuthenticationRequest{}, nas.TypeAuthenticationReject: &nas.AuthenticationReject{},
			nas.TypeIdentityRequest: &nas.IdentityRequest{IdentityType: 1}, nas.TypeSecurityModeCommand: &nas.SecurityModeCommand{},
			nas.TypeConfigurationUpdateCommand: &nas.ConfigurationUpdateCommand{}, nas.TypeServiceAccept: &nas.ServiceAccept{},
			nas.TypeServiceReject: &nas.ServiceReject{Cause: 3}, nas.TypeDeregistrationAcceptUE: &nas.DeregistrationAccept{},
			nas.TypeDeregistrationRequestNet: &nas.DeregistrationRequest{FromNetwork: true},
			nas.TypeDLNASTransport:           &nas.DLNASTransport{PayloadType: 9}, nas.TypeMMStatus: &nas.MMStatus{},
		}
		if len(samples) != len(mmTable) {
			t.Errorf("%d samples for %d rows", len(samples), len(mmTable))
		}
		for typ, msg := range samples {
			for state := MMNull; state <= MMServiceRequestInitiated; state++ {
				m := testMachine()
				m.state = state
				// SECURITY MODE COMMAND comes with the context that checked it.
				m.sec.current = nas.NewSecurityContext(1, 0, 2, [16]byte{}, [16]byte{}, false)
				m.step(msg)
				_, legal := mmTable[typ][state]
				wrong := m.counters.WrongState != 0
				if state != MMNull && legal == wrong {
					t.Errorf("%v in %v: legal %v but counted as wrong %v", typ, state, legal, wrong)
				}
				if state == MMNull && (legal || len(m.out) != 0) {
					t.Errorf("%v: a UE that is off hears nothing", typ)
				}
			}
		}
	})
	t.Run("5GSM", func(t *testing.T) {
		h := nas.SMHeader{PDUSessionID: 1, PTI: 9}
		for _, msg := range []nas.Message{
			&nas.PDUSessionEstablishmentAccept{SMHeader: h}, &nas.PDUSessionEstablishmentReject{SMHeader: h},
			&nas.PDUSessionModificationCommand{SMHeader: h}, &nas.PDUSessionModificationReject{SMHeader: h},
			&nas.PDUSessionReleaseCommand{SMHeader: h}, &nas.PDUSessionReleaseReject{SMHeader: h}, &nas.SMStatus{SMHeader: h},
		} {
			for state := SMInactive; state <= SMModificationPending; state++ {
				m := testMachine()
				m.state, m.cm = MMRegistered, cmConnected
				m.sessions[1] = &session{state: state, pti: 9, info: SessionInfo{ID: 1}}
				m.stepSM(msg)
				_, legal := smTable[msg.Type()][state]
				if wrong := m.counters.WrongState != 0; legal == wrong {
					t.Errorf("%v in %v: legal %v but counted as wrong %v", msg.Type(), state, legal, wrong)
				}
			}
		}
	})
}

func testMachine() *machine {
	m := newMachine(testConfig(), discard(), zeroReader{})
	m.now = time.Unix(0, 0)
	return m
}

func TestIdleUplinkConnects(t *testing.T) {
	cfg := testConfig()
	cfg.AllowIdle = true
	bubble(t, cfg, func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		sec := c.sec
		<-time.After(time.Minute)
		c.release(nil)
		n.wantNoConn("the UE may stay idle", 10*time.Minute)
		n.host.dev(1).in <- []byte("lost")
		c = n.wantConn("a packet to send")
		if c.req.Cause != causeData {
			t.Errorf("cause %d, want mo-Data", c.req.Cause)
		}
		c.sec = sec
		r := wantUplink[*nas.ServiceRequest](c, "service request")
		if r.ServiceType != serviceData || r.STMSI != testGUTI.STMSI() || r.UplinkDataStatus != nil {
			t.Errorf("request %+v: want data, 5G-S-TMSI, cleartext IEs only", r)
		}
		b, _ := sec.DecipherContainer(r.NASContainer)
		full, err := nas.Decode(b)
		if err != nil || *full.(*nas.ServiceRequest).UplinkDataStatus != 2 {
			t.Errorf("container %+v %v: want uplink data status of session 1", full, err)
		}
		c.events <- BearerUp{Session: 1, QFIs: []ident.QFI{5}}
		c.send(&nas.ServiceAccept{})
		synctest.Wait()
		n.host.dev(1).in <- []byte("kept")
		if got := <-c.packets; got != "1/5 kept" {
			t.Errorf("packet %q", got)
		}
		if s, _ := n.u.Status().Session(1); s.UplinkDropped != 1 {
			t.Errorf("dropped %d, want 1", s.UplinkDropped)
		}
	})
}

// PTI rules (TS 24.501 clause 7.3.1): an answer with the unassigned value and any
// message with the reserved one are ignored.
func TestPTIIgnored(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		c.sm(&nas.PDUSessionModificationReject{SMHeader: nas.SMHeader{PDUSessionID: 1}, Cause: 31}, 1)
		c.sm(&nas.PDUSessionReleaseReject{SMHeader: nas.SMHeader{PDUSessionID: 1}, Cause: 31}, 1)
		c.sm(&nas.PDUSessionReleaseCommand{SMHeader: nas.SMHeader{PDUSessionID: 1, PTI: 255}, Cause: 36}, 1)
		c.wantSilence("ignored", time.Second)
		if s, _ := n.u.Status().Session(1); s.State != SMActive {
			t.Errorf("session %+v", s)
		}
		if s := n.u.Status(); s.Counters.WrongState != 3 {
			t.Errorf("%d counted, want 3", s.Counters.WrongState)
		}
	})
}

// A network-requested modification while the UE's own waits: the network's is carried
// out and the UE's is aborted (TS 24.501 clause 6.4.2.5).
func TestModificationCollision(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		done := start(func() error { return n.u.ModifySession(t.Context(), 1) })
		wantSM[*nas.PDUSessionModificationRequest](c, "the UE's request")
		c.sm(&nas.PDUSessionModificationCommand{SMHeader: nas.SMHeader{PDUSessionID: 1}, AMBR: &ident.AMBR{Uplink: 1e6, Downlink: 1e6}}, 1)
		wantSM[*nas.PDUSessionModificationComplete](c, "the network's goes on")
		if err := n.result("modify", done); err == nil {
			t.Error("the UE's own request was not carried out")
		}
		synctest.Wait()
		if s, _ := n.u.Status().Session(1); s.State != SMActive {
			t.Errorf("state %v, want active", s.State)
		}
		c.wantSilence("T3581 is stopped", time.Minute)
	})
}
