package amf

import (
	"context"
	"errors"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// withEIR is the name of an AMF that has an EIR in a bubble.
const withEIR = "amf with EIR"

func eirBubble(t *testing.T, f func(*testing.T, *testCore)) {
	t.Helper()
	bubble(t, func(c *Config) { c.Name = withEIR }, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		tc.onEquipment = func(ident.PEI) (sbi.EquipmentStatus, error) { return sbi.EquipmentWhitelisted, nil }
		f(t, tc)
	})
}

// completeWithoutPEI answers SECURITY MODE COMMAND as a UE without IMEISV.
func (u *testUE) completeWithoutPEI() {
	u.t.Helper()
	u.sec = u.pending
	u.uplink(u.protect(&nas.SecurityModeComplete{NASContainer: u.encode(u.request)}, nas.HeaderIntegrityCipheredNew))
}

// TS 23.502 clause 4.2.2.2.2 step 12: the EIR comes between security and the UDM.
func TestEquipmentCheck(t *testing.T) {
	eirBubble(t, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		tc.wantCalls("initial registration", "authenticate "+alice.suci().String(),
			"check imsi-001010000000001 imeisv-4370816125816151",
			"register imsi-001010000000001 11111111-1111-4111-8111-111111111111 imeisv-4370816125816151")
		u.send(u.gutiRequest(nas.RegistrationPeriodic))
		u.takeAccept()
		tc.wantCalls("an update of a UE whose device was checked")
	})
}

// An adverse answer is cause #6, illegal ME (TS 24.501 annex A.1), and the UDM never
// hears of the registration.
func TestEquipmentRefused(t *testing.T) {
	for _, c := range []struct {
		why    string
		status sbi.EquipmentStatus
		err    error
		want   nas.MMCause
	}{
		{"prohibited", sbi.EquipmentBlacklisted, nil, nas.MMIllegalME},
		{"unknown to the EIR", "", &sbi.Problem{Status: 404, Cause: sbi.CauseEquipmentUnknown}, nas.MMIllegalME},
		{"unknown subscriber", "", &sbi.Problem{Status: 404, Cause: sbi.CauseUserNotFound}, nas.MM5GSServicesNotAllowed},
		{"EIR away, which may pass", "", errors.New("away"), nas.MMProtocolError},
	} {
		t.Run(c.why, func(t *testing.T) {
			eirBubble(t, func(t *testing.T, tc *testCore) {
				tc.onEquipment = func(ident.PEI) (sbi.EquipmentStatus, error) { return c.status, c.err }
				u := tc.gnb(1).ue(alice)
				u.toSecurityMode()
				u.completeSecurity(u.request)
				if r := wantDownlink[*nas.RegistrationReject](u, c.why); r.Cause != c.want {
					t.Errorf("cause %d, want %d", r.Cause, c.want)
				}
				u.wantRelease(ngap.NASUnspecified, "rejected")
				tc.wantCalls("the UDM is not asked", "authenticate "+alice.suci().String(), "check imsi-001010000000001 imeisv-4370816125816151")
				wantEmpty(tc)
			})
		})
	}
}

// A UE without IMEISV is asked for its IMEI, once, under NAS security; one that has
// none either is for the EIR to judge.
func TestEquipmentIdentification(t *testing.T) {
	for why, pei := range map[string]ident.PEI{"with an IMEI": "imei-490154203237518", "without any": ""} {
		t.Run(why, func(t *testing.T) {
			eirBubble(t, func(t *testing.T, tc *testCore) {
				u := tc.gnb(1).ue(alice)
				u.toSecurityMode()
				u.completeWithoutPEI()
				if r := wantDownlink[*nas.IdentityRequest](u, why); r.IdentityType != nas.IdentityIMEI {
					t.Errorf("identity type %d, want IMEI", r.IdentityType)
				}
				u.sendPlain(&nas.IdentityResponse{Identity: nas.MobileIdentity{PEI: "imei-999999999999999"}})
				u.g.wantIdle("an unprotected answer is discarded (TS 24.501 clause 4.4.4.3)")
				u.send(&nas.IdentityResponse{Identity: nas.MobileIdentity{PEI: pei}})
				u.takeAccept()
				tc.wantCalls(why, "authenticate "+alice.suci().String(), "check imsi-001010000000001 "+string(pei),
					"register imsi-001010000000001 11111111-1111-4111-8111-111111111111 "+string(pei))
			})
		})
	}
}

// A subscription that moves to another device is registered at the UDM again.
func TestEquipmentChanges(t *testing.T) {
	eirBubble(t, func(t *testing.T, tc *testCore) {
		tc.gnb(1).ue(alice).register()
		tc.calls()
		w := tc.gnb(2).ue(alice)
		w.toSecurityMode()
		w.completeWithoutPEI()
		wantDownlink[*nas.IdentityRequest](w, "another device, without IMEISV")
		w.send(&nas.IdentityResponse{Identity: nas.MobileIdentity{PEI: "imei-490154203237518"}})
		w.takeAccept()
		tc.wantCalls("another PEI", "authenticate "+alice.suci().String(), "check imsi-001010000000001 imei-490154203237518",
			"register imsi-001010000000001 11111111-1111-4111-8111-111111111111 imei-490154203237518")
	})
}

// A barred subscriber is told #7, "5GS services not allowed": by the rejection of a
// registration, and by the deregistration that comes when it is barred while
// registered. No traffic passes while the UE keeps silent.
func TestBarredSubscriber(t *testing.T) {
	t.Run("registers", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			tc.onRegisterAMF = func() error { return &sbi.Problem{Status: 403, Cause: sbi.CauseNoPSSubscription} }
			tc.onDeregister = func(context.Context) error { return &sbi.Problem{Status: 404, Cause: sbi.CauseContextNotFound} }
			u := tc.gnb(1).ue(alice)
			u.toSecurityMode()
			u.completeSecurity(u.request)
			if r := wantDownlink[*nas.RegistrationReject](u, "barred"); r.Cause != nas.MM5GSServicesNotAllowed {
				t.Errorf("cause %d, want 7", r.Cause)
			}
			u.wantRelease(ngap.NASUnspecified, "rejected")
			wantEmpty(tc)
			if n := tc.amf.Status().Counters.CallFailures; n != 0 {
				t.Errorf("%d calls count as failed; want none: the UDM has no registration to take back", n)
			}
		})
	})
	t.Run("is registered", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.register()
			u.session(5)
			tc.calls()
			if err := tc.amf.Deregister(t.Context(), alice.supi, sbi.SubscriptionWithdrawn); err != nil {
				t.Fatal(err)
			}
			d := wantDownlink[*nas.DeregistrationRequest](u, "withdrawn")
			if d.Reregister || d.Cause != nas.MM5GSServicesNotAllowed {
				t.Errorf("%+v: want cause #7 and no re-registration", d)
			}
			tc.wantCalls("before the UE has answered", "release sm-1 REL_DUE_TO_UE_NOT_REGISTERED")
			u.send(&nas.DeregistrationAccept{ToNetwork: true})
			u.wantRelease(ngap.NASDeregister, "deregistered")
			tc.wantCalls("at the end", "deregister imsi-001010000000001 11111111-1111-4111-8111-111111111111")
			wantEmpty(tc)
		})
	})
}
