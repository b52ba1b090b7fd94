package amf

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// expireFive checks the timer of a message: "the network shall, on the first expiry
// of the timer, retransmit the message [...]. This retransmission is repeated four
// times, i.e. on the fifth expiry of the timer, the network shall abort the
// procedure."
func expireFive[T nas.Message](u *testUE, d time.Duration) {
	u.t.Helper()
	for range 4 {
		sleep(d - 1)
		u.g.wantIdle("the timer has not expired")
		sleep(1)
		wantDownlink[T](u, "the timer expired")
	}
	sleep(d - 1)
	u.g.wantIdle("the fifth expiry is not due")
	sleep(1)
}

func TestGuardTimers(t *testing.T) {
	slow := func(c *Config) { c.T3560, c.T3570 = 7*time.Second, 5*time.Second }
	t.Run("T3570 identity request", func(t *testing.T) {
		bubble(t, slow, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			r := u.initialRequest()
			r.Identity = nas.MobileIdentity{GUTI: &ident.GUTI{GUAMI: testConfig().GUAMI, TMSI: 77}}
			u.connect(u.encode(r))
			wantDownlink[*nas.IdentityRequest](u, "no identity")
			expireFive[*nas.IdentityRequest](u, 5*time.Second)
			u.wantRelease(ngap.NASUnspecified, "aborted")
			wantEmpty(tc)
		})
	})
	t.Run("T3560 authentication request", func(t *testing.T) {
		bubble(t, slow, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.toAuthentication()
			expireFive[*nas.AuthenticationRequest](u, 7*time.Second)
			u.wantRelease(ngap.NASUnspecified, "aborted")
			wantEmpty(tc)
		})
	})
	t.Run("T3560 security mode command", func(t *testing.T) {
		bubble(t, slow, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.toSecurityMode()
			expireFive[*nas.SecurityModeCommand](u, 7*time.Second)
			u.wantRelease(ngap.NASUnspecified, "aborted")
			wantEmpty(tc)
		})
	})
	t.Run("answered in time", func(t *testing.T) {
		bubble(t, slow, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.toSecurityMode()
			for range 4 {
				sleep(7 * time.Second)
				wantDownlink[*nas.SecurityModeCommand](u, "T3560 expired")
			}
			sleep(6 * time.Second)
			u.completeSecurity(u.request)
			u.takeAccept()
		})
	})
}

func wantEmpty(tc *testCore) {
	tc.t.Helper()
	st := tc.amf.Status()
	if len(st.UEs) != 0 {
		tc.t.Fatalf("UE contexts left: %+v", st.UEs)
	}
	tc.amf.reg.mu.Lock()
	defer tc.amf.reg.mu.Unlock()
	r := tc.amf.reg
	if len(r.ues) != 0 || len(r.conns) != 0 || len(r.bySUPI) != 0 || len(r.byTMSI) != 0 {
		tc.t.Fatalf("left: %d contexts, %d connections, %d SUPIs, %d 5G-TMSIs", len(r.ues), len(r.conns), len(r.bySUPI), len(r.byTMSI))
	}
}

func TestWrongResponse(t *testing.T) {
	for _, tt := range []struct {
		name string
		res  []byte
		hook func(*testCore)
	}{
		{"HRES* differs from HXRES*", make([]byte, 16), nil},
		{"AUSF disagrees", nil, func(tc *testCore) {
			tc.onConfirm = func() error { clear(tc.expected); return nil }
		}},
		{"AUSF rejects the subscriber", nil, func(tc *testCore) {
			tc.onAuthenticate = func(sbi.AuthenticationRequest) error {
				return &sbi.Problem{Status: 403, Cause: sbi.CauseAuthenticationRejected}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
				if tt.hook != nil {
					tt.hook(tc)
				}
				u := tc.gnb(1).ue(alice)
				if tc.onAuthenticate == nil {
					u.toAuthentication()
					resp := u.answerChallenge(u.auth)
					if tt.res != nil {
						resp.RESStar = tt.res
					}
					u.sendPlain(resp)
				} else {
					u.connect(u.encode(u.initialRequest()))
				}
				wantDownlink[*nas.AuthenticationReject](u, tt.name)
				u.wantRelease(ngap.NASAuthenticationFailure, "rejected")
				wantEmpty(tc)
			})
		})
	}
	t.Run("AUSF fails to confirm", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			tc.onConfirm = func() error { return errors.New("connection reset") }
			u := tc.gnb(1).ue(alice)
			u.toAuthentication()
			u.sendPlain(u.answerChallenge(u.auth))
			if m := wantDownlink[*nas.RegistrationReject](u, "no confirmation"); m.Cause != nas.MMProtocolError {
				t.Fatalf("cause %d, want 111", m.Cause)
			}
		})
	})
}

// TS 24.501 clause 5.4.1.3.5: after a 5G-GUTI an invalid response may mean a wrong
// identity: the SUCI is asked for and authentication repeated; then it is final.
func TestWrongResponseAfterGUTI(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		v := g.ue(alice)
		v.guti = u.guti
		v.connect(v.encode(v.gutiRequest(nas.RegistrationInitial)))
		wantDownlink[*nas.AuthenticationRequest](v, "unprotected 5G-GUTI")
		v.sendPlain(&nas.AuthenticationResponse{RESStar: make([]byte, 16)})
		wantDownlink[*nas.IdentityRequest](v, "wrong RES* after a 5G-GUTI")
		v.sendPlain(&nas.IdentityResponse{Identity: nas.MobileIdentity{SUCI: v.suci()}})
		wantDownlink[*nas.AuthenticationRequest](v, "once more with the SUCI")
		v.sendPlain(&nas.AuthenticationResponse{RESStar: make([]byte, 16)})
		wantDownlink[*nas.AuthenticationReject](v, "wrong RES* after a SUCI")
		v.wantRelease(ngap.NASAuthenticationFailure, "rejected")
		u.wantState("REGISTERED", "the real UE is left alone")
	})
}

func TestAuthenticationFailure(t *testing.T) {
	t.Run("MAC failure after a SUCI", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.toAuthentication()
			u.sendPlain(&nas.AuthenticationFailure{Cause: nas.MMMACFailure})
			wantDownlink[*nas.AuthenticationReject](u, "the mapping cannot be wrong")
			u.wantRelease(ngap.NASAuthenticationFailure, "rejected")
		})
	})
	t.Run("synch failure is repaired once", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.toAuthentication()
			auts := aka.BuildAUTS(alice.m, u.auth.RAND, 4096)
			u.sendPlain(&nas.AuthenticationFailure{Cause: nas.MMSynchFailure, AUTS: auts[:]})
			second := wantDownlink[*nas.AuthenticationRequest](u, "a new challenge")
			r := tc.requests[1].Resync
			if r == nil || r.RAND != u.auth.RAND || r.AUTS != auts {
				t.Fatalf("resynchronisation %+v: want the AUTS with the RAND it answers", r)
			}
			u.sendPlain(&nas.AuthenticationFailure{Cause: nas.MMSynchFailure, AUTS: auts[:]})
			wantDownlink[*nas.AuthenticationReject](u, "a second synch failure")
			u.wantRelease(ngap.NASAuthenticationFailure, "rejected")
			_ = second
		})
	})
	t.Run("synch failure, then success", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.toAuthentication()
			auts := aka.BuildAUTS(alice.m, u.auth.RAND, 4096)
			u.sendPlain(&nas.AuthenticationFailure{Cause: nas.MMSynchFailure, AUTS: auts[:]})
			u.sendPlain(u.answerChallenge(wantDownlink[*nas.AuthenticationRequest](u, "a new challenge")))
			wantDownlink[*nas.SecurityModeCommand](u, "authenticated")
		})
	})
	t.Run("ngKSI already in use", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			u.toAuthentication()
			// "select a new ngKSI and send the same 5G authentication challenge to the UE"
			seen := map[nas.NGKSI]bool{u.auth.NGKSI: true}
			for range 6 {
				u.sendPlain(&nas.AuthenticationFailure{Cause: nas.MMNGKSIInUse})
				again := wantDownlink[*nas.AuthenticationRequest](u, "another ngKSI")
				if again.RAND != u.auth.RAND || again.AUTN != u.auth.AUTN || seen[again.NGKSI] || again.NGKSI == nas.NoKey {
					t.Fatalf("%+v: want the same challenge under an ngKSI not tried yet", again)
				}
				seen[again.NGKSI] = true
			}
			u.sendPlain(&nas.AuthenticationFailure{Cause: nas.MMNGKSIInUse})
			wantDownlink[*nas.AuthenticationReject](u, "no ngKSI left")
			u.wantRelease(ngap.NASAuthenticationFailure, "rejected")
		})
	})
	t.Run("the UE's own ngKSI is avoided", func(t *testing.T) {
		bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
			u := tc.gnb(1).ue(alice)
			r := u.initialRequest()
			r.NGKSI = 0
			u.connect(u.encode(r))
			if m := wantDownlink[*nas.AuthenticationRequest](u, "authentication"); m.NGKSI == 0 {
				t.Error("ngKSI 0 is the UE's")
			}
		})
	})
}

func TestIdentityWithoutSUCI(t *testing.T) {
	bubble(t, nil, nil, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		r := u.initialRequest()
		r.Identity = nas.MobileIdentity{GUTI: &ident.GUTI{GUAMI: testConfig().GUAMI, TMSI: 77}}
		u.connect(u.encode(r))
		wantDownlink[*nas.IdentityRequest](u, "no identity")
		u.sendPlain(&nas.IdentityResponse{})
		if m := wantDownlink[*nas.RegistrationReject](u, "still none"); m.Cause != nas.MMIdentityCannotBeDerived {
			t.Fatalf("cause %d, want 9", m.Cause)
		}
		u.wantRelease(ngap.NASUnspecified, "rejected")
	})
}

// The same SUCI from two gNBs at once: both authenticate, the later one to do so is
// the UE, and one context is left.
func TestTwoRegistrationsAtOnce(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u, v := tc.gnb(1).ue(alice), tc.gnb(2).ue(alice)
		u.toAuthentication()
		v.toAuthentication()
		u.sendPlain(u.answerChallenge(u.auth))
		wantDownlink[*nas.SecurityModeCommand](u, "the first is authenticated")
		v.sendPlain(v.answerChallenge(v.auth))
		wantDownlink[*nas.SecurityModeCommand](v, "the second is authenticated")
		u.wantRelease(ngap.NASNormalRelease, "the first is superseded")
		v.completeSecurity(v.request)
		v.takeAccept()
		if st := tc.amf.Status(); len(st.UEs) != 1 || st.UEs[0].GNB.Value != 2 {
			t.Errorf("UEs %+v: want one, at gNB 2", st.UEs)
		}
		sleep(time.Minute)
		u.g.wantIdle("no timer of the first is left")
	})
}

// The gNB is lost while the AUSF is asked: the answer finds nobody, and nothing is
// left.
func TestLossWhileAuthenticating(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		answer := make(chan struct{})
		tc.onAuthenticate = func(sbi.AuthenticationRequest) error { <-answer; return nil }
		u := tc.gnb(1).ue(alice)
		u.connect(u.encode(u.initialRequest()))
		u.g.wantIdle("AUSF has not answered")
		u.g.conn.Abort()
		synctest.Wait()
		wantEmpty(tc)
		close(answer)
		synctest.Wait()
		wantEmpty(tc)
	})
}
