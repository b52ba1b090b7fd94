package amf

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

func ulSession(id ident.PDUSessionID, request uint8) *nas.ULNASTransport {
	return &nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: smRequest(id), PDUSessionID: id, RequestType: request}
}

// Selection of slice and DNN, and what comes back when there is none (TS 24.501
// clause 5.4.5.2.5).
func TestSessionSelection(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*nas.ULNASTransport)
		call   string // CreateSMContext as the SMF sees it; empty: none
		cause  nas.MMCause
	}{
		{"defaults", nil, "create 5 internet 1", 0},
		{"named DNN", func(m *nas.ULNASTransport) { m.DNN = "ims" }, "create 5 ims 1", 0},
		{"named slice", func(m *nas.ULNASTransport) { m.SNSSAI = &ident.SNSSAI{SST: 1} }, "create 5 internet 1", 0},
		{"slice not allowed", func(m *nas.ULNASTransport) { m.SNSSAI = &ident.SNSSAI{SST: 2, SD: "010203"} }, "", nas.MMPayloadNotForwarded},
		{"DNN not supported", func(m *nas.ULNASTransport) { m.DNN = "corporate" }, "", nas.MMDNNNotSupported},
		{"no such session", func(m *nas.ULNASTransport) { m.RequestType = 0 }, "", nas.MMPayloadNotForwarded},
		{"existing session of elsewhere", func(m *nas.ULNASTransport) { m.RequestType = nas.RequestExisting }, "", nas.MMPayloadNotForwarded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(c *Config) { c.DNNs = []ident.DNN{"internet", "ims"} }, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
				u := tc.gnb(1).ue(alice)
				u.register()
				tc.calls()
				m := ulSession(5, nas.RequestInitial)
				if tt.change != nil {
					tt.change(m)
				}
				u.send(m)
				if tt.call != "" {
					tc.wantCalls("SMF", tt.call)
					req := tc.created[0]
					if req.SUPI != alice.supi || !bytes.Equal(req.N1, m.Payload) || req.AMF != testConfig().NFID ||
						req.GUAMI != testConfig().GUAMI || req.PEI == "" || req.Location.TAI.TAC != 1 {
						t.Errorf("CreateSMContext %+v", req)
					}
					return
				}
				tc.wantCalls("SMF is not asked")
				back := wantDownlink[*nas.DLNASTransport](u, "the payload comes back")
				if back.Cause != tt.cause || !bytes.Equal(back.Payload, m.Payload) || back.PDUSessionID != 5 {
					t.Errorf("%+v: want cause %d and the payload", back, tt.cause)
				}
			})
		})
	}
}

func TestSessionRefused(t *testing.T) {
	reject := []byte{0x2e, 5, 1, 0xc3, 27}
	for _, tt := range []struct {
		name    string
		err     error
		payload []byte
		cause   nas.MMCause
	}{
		{"with a 5GSM reject", &sbi.SessionRefusal{Problem: sbi.Problem{Status: 403, Cause: sbi.CauseDNNNotAllowed}, N1: reject}, reject, 0},
		{"DNN denied", &sbi.Problem{Status: 403, Cause: sbi.CauseDNNNotAllowed}, smRequest(5), nas.MMDNNNotSupported},
		{"SMF is down", errors.New("connection refused"), smRequest(5), nas.MMPayloadNotForwarded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
				tc.onCreate = func(context.Context, sbi.CreateSMContext) error { return tt.err }
				u := tc.gnb(1).ue(alice)
				u.register()
				u.send(ulSession(5, nas.RequestInitial))
				m := wantDownlink[*nas.DLNASTransport](u, tt.name)
				if !bytes.Equal(m.Payload, tt.payload) || m.Cause != tt.cause || m.PDUSessionID != 5 {
					t.Errorf("%+v: want payload %x, cause %d", m, tt.payload, tt.cause)
				}
				if got := u.sessions(); len(got) != 0 {
					t.Errorf("sessions %v left", got)
				}
			})
		})
	}
}

// An initial request for an ID in use: the old SM context is released first, even
// while a call for it is still out.
func TestDuplicateSessionID(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		u.session(5)
		release := make(chan struct{})
		tc.onUpdate = func(context.Context, sbi.SMContextRef, sbi.UpdateSMContext) (sbi.UpdatedSMContext, error) {
			<-release
			return sbi.UpdatedSMContext{}, nil
		}
		u.send(ulSession(5, 0))
		synctest.Wait()
		tc.calls()
		u.send(ulSession(5, nas.RequestInitial))
		tc.wantCalls("the update is still out")
		close(release)
		tc.wantCalls("in this order", "release sm-1 REL_DUE_TO_DUPLICATE_SESSION_ID", "create 5 internet 1")
	})
}

// The SMF's transfer, then the gNB's answer, then modification and release.
func TestSessionLifecycle(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		tc.calls()
		u.session(5)
		tc.wantCalls("creation and setup", "create 5 internet 1", "update sm-1 PDU_RES_SETUP_RSP n1=0")
		transfer := func(m sbi.N1N2Message) {
			t.Helper()
			m.Session = 5
			if err := tc.amf.N1N2Transfer(t.Context(), alice.supi, m); err != nil {
				t.Fatal(err)
			}
		}
		transfer(sbi.N1N2Message{N1: []byte{0x2e, 5, 0, 0xcb}, N2: []byte{7}, N2Type: sbi.N2ModifyRequest})
		mod := want[*ngap.PDUSessionResourceModifyRequest](u.g, "modification")
		if dl := u.open(mod.Sessions[0].NAS).(*nas.DLNASTransport); dl.PDUSessionID != 5 || !bytes.Equal(mod.Sessions[0].Transfer, []byte{7}) {
			t.Errorf("%+v: want the command and the transfer", mod)
		}
		u.g.write(&ngap.PDUSessionResourceModifyResponse{IDs: u.ids, Sessions: []ngap.SessionTransfer{{ID: 5, Transfer: []byte{1}}}})
		tc.wantCalls("modified", "update sm-1 PDU_RES_MOD_RSP n1=0")
		u.g.write(&ngap.PDUSessionResourceModifyResponse{IDs: u.ids, Failed: []ngap.SessionTransfer{{ID: 5, Transfer: []byte{1}}}})
		tc.wantCalls("not modified", "update sm-1 PDU_RES_MOD_FAIL n1=0")
		transfer(sbi.N1N2Message{N1: []byte{0x2e, 5, 0, 0xcb}})
		wantDownlink[*nas.DLNASTransport](u, "N1 alone")

		// Release asked for by the UE: the SMF answers the update with N1 and N2.
		tc.onUpdate = func(_ context.Context, _ sbi.SMContextRef, req sbi.UpdateSMContext) (sbi.UpdatedSMContext, error) {
			if len(req.N1) > 0 {
				return sbi.UpdatedSMContext{N1: []byte{0x2e, 5, 1, 0xd3}, N2: []byte{8}, N2Type: sbi.N2ReleaseCommand}, nil
			}
			return sbi.UpdatedSMContext{}, nil
		}
		u.send(ulSession(5, 0))
		rel := want[*ngap.PDUSessionResourceReleaseCommand](u.g, "release")
		if dl := u.open(rel.NAS).(*nas.DLNASTransport); dl.PDUSessionID != 5 || rel.Sessions[0].ID != 5 {
			t.Errorf("%+v: want session 5", rel)
		}
		tc.calls()
		u.g.write(&ngap.PDUSessionResourceReleaseResponse{IDs: u.ids, Sessions: []ngap.SessionTransfer{{ID: 5, Transfer: []byte{0}}}})
		tc.wantCalls("released at the gNB", "update sm-1 PDU_RES_REL_RSP n1=0")
		if err := tc.amf.SMContextReleased(t.Context(), alice.supi, 5, "sm-1"); err != nil {
			t.Fatal(err)
		}
		if got := u.sessions(); len(got) != 0 {
			t.Errorf("sessions %v left", got)
		}
		if err := tc.amf.SMContextReleased(t.Context(), alice.supi, 5, "sm-1"); err != nil {
			t.Errorf("a second notification: %v", err)
		}
		u.send(&nas.DeregistrationRequest{Identity: nas.MobileIdentity{GUTI: u.guti}})
		wantDownlink[*nas.DeregistrationAccept](u, "deregistration")
		u.wantRelease(ngap.NASDeregister, "deregistered")
		tc.wantCalls("the session is not released twice", "deregister imsi-001010000000001 11111111-1111-4111-8111-111111111111")
	})
}

// The SMF may be quicker than its own answer to CreateSMContext, and the gNB
// quicker still: what follows waits for the SM context's reference.
func TestTransferBeforeCreateReturns(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		answer := make(chan struct{})
		tc.onCreate = func(context.Context, sbi.CreateSMContext) error { <-answer; return nil }
		u := tc.gnb(1).ue(alice)
		u.register()
		tc.calls()
		u.session(5)
		tc.wantCalls("the gNB's answer waits", "create 5 internet 1")
		close(answer)
		tc.wantCalls("and is delivered", "update sm-1 PDU_RES_SETUP_RSP n1=0")
	})
}

// Resources asked for before the gNB has the UE context wait for it.
func TestSetupWaitsForContext(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toAccepted()
		u.send(&nas.RegistrationComplete{})
		u.send(ulSession(5, nas.RequestInitial))
		synctest.Wait()
		if err := tc.amf.N1N2Transfer(t.Context(), alice.supi, sbi.N1N2Message{Session: 5, N2: []byte{1}, N2Type: sbi.N2SetupRequest}); err != nil {
			t.Fatal(err)
		}
		u.g.wantIdle("INITIAL CONTEXT SETUP RESPONSE has not come")
		u.contextDone()
		m := want[*ngap.PDUSessionResourceSetupRequest](u.g, "now it has")
		if m.AMBR == nil || m.AMBR.Downlink != 2e9 {
			t.Errorf("UE-AMBR %v: want the subscribed one", m.AMBR)
		}
		u.g.write(&ngap.PDUSessionResourceSetupResponse{IDs: u.ids, Failed: []ngap.SessionTransfer{{ID: 5, Transfer: []byte{3}}}})
		synctest.Wait()
		if got := tc.updates[len(tc.updates)-1]; got.N2Type != sbi.N2SetupFail || !bytes.Equal(got.N2, []byte{3}) {
			t.Errorf("last update %+v: want the failure with its transfer", got)
		}
	})
}

func TestN1N2TransferProblems(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		u.session(5)
		check := func(supi ident.SUPI, m sbi.N1N2Message, status int, cause string) {
			t.Helper()
			err := tc.amf.N1N2Transfer(t.Context(), supi, m)
			p, ok := errors.AsType[*sbi.Problem](err)
			if !ok || p.Status != status || p.Cause != cause {
				t.Errorf("%v: want %d %s", err, status, cause)
			}
		}
		n1 := sbi.N1N2Message{Session: 5, N1: []byte{1}}
		check("imsi-001019999999999", n1, 404, sbi.CauseContextNotFound)
		check(alice.supi, sbi.N1N2Message{Session: 6, N1: []byte{1}}, 404, sbi.CauseContextNotFound)
		check(alice.supi, sbi.N1N2Message{Session: 5}, 400, sbi.CauseMandatoryIEIncorrect)
		check(alice.supi, sbi.N1N2Message{Session: 5, N2: []byte{1}, N2Type: "HANDOVER"}, 400, sbi.CauseMandatoryIEIncorrect)
		u.g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
		u.wantRelease(ngap.RadioUserInactivity, "idle")
		check(alice.supi, n1, 409, "UE_IN_CM_IDLE_STATE")
	})
}

// An SMF that lost the session: the AMF forgets it too and tells the UE that the
// payload was not forwarded.
func TestSessionLostAtSMF(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		u.session(5)
		tc.onUpdate = func(context.Context, sbi.SMContextRef, sbi.UpdateSMContext) (sbi.UpdatedSMContext, error) {
			return sbi.UpdatedSMContext{}, &sbi.Problem{Status: 404, Cause: sbi.CauseContextNotFound}
		}
		u.send(ulSession(5, 0))
		if m := wantDownlink[*nas.DLNASTransport](u, "not forwarded"); m.Cause != nas.MMPayloadNotForwarded {
			t.Errorf("cause %d, want 90", m.Cause)
		}
		if got := u.sessions(); len(got) != 0 {
			t.Errorf("sessions %v left", got)
		}
	})
}

// A payload without session ID, and one of another kind.
func TestPayloadWithoutRoute(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		tc.calls()
		m := ulSession(0, nas.RequestInitial)
		u.send(m)
		u.wantStatus(nas.MMConditionalIE, "no PDU session ID")
		m = ulSession(5, nas.RequestInitial)
		m.PayloadType = 2
		u.send(m)
		u.g.wantIdle("SMS is not offered")
		tc.wantCalls("SMF is not asked")
	})
}

// After a release with reactivation requested the UE's next request may come before the
// SMF's notification about the session before, which must not end the new one.
func TestReleaseNotificationOvertaken(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		u.session(5)
		hold := make(chan struct{})
		tc.onCreate = func(context.Context, sbi.CreateSMContext) error {
			<-hold
			return nil
		}
		u.send(&nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: smRequest(5), PDUSessionID: 5, RequestType: nas.RequestInitial})
		synctest.Wait()
		if err := tc.amf.SMContextReleased(t.Context(), alice.supi, 5, "sm-1"); err != nil {
			t.Fatal(err)
		}
		close(hold)
		synctest.Wait()
		if err := tc.amf.SMContextReleased(t.Context(), alice.supi, 5, "sm-1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := u.sessions(); len(got) != 1 {
			t.Fatalf("sessions %v, want the new one", got)
		}
		if err := tc.amf.SMContextReleased(t.Context(), alice.supi, 5, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := u.sessions(); len(got) != 0 {
			t.Errorf("sessions %v, want none: a notification without a name is about whichever there is", got)
		}
	})
}
