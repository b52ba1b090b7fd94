package amf

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

var (
	alice = newSubscriber("001010000000001")
	bob   = newSubscriber("001010000000002")
)

func TestInitialRegistration(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.request = u.initialRequest()
		full := *u.request
		full.RequestedNSSAI = []ident.SNSSAI{{SST: 2, SD: "010203"}, {SST: 9}, {SST: 7}}
		u.connect(u.encode(u.request))
		auth := wantDownlink[*nas.AuthenticationRequest](u, "a SUCI is authenticated")
		if !slices.Equal(auth.ABBA, []byte{0, 0}) {
			t.Errorf("ABBA %x, want 0000 (TS 33.501 A.7.1)", auth.ABBA)
		}
		u.sendPlain(u.answerChallenge(auth))
		smc := wantDownlink[*nas.SecurityModeCommand](u, "a correct RES* is followed by security mode control")
		if smc.Ciphering != 0 || smc.Integrity != 2 || smc.Replayed != u.caps || !smc.IMEISVRequested || smc.Retransmit {
			t.Errorf("SECURITY MODE COMMAND %+v: want NEA0, NIA2, the UE's capability, IMEISV requested, no retransmission of a plain message", smc)
		}
		u.completeSecurity(&full)
		u.takeAccept()
		// "the AMF shall consider this message as the initial NAS message that triggered
		// the procedure": the requested NSSAI comes from the container.
		if want := []ident.SNSSAI{{SST: 2, SD: "010203"}}; !slices.Equal(u.accept.AllowedNSSAI, want) {
			t.Errorf("allowed NSSAI %v, want %v: requested, subscribed and served", u.accept.AllowedNSSAI, want)
		}
		if want := []ident.SNSSAI{{SST: 9}, {SST: 7}}; !slices.Equal(u.accept.RejectedNSSAI, want) {
			t.Errorf("rejected NSSAI %v, want %v", u.accept.RejectedNSSAI, want)
		}
		if want := []ident.TAI{{PLMN: testPLMN, TAC: 1}, {PLMN: testPLMN, TAC: 2}}; !slices.Equal(u.accept.TAIList, want) {
			t.Errorf("TAI list %v, want %v", u.accept.TAIList, want)
		}
		if u.guti == nil || u.guti.GUAMI != testConfig().GUAMI || u.accept.T3512 != time.Hour {
			t.Errorf("5G-GUTI %v, T3512 %v: want one of this AMF and 1 h", u.guti, u.accept.T3512)
		}
		if u.ics == nil {
			t.Fatal("REGISTRATION ACCEPT did not come in INITIAL CONTEXT SETUP REQUEST")
		}
		if want := aka.KGNB(u.kamf, u.sec.UplinkCount()); u.kgnb != want {
			t.Error("K_gNB is not derived from the NAS COUNT of SECURITY MODE COMPLETE (TS 33.501 clause 6.8.1.2.2)")
		}
		if u.ics.EA != u.caps.EA || u.ics.IA != u.caps.IA || u.ics.GUAMI != testConfig().GUAMI {
			t.Errorf("INITIAL CONTEXT SETUP REQUEST %+v: want the UE's security capability and our GUAMI", u.ics)
		}
		u.contextDone()
		u.send(&nas.RegistrationComplete{})
		s, _ := u.status()
		s.capability = nil
		want := UEStatus{
			SUPI: alice.supi, PEI: "imeisv-4370816125816151", GUTI: *u.guti, State: "REGISTERED", Connected: true,
			GNB: ident.GNBID{PLMN: testPLMN, Value: 1, Bits: 24}, AMFUEID: u.ids.AMF, RANUEID: u.ids.RAN,
			Location: ident.Location{NRCGI: ident.NRCGI{PLMN: testPLMN, Cell: 16}, TAI: ident.TAI{PLMN: testPLMN, TAC: 1}},
			Allowed:  []ident.SNSSAI{{SST: 2, SD: "010203"}}, Integrity: 2, Secured: true,
		}
		if d := cmp.Diff(want, s, cmp.AllowUnexported(UEStatus{})); d != "" {
			t.Errorf("status (-want +got):\n%s", d)
		}
		tc.wantCalls("AUSF and UDM are asked once",
			"authenticate "+alice.suci().String(), "register imsi-001010000000001 11111111-1111-4111-8111-111111111111 imeisv-4370816125816151")
		sleep(time.Minute)
		u.g.wantIdle("nothing is retransmitted after REGISTRATION COMPLETE")
	})
}

// The default slices are allowed when the UE requests none, and when nothing it
// requests can be had; without those the registration is rejected with #62.
func TestAllowedNSSAI(t *testing.T) {
	for _, tt := range []struct {
		name      string
		requested []ident.SNSSAI
		defaults  []ident.SNSSAI
		want      []ident.SNSSAI // nil: rejected with cause 62
	}{
		{"none requested", nil, []ident.SNSSAI{{SST: 1}}, []ident.SNSSAI{{SST: 1}}},
		{"requested", []ident.SNSSAI{{SST: 2, SD: "010203"}, {SST: 1}}, []ident.SNSSAI{{SST: 1}}, []ident.SNSSAI{{SST: 2, SD: "010203"}, {SST: 1}}},
		{"requested twice", []ident.SNSSAI{{SST: 1}, {SST: 1}}, nil, []ident.SNSSAI{{SST: 1}}},
		{"requested is not served", []ident.SNSSAI{{SST: 9}}, []ident.SNSSAI{{SST: 1}}, []ident.SNSSAI{{SST: 1}}},
		{"requested is not subscribed", []ident.SNSSAI{{SST: 7}}, []ident.SNSSAI{{SST: 1}}, []ident.SNSSAI{{SST: 1}}},
		{"default is not served", []ident.SNSSAI{{SST: 7}}, []ident.SNSSAI{{SST: 9}}, nil},
		{"no default", nil, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
				tc.data.DefaultSlices = tt.defaults
				u := tc.gnb(1).ue(alice)
				u.toSecurityMode()
				u.request.RequestedNSSAI = tt.requested
				u.completeSecurity(u.request)
				if tt.want == nil {
					if m := wantDownlink[*nas.RegistrationReject](u, "no slice"); m.Cause != nas.MMNoNetworkSlices {
						t.Fatalf("cause %d, want 62", m.Cause)
					}
					u.wantRelease(ngap.NASUnspecified, "a rejected UE's connection is released")
					u.wantUnknown("a rejected UE is forgotten")
					return
				}
				u.takeAccept()
				if !slices.Equal(u.accept.AllowedNSSAI, tt.want) {
					t.Errorf("allowed %v, want %v", u.accept.AllowedNSSAI, tt.want)
				}
			})
		})
	}
}

func TestRegistrationRejects(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*testUE, *nas.RegistrationRequest)
		hook   func(*testCore)
		cause  nas.MMCause
	}{
		{"unknown SUPI: #3, TS 24.501 annex A.1", nil, func(tc *testCore) { clear(tc.subscribers) }, nas.MMIllegalUE},
		{"serving network not authorised by the home network: #73, TS 24.501 annex A", nil, func(tc *testCore) {
			tc.onAuthenticate = func(sbi.AuthenticationRequest) error {
				return &sbi.Problem{Status: 403, Cause: sbi.CauseServingNetwork}
			}
		}, nas.MMServingNetworkNotAuthorized},
		{"AUSF fails: #111", nil, func(tc *testCore) {
			tc.onAuthenticate = func(sbi.AuthenticationRequest) error { return errors.New("connection refused") }
		}, nas.MMProtocolError},
		{"tracking area not served: #12", func(u *testUE, _ *nas.RegistrationRequest) { u.g.tai.TAC = 77 }, nil, nas.MMTrackingAreaNotAllowed},
		{"PLMN not served: #11", func(u *testUE, _ *nas.RegistrationRequest) { u.g.tai.PLMN.MNC = "99" }, nil, nas.MMPLMNNotAllowed},
		{"no security capability: #100", func(_ *testUE, r *nas.RegistrationRequest) { r.Capability = nil }, nil, nas.MMConditionalIE},
		{"update of an unknown UE without capability: #9", func(_ *testUE, r *nas.RegistrationRequest) {
			r.Capability, r.RegistrationType = nil, nas.RegistrationPeriodic
		}, nil, nas.MMIdentityCannotBeDerived},
		{"emergency: #7", func(_ *testUE, r *nas.RegistrationRequest) { r.RegistrationType = nas.RegistrationEmergency }, nil, nas.MM5GSServicesNotAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
				u := tc.gnb(1).ue(alice)
				r := u.initialRequest()
				if tt.change != nil {
					tt.change(u, r)
				}
				if tt.hook != nil {
					tt.hook(tc)
				}
				u.connect(u.encode(r))
				if m := wantDownlink[*nas.RegistrationReject](u, tt.name); m.Cause != tt.cause {
					t.Fatalf("cause %d, want %d", m.Cause, tt.cause)
				}
				u.wantRelease(ngap.NASUnspecified, "the N1 NAS signalling connection is released")
				if st := tc.amf.Status(); len(st.UEs) != 0 || st.GNBs[0].UEs != 0 || st.Counters.RegistrationRejects != 1 {
					t.Errorf("status %+v: want nothing left but the count", st)
				}
			})
		})
	}
}

// A UE the UDM cannot serve is rejected after security is up; a failing UDM costs
// a UE that was registered already nothing but this attempt.
func TestUDMRefusal(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		tc.onSubscription = func(context.Context) error { return &sbi.Problem{Status: 404, Cause: sbi.CauseUserNotFound} }
		u := tc.gnb(1).ue(alice)
		u.toSecurityMode()
		u.completeSecurity(u.request)
		if m := wantDownlink[*nas.RegistrationReject](u, "no subscription"); m.Cause != nas.MM5GSServicesNotAllowed {
			t.Fatalf("cause %d, want 7", m.Cause)
		}
		u.wantRelease(ngap.NASUnspecified, "rejected")
		u.wantUnknown("rejected")
		tc.onSubscription = nil
		u.register()
		u.session(5)
		tc.onSubscription = func(context.Context) error { return errors.New("UDM is down") }
		u.send(u.gutiRequest(nas.RegistrationMobility))
		if m := wantDownlink[*nas.RegistrationReject](u, "UDM is down"); m.Cause != nas.MMProtocolError {
			t.Fatalf("cause %d, want 111", m.Cause)
		}
		u.wantRelease(ngap.NASUnspecified, "rejected")
		u.wantState("REGISTERED", "a passing failure takes nothing away")
		if got := u.sessions(); !slices.Equal(got, []ident.PDUSessionID{5}) {
			t.Errorf("sessions %v, want 5 kept", got)
		}
	})
}

// "The network shall, on the first expiry of the timer T3550, retransmit the
// REGISTRATION ACCEPT message and shall reset and start timer T3550. The
// retransmission is performed four times, i.e. on the fifth expiry of timer T3550,
// the registration procedure shall be aborted and the AMF enters state
// 5GMM-REGISTERED."
func TestT3550(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toAccepted()
		u.contextDone()
		for n := 1; n <= 4; n++ {
			sleep(6*time.Second - 1)
			u.g.wantIdle("T3550 has not expired")
			sleep(1)
			m := wantDownlink[*nas.RegistrationAccept](u, "T3550 expired")
			if *m.GUTI != *u.guti {
				t.Fatalf("retransmission %d assigns another 5G-GUTI", n)
			}
		}
		u.wantState("REGISTRATION-ACCEPTED", "before the fifth expiry")
		sleep(6 * time.Second)
		u.g.wantIdle("nothing is sent on the fifth expiry")
		u.wantState("REGISTERED", "after the fifth expiry")
		if c := tc.amf.Status().Counters; c.Retransmissions != 4 || c.ProceduresAborted != 1 {
			t.Errorf("counters %d retransmissions, %d aborted: want 4 and 1", c.Retransmissions, c.ProceduresAborted)
		}
	})
}

// TS 24.501 clause 5.5.1.2.8 d: the same REGISTRATION REQUEST again after
// REGISTRATION ACCEPT: "the REGISTRATION ACCEPT message shall be resent and the
// timer T3550 shall be restarted"; before it, "the network shall continue with
// the previous initiated registration procedure"; with another content the new one
// is progressed.
func TestRegistrationCollision(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toAuthentication()
		u.uplink(u.encode(u.request))
		u.g.wantIdle("the same request again changes nothing")
		other := *u.request
		other.FollowOnRequest = false
		u.uplink(u.encode(&other))
		u.auth = wantDownlink[*nas.AuthenticationRequest](u, "another request starts over")
		u.request = &other
		u.sendPlain(u.answerChallenge(u.auth))
		wantDownlink[*nas.SecurityModeCommand](u, "security mode control")
		u.completeSecurity(u.request)
		u.takeAccept()
		u.contextDone()
		sleep(5 * time.Second)
		u.send(u.request)
		again := wantDownlink[*nas.RegistrationAccept](u, "accept is resent")
		if *again.GUTI != *u.guti {
			t.Error("the accept resent assigns another 5G-GUTI")
		}
		sleep(5 * time.Second)
		u.g.wantIdle("T3550 was restarted")
		sleep(time.Second)
		wantDownlink[*nas.RegistrationAccept](u, "T3550 expired")
	})
}

// A UE with a valid context registers by 5G-GUTI: its integrity protected request
// needs neither authentication nor security mode control (TS 24.501 clause
// 5.5.1.2.4; TS 33.501 clause 6.8.1.2).
func TestReregistrationByGUTI(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		u.session(3)
		tc.calls()
		g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
		u.wantRelease(ngap.RadioUserInactivity, "the gNB asked for it")
		tc.wantCalls("the user plane goes with the connection", "update sm-1 DEACTIVATED n1=0")
		before := *u.guti
		req := u.gutiRequest(nas.RegistrationInitial)
		u.connectProtected(req)
		count := u.sec.UplinkCount()
		u.takeAccept()
		if *u.guti == before {
			t.Error("the 5G-GUTI was not changed (TS 33.501 clause 6.12.3)")
		}
		if u.kgnb != aka.KGNB(u.kamf, count) {
			t.Error("K_gNB is not derived from the NAS COUNT of REGISTRATION REQUEST")
		}
		tc.wantCalls("an initial registration drops all sessions", "release sm-1 REL_DUE_TO_UE_NOT_REGISTERED")
		u.contextDone()
		u.send(&nas.RegistrationComplete{})
		u.wantState("REGISTERED", "again")
		if c := tc.amf.Status().Counters; c.Authentications != 1 {
			t.Errorf("%d authentications, want 1", c.Authentications)
		}
		// The old 5G-GUTI is invalid now: a stranger with it is asked who it is.
		v := g.ue(bob)
		v.guti = &before
		v.connect(v.encode(v.gutiRequest(nas.RegistrationInitial)))
		wantDownlink[*nas.IdentityRequest](v, "an unknown 5G-GUTI")
	})
}

// The NAS message container of a protected initial message is deciphered with the
// current context (TS 24.501 clause 4.4.6); NEA2 makes that visible.
func TestContainerInInitialMessage(t *testing.T) {
	nea2 := func(c *Config) { c.Ciphering = []int{2} }
	bubble(t, nea2, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		u.session(2)
		u.session(4)
		u.g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
		u.wantRelease(ngap.RadioUserInactivity, "idle")
		tc.calls()
		inner := u.gutiRequest(nas.RegistrationMobility)
		set := nas.SessionSet(1 << 4)
		inner.PDUSessionStatus = &set
		outer := u.gutiRequest(nas.RegistrationMobility)
		var err error
		if outer.NASContainer, err = u.sec.CipherContainer(u.encode(inner)); err != nil {
			t.Fatal(err)
		}
		u.connectProtected(outer)
		u.takeAccept()
		tc.wantCalls("session 2, which the UE does not have, is released locally", "release sm-1 REL_DUE_TO_PS_STATUS_MISMATCH")
		if s := u.accept.PDUSessionStatus; s == nil || *s != 1<<4 {
			t.Errorf("PDU session status %v, want session 4", s)
		}
		u.contextDone()
		u.send(&nas.RegistrationComplete{})
		u.g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
		u.wantRelease(ngap.RadioUserInactivity, "idle again")

		// A container that does not decipher: the initial message is asked for again.
		outer = u.gutiRequest(nas.RegistrationMobility)
		outer.NASContainer = []byte("this is not a message at all")
		u.connectProtected(outer)
		auth := wantDownlink[*nas.AuthenticationRequest](u, "new keys are agreed")
		u.send(u.answerChallenge(auth))
		if smc := wantDownlink[*nas.SecurityModeCommand](u, "then security mode control"); !smc.Retransmit {
			t.Error("retransmission of the initial NAS message was not requested")
		}
		inner = u.gutiRequest(nas.RegistrationMobility)
		u.completeSecurity(inner)
		u.takeAccept()
		if got := u.sessions(); !slices.Equal(got, []ident.PDUSessionID{4}) {
			t.Errorf("sessions %v, want 4 kept", got)
		}
	})
}

// Unknown and unverifiable 5G-GUTIs.
func TestGUTINotVerified(t *testing.T) {
	bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.guti = &ident.GUTI{GUAMI: testConfig().GUAMI, TMSI: 0xdeadbeef}
		u.request = u.gutiRequest(nas.RegistrationInitial)
		u.connect(u.encode(u.request))
		if m := wantDownlink[*nas.IdentityRequest](u, "unknown 5G-GUTI"); m.IdentityType != nas.IdentitySUCI {
			t.Fatalf("identity type %d, want SUCI", m.IdentityType)
		}
		u.sendPlain(&nas.IdentityResponse{Identity: nas.MobileIdentity{SUCI: u.suci()}})
		u.sendPlain(u.answerChallenge(wantDownlink[*nas.AuthenticationRequest](u, "identified")))
		wantDownlink[*nas.SecurityModeCommand](u, "authenticated")
		u.completeSecurity(u.request)
		u.takeAccept()
		u.contextDone()
		u.send(&nas.RegistrationComplete{})
		u.wantState("REGISTERED", "after identification")
		u.session(1)
		tc.calls()

		// Bob claims Alice's 5G-GUTI. "If a REGISTRATION REQUEST message for initial
		// registration fails the integrity check, the AMF shall authenticate the
		// subscriber": as Alice first, since that is whom the 5G-GUTI names, then by SUCI.
		v := g.ue(bob)
		v.guti = u.guti
		v.request = v.gutiRequest(nas.RegistrationInitial)
		v.connect(v.encode(v.request))
		wantDownlink[*nas.AuthenticationRequest](v, "authentication of the subscriber")
		v.sendPlain(&nas.AuthenticationFailure{Cause: nas.MMMACFailure})
		wantDownlink[*nas.IdentityRequest](v, "MAC failure after a 5G-GUTI: whose is it really")
		v.sendPlain(&nas.IdentityResponse{Identity: nas.MobileIdentity{SUCI: v.suci()}})
		v.sendPlain(v.answerChallenge(wantDownlink[*nas.AuthenticationRequest](v, "identified")))
		wantDownlink[*nas.SecurityModeCommand](v, "authenticated as Bob")
		v.completeSecurity(v.request)
		v.takeAccept()
		v.contextDone()
		v.send(&nas.RegistrationComplete{})
		v.wantState("REGISTERED", "Bob")
		u.wantState("REGISTERED", "Alice is left alone")
		if got := u.sessions(); !slices.Equal(got, []ident.PDUSessionID{1}) {
			t.Errorf("Alice's sessions %v, want 1 kept", got)
		}
	})
}

// A UE that registers from another gNB while its old N2 connection still stands:
// the old one is released, whichever way the UE proves who it is.
func TestRegistrationElsewhere(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		a, b := tc.gnb(1), tc.gnb(2)
		u := a.ue(alice)
		u.register()
		u.session(1)
		old := *u

		u.g = b
		u.connectProtected(u.gutiRequest(nas.RegistrationMobility))
		u.takeAccept()
		old.wantRelease(ngap.RadioRelease5GCReason, "the connection at the first gNB")
		u.contextDone()
		u.send(&nas.RegistrationComplete{})
		if s, _ := u.status(); s.GNB.Value != 2 || !slices.Equal(u.sessions(), []ident.PDUSessionID{1}) {
			t.Errorf("status %+v: want gNB 2 and the session kept", s)
		}
		tc.calls()

		// Now with the SUCI and no context at all, back at the first gNB.
		old = *u
		u.g, u.sec = a, nil
		u.register()
		old.wantRelease(ngap.NASNormalRelease, "the connection at the second gNB")
		tc.wantCalls("sessions of the former context are released; the UDM has this AMF already",
			"authenticate "+alice.suci().String(), "release sm-1 REL_DUE_TO_UE_NOT_REGISTERED")
		if st := tc.amf.Status(); len(st.UEs) != 1 || st.Counters.Superseded != 1 {
			t.Errorf("%d UE contexts, %d superseded: want 1 and 1", len(st.UEs), st.Counters.Superseded)
		}
	})
}

// Periodic registration update of an idle UE without follow-on: no UE context is
// set up and the connection is released when the UE has confirmed.
func TestPeriodicRegistration(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
		u.wantRelease(ngap.RadioUserInactivity, "idle")
		sleep(54 * time.Minute)
		req := u.gutiRequest(nas.RegistrationPeriodic)
		req.FollowOnRequest = false
		g.ran++
		u.ids = ngap.UEIDs{RAN: g.ran}
		g.write(&ngap.InitialUEMessage{RAN: g.ran, NAS: u.protect(req, nas.HeaderIntegrity), Location: ident.Location{NRCGI: ident.NRCGI{PLMN: testPLMN}, TAI: g.tai}})
		u.ics = nil
		u.takeAccept()
		if u.ics != nil {
			t.Error("a UE context was set up for nothing")
		}
		u.send(&nas.RegistrationComplete{})
		u.wantRelease(ngap.NASNormalRelease, "nothing further was announced")
		u.wantState("REGISTERED", "idle")
		// The mobile reachable timer (T3512 + 4 min) started anew, then the implicit
		// deregistration timer runs (TS 24.501 clause 5.3.7).
		sleep(68*time.Minute - 1)
		u.wantState("REGISTERED", "not yet")
		tc.calls()
		sleep(1)
		u.wantUnknown("implicitly deregistered")
		tc.wantCalls("UDM is told", "deregister imsi-001010000000001 11111111-1111-4111-8111-111111111111")
	})
}

// "If a new 5G-GUTI was allocated in the REGISTRATION ACCEPT message, the old and the
// new 5G-GUTI shall be considered as valid until the old 5G-GUTI can be considered
// as invalid by the AMF" (TS 24.501 clause 5.5.1.2.8): however often the UE misses
// the accept, the 5G-GUTI that it goes on using stays its own.
func TestGUTIKeptUntilConfirmed(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		held := *u.guti
		for n := range 3 {
			g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
			u.wantRelease(ngap.RadioUserInactivity, "idle")
			u.guti = &held
			u.connectProtected(u.gutiRequest(nas.RegistrationMobility))
			u.takeAccept()
			u.contextDone()
			if *u.guti == held {
				t.Fatalf("update %d: the 5G-GUTI was not changed", n)
			}
		}
		last := *u.guti
		u.send(&nas.RegistrationComplete{})
		u.wantState("REGISTERED", "confirmed at last")
		if tc.amf.ueByGUTI(&held) != nil || tc.amf.ueByGUTI(&last) == nil {
			t.Error("want the confirmed 5G-GUTI alone valid")
		}
	})
}

// After a restart the AMF knows nobody. Every message a UE may send under a context
// of before is answered as from a stranger, and the UE gets in again by its SUCI.
func TestUnknownAfterRestart(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.guti = &ident.GUTI{GUAMI: testConfig().GUAMI, TMSI: 0xabcdef}
		u.sec = nas.NewSecurityContext(3, 2, 2, [16]byte{1}, [16]byte{2}, false)
		u.connectProtected(&nas.ServiceRequest{NGKSI: 3, ServiceType: 1, STMSI: u.guti.STMSI(), NASContainer: []byte{1, 2, 3}})
		before := u.sec
		u.sec = nil
		if m := wantDownlink[*nas.ServiceReject](u, "a service request of nobody"); m.Cause != nas.MMIdentityCannotBeDerived {
			t.Errorf("cause %d, want 9", m.Cause)
		}
		u.wantRelease(ngap.NASUnspecified, "rejected")
		u.sec = before
		u.connect(u.protect(&nas.ULNASTransport{PayloadType: 1, Payload: []byte{1}, PDUSessionID: 1}, nas.HeaderIntegrityCiphered))
		u.wantRelease(ngap.NASUnspecified, "ciphered: nobody can read it")

		req := u.gutiRequest(nas.RegistrationMobility)
		req.NASContainer = []byte{9, 9, 9}
		u.connectProtected(req)
		u.sec = nil
		if m := wantDownlink[*nas.IdentityRequest](u, "an update of nobody"); m.IdentityType != nas.IdentitySUCI {
			t.Errorf("identity type %d, want SUCI", m.IdentityType)
		}
		u.sendPlain(&nas.IdentityResponse{Identity: nas.MobileIdentity{SUCI: u.suci()}})
		auth := wantDownlink[*nas.AuthenticationRequest](u, "identified")
		if auth.NGKSI == 3 {
			t.Error("ngKSI 3 is in use at the UE (TS 24.501 clause 5.4.1.3.2)")
		}
		u.sendPlain(u.answerChallenge(auth))
		if m := wantDownlink[*nas.SecurityModeCommand](u, "authenticated"); !m.Retransmit {
			t.Error("the AMF could not check the request, so it has to ask for all of it (RINMR, clause 5.4.2.2)")
		}
		req.NASContainer = nil
		u.completeSecurity(req)
		u.takeAccept()
		u.contextDone()
		u.send(&nas.RegistrationComplete{})
		u.wantState("REGISTERED", "in again")
	})
}

// A registration whose network function never answers ends with CallTimeout.
func TestSlowUDM(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		tc.onSubscription = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		u := tc.gnb(1).ue(alice)
		u.toSecurityMode()
		u.completeSecurity(u.request)
		u.g.wantIdle("UDM has not answered")
		u.wantState("WAITING", "for the UDM")
		sleep(10 * time.Second)
		if m := wantDownlink[*nas.RegistrationReject](u, "timeout"); m.Cause != nas.MMProtocolError {
			t.Fatalf("cause %d, want 111", m.Cause)
		}
		synctest.Wait()
	})
}
