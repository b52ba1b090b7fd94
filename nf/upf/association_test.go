package upf

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

func TestHeartbeatTellsRecoveryToAnybody(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		r := request[*pfcp.HeartbeatResponse](l, 0, &pfcp.HeartbeatRequest{Recovery: l.recovery})
		if want := l.Status().Recovery; !r.Recovery.Equal(want) || want.IsZero() {
			t.Errorf("recovery %v, want %v, when it started", r.Recovery, want)
		}
	})
}

// A restart within the second of the start before needs a time stamp of its own.
func TestRecoveryTimeStampMayBeGiven(t *testing.T) {
	given := time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)
	inBubbleWith(t, nil, func(d *Deps) { d.Recovery = given }, func(l *lab) {
		r := request[*pfcp.HeartbeatResponse](l, 0, &pfcp.HeartbeatRequest{Recovery: l.recovery})
		if want := given.Truncate(time.Second); !r.Recovery.Equal(want) || !l.Status().Recovery.Equal(want) {
			t.Errorf("recovery %v, status %v, want %v", r.Recovery, l.Status().Recovery, want)
		}
	})
}

func TestAssociationSetupAndRelease(t *testing.T) {
	inBubble(t, func(c *Config) { c.NodeID = "upf1.example" }, func(l *lab) {
		r := request[*pfcp.AssociationReleaseResponse](l, 0, &pfcp.AssociationReleaseRequest{Node: cpNode})
		if r.Cause != pfcp.CauseNoAssociation {
			t.Errorf("release before setup: cause %d, want 72", r.Cause)
		}
		s := request[*pfcp.AssociationSetupResponse](l, 0, &pfcp.AssociationSetupRequest{Node: cpNode, Recovery: l.recovery})
		if s.Cause != pfcp.CauseAccepted || s.Node.FQDN != "upf1.example" || !s.FTUP || !s.Recovery.Equal(l.Status().Recovery) {
			t.Errorf("setup: %+v", s)
		}
		id, teid := l.session(establishment())
		r = request[*pfcp.AssociationReleaseResponse](l, 0, &pfcp.AssociationReleaseRequest{Node: cpNode})
		if r.Cause != pfcp.CauseAccepted {
			t.Errorf("release: cause %d", r.Cause)
		}
		if l.uplink(teid) {
			t.Error("packets flow after association release")
		}
		d := request[*pfcp.SessionDeletionResponse](l, id, &pfcp.SessionDeletionRequest{})
		if d.Cause != pfcp.CauseNoAssociation {
			t.Errorf("deletion after release: cause %d, want 72", d.Cause)
		}
	})
}

func TestRestartedCPLosesItsSessions(t *testing.T) {
	for _, how := range []string{"association setup", "association setup with the same recovery time stamp", "heartbeat"} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, nil, func(l *lab) {
				l.associate()
				_, teid := l.session(establishment())
				request[*pfcp.HeartbeatResponse](l, 0, &pfcp.HeartbeatRequest{Recovery: l.recovery})
				if !l.uplink(teid) {
					t.Fatal("session lost by a heartbeat of a CP function that has not restarted")
				}
				switch how {
				case "heartbeat":
					l.recovery = l.recovery.Add(time.Second)
					request[*pfcp.HeartbeatResponse](l, 0, &pfcp.HeartbeatRequest{Recovery: l.recovery})
				case "association setup":
					l.recovery = l.recovery.Add(time.Second)
					l.associate()
				default:
					l.associate() // clause 6.2.6.2.2: regardless of the time stamp
				}
				if l.uplink(teid) {
					t.Error("session survived the restart of its CP function")
				}
				if n := len(l.Status().Sessions); n != 0 {
					t.Errorf("%d sessions, want 0", n)
				}
				// It starts over, with the same SEID even.
				l.associate()
				if _, teid := l.session(establishment()); !l.uplink(teid) {
					t.Error("no packets in the new session")
				}
			})
		})
	}
}

func TestRestartedCPMayRepeatSequenceNumbers(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		before := l.sequence
		old, _ := l.session(establishment())
		l.recovery = l.recovery.Add(time.Second)
		l.associate()
		l.sequence = before
		id, teid := l.session(establishment()) // under the number of the first one
		if id == old || !l.uplink(teid) {
			t.Errorf("session %#x after %#x, want a new one and packets in it", id, old)
		}
	})
}

func TestOwnHeartbeats(t *testing.T) {
	inBubble(t, func(c *Config) { c.HeartbeatInterval = 10 * time.Second; c.T1 = time.Second; c.N1 = 3 }, func(l *lab) {
		l.associate()
		l.wantIdle(9*time.Second, "before the interval is over")
		h, m := l.want()
		if _, ok := m.(*pfcp.HeartbeatRequest); !ok {
			t.Fatalf("got %T, want a heartbeat request", m)
		}
		l.send(pfcp.Header{Sequence: h.Sequence}, &pfcp.HeartbeatResponse{Recovery: l.recovery})
		l.wantIdle(9*time.Second, "after the answer")
		start := time.Now()
		h, _ = l.want()
		first := time.Since(start)
		for i := range 2 { // N1 is 3: two more
			again, _ := l.want()
			if again.Sequence != h.Sequence {
				t.Errorf("retransmission has sequence number %d, want %d", again.Sequence, h.Sequence)
			}
			if d := time.Since(start) - first; d != time.Duration(i+1)*time.Second {
				t.Errorf("retransmission %d after %v, want T1 apart", i+1, d)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		st := l.Status()
		if !st.Associations[0].Silent || st.N4.RequestsUnanswered != 1 {
			t.Errorf("after N1 attempts: %+v, want the association silent", st)
		}
		// An answer makes it well again.
		h, _ = l.want()
		l.send(pfcp.Header{Sequence: h.Sequence}, &pfcp.HeartbeatResponse{Recovery: l.recovery})
		synctest.Wait()
		if l.Status().Associations[0].Silent {
			t.Error("still silent after an answer")
		}
	})
}

// TestStrangerInTheNameOfACPFunction: a node ID is a claim; what an association may do
// is for the address that set it up (and, in a session, for that of its F-SEID).
func TestStrangerInTheNameOfACPFunction(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		id, teid := l.session(establishment())
		stranger := l.at(strangerAddr)
		refused := func(what string, got, want pfcp.Cause) {
			t.Helper()
			if got != want {
				t.Errorf("%s: cause %d, want %d", what, got, want)
			}
			if !l.uplink(teid) || !l.downlink() {
				t.Fatalf("%s harmed the session", what)
			}
		}
		attempt := func(cause pfcp.Cause) {
			t.Helper()
			e := establishment()
			e.FSEID.SEID = 0x99
			refused("establishment", request[*pfcp.SessionEstablishmentResponse](stranger, 0, e).Cause, pfcp.CauseNoAssociation)
			refused("modification", request[*pfcp.SessionModificationResponse](stranger, id, &pfcp.SessionModificationRequest{
				Update: pfcp.Rules{FARs: []pfcp.FAR{{ID: 2, Action: pfcp.ActionDrop}}}}).Cause, cause)
			refused("deletion", request[*pfcp.SessionDeletionResponse](stranger, id, &pfcp.SessionDeletionRequest{}).Cause, cause)
			refused("release", request[*pfcp.AssociationReleaseResponse](stranger, 0, &pfcp.AssociationReleaseRequest{Node: cpNode}).Cause, pfcp.CauseNoAssociation)
		}
		attempt(pfcp.CauseNoAssociation)
		request[*pfcp.HeartbeatResponse](stranger, 0, &pfcp.HeartbeatRequest{Recovery: l.recovery.Add(time.Hour)})
		refused("heartbeat", 0, 0)

		// With an association of its own it is a CP function, though not that one.
		if r := request[*pfcp.AssociationSetupResponse](stranger, 0, &pfcp.AssociationSetupRequest{Node: pfcp.NodeID{Addr: strangerAddr}, Recovery: l.recovery}); r.Cause != pfcp.CauseAccepted {
			t.Fatalf("setup under its own name: cause %d", r.Cause)
		}
		attempt(pfcp.CauseSessionNotFound)
		e := establishment() // names the F-SEID of the session that there is
		e.Node = pfcp.NodeID{Addr: strangerAddr}
		refused("the F-SEID of another", request[*pfcp.SessionEstablishmentResponse](stranger, 0, e).Cause, pfcp.CauseRejected)
		if n := l.Status().N4.Rejected; n != 9 {
			t.Errorf("%d rejected, want 9", n)
		}
	})
}

// TestFSEIDIsNotTakenFromAnotherSession when a session changes its own.
func TestFSEIDIsNotTakenFromAnotherSession(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		l.session(establishment())
		e := establishment()
		e.FSEID.SEID = 0x78
		for i := range e.Rules.PDRs {
			e.Rules.PDRs[i].PDI.UEAddress = &ident.UEAddress{V4: ueAddr.Next()}
		}
		other, _ := l.session(e)
		for _, c := range []struct {
			to   ident.SEID
			want pfcp.Cause
		}{{cpSEID, pfcp.CauseRejected}, {0x78, pfcp.CauseAccepted}, {0x79, pfcp.CauseAccepted}} {
			l.sequence++
			l.send(pfcp.Header{SEID: other, Sequence: l.sequence}, &pfcp.SessionModificationRequest{FSEID: &pfcp.FSEID{SEID: c.to, Addr: cpAddr}})
			if _, m := l.want(); m.(*pfcp.SessionModificationResponse).Cause != c.want {
				t.Errorf("F-SEID %#x: got %+v, want cause %d", c.to, m, c.want)
			}
		}
	})
}

// TestSessionRequestsFromTheFSEID: a CP function may speak of a session from the
// address that it named there.
func TestSessionRequestsFromTheFSEID(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		e := establishment()
		e.FSEID.Addr = strangerAddr
		id, _ := l.session(e)
		if r := request[*pfcp.SessionDeletionResponse](l.at(strangerAddr), id, &pfcp.SessionDeletionRequest{}); r.Cause != pfcp.CauseAccepted {
			t.Errorf("deletion: cause %d, want 1", r.Cause)
		}
	})
}

// TestNodeMovesOnceItsOldAddressIsSilent: a setup from another address is rejected,
// and has the old one asked; only if that does not answer does the next one succeed.
func TestNodeMovesOnceItsOldAddressIsSilent(t *testing.T) {
	inBubble(t, func(c *Config) { c.T1 = time.Second; c.N1 = 3 }, func(l *lab) {
		l.associate()
		_, teid := l.session(establishment())
		moved := l.at(strangerAddr)
		setup := func() pfcp.Cause {
			t.Helper()
			return request[*pfcp.AssociationSetupResponse](moved, 0, &pfcp.AssociationSetupRequest{Node: cpNode, Recovery: l.recovery}).Cause
		}
		asked := func() pfcp.Header {
			t.Helper()
			h, m := l.want()
			if _, ok := m.(*pfcp.HeartbeatRequest); !ok {
				t.Fatalf("the old address got %T, want a heartbeat", m)
			}
			return h
		}
		for range 2 {
			if c := setup(); c != pfcp.CauseRejected {
				t.Errorf("setup: cause %d, want 64", c)
			}
			l.send(pfcp.Header{Sequence: asked().Sequence}, &pfcp.HeartbeatResponse{Recovery: l.recovery})
			synctest.Wait()
		}

		// Silence, but then a heartbeat of its own.
		setup()
		for range 3 {
			asked()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !l.Status().Associations[0].Silent {
			t.Error("want the old address known as silent")
		}
		request[*pfcp.HeartbeatResponse](l, 0, &pfcp.HeartbeatRequest{Recovery: l.recovery})
		if c := setup(); c != pfcp.CauseRejected || !l.uplink(teid) {
			t.Errorf("setup after a heartbeat of the old address: cause %d, want 64 and the session unharmed", c)
		}
		if c := setup(); c != pfcp.CauseRejected { // while it is being asked: once is enough
			t.Errorf("setup: cause %d, want 64", c)
		}
		for range 3 {
			asked()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if c := setup(); c != pfcp.CauseAccepted {
			t.Errorf("setup after silence: cause %d, want 1", c)
		}
		st := l.Status()
		if len(st.Associations) != 1 || st.Associations[0].Address != strangerAddr || len(st.Sessions) != 0 {
			t.Errorf("got %+v, want the one association moved, without sessions", st.Associations)
		}
	})
}
