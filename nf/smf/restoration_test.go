package smf

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

func (h *harness) upfState() string {
	synctest.Wait()
	return h.smf.Status().UPFs[0].State
}

// TestUPFRestart kills a UPF with hundreds of sessions and starts it again after
// some time: TS 23.527 clause 4.3.3. Neither UE nor gNB nor AMF may notice.
func TestUPFRestart(t *testing.T) {
	const n = 300
	for _, away := range []time.Duration{0, 300 * time.Millisecond, 3 * time.Second, time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			bubble(t, nil, func(h *harness) {
				for i := range n {
					h.active(supi(i))
				}
				events := h.events(false)
				before := map[ident.SUPI]SessionStatus{}
				for _, s := range h.smf.Status().Sessions {
					before[s.SUPI] = s
				}
				h.advance(2 * time.Second)

				h.upf.kill()
				h.advance(away)
				if away >= 3*time.Second && h.upfState() != "lost" {
					t.Errorf("got %s after %s, want the loss noticed", h.upfState(), away)
				}
				h.upf.start()
				back := time.Now()
				for h.upf.count() < n && time.Since(back) < time.Minute {
					h.advance(10 * time.Millisecond)
				}
				took := time.Since(back)
				t.Logf("%d sessions restored %s after the UPF's return", n, took)
				if took > 3*time.Second {
					t.Errorf("restoring took %s, want at most 3 s", took)
				}

				h.upf.mu.Lock()
				for _, s := range h.upf.sessions {
					found := false
					for _, b := range before {
						if b.Address == s.ue {
							found = true
							if s.chosen || s.uplink != b.Uplink {
								t.Errorf("%s: got F-TEID %v (chosen by the UPF: %t), want the %v of before, explicitly", b.SUPI, s.uplink, s.chosen, b.Uplink)
							}
							if s.down.Action != pfcp.ActionForward || *s.down.Forward.Outer != gnbA || *s.qer.MBR != mbps {
								t.Errorf("%s: got %+v %+v, want the rules of before", b.SUPI, s.down, s.qer)
							}
						}
					}
					if !found {
						t.Errorf("the UPF has %v, which nobody had", s.ue)
					}
				}
				h.upf.mu.Unlock()
				wantStrings(t, "directory", events())
				if len(h.amf.taken()) != 0 || h.amf.gone() != 0 {
					t.Error("the AMF noticed")
				}
				for _, s := range h.smf.Status().Sessions {
					if s.Restored != 1 || s.UserPlane != "activated" {
						t.Fatalf("got %+v, want it restored once", s)
					}
				}
				h.active(supi(n))
			})
		})
	}
}

// TestPathLost: a UPF that was only out of reach keeps its sessions; what changed
// meanwhile is made good.
func TestPathLost(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(supi(1))
		gone := h.active(supi(2))
		h.upf.setOverride(func(pfcp.Message) (pfcp.Message, bool) { return nil, false })
		start := time.Now()
		for h.upfState() != "lost" && time.Since(start) < time.Minute {
			h.advance(100 * time.Millisecond)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("the loss was noticed after %s, want 3 s at most", d)
		}

		out := h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPActivating})
		if out.N2 == nil {
			t.Fatal("want a setup request although the UPF is away")
		}
		h.update(ref, h.setupResponse(gnbB))
		if err := h.smf.ReleaseSMContext(h.t.Context(), gone, ""); err != nil {
			t.Fatal(err)
		}
		h.create(supi(3))
		m := h.amf.taken()
		if r := decodeN1[*nas.PDUSessionEstablishmentReject](t, m[len(m)-1].N1); r.Cause != nas.SMNetworkFailure {
			t.Errorf("a new session meanwhile: got cause %d, want 38", r.Cause)
		}
		h.advance(10 * time.Second)
		if used := h.smf.Status().UPFs[0].Pools[0].Used; used != 2 {
			t.Errorf("got %d addresses in use, want 2: the UPF still has the released one", used)
		}

		h.upf.setOverride(nil)
		h.advance(time.Second)
		if h.upfState() != "associated" {
			t.Fatalf("got %s, want associated", h.upfState())
		}
		for _, r := range h.upf.taken() {
			if r.h.Type == pfcp.TypeAssociationSetupRequest || r.h.Type == pfcp.TypeSessionEstablishmentRequest {
				t.Errorf("got %s, want no new association and no restoration", r.h.Type)
			}
		}
		_, s := h.upf.only()
		if *s.down.Forward.Outer != gnbB {
			t.Errorf("got %+v, want the downlink moved to the other gNB", s.down)
		}
		if used := h.smf.Status().UPFs[0].Pools[0].Used; used != 1 {
			t.Errorf("got %d addresses in use, want 1", used)
		}
	})
}

// TestChangesWhileAway: restoration brings the UPF to what is wanted now.
func TestChangesWhileAway(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(supi(1))
		gone := h.active(supi(2))
		h.advance(time.Second)
		h.upf.kill()
		h.advance(5 * time.Second)
		h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated})
		if err := h.smf.ReleaseSMContext(h.t.Context(), gone, ""); err != nil {
			t.Fatal(err)
		}
		h.upf.start()
		h.advance(2 * time.Second)
		if _, s := h.upf.only(); s.down.Action != pfcp.ActionDrop || s.chosen {
			t.Errorf("got %+v, want the remaining session with its downlink dropped", s)
		}
		if used := h.smf.Status().UPFs[0].Pools[0].Used; used != 1 {
			t.Errorf("got %d addresses in use, want 1", used)
		}
	})
}

// TestAssociationByUPF: TS 29.244 clause 6.2.6.2.2, the UPF may speak first.
func TestAssociationByUPF(t *testing.T) {
	bubble(t, func(_ *Config, h *harness) {
		h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
			_, setup := m.(*pfcp.AssociationSetupRequest)
			return nil, !setup
		})
	}, func(h *harness) {
		if h.upfState() != "idle" {
			t.Fatalf("got %s, want idle", h.upfState())
		}
		h.upf.mu.Lock()
		h.upf.assoc = true
		recovery := h.upf.recovery
		h.upf.mu.Unlock()
		setup := &pfcp.AssociationSetupRequest{Node: pfcp.NodeID{Addr: upfAddr.Addr()}, Recovery: recovery}
		a := h.upf.request(0, setup)
		if len(a) != 1 || a[0].(*pfcp.AssociationSetupResponse).Cause != pfcp.CauseAccepted || h.upfState() != "associated" {
			t.Fatalf("got %+v, state %s, want accepted and associated", a, h.upfState())
		}
		h.active(imsi1)

		t.Log("the UPF releases the association")
		h.upf.setOverride(nil)
		a = h.upf.request(0, &pfcp.AssociationReleaseRequest{Node: pfcp.NodeID{Addr: upfAddr.Addr()}})
		if len(a) != 1 || a[0].(*pfcp.AssociationReleaseResponse).Cause != pfcp.CauseAccepted || h.upfState() != "idle" {
			t.Fatalf("got %+v, state %s, want accepted and idle", a, h.upfState())
		}
		h.advance(time.Second)
		if _, s := h.upf.only(); h.upfState() != "associated" || s.chosen {
			t.Errorf("got %s, %+v, want association and session restored", h.upfState(), s)
		}
	})
}

// TestHeartbeatsOfTheUPF: a newer recovery time stamp is a restart; an older one is a
// request from before the last restart that took its time.
func TestHeartbeatsOfTheUPF(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		h.upf.taken()
		h.upf.request(0, &pfcp.HeartbeatRequest{Recovery: h.upf.recovery.Add(-time.Minute)})
		h.upf.request(0, &pfcp.HeartbeatRequest{Recovery: h.upf.recovery})
		h.upf.want("nothing new")
		h.upf.mu.Lock()
		h.upf.recovery = h.upf.recovery.Add(time.Second)
		now := h.upf.recovery
		h.upf.mu.Unlock()
		h.upf.request(0, &pfcp.HeartbeatRequest{Recovery: now})
		h.upf.want("a restart", pfcp.TypeAssociationSetupRequest, pfcp.TypeSessionEstablishmentRequest)
	})
}

// TestUPFForgets: a UPF that lost a session, or the association, without a restart.
func TestUPFForgets(t *testing.T) {
	for name, forget := range map[string]func(*testUPF){
		"session":     func(u *testUPF) { u.sessions = map[ident.SEID]*upfSession{} },
		"association": func(u *testUPF) { u.sessions, u.assoc = map[ident.SEID]*upfSession{}, false },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(h *harness) {
				ref := h.active(imsi1)
				before := h.session(imsi1)
				h.upf.mu.Lock()
				forget(h.upf)
				h.upf.mu.Unlock()
				h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPActivating})
				h.update(ref, h.setupResponse(gnbB))
				h.advance(time.Second)
				_, s := h.upf.only()
				if s.uplink != before.Uplink || s.chosen || *s.down.Forward.Outer != gnbB {
					t.Errorf("got %+v, want the session restored with F-TEID %v", s, before.Uplink)
				}
			})
		})
	}
}

// TestNotRestorable: a UPF that refuses a session after its restart loses it; the
// UE is asked to come back (5GSM cause 39).
func TestNotRestorable(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		events := h.events(false)
		h.active(imsi1)
		h.advance(time.Second)
		h.upf.kill()
		h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
			if _, ok := m.(*pfcp.SessionEstablishmentRequest); ok {
				return &pfcp.SessionEstablishmentResponse{Node: pfcp.NodeID{Addr: upfAddr.Addr()}, Cause: pfcp.CauseNoResources}, true
			}
			return nil, true
		})
		h.upf.start()
		h.advance(3 * time.Second)
		m := h.amf.taken()
		if len(m) != 1 || m[0].N2Type != sbi.N2ReleaseCommand {
			t.Fatalf("got %+v, want a release", m)
		}
		releaseCommand(t, m[0].N1, 0, nas.SMReactivationRequested)
		wantStrings(t, "directory", events(), "PDU_SES_EST 001/5 10.45.0.2 upf1", "PDU_SES_REL 001/5 10.45.0.2 upf1")
	})
}

// TestRestartWhileEstablishing: the session being made is made on the new instance.
func TestRestartWhileEstablishing(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.advance(time.Second)
		h.upf.kill()
		h.create(imsi1)
		h.upf.start()
		h.advance(2 * time.Second)
		if s := h.session(imsi1); s.State != "active" {
			t.Fatalf("got %+v, want it accepted", s)
		}
		if m := h.amf.taken(); len(m) != 1 {
			t.Errorf("got %d transfers, want one accept", len(m))
		}
		if n := h.upf.count(); n != 1 {
			t.Errorf("got %d sessions at the UPF, want 1", n)
		}
	})
}

// TestLostWhileEstablishing: a UPF that does not come back costs the UE no more
// than an unanswered request; another UPF is taken at once.
func TestLostWhileEstablishing(t *testing.T) {
	t.Run("no other", func(t *testing.T) {
		bubble(t, nil, func(h *harness) {
			h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
				switch m.(type) {
				case *pfcp.SessionEstablishmentRequest:
					return &pfcp.SessionEstablishmentResponse{Node: pfcp.NodeID{Addr: upfAddr.Addr()}, Cause: pfcp.CauseNoAssociation}, true
				case *pfcp.AssociationSetupRequest:
					return nil, false
				}
				return nil, true
			})
			h.create(imsi1)
			h.advance(1500*time.Millisecond - time.Nanosecond)
			if s := h.session(imsi1).State; s != "establishing" {
				t.Errorf("got %s, want it to wait for the UPF", s)
			}
			h.advance(time.Nanosecond)
			m := h.amf.taken()
			if len(m) != 1 || decodeN1[*nas.PDUSessionEstablishmentReject](t, m[0].N1).Cause != nas.SMNetworkFailure {
				t.Errorf("got %+v, want a reject with cause 38", m)
			}
		})
	})
	t.Run("another", func(t *testing.T) {
		var second *testUPF
		bubble(t, func(c *Config, h *harness) {
			second = newTestUPF(h, up2Addr)
			u := c.UPFs[0]
			u.Name, u.N4, u.Priority = "upf2", up2Addr, 1
			c.UPFs = append(c.UPFs, u)
		}, func(h *harness) {
			defer second.kill()
			h.upf.mu.Lock()
			h.upf.assoc = false
			h.upf.mu.Unlock()
			h.create(imsi1)
			if s := h.session(imsi1); s.State != "active" || s.UPF != "upf2" {
				t.Errorf("got %+v, want it on upf2 at once", s)
			}
			if u := h.smf.Status().UPFs[0]; u.Sessions != 0 || u.Pools[0].Used != 0 {
				t.Errorf("got %+v, want nothing left at upf1", u)
			}
		})
	})
}

// TestLateEstablishment: a UPF that answers after it was given up has made a session
// that nobody knows; it is told to delete it. A repeated answer is only that.
func TestLateEstablishment(t *testing.T) {
	var second *testUPF
	bubble(t, func(c *Config, h *harness) {
		second = newTestUPF(h, up2Addr)
		u := c.UPFs[0]
		u.Name, u.N4, u.Priority = "upf2", up2Addr, 1
		c.UPFs = append(c.UPFs, u)
	}, func(h *harness) {
		defer second.kill()
		h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
			_, establish := m.(*pfcp.SessionEstablishmentRequest)
			return nil, !establish
		})
		h.upf.taken()
		h.create(imsi1)
		h.advance(2 * time.Second)
		if s := h.session(imsi1); s.State != "active" || s.UPF != "upf2" {
			t.Fatalf("got %+v, want it on upf2 after upf1 did not answer", s)
		}
		h.upf.setOverride(nil)
		asked := h.upf.taken()
		h.upf.handle(smfAddr, asked[len(asked)-1])
		synctest.Wait()
		if n, o := h.upf.count(), h.smf.Status().Counters.PFCPOrphans; n != 0 || o != 1 {
			t.Errorf("got %d sessions at upf1 and %d orphans counted, want it deleted", n, o)
		}

		id, at2 := second.only()
		second.taken()
		second.mu.Lock()
		second.send(smfAddr, pfcp.Header{SEID: at2.smf.SEID, Sequence: 0xabc}, &pfcp.SessionEstablishmentResponse{
			Node: pfcp.NodeID{Addr: up2Addr.Addr()}, Cause: pfcp.CauseAccepted, FSEID: &pfcp.FSEID{SEID: id, Addr: up2Addr.Addr()},
		})
		second.mu.Unlock()
		second.want("a repeated answer")
	})
}

// TestLossOnN4: with a third of the datagrams lost everything still comes to rest
// in the right place.
func TestLossOnN4(t *testing.T) {
	bubble(t, func(c *Config, h *harness) { c.Timers.N1 = 10 }, func(h *harness) {
		h.net.SetImpairments(lossy)
		for i := range 20 {
			if _, err := h.smf.CreateSMContext(h.t.Context(), h.context(supi(i))); err != nil {
				t.Fatal(err)
			}
		}
		h.advance(4 * time.Second)
		for _, s := range h.smf.Status().Sessions {
			if s.State != "active" {
				t.Errorf("%s: got %s, want active", s.SUPI, s.State)
			}
		}
		c := h.smf.Status().Counters
		t.Logf("%+v", c)
		if c.PFCPRetransmitted == 0 {
			t.Error("want retransmissions")
		}
	})
}
