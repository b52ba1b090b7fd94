package amf

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

func TestDeregistrationByUE(t *testing.T) {
	for _, switchOff := range []bool{false, true} {
		for _, idle := range []bool{false, true} {
			bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
				u := tc.gnb(1).ue(alice)
				u.register()
				u.session(1)
				u.session(2)
				req := &nas.DeregistrationRequest{SwitchOff: switchOff, NGKSI: u.sec.NGKSI(), Identity: nas.MobileIdentity{GUTI: u.guti}}
				if idle {
					u.g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
					u.wantRelease(ngap.RadioUserInactivity, "idle")
					tc.calls()
					u.connectProtected(req)
				} else {
					tc.calls()
					u.send(req)
				}
				if !switchOff { // "otherwise the procedure is completed when the AMF receives the message"
					wantDownlink[*nas.DeregistrationAccept](u, "not due to switch off")
				} else {
					synctest.Wait()
				}
				if idle {
					u.ids.RAN = u.g.ran
				}
				u.wantRelease(ngap.NASDeregister, "deregistered")
				wantEmpty(tc)
				got := tc.calls()
				slices.Sort(got)
				for _, line := range []string{"release sm-1 REL_DUE_TO_UE_NOT_REGISTERED", "release sm-2 REL_DUE_TO_UE_NOT_REGISTERED",
					"deregister imsi-001010000000001 11111111-1111-4111-8111-111111111111"} {
					if !slices.Contains(got, line) {
						t.Errorf("calls %q: want %q", got, line)
					}
				}
			})
		}
	}
}

// Nobody deregisters another UE: a DEREGISTRATION REQUEST that fails the integrity
// check is ignored if due to switch off, else its sender is authenticated (TS 24.501
// clause 4.4.4.3).
func TestDeregistrationNotVerified(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		v := g.ue(bob)
		req := &nas.DeregistrationRequest{SwitchOff: true, NGKSI: nas.NoKey, Identity: nas.MobileIdentity{GUTI: u.guti}}
		v.connect(v.encode(req))
		v.wantRelease(ngap.NASDeregister, "ignored")
		req.SwitchOff = false
		v.connect(v.encode(req))
		wantDownlink[*nas.AuthenticationRequest](v, "who is it")
		v.sendPlain(&nas.AuthenticationResponse{RESStar: make([]byte, 16)})
		wantDownlink[*nas.IdentityRequest](v, "not the owner of the 5G-GUTI")
		u.wantState("REGISTERED", "Alice is left alone")

		// Alice herself, without her security context.
		w := g.ue(alice)
		w.connect(w.encode(req))
		w.sendPlain(w.answerChallenge(wantDownlink[*nas.AuthenticationRequest](w, "who is it")))
		old := *u
		old.wantRelease(ngap.NASNormalRelease, "superseded")
		wantDownlink[*nas.SecurityModeCommand](w, "it is Alice")
		w.completeSecurity(nil)
		wantDownlink[*nas.DeregistrationAccept](w, "now she may go")
		w.wantRelease(ngap.NASDeregister, "deregistered")
		u.wantUnknown("Alice is gone")

		// A 5G-GUTI nobody has: accepted, there is nothing to take away.
		req.Identity.GUTI = &ident.GUTI{GUAMI: testConfig().GUAMI, TMSI: 5}
		w.sec = nil
		w.connect(w.encode(req))
		wantDownlink[*nas.DeregistrationAccept](w, "unknown 5G-GUTI")
		w.wantRelease(ngap.NASDeregister, "deregistered")
	})
}

// "On the fifth expiry of timer T3522, the de-registration procedure shall be aborted
// and the AMF changes to state 5GMM-DEREGISTERED."
func TestDeregistrationByNetwork(t *testing.T) {
	t.Run("accepted", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.register()
			if err := tc.amf.Deregister(t.Context(), alice.supi, sbi.ReregistrationRequired); err != nil {
				t.Fatal(err)
			}
			if m := wantDownlink[*nas.DeregistrationRequest](u, "deregistration"); !m.FromNetwork || !m.Reregister {
				t.Errorf("%+v: want re-registration required", m)
			}
			u.wantState("DEREGISTERED-INITIATED", "T3522 runs")
			u.send(&nas.DeregistrationAccept{ToNetwork: true})
			u.wantRelease(ngap.NASDeregister, "deregistered")
			wantEmpty(tc)
		})
	})
	t.Run("T3522", func(t *testing.T) {
		bubble(t, func(c *Config) { c.T3522 = 3 * time.Second }, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.register()
			if err := tc.amf.Deregister(t.Context(), alice.supi, sbi.SubscriptionWithdrawn); err != nil {
				t.Fatal(err)
			}
			wantDownlink[*nas.DeregistrationRequest](u, "deregistration")
			expireFive[*nas.DeregistrationRequest](u, 3*time.Second)
			u.wantRelease(ngap.NASDeregister, "deregistered")
			wantEmpty(tc)
		})
	})
	t.Run("initial registration meanwhile", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.register()
			if err := tc.amf.Deregister(t.Context(), alice.supi, sbi.SubscriptionWithdrawn); err != nil {
				t.Fatal(err)
			}
			wantDownlink[*nas.DeregistrationRequest](u, "deregistration")
			u.send(u.gutiRequest(nas.RegistrationPeriodic))
			u.g.wantIdle("an update does not stop it")
			u.send(u.gutiRequest(nas.RegistrationInitial))
			u.takeAccept()
			sleep(5 * time.Second)
			u.g.wantIdle("T3522 was stopped")
		})
	})
	t.Run("idle and unknown", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.register()
			u.g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioUserInactivity})
			u.wantRelease(ngap.RadioUserInactivity, "idle")
			if err := tc.amf.Deregister(t.Context(), alice.supi, sbi.SubscriptionWithdrawn); err != nil {
				t.Fatal(err)
			}
			u.wantUnknown("deregistered without being told")
			if p, ok := errors.AsType[*sbi.Problem](tc.amf.Deregister(t.Context(), alice.supi, sbi.SubscriptionWithdrawn)); !ok || p.Cause != sbi.CauseContextNotFound {
				t.Errorf("%v: want CONTEXT_NOT_FOUND", p)
			}
		})
	})
	t.Run("gNB lost meanwhile", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.register()
			if err := tc.amf.Deregister(t.Context(), alice.supi, sbi.SubscriptionWithdrawn); err != nil {
				t.Fatal(err)
			}
			u.g.conn.Abort()
			u.wantUnknown("clause 5.5.2.3.5 b: lower layer failure")
		})
	})
}
