package amf

import (
	"slices"
	"testing"

	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// The first algorithm of the AMF's list that the UE has is chosen (TS 33.501 clause
// 6.7.1); without one the UE is rejected with #23.
func TestAlgorithms(t *testing.T) {
	for _, tt := range []struct {
		name      string
		ciphering []int
		integrity []int
		caps      nas.SecurityCapability
		nea, nia  uint8
		rejected  bool
	}{
		{"defaults", nil, nil, nas.SecurityCapability{EA: 0x0f, IA: 0x0f}, 0, 2, false},
		{"configured order", []int{3, 0}, []int{1, 2}, nas.SecurityCapability{EA: 0x0f, IA: 0x0f}, 3, 1, false},
		{"first one missing at the UE", []int{2, 1}, []int{2, 1}, nas.SecurityCapability{EA: 0x02, IA: 0x02}, 1, 1, false},
		{"NIA3 and NEA2", []int{2}, []int{3}, nas.SecurityCapability{EA: 0x0f, IA: 0x0f}, 2, 3, false},
		{"UE has NIA0 only", nil, nil, nas.SecurityCapability{EA: 0x01, IA: 0x01}, 0, 0, true},
		{"no common ciphering", []int{3}, nil, nas.SecurityCapability{EA: 0x01, IA: 0x0f}, 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := func(c *Config) { c.Ciphering, c.Integrity = tt.ciphering, tt.integrity }
			bubble(t, set, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
				u := tc.gnb(1).ue(alice)
				u.caps = tt.caps
				u.toAuthentication()
				u.sendPlain(u.answerChallenge(u.auth))
				if tt.rejected {
					if m := wantDownlink[*nas.RegistrationReject](u, "nothing in common"); m.Cause != nas.MMSecurityCapabilityMismatch {
						t.Fatalf("cause %d, want 23", m.Cause)
					}
					u.wantRelease(ngap.NASUnspecified, "rejected")
					wantEmpty(tc)
					return
				}
				smc := wantDownlink[*nas.SecurityModeCommand](u, "security mode")
				if smc.Ciphering != tt.nea || smc.Integrity != tt.nia || smc.Replayed != tt.caps {
					t.Fatalf("NEA%d NIA%d, replayed %+v: want NEA%d NIA%d, %+v", smc.Ciphering, smc.Integrity, smc.Replayed, tt.nea, tt.nia, tt.caps)
				}
				// The algorithms work both ways: the rest of the registration is under them.
				u.completeSecurity(u.request)
				u.takeAccept()
				u.contextDone()
				u.send(&nas.RegistrationComplete{})
				u.wantState("REGISTERED", "under the chosen algorithms")
			})
		})
	}
}

func TestSecurityModeReject(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toSecurityMode()
		u.sendPlain(&nas.SecurityModeReject{Cause: nas.MMSecurityModeRejected})
		u.wantRelease(ngap.NASUnspecified, "the procedure is aborted")
		wantEmpty(tc)
	})
}

// SECURITY MODE COMPLETE under wrong keys is discarded; T3560 goes on.
func TestSecurityModeCompleteForged(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toSecurityMode()
		forged := nas.NewSecurityContext(u.smc.NGKSI, u.smc.Ciphering, u.smc.Integrity, [16]byte{1}, [16]byte{2}, false)
		pdu, err := forged.Protect(u.encode(&nas.SecurityModeComplete{}), nas.HeaderIntegrityCipheredNew)
		if err != nil {
			t.Fatal(err)
		}
		u.uplink(pdu)
		u.sendPlain(&nas.SecurityModeComplete{})
		u.g.wantIdle("neither is processed")
		if c := tc.amf.Status().Counters; c.NASMACFailures != 1 || c.NASUnprotected != 1 {
			t.Errorf("%d MAC failures, %d unprotected: want 1 and 1", c.NASMACFailures, c.NASUnprotected)
		}
		u.completeSecurity(u.request)
		u.takeAccept()
	})
}

// TS 24.501 clause 4.4.4.3 before secure exchange: only the messages listed are
// processed without integrity protection. After it: none.
func TestUnprotectedMessages(t *testing.T) {
	messages := map[string]nas.Message{
		"REGISTRATION COMPLETE":  &nas.RegistrationComplete{},
		"UL NAS TRANSPORT":       &nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: smRequest(1), PDUSessionID: 1, RequestType: 1},
		"SECURITY MODE COMPLETE": &nas.SecurityModeComplete{},
		"5GMM STATUS":            &nas.MMStatus{Cause: nas.MMProtocolError},
	}
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toAuthentication()
		var n uint64
		for name, m := range messages {
			u.sendPlain(m)
			u.g.wantIdle(name + " is discarded before secure exchange")
			n++
		}
		if c := tc.amf.Status().Counters.NASUnprotected; c != n {
			t.Errorf("%d counted, want %d", c, n)
		}
		u.sendPlain(u.answerChallenge(u.auth))
		wantDownlink[*nas.SecurityModeCommand](u, "the UE was not harmed")
		u.completeSecurity(u.request)
		u.takeAccept()
		u.contextDone()
		u.send(&nas.RegistrationComplete{})
		// "If any NAS signalling message is received as not integrity protected even
		// though the secure exchange of NAS messages has been established by the network,
		// then the NAS shall discard this message."
		messages["REGISTRATION REQUEST"] = u.initialRequest()
		messages["DEREGISTRATION REQUEST"] = &nas.DeregistrationRequest{SwitchOff: true, Identity: nas.MobileIdentity{GUTI: u.guti}}
		messages["SERVICE REQUEST"] = &nas.ServiceRequest{STMSI: u.guti.STMSI()}
		messages["AUTHENTICATION FAILURE"] = &nas.AuthenticationFailure{Cause: nas.MMMACFailure}
		for name, m := range messages {
			u.sendPlain(m)
			u.g.wantIdle(name + " is discarded after secure exchange")
		}
		u.wantState("REGISTERED", "nothing happened")
	})
}

func TestReplayAndForgery(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		tc.calls()
		u.send(&nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: smRequest(1), PDUSessionID: 1, RequestType: nas.RequestInitial})
		tc.wantCalls("the message is genuine", "create 1 internet 1")
		u.uplink(u.cipher)
		forged := slices.Clone(u.cipher)
		forged[6]++ // the next sequence number
		u.uplink(forged)
		tc.wantCalls("neither the replay nor the forgery is processed")
		if c := tc.amf.Status().Counters; c.NASReplays != 1 || c.NASMACFailures != 1 {
			t.Errorf("%d replays, %d MAC failures: want 1 and 1", c.NASReplays, c.NASMACFailures)
		}
		u.send(&nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: smRequest(2), PDUSessionID: 2, RequestType: nas.RequestInitial})
		tc.wantCalls("the next genuine message is", "create 2 internet 1")
	})
}
