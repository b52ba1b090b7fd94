package ue

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

func TestInitialRegistration(t *testing.T) {
	for _, alg := range []struct{ nea, nia uint8 }{{0, 1}, {1, 2}, {2, 3}, {3, 1}} {
		bubble(t, testConfig(), func(t *testing.T, n *testNet) {
			done := n.register("")
			c := n.wantConn("registration needs a connection")
			if c.gnb != "a" || c.req.Cause != causeSignalling || c.req.STMSI != nil {
				t.Errorf("connect %s %+v: want gNB a, mo-Signalling, no 5G-S-TMSI", c.gnb, c.req)
			}
			req := wantUplink[*nas.RegistrationRequest](c, "first message")
			if req.RegistrationType != nas.RegistrationInitial || req.NGKSI != nas.NoKey {
				t.Errorf("type %d ngKSI %d, want initial and no key", req.RegistrationType, req.NGKSI)
			}
			if req.RequestedNSSAI != nil || req.NASContainer != nil {
				t.Error("without a security context only cleartext IEs may be sent (clause 4.4.6)")
			}
			if s := req.Identity.SUCI; s == nil || s.String() != "suci-0-001-01-0-0-0-0000000001" {
				t.Errorf("identity %+v, want the SUCI", req.Identity)
			}
			kamf := c.authenticate(1)
			smc := c.secure(kamf, 1, alg.nea, alg.nia)
			if smc.PEI != "imeisv-1234567890123456" {
				t.Errorf("PEI %q, want the IMEISV that was asked for", smc.PEI)
			}
			full, err := nas.Decode(smc.NASContainer)
			if err != nil {
				t.Fatalf("container: %v", err)
			}
			if r := full.(*nas.RegistrationRequest); len(r.RequestedNSSAI) != 1 {
				t.Errorf("container lacks the requested NSSAI: %+v", r)
			}
			c.send(testAccept())
			wantUplink[*nas.RegistrationComplete](c, "a new GUTI is acknowledged")
			if err := n.result("register", done); err != nil {
				t.Fatal(err)
			}
			s := n.u.Status()
			if s.State != MMRegistered || !s.Connected || s.GNB != "a" || s.GUTI == nil || *s.GUTI != testGUTI {
				t.Errorf("status %+v", s)
			}
			c.send(testAccept())
			wantUplink[*nas.RegistrationComplete](c, "an accept sent again (T3550) is acknowledged again")
		})
	}
}

func TestReregistrationWithContext(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		sec := c.sec
		done := start(func() error { return n.u.Deregister(t.Context(), false) })
		d := wantUplink[*nas.DeregistrationRequest](c, "deregistration is signalled")
		if d.SwitchOff || d.Identity.GUTI == nil {
			t.Errorf("request %+v, want normal, by GUTI", d)
		}
		c.send(&nas.DeregistrationAccept{})
		if err := n.result("deregister", done); err != nil {
			t.Fatal(err)
		}
		c.release(nil)
		done = n.register("")
		c = n.wantConn("second registration")
		if c.req.STMSI == nil || *c.req.STMSI != testGUTI.STMSI() {
			t.Error("a UE with 5G-GUTI connects by 5G-S-TMSI")
		}
		c.sec = sec
		req := wantUplink[*nas.RegistrationRequest](c, "request, integrity protected by the context")
		if req.Identity.GUTI == nil || req.NGKSI != 1 || req.RequestedNSSAI != nil || req.NASContainer == nil {
			t.Fatalf("request %+v: want GUTI, ngKSI 1, cleartext IEs and a container", req)
		}
		b, err := sec.DecipherContainer(req.NASContainer)
		if err != nil {
			t.Fatal(err)
		}
		full, err := nas.Decode(b)
		if err != nil || len(full.(*nas.RegistrationRequest).RequestedNSSAI) != 1 {
			t.Errorf("container %+v, %v: want the complete request", full, err)
		}
		c.send(testAccept())
		wantUplink[*nas.RegistrationComplete](c, "complete")
		if err := n.result("register", done); err != nil {
			t.Fatal(err)
		}
	})
}

// "The UE shall ... T3510 15 s; T3511 10 s; after the fifth attempt T3502, 12 min"
// (TS 24.501 table 10.2.1, clause 5.5.1.2.7).
func TestRegistrationTimers(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		done := n.register("")
		for i := range 5 {
			c := n.wantConn("attempt")
			wantUplink[*nas.RegistrationRequest](c, "attempt")
			at := time.Now()
			c.wantSilence("T3510 is 15 s", 15*time.Second-time.Millisecond)
			if c.isClosed() {
				t.Fatalf("attempt %d given up before T3510", i)
			}
			<-time.After(time.Millisecond)
			if !c.isClosed() {
				t.Fatalf("attempt %d: T3510 expired, the connection must go", i)
			}
			if time.Since(at) != 15*time.Second {
				t.Fatal("the test's own clock is off")
			}
			if i < 4 {
				n.wantNoConn("T3511 is 10 s", 10*time.Second-time.Millisecond)
			}
		}
		if err := n.result("register", done); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("Register: %v, want ErrNoAnswer after five attempts", err)
		}
		n.wantNoConn("T3502 is 12 min", 12*time.Minute-time.Millisecond)
		n.wantConn("a new series after T3502")
	})
}

func TestRegistrationReject(t *testing.T) {
	for _, tc := range []struct {
		name  string
		msg   nas.RegistrationReject
		again time.Duration // next attempt; 0 never
	}{
		{"illegal UE ends it", nas.RegistrationReject{Cause: nas.MMIllegalUE}, 0},
		{"PLMN not allowed ends it", nas.RegistrationReject{Cause: nas.MMPLMNNotAllowed}, 0},
		{"congestion with T3346", nas.RegistrationReject{Cause: nas.MMCongestion, T3346: time.Minute}, time.Minute},
		{"protocol error waits T3502", nas.RegistrationReject{Cause: nas.MMProtocolError}, 12 * time.Minute},
		{"T3502 of the network counts", nas.RegistrationReject{Cause: nas.MMInvalidMandatoryIE, T3502: 2 * time.Minute}, 2 * time.Minute},
		{"other causes wait T3511", nas.RegistrationReject{Cause: nas.MMCongestion}, 10 * time.Second},
		{"an unknown SUCI waits T3511", nas.RegistrationReject{Cause: nas.MMIdentityCannotBeDerived}, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, testConfig(), func(t *testing.T, n *testNet) {
				done := n.register("")
				c := n.wantConn("registration")
				wantUplink[*nas.RegistrationRequest](c, "request")
				c.plain(&tc.msg)
				err := n.result("register", done)
				rr, ok := errors.AsType[*RegistrationRejected](err)
				if !ok || rr.Cause != tc.msg.Cause {
					t.Fatalf("Register: %v, want the cause %d", err, tc.msg.Cause)
				}
				switch {
				case tc.again == 0:
					n.wantNoConn("no further attempt", 2*time.Hour)
				default:
					select {
					case <-c.up:
						t.Fatal("too early, on the old connection")
					case <-n.conns:
						t.Fatal("too early")
					case <-time.After(tc.again - time.Millisecond):
					}
					n.wantConn("the next attempt")
				}
			})
		})
	}
}

// A network that has lost the context rejects the GUTI; Register and MoveTo wait for
// the initial registration by SUCI that follows at once.
func TestUnknownGUTI(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		done := start(func() error { return n.u.MoveTo(t.Context(), "b") })
		c = n.wantConn("move")
		wantUplink[*nas.RegistrationRequest](c, "mobility registration")
		c.plain(&nas.RegistrationReject{Cause: nas.MMIdentityCannotBeDerived})
		c = n.wantConn("initial registration")
		if r := c.admit(); r.Identity.SUCI == nil || r.RegistrationType != nas.RegistrationInitial {
			t.Errorf("request %+v, want initial by SUCI", r)
		}
		if err := n.result("move", done); err != nil {
			t.Error(err)
		}
		wantSM[*nas.PDUSessionEstablishmentRequest](c, "the session is wanted again")
	})
}

func TestPeriodicRegistration(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		sec := c.sec
		c.release(nil)
		n.wantNoConn("T3512 from the accept is 30 min", 30*time.Minute-time.Millisecond)
		c = n.wantConn("periodic registration")
		c.sec = sec
		if r := wantUplink[*nas.RegistrationRequest](c, "request"); r.RegistrationType != nas.RegistrationPeriodic {
			t.Errorf("type %d, want periodic", r.RegistrationType)
		}
	})
}

func TestMoveKeepsSessions(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		sec := c.sec
		done := start(func() error { return n.u.MoveTo(t.Context(), "far") })
		old := c
		c = n.wantConn("the new gNB")
		if c.gnb != "far" || !old.isClosed() {
			t.Errorf("connected to %s, old closed %v", c.gnb, old.isClosed())
		}
		c.sec = sec
		r := wantUplink[*nas.RegistrationRequest](c, "mobility registration")
		b, err := sec.DecipherContainer(r.NASContainer)
		if err != nil {
			t.Fatal(err)
		}
		m, err := nas.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		full := m.(*nas.RegistrationRequest)
		if full.RegistrationType != nas.RegistrationMobility || full.PDUSessionStatus == nil || *full.PDUSessionStatus != 2 ||
			full.UplinkDataStatus == nil || *full.UplinkDataStatus != 2 {
			t.Errorf("request %+v: want mobility with session 1 in both sets", full)
		}
		a := testAccept()
		a.TAIList[0].TAC = 2
		status := nas.SessionSet(2)
		a.PDUSessionStatus = &status
		c.send(a)
		if err := n.result("move", done); err != nil {
			t.Fatal(err)
		}
		s, _ := n.u.Status().Session(1)
		if s.State != SMActive || s.Bearer {
			t.Errorf("session %+v: want active, without bearer yet", s)
		}
		c.events <- BearerUp{Session: 1, QFIs: []ident.QFI{5}}
		synctest.Wait()
		n.host.dev(1).in <- []byte("up")
		if got := <-c.packets; got != "1/5 up" {
			t.Errorf("packet %q on the new radio", got)
		}
	})
}

func TestSessionsOnlyOneSideKnows(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		c := n.registered()
		c.established()
		sec := c.sec
		start(func() error { return n.u.MoveTo(t.Context(), "b") })
		c = n.wantConn("the new gNB")
		c.sec = sec
		wantUplink[*nas.RegistrationRequest](c, "request")
		a := testAccept()
		var none nas.SessionSet
		a.PDUSessionStatus = &none
		c.send(a)
		wantUplink[*nas.RegistrationComplete](c, "complete")
		if !n.host.dev(1).closed() {
			t.Error("a session that the network does not have is released locally")
		}
		wantSM[*nas.PDUSessionEstablishmentRequest](c, "it is wanted, so it is established again")
	})
}

// T3519: "if timer T3519 is not running, generate a fresh SUCI [...] and start timer
// T3519"; while it runs the stored SUCI is sent (TS 24.501 clause 5.4.3.3). Its 60 s
// count from the first.
func TestSUCIWhileT3519Runs(t *testing.T) {
	m := testMachine()
	first, err := m.concealed()
	if err != nil {
		t.Fatal(err)
	}
	deadline, _ := m.timers.next()
	m.now = m.now.Add(40 * time.Second)
	if again, _ := m.concealed(); again != first {
		t.Error("another SUCI within T3519")
	}
	if d, _ := m.timers.next(); d != deadline {
		t.Errorf("T3519 was started again: ends %v, want %v", d, deadline)
	}
}

// "If timer T3512 received by the UE in a message contains an indication that the
// timer is deactivated or the timer value is zero, then timer T3512 is deactivated
// and the UE shall not perform the periodic registration" (TS 24.501 clause 5.3.7).
func TestPeriodicRegistrationDeactivated(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		done := n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		kamf := c.authenticate(1)
		c.secure(kamf, 1, 2, 2)
		a := testAccept()
		a.T3512, a.T3502 = nas.TimerDeactivated, nas.TimerDeactivated
		c.send(a)
		wantUplink[*nas.RegistrationComplete](c, "complete")
		if err := n.result("register", done); err != nil {
			t.Fatal(err)
		}
		c.release(nil)
		n.wantNoConn("no periodic registration", 100*time.Hour)
	})
	b, err := nas.Encode(&nas.RegistrationAccept{T3512: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] &^= 0x1f // the value of zero that other networks send
	msg, err := nas.Decode(b)
	if err != nil || msg.(*nas.RegistrationAccept).T3512 != nas.TimerDeactivated {
		t.Errorf("T3512 of zero: %+v, %v; want deactivated", msg, err)
	}
}

// A back-off timer that is "zero or deactivated" is no back-off: the reject is an
// abnormal case (TS 24.501 clauses 5.5.1.2.5 and 5.5.1.2.7).
func TestCongestionWithoutBackOff(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		n.register("")
		c := n.wantConn("registration")
		wantUplink[*nas.RegistrationRequest](c, "request")
		c.plain(&nas.RegistrationReject{Cause: nas.MMCongestion, T3346: nas.TimerDeactivated})
		n.wantNoConn("T3511 is 10 s", 10*time.Second-time.Millisecond)
		n.wantConn("next attempt")
	})
}
