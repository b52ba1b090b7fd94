package ue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/wire/nas"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

var _ io.Reader = zeroReader{}

func TestRadioLossReselects(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		sec := c.sec
		n.setDown("a", true)
		c.release(fmt.Errorf("%w: killed", ErrRadioLinkFailure))
		c = n.wantConn("the next gNB of the list")
		if c.gnb != "b" {
			t.Errorf("gNB %s, want b", c.gnb)
		}
		c.sec = sec
		wantUplink[*nas.ServiceRequest](c, "same tracking area and a session: service request")
		if n.host.dev(1).closed() {
			t.Error("sessions outlive the radio")
		}
		c.send(&nas.ServiceAccept{})
		s := n.u.Status()
		if s.State != MMRegistered || !s.Connected || s.Counters.RadioLinkLost != 1 {
			t.Errorf("status %+v", s)
		}
		// Nobody answers: the UE asks again with growing pauses and finds b again.
		n.setDown("b", true)
		c.release(ErrRadioLinkFailure)
		n.wantNoConn("no gNB answers", 10*time.Second)
		n.setDown("b", false)
		began := time.Now()
		n.wantConn("b answers again")
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("found after %v, want within the longest pause of 2 s", d)
		}
	})
}

func TestReleaseReturnsToConnected(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		sec := c.sec
		<-time.After(time.Minute)
		c.release(nil)
		began := time.Now()
		for i, pause := range []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 2 * time.Second} {
			c = n.wantConn("a UE with sessions returns")
			if d := time.Since(began); d != pause {
				t.Errorf("return %d after %v, want %v", i, d, pause)
			}
			c.sec = sec
			wantUplink[*nas.ServiceRequest](c, "service request")
			c.send(&nas.ServiceAccept{})
			began = time.Now()
			c.release(nil)
		}
	})
}

// T3517 is 15 s; after the fifth failure T3525, 60 s (clause 5.6.1.7).
func TestServiceRequestTimers(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		sec := c.sec
		<-time.After(time.Minute)
		c.release(nil)
		for range 5 {
			c = n.wantConn("attempt")
			c.sec = sec
			wantUplink[*nas.ServiceRequest](c, "attempt")
			c.wantSilence("T3517 is 15 s", 15*time.Second-time.Millisecond)
			if c.isClosed() {
				t.Fatal("given up before T3517")
			}
			<-time.After(time.Millisecond)
			if !c.isClosed() {
				t.Fatal("T3517 expired, the connection must go")
			}
		}
		n.wantNoConn("T3525 is 60 s", 60*time.Second-2*time.Millisecond)
		n.wantConn("then again")
	})
}

func TestServiceRejectRegistersAgain(t *testing.T) {
	for _, cause := range []nas.MMCause{nas.MMIdentityCannotBeDerived, nas.MMImplicitlyDeregistered} {
		bubble(t, testConfig(), func(t *testing.T, n *testNet) {
			c := n.registered()
			c.established()
			<-time.After(time.Minute)
			c.release(nil)
			c = n.wantConn("service request")
			wantUplink[*nas.ServiceRequest](c, "request")
			dev := n.host.dev(1)
			c.plain(&nas.ServiceReject{Cause: cause})
			if !dev.closed() {
				t.Error("the session has gone with the registration")
			}
			c = n.wantConn("initial registration")
			r := wantUplink[*nas.RegistrationRequest](c, "initial registration")
			if r.RegistrationType != nas.RegistrationInitial || (cause == nas.MMIdentityCannotBeDerived) != (r.Identity.SUCI != nil) {
				t.Errorf("cause %d: request %+v", cause, r)
			}
			kamf := c.authenticate(2)
			c.secure(kamf, 2, 1, 1)
			c.send(testAccept())
			wantUplink[*nas.RegistrationComplete](c, "complete")
			wantSM[*nas.PDUSessionEstablishmentRequest](c, "the session is established again")
		})
	}
}

func TestNetworkDeregisters(t *testing.T) {
	for _, again := range []bool{false, true} {
		bubble(t, testConfig(), func(t *testing.T, n *testNet) {
			c := n.registered()
			c.established()
			c.send(&nas.DeregistrationRequest{FromNetwork: true, Reregister: again})
			wantUplink[*nas.DeregistrationAccept](c, "accepted")
			if s := n.u.Status(); s.State != MMDeregistered || !errors.Is(s.Err, ErrDeregistered) || !n.host.dev(1).closed() {
				t.Errorf("status %+v", s)
			}
			c.release(nil)
			if again {
				c = n.wantConn("re-registration required")
				wantUplink[*nas.RegistrationRequest](c, "initial registration")
			} else {
				n.wantNoConn("stays deregistered", time.Hour)
			}
		})
	}
}

// Causes #3, #6 and #7 make the USIM invalid: 5G-GUTI and keys are forgotten and nothing
// starts by itself (TS 24.501 clause 5.5.2.3.2), until the user wants it again. The
// sessions that were there come back then.
func TestNetworkDeregistersForGood(t *testing.T) {
	for _, cause := range []nas.MMCause{nas.MMIllegalUE, nas.MMIllegalME, nas.MM5GSServicesNotAllowed} {
		bubble(t, testConfig(), func(t *testing.T, n *testNet) {
			c := n.registered()
			c.established()
			c.send(&nas.DeregistrationRequest{FromNetwork: true, Cause: cause})
			wantUplink[*nas.DeregistrationAccept](c, "accepted")
			var by *DeregisteredByNetwork
			if s := n.u.Status(); s.State != MMDeregistered || !errors.Is(s.Err, ErrDeregistered) || !errors.As(s.Err, &by) || by.Cause != cause {
				t.Errorf("status %+v, want it deregistered with cause %d", s, cause)
			}
			c.release(nil)
			n.wantNoConn("stays deregistered", time.Hour)
			done := n.register("")
			c = n.wantConn("switched off and on")
			r := wantUplink[*nas.RegistrationRequest](c, "initial registration")
			if r.RegistrationType != nas.RegistrationInitial || r.Identity.SUCI == nil {
				t.Errorf("request %+v, want an initial registration by SUCI", r)
			}
			c.secure(c.authenticate(2), 2, 2, 2)
			c.send(testAccept())
			wantUplink[*nas.RegistrationComplete](c, "registered")
			if err := n.result("register", done); err != nil {
				t.Fatal(err)
			}
			c.acceptNext()
			if s := n.u.Status(); len(s.Sessions) != 1 || s.Sessions[0].State != SMActive {
				t.Errorf("sessions %+v, want the one from before", s.Sessions)
			}
		})
	}
}

// T3521 is 15 s, five transmissions (clause 5.5.2.2.6).
func TestDeregistration(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		done := start(func() error { return n.u.Deregister(t.Context(), false) })
		for range 5 {
			wantUplink[*nas.DeregistrationRequest](c, "transmission")
			c.wantSilence("T3521 is 15 s", 15*time.Second-time.Millisecond)
		}
		if err := n.result("deregister", done); err != nil {
			t.Errorf("Deregister: %v, want success on our own", err)
		}
		if s := n.u.Status(); s.State != MMDeregistered || s.Counters.Retransmissions != 4 {
			t.Errorf("status %+v", s)
		}
	})
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		if err := n.u.Deregister(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if d := wantUplink[*nas.DeregistrationRequest](c, "switch off"); !d.SwitchOff {
			t.Error("want switch off")
		}
		c.release(nil)
		if s := n.u.Status(); s.State != MMNull {
			t.Errorf("state %v, want off", s.State)
		}
		done := n.register("b")
		c = n.wantConn("on again")
		wantUplink[*nas.RegistrationRequest](c, "by GUTI, with the context kept")
		_ = done
	})
}

func TestConfigurationUpdate(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		g := testGUTI
		g.TMSI = 7
		c.send(&nas.ConfigurationUpdateCommand{AckRequested: true, GUTI: &g, RegistrationRequested: true})
		wantUplink[*nas.ConfigurationUpdateComplete](c, "acknowledged")
		if r := wantUplink[*nas.RegistrationRequest](c, "registration requested"); r.RegistrationType != nas.RegistrationMobility || *r.Identity.GUTI != g {
			t.Errorf("request %+v", r)
		}
	})
}

func TestPowerOffAndStop(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		if err := n.u.PowerOff(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.wantSilence("no signalling", time.Minute)
		if !c.isClosed() || !n.host.dev(1).closed() {
			t.Error("radio and interface must be gone")
		}
	})
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		n.setDown("a", true)
		n.setDown("b", true)
		if err := n.u.Register(ctx, ""); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoCell) {
			t.Errorf("Register: %v, want the deadline and the last failure", err)
		}
	})
}

func TestGoodbye(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		n.after = func() {
			if d := wantUplink[*nas.DeregistrationRequest](c, "a UE that is stopped says goodbye"); !d.SwitchOff {
				t.Error("want switch off")
			}
			if err := n.u.Register(context.Background(), ""); !errors.Is(err, ErrStopped) {
				t.Errorf("a command after the end: %v, want ErrStopped", err)
			}
		}
	})
}

// SERVICE REJECT #22 with T3346: no service request before it expires, the UE stays
// registered (TS 24.501 clause 5.6.1.5).
func TestServiceRejectCongestion(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		sec := c.sec
		<-time.After(time.Minute)
		c.release(nil)
		c = n.wantConn("service request")
		c.sec = sec
		wantUplink[*nas.ServiceRequest](c, "request")
		c.send(&nas.ServiceReject{Cause: nas.MMCongestion, T3346: 4 * time.Minute})
		c.release(nil)
		n.wantNoConn("T3346 is 4 min", 4*time.Minute-time.Millisecond)
		c = n.wantConn("then again")
		c.sec = sec
		wantUplink[*nas.ServiceRequest](c, "request")
		if s := n.u.Status(); s.State != MMServiceRequestInitiated {
			t.Errorf("state %v", s.State)
		}
	})
}

// De-registration collision: a UE that switches off ignores the network's request;
// otherwise it is answered, ends both procedures, and "the UE need not initiate the
// registration procedure for initial registration" (TS 24.501 clause 5.5.2.2.6).
func TestDeregistrationCollision(t *testing.T) {
	for _, off := range []bool{false, true} {
		bubble(t, testConfig(), func(t *testing.T, n *testNet) {
			c := n.registered()
			done := start(func() error { return n.u.Deregister(t.Context(), off) })
			wantUplink[*nas.DeregistrationRequest](c, "request")
			c.send(&nas.DeregistrationRequest{FromNetwork: true, Reregister: true})
			if off {
				c.wantSilence("a UE that switches off does not listen", time.Second)
			} else {
				wantUplink[*nas.DeregistrationAccept](c, "the network's request is answered")
			}
			if err := n.result("deregister", done); err != nil {
				t.Fatal(err)
			}
			c.release(nil)
			n.wantNoConn("it wanted to go", time.Hour)
			if s := n.u.Status(); s.Counters.WrongState != 0 || s.Counters.Retransmissions != 0 {
				t.Errorf("counters %+v", s.Counters)
			}
		})
	}
}
