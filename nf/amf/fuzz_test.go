package amf

import (
	"testing"
	"testing/synctest"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// FuzzN1 gives a UE the pen: its bytes arrive as the first NAS message of a
// stranger, unprotected in the middle of authentication, and correctly protected
// after registration. Nothing panics, strangers leave nothing behind, and the UE
// that was there before still has service.
func FuzzN1(f *testing.F) {
	seed := func(m nas.Message) {
		b, err := nas.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seed(&nas.RegistrationRequest{RegistrationType: 1, NGKSI: 7, Identity: nas.MobileIdentity{SUCI: alice.suci()}, Capability: &nas.SecurityCapability{EA: 1, IA: 4}})
	seed(&nas.ServiceRequest{})
	seed(&nas.DeregistrationRequest{SwitchOff: true, Identity: nas.MobileIdentity{SUCI: alice.suci()}})
	seed(&nas.IdentityResponse{Identity: nas.MobileIdentity{SUCI: alice.suci()}})
	seed(&nas.AuthenticationFailure{Cause: nas.MMSynchFailure, AUTS: make([]byte, 14)})
	seed(&nas.ULNASTransport{PayloadType: 1, Payload: smRequest(1), PDUSessionID: 1, RequestType: 1, DNN: "internet"})
	seed(&nas.SecurityModeComplete{})
	f.Add([]byte{})
	f.Add([]byte{0x7e})
	f.Add([]byte{0x7e, 4, 1, 2, 3, 4, 0, 0x7e, 0, 0x5e})
	f.Fuzz(func(t *testing.T, pdu []byte) {
		if len(pdu) > 2000 {
			return
		}
		bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
			b := tc.gnb(2)
			v := b.ue(bob)
			v.register()
			g := tc.gnb(1)
			if len(pdu) > 0 { // NGAP cannot say an empty one
				stranger := g.ue(alice)
				stranger.connect(pdu)
				drain(g)
				u := g.ue(alice)
				u.toAuthenticationQuietly()
				u.uplink(pdu)
				drain(g)
			}
			u := g.ue(newSubscriber("001010000000009"))
			tc.mu.Lock()
			tc.subscribers[u.suci().String()] = u.subscriber
			tc.mu.Unlock()
			u.register()
			if protected, err := u.sec.Protect(pdu, nas.HeaderIntegrityCiphered); err == nil {
				u.uplink(protected)
			}
			drain(g)
			g.conn.Abort()
			synctest.Wait()
			v.wantState("REGISTERED", "a UE at another gNB")
			v.session(1)
		})
	})
}

// FuzzN2 gives a gNB the pen: its bytes arrive as an NGAP message on an association
// that is set up and carries a UE. Nothing panics and another gNB's UE keeps its
// service.
func FuzzN2(f *testing.F) {
	for _, m := range []ngap.Message{
		setupRequest(3),
		&ngap.NGReset{Cause: ngap.RadioUnspecified, All: true},
		&ngap.UEContextReleaseRequest{IDs: ngap.UEIDs{AMF: 2, RAN: 1}, Cause: ngap.RadioUserInactivity},
		&ngap.InitialContextSetupResponse{IDs: ngap.UEIDs{AMF: 2, RAN: 1}},
		&ngap.UplinkNASTransport{IDs: ngap.UEIDs{AMF: 1, RAN: 1}, NAS: []byte{0x7e, 0, 0x43},
			Location: ident.Location{NRCGI: ident.NRCGI{PLMN: testPLMN}, TAI: ident.TAI{PLMN: testPLMN}}},
	} {
		b, err := ngap.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0, 0x2e, 0x40, 3, 0})
	f.Fuzz(func(t *testing.T, pdu []byte) {
		if len(pdu) == 0 || len(pdu) > 4000 {
			return
		}
		bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
			b := tc.gnb(2)
			v := b.ue(bob)
			v.register()
			g := tc.gnb(1)
			u := g.ue(alice)
			u.register()
			g.writeBytes(1, pdu)
			drain(g)
			if s, _ := v.status(); s.State != "REGISTERED" {
				t.Fatalf("%+v: want Bob registered", s)
			}
			if replaced := tc.amf.Status().GNBs; len(replaced) == 2 {
				v.session(1)
			}
		})
	})
}

// drain reads whatever the AMF has sent.
func drain(g *testGNB) {
	for {
		if _, err := g.poll(); err != nil {
			return
		}
	}
}

// toAuthenticationQuietly is toAuthentication without looking at the answer.
func (u *testUE) toAuthenticationQuietly() {
	u.t.Helper()
	u.request = u.initialRequest()
	u.connect(u.encode(u.request))
	synctest.Wait()
	m, err := u.g.poll()
	if err == nil {
		u.nasOf(m)
	}
}
