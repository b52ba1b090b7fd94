package amf

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// The table, written out a second time: which uplink message is legal where.
func legal() map[gmmState][]nas.MessageType {
	const (
		regReq = nas.TypeRegistrationRequest
		dereg  = nas.TypeDeregistrationRequestUE
		status = nas.TypeMMStatus
	)
	return map[gmmState][]nas.MessageType{
		stateDeregistered:   {regReq, nas.TypeServiceRequest, dereg},
		stateIdentification: {regReq, nas.TypeIdentityResponse, dereg, status},
		stateAuthentication: {regReq, nas.TypeAuthenticationResponse, nas.TypeAuthenticationFailure, dereg, status},
		stateSecurityMode:   {regReq, nas.TypeSecurityModeComplete, nas.TypeSecurityModeReject, dereg, status},
		stateWaiting:        {regReq, dereg, status},
		stateAccepted:       {regReq, nas.TypeRegistrationComplete, dereg, nas.TypeULNASTransport, status},
		stateRegistered:     {regReq, nas.TypeServiceRequest, dereg, nas.TypeULNASTransport, status},
		stateDeregistering:  {regReq, dereg, nas.TypeDeregistrationAcceptNet, status},
	}
}

// uplinkMessage makes a message of each type a UE can send.
func (u *testUE) uplinkMessage(typ nas.MessageType) nas.Message {
	switch typ {
	case nas.TypeRegistrationRequest:
		return u.initialRequest()
	case nas.TypeRegistrationComplete:
		return &nas.RegistrationComplete{}
	case nas.TypeDeregistrationRequestUE:
		return &nas.DeregistrationRequest{Identity: nas.MobileIdentity{SUCI: u.suci()}, NGKSI: nas.NoKey}
	case nas.TypeDeregistrationAcceptNet:
		return &nas.DeregistrationAccept{ToNetwork: true}
	case nas.TypeServiceRequest:
		return &nas.ServiceRequest{}
	case nas.TypeConfigurationUpdateComplete:
		return &nas.ConfigurationUpdateComplete{}
	case nas.TypeAuthenticationResponse:
		return &nas.AuthenticationResponse{RESStar: make([]byte, 16)}
	case nas.TypeAuthenticationFailure:
		return &nas.AuthenticationFailure{Cause: nas.MMMACFailure}
	case nas.TypeIdentityResponse:
		return &nas.IdentityResponse{Identity: nas.MobileIdentity{SUCI: u.suci()}}
	case nas.TypeSecurityModeComplete:
		return &nas.SecurityModeComplete{}
	case nas.TypeSecurityModeReject:
		return &nas.SecurityModeReject{Cause: nas.MMSecurityModeRejected}
	case nas.TypeMMStatus:
		return &nas.MMStatus{Cause: nas.MMProtocolError}
	case nas.TypeULNASTransport:
		return &nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: smRequest(1), PDUSessionID: 1, RequestType: nas.RequestInitial}
	}
	return nil
}

// put brings the AMF's machine for u to a state, with secure exchange established
// (but in stateDeregistered), so that every message passes the integrity check and
// the table alone decides.
func (u *testUE) put(tc *testCore, s gmmState) *ue {
	u.t.Helper()
	if s == stateDeregistered {
		return newUE(tc.amf)
	}
	block := make(chan struct{})
	switch s {
	case stateAccepted:
		u.toAccepted()
		u.contextDone()
	case stateRegistered:
		u.register()
	case stateDeregistering:
		u.register()
		if err := tc.amf.Deregister(u.t.Context(), u.supi, sbi.SubscriptionWithdrawn); err != nil {
			u.t.Fatal(err)
		}
		wantDownlink[*nas.DeregistrationRequest](u, "network-initiated deregistration")
	case stateWaiting:
		u.register()
		tc.onAuthenticate = nil
		fallthrough
	case stateAuthentication, stateSecurityMode, stateIdentification:
		if s != stateWaiting {
			u.register()
		}
		// A registered UE re-registers with a container that cannot be read: new keys
		// are agreed while the old context still protects everything.
		r := u.gutiRequest(nas.RegistrationMobility)
		r.NASContainer = []byte("not a message")
		u.send(r)
		u.auth = wantDownlink[*nas.AuthenticationRequest](u, "new keys")
		if s == stateSecurityMode {
			u.send(u.answerChallenge(u.auth))
			wantDownlink[*nas.SecurityModeCommand](u, "security mode")
		}
	}
	close(block)
	m := tc.amf.reg.ueBySUPI(u.supi)
	if s == stateIdentification || s == stateWaiting {
		// Reached only without secure exchange or while a call is out: set by hand.
		done := make(chan struct{})
		m.post(func(m *ue) { m.endRetransmission(); m.setState(s); close(done) })
		<-done
	}
	return m
}

// Every cell of the table is reached by a real message; every empty cell is answered
// with 5GMM STATUS #101 and leaves the state alone.
func TestGMMTable(t *testing.T) {
	want := legal()
	for s := range stateCount {
		for _, typ := range uplinkTypes() {
			ok := slices.Contains(want[s], typ)
			t.Run(fmt.Sprintf("%v/%v", s, typ), func(t *testing.T) {
				bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
					if has := tc.amf.table[s][typ] != nil; has != ok {
						t.Fatalf("the table has it: %v, want %v", has, ok)
					}
					u := tc.gnb(1).ue(alice)
					m := u.put(tc, s)
					before := tc.amf.Status().Counters
					if s == stateDeregistered {
						u.firstMessage(tc, typ, ok)
						tc.amf.reg.removeUE(m)
						return
					}
					msg := u.uplinkMessage(typ)
					// Straight to the machine: what may come unprotected or under which header
					// is tested elsewhere.
					done := make(chan struct{})
					m.post(func(m *ue) { m.receive(msg); close(done) })
					<-done
					synctest.Wait()
					rejected := tc.amf.Status().Counters.NASNotCompatible - before.NASNotCompatible
					if ok {
						if rejected != 0 {
							t.Fatal("a legal message was rejected")
						}
						return
					}
					if rejected != 1 {
						t.Fatalf("NASNotCompatible grew by %d, want 1", rejected)
					}
					u.wantStatus(nas.MMNotCompatibleWithState, "a message not compatible with the state")
					u.wantState(s.String(), "state is unchanged")
					u.g.wantIdle("nothing else is sent")
				})
			})
		}
	}
}

// firstMessage is the row of stateDeregistered: the first message of a stranger.
// Nothing can be protected there, so what is not legal gets no 5GMM STATUS (a UE
// would discard it): the connection is released.
func (u *testUE) firstMessage(tc *testCore, typ nas.MessageType, ok bool) {
	u.t.Helper()
	u.connect(u.encode(u.uplinkMessage(typ)))
	synctest.Wait()
	n := tc.amf.Status().Counters.NASNotCompatible
	if ok != (n == 0) {
		u.t.Fatalf("counted as not compatible: %d, legal: %v", n, ok)
	}
	if !ok {
		u.wantRelease(ngap.NASUnspecified, "nothing to serve")
	}
}

// A type the AMF does not know, and one only a network sends: #97.
func TestUnknownMessageType(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		pdu, err := u.sec.Protect([]byte{0x7e, 0, 0x7a}, nas.HeaderIntegrityCiphered)
		if err != nil {
			t.Fatal(err)
		}
		u.uplink(pdu)
		u.wantStatus(nas.MMTypeNonExistent, "message type 0x7a does not exist")
		u.send(&nas.ServiceAccept{})
		u.wantStatus(nas.MMTypeNonExistent, "SERVICE ACCEPT is not for an AMF")
		// UL NAS TRANSPORT without its mandatory payload: invalid mandatory information.
		pdu, err = u.sec.Protect([]byte{0x7e, 0, byte(nas.TypeULNASTransport)}, nas.HeaderIntegrityCiphered)
		if err != nil {
			t.Fatal(err)
		}
		u.uplink(pdu)
		u.wantStatus(nas.MMInvalidMandatoryIE, "UL NAS TRANSPORT without payload")
		// "too short to contain a complete message type information element [...] shall be ignored"
		u.uplink([]byte{0x7e})
		u.g.wantIdle("too short")
		u.wantState("REGISTERED", "after all that")
	})
}

// A REGISTRATION REQUEST with a protocol error is rejected with its cause (TS 24.501
// clause 5.5.1.2.8 b).
func TestMalformedRegistrationRequest(t *testing.T) {
	bubble(t, nil, nil, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.connect([]byte{0x7e, 0, byte(nas.TypeRegistrationRequest), 0x79})
		if m := wantDownlink[*nas.RegistrationReject](u, "mandatory identity missing"); m.Cause != nas.MMInvalidMandatoryIE {
			t.Fatalf("cause %d, want 96", m.Cause)
		}
		u.wantRelease(ngap.NASUnspecified, "rejected")
		wantEmpty(tc)
		u.connect([]byte{0x7e})
		u.wantRelease(ngap.NASUnspecified, "not a message: ignored, and nothing keeps the connection")
		wantEmpty(tc)
	})
	// A registered UE gets the same answer and loses nothing: it stays in
	// 5GMM-REGISTERED itself (clause 5.5.1.3.7).
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		for _, typ := range []nas.MessageType{nas.TypeRegistrationRequest, nas.TypeServiceRequest} {
			g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
			u.wantRelease(ngap.RadioUserInactivity, "idle")
			b, err := u.sec.Protect([]byte{0x7e, 0, byte(typ), 0x79}, nas.HeaderIntegrity)
			if err != nil {
				t.Fatal(err)
			}
			u.connect(b)
			if typ == nas.TypeRegistrationRequest {
				if m := wantDownlink[*nas.RegistrationReject](u, "mandatory identity missing"); m.Cause != nas.MMInvalidMandatoryIE {
					t.Fatalf("cause %d, want 96", m.Cause)
				}
			} else if m := wantDownlink[*nas.ServiceReject](u, "mandatory identity missing"); m.Cause != nas.MMInvalidMandatoryIE {
				t.Fatalf("cause %d, want 96", m.Cause)
			}
			u.wantRelease(ngap.NASUnspecified, "rejected")
			u.wantState("REGISTERED", "as before")
			u.connectProtected(u.gutiRequest(nas.RegistrationMobility))
			u.takeAccept()
			u.contextDone()
			u.send(&nas.RegistrationComplete{})
		}
	})
}
