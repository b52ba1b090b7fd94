package ue

import (
	"errors"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/wire/nas"
)

func TestAuthenticationFailures(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(n *testNet) *nas.AuthenticationRequest
		cause nas.MMCause
	}{
		{"a wrong MAC is cause 20", func(n *testNet) *nas.AuthenticationRequest {
			r, _, _ := n.challenge(1)
			r.AUTN[15] ^= 1
			return r
		}, nas.MMMACFailure},
		{"separation bit 0 is cause 26", func(n *testNet) *nas.AuthenticationRequest {
			r, _, _ := n.challengeWith(1, 1<<10, [2]byte{0, 0})
			return r
		}, nas.MMNon5GAuthenticationUnacceptable},
		{"an old SQN is cause 21", func(n *testNet) *nas.AuthenticationRequest {
			r, _, _ := n.challengeWith(1, 3, [2]byte{0x80, 0})
			return r
		}, nas.MMSynchFailure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.SQN = 100 << 5
			bubble(t, cfg, func(t *testing.T, n *testNet) {
				n.sqn = 200 << 5
				done := n.register("")
				c := n.wantConn("registration")
				wantUplink[*nas.RegistrationRequest](c, "request")
				r := tc.spoil(n)
				if tc.cause == nas.MMNon5GAuthenticationUnacceptable {
					r, _, _ = n.challengeWith(1, 300<<5, [2]byte{0, 0})
				}
				c.plain(r)
				f := wantUplink[*nas.AuthenticationFailure](c, "the challenge is refused")
				if f.Cause != tc.cause {
					t.Fatalf("cause %d, want %d", f.Cause, tc.cause)
				}
				if tc.cause == nas.MMSynchFailure {
					sqn, ok := aka.OpenAUTS(n.milen, r.RAND, [14]byte(f.AUTS))
					if !ok || sqn != 100<<5 {
						t.Errorf("AUTS opens to %d, %v; want SQN_MS %d", sqn, ok, 100<<5)
					}
				} else if f.AUTS != nil {
					t.Error("AUTS belongs to synch failure only")
				}
				// T3520, 15 s: a good challenge within it makes it good.
				<-time.After(15*time.Second - time.Millisecond)
				kamf := c.authenticate(1)
				c.secure(kamf, 1, 0, 2)
				c.send(testAccept())
				if err := n.result("register", done); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestAuthenticationGivenUp(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		done := n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		for range 3 {
			r, _, _ := n.challenge(1)
			r.AUTN[15] ^= 1
			c.plain(r)
			wantUplink[*nas.AuthenticationFailure](c, "refused")
		}
		err := n.result("register", done)
		if f, ok := errors.AsType[*AuthenticationFailed](err); !ok || f.Rejected || f.Cause != nas.MMMACFailure {
			t.Errorf("Register: %v, want AuthenticationFailed by the UE, cause 20", err)
		}
		if !c.isClosed() {
			t.Error("after three failures the UE drops the connection (clause 5.4.1.3.7)")
		}
		if c := n.wantConn("another cell is tried"); c.gnb != "b" {
			t.Errorf("next attempt at %s, want b: a counts as barred", c.gnb)
		}
	})
}

func TestAuthenticationReject(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		done := n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		r, _, _ := n.challenge(1)
		r.AUTN[15] ^= 1
		c.plain(r)
		wantUplink[*nas.AuthenticationFailure](c, "refused")
		c.plain(&nas.AuthenticationReject{})
		err := n.result("register", done)
		if f, ok := errors.AsType[*AuthenticationFailed](err); !ok || !f.Rejected || f.Cause != nas.MMMACFailure {
			t.Errorf("Register: %v, want AuthenticationFailed by the network", err)
		}
		n.wantNoConn("the USIM is invalid: no further attempt", 2*time.Hour)
		if !c.isClosed() {
			t.Error("T3540 must have released the connection")
		}
	})
}

func TestChallengeSentAgain(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		r, _, want := n.challenge(1)
		for range 2 {
			c.plain(r)
			if a := wantUplink[*nas.AuthenticationResponse](c, "same RAND, same RES* (T3516)"); [16]byte(a.RESStar) != want {
				t.Error("RES* differs")
			}
		}
	})
}

func TestKSIInUse(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		r, _, _ := n.challenge(1)
		c.send(r)
		if f := wantUplink[*nas.AuthenticationFailure](c, "ngKSI 1 is in use"); f.Cause != nas.MMNGKSIInUse {
			t.Errorf("cause %d, want 71", f.Cause)
		}
		r, _, _ = n.challenge(2)
		c.send(r)
		wantUplink[*nas.AuthenticationResponse](c, "another ngKSI is fine")
	})
}

func TestSQNFreshness(t *testing.T) {
	u := newUSIM(Config{K: testK, OPc: testOPc, SQN: 100<<5 | 3})
	for _, s := range []struct {
		why string
		sqn uint64
		ok  bool
	}{
		{"the same again", 100<<5 | 3, false},
		{"same SEQ, an index that has not seen it", 100<<5 | 4, true},
		{"and now it has", 100<<5 | 4, false},
		{"next SEQ", 101<<5 | 3, true},
		{"older SEQ at another index that saw 99 only", 100<<5 | 9, true},
		{"beyond delta", (102 + seqDelta) << 5, false},
		{"just within delta", (101 + seqDelta) << 5, true},
	} {
		if got := u.fresh(s.sqn); got != s.ok {
			t.Errorf("%s: fresh = %v, want %v", s.why, got, s.ok)
		}
	}
}

func TestSecurityModeRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*nas.SecurityModeCommand)
		cause nas.MMCause
	}{
		{"capabilities bid down", func(c *nas.SecurityModeCommand) { c.Replayed.IA = 2 }, nas.MMSecurityCapabilityMismatch},
		{"unknown key set", func(c *nas.SecurityModeCommand) { c.NGKSI = 5 }, nas.MMSecurityModeRejected},
		{"cipher not supported", func(c *nas.SecurityModeCommand) { c.Ciphering = 5 }, nas.MMSecurityModeRejected},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, testConfig(), func(t *testing.T, n *testNet) {
				n.register("")
				c := n.wantConn("registration")
				wantUplink[*nas.RegistrationRequest](c, "request")
				kamf := c.authenticate(1)
				enc, integ := aka.NASKeys(kamf, 0, 2)
				net := nas.NewSecurityContext(1, 0, 2, enc, integ, true)
				cmd := &nas.SecurityModeCommand{Integrity: 2, NGKSI: 1, Replayed: nas.SecurityCapability{EA: 0xf, IA: 0xe}}
				tc.spoil(cmd)
				c.sec = net
				c.protected(cmd, nas.HeaderIntegrityNew)
				c.sec = nil
				if r := wantUplink[*nas.SecurityModeReject](c, "refused"); r.Cause != tc.cause {
					t.Errorf("cause %d, want %d", r.Cause, tc.cause)
				}
			})
		})
	}
	t.Run("NIA0 and a wrong MAC", func(t *testing.T) {
		bubble(t, testConfig(), func(t *testing.T, n *testNet) {
			n.register("")
			c := n.wantConn("registration")
			wantUplink[*nas.RegistrationRequest](c, "request")
			kamf := c.authenticate(1)
			enc, integ := aka.NASKeys(kamf, 0, 0)
			c.sec = nas.NewSecurityContext(1, 0, 0, enc, integ, true)
			c.sec.AllowNullIntegrity()
			cmd := &nas.SecurityModeCommand{NGKSI: 1, Replayed: nas.SecurityCapability{EA: 0xf, IA: 0xe}}
			c.protected(cmd, nas.HeaderIntegrityNew)
			c.sec = nil
			wantUplink[*nas.SecurityModeReject](c, "NIA0 is for emergencies")
			enc[0]++
			c.sec = nas.NewSecurityContext(1, 0, 2, enc, enc, true)
			cmd.Integrity = 2
			c.protected(cmd, nas.HeaderIntegrityNew)
			c.sec = nil
			if r := wantUplink[*nas.SecurityModeReject](c, "wrong MAC"); r.Cause != nas.MMSecurityModeRejected {
				t.Errorf("cause %d", r.Cause)
			}
			if s := n.u.Status(); s.Counters.IntegrityFailed != 1 {
				t.Errorf("counters %+v: want one failed check", s.Counters)
			}
			c.secure(kamf, 1, 2, 2)
		})
	})
}

func TestUnprotectedIsDiscarded(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.plain(&nas.RegistrationReject{Cause: nas.MMIllegalUE})
		c.plain(&nas.AuthenticationReject{})
		c.wantSilence("plain messages after the secure exchange are not processed (clause 4.4.4.2)", time.Minute)
		if s := n.u.Status(); s.State != MMRegistered || s.Counters.Unprotected != 2 {
			t.Errorf("state %v counters %+v: want registered, two discarded", s.State, s.Counters)
		}
	})
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		c.plain(&nas.IdentityRequest{IdentityType: nas.IdentityIMEISV})
		c.wantSilence("only the SUCI is told unprotected", time.Second)
		c.plain(&nas.IdentityRequest{IdentityType: nas.IdentitySUCI})
		if r := wantUplink[*nas.IdentityResponse](c, "SUCI"); r.Identity.SUCI == nil {
			t.Error("no SUCI in the response")
		}
		c.events <- DownlinkNAS{[]byte{0x7e}}
		c.events <- DownlinkNAS{[]byte{0x7e, 0, 0x42}}
		c.wantSilence("malformed plain messages are not answered", time.Second)
		if s := n.u.Status(); s.Counters.Malformed != 2 {
			t.Errorf("counters %+v: want two malformed", s.Counters)
		}
	})
}

// "Furthermore, the UE shall stop any of the retransmission timers that are running
// (e.g. T3510, T3517 or T3521)" on AUTHENTICATION FAILURE, and "shall start any
// retransmission timers (e.g. T3510, T3517 or T3521) if they were running and
// stopped" once a challenge is good (TS 24.501 clause 5.4.1.3.7).
func TestAuthenticationFailurePausesT3510(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		<-time.After(10 * time.Second)
		r, _, _ := n.challenge(1)
		r.AUTN[15] ^= 1
		c.plain(r)
		wantUplink[*nas.AuthenticationFailure](c, "refused")
		<-time.After(14 * time.Second) // past T3510, within T3520
		if c.isClosed() {
			t.Fatal("T3510 must not run while the network may make its failure good")
		}
		c.authenticate(1)
		<-time.After(15*time.Second - time.Millisecond)
		if c.isClosed() {
			t.Fatal("T3510 starts anew after the good challenge: 15 s")
		}
		<-time.After(time.Millisecond)
		if !c.isClosed() {
			t.Fatal("T3510 was not started again")
		}
	})
}

// SECURITY MODE COMMAND that only changes the algorithms: the counts are reset for
// "a 5G NAS security context created after a successful execution of" authentication
// only (TS 24.501 clause 5.4.2.3), so they go on here.
func TestAlgorithmsChange(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		done := n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		kamf := c.authenticate(1)
		c.secure(kamf, 1, 2, 2)
		c.send(testAccept())
		wantUplink[*nas.RegistrationComplete](c, "complete")
		if err := n.result("register", done); err != nil {
			t.Fatal(err)
		}
		up, down := c.sec.UplinkCount(), c.sec.DownlinkCount()
		enc, integ := aka.NASKeys(kamf, 1, 3)
		c.sec = c.sec.WithAlgorithms(1, 3, enc, integ)
		c.protected(&nas.SecurityModeCommand{
			Ciphering: 1, Integrity: 3, NGKSI: 1, Replayed: nas.SecurityCapability{EA: 0xf, IA: 0xe},
		}, nas.HeaderIntegrityNew)
		wantUplink[*nas.SecurityModeComplete](c, "other algorithms, same keys")
		if c.sec.UplinkCount() != up+1 || c.sec.DownlinkCount() != down+1 {
			t.Errorf("counts %d and %d, want %d and %d", c.sec.UplinkCount(), c.sec.DownlinkCount(), up+1, down+1)
		}
	})
}

// The IMEISV IE of SECURITY MODE COMPLETE has no room for an IMEI: a UE that has no
// IMEISV leaves it out instead of not answering.
func TestNoIMEISV(t *testing.T) {
	cfg := testConfig()
	cfg.PEI = "imei-123456789012345"
	bubble(t, cfg, func(t *testing.T, n *testNet) {
		n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		if r := c.secure(c.authenticate(1), 1, 2, 2); r.PEI != "" {
			t.Errorf("PEI %q", r.PEI)
		}
		c.send(&nas.IdentityRequest{IdentityType: nas.IdentityIMEI})
		if r := wantUplink[*nas.IdentityResponse](c, "IMEI"); r.Identity.PEI != cfg.PEI {
			t.Errorf("identity %+v", r.Identity)
		}
	})
}
