package smf

import (
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

func downlink(t *testing.T, r upfRequest) pfcp.FAR {
	t.Helper()
	m, ok := r.m.(*pfcp.SessionModificationRequest)
	if !ok || len(m.Update.FARs) != 1 || m.Update.FARs[0].ID != farDownlink {
		t.Fatalf("got %+v, want an update of the downlink FAR", r.m)
	}
	return m.Update.FARs[0]
}

// TestIdleAndBack is AN release (TS 23.502 clause 4.2.6) and service request
// (clause 4.2.3.2) at another gNB.
func TestIdleAndBack(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		events := h.events(false)
		ref := h.active(imsi1)
		before := h.session(imsi1)
		if out := h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated}); out.UPState != sbi.UPDeactivated {
			t.Errorf("got %+v, want DEACTIVATED", out)
		}
		if f := downlink(t, h.upf.want("idle", pfcp.TypeSessionModificationRequest)[0]); f.Action != pfcp.ActionDrop || f.Forward != nil {
			t.Errorf("got %+v, want DROP: there is no paging", f)
		}
		if s := h.session(imsi1); s.UserPlane != "deactivated" || s.Downlink != (ident.FTEID{}) || s.State != "active" {
			t.Errorf("got %+v, want an active session without user plane", s)
		}

		out := h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPActivating})
		if out.UPState != sbi.UPActivating || out.N2Type != sbi.N2SetupRequest || out.N1 != nil {
			t.Errorf("got %+v, want ACTIVATING and a setup request", out)
		}
		if tr, err := ngap.DecodeSetupRequestTransfer(out.N2); err != nil || tr.Uplink != before.Uplink {
			t.Errorf("got %+v, %v, want the endpoint %v of before", tr, err, before.Uplink)
		}
		h.upf.want("nothing until the gNB answers")
		h.update(ref, h.setupResponse(gnbB))
		f := downlink(t, h.upf.want("back", pfcp.TypeSessionModificationRequest)[0])
		if f.Action != pfcp.ActionForward || *f.Forward.Outer != gnbB || f.Forward.SendEndMarker {
			t.Errorf("got %+v, want FORW to the new gNB, without end marker as nothing was sent to the old one", f.Forward)
		}
		wantStrings(t, "the directory saw one session", events(), "PDU_SES_EST 001/5 10.45.0.2 upf1")
	})
}

// TestEndMarker: when the endpoint changes under traffic, the old gNB is told that
// no more comes (TS 23.501 clause 5.8.2.9).
func TestEndMarker(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPActivated})
		h.update(ref, h.setupResponse(gnbB))
		f := downlink(t, h.upf.want("moved", pfcp.TypeSessionModificationRequest)[0])
		if *f.Forward.Outer != gnbB || !f.Forward.SendEndMarker {
			t.Errorf("got %+v, want the new gNB and an end marker", f.Forward)
		}
	})
}

func TestActivationFails(t *testing.T) {
	for name, then := range map[string]func(*harness, sbi.SMContextRef){
		"refused": func(h *harness, ref sbi.SMContextRef) {
			h.update(ref, sbi.UpdateSMContext{N2: n2(h.t, &ngap.UnsuccessfulTransfer{Cause: ngap.RadioResourcesNotAvailable}), N2Type: sbi.N2SetupFail})
		},
		"unanswered": func(h *harness, _ sbi.SMContextRef) { h.advance(10 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(h *harness) {
				ref := h.active(imsi1)
				h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated})
				h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPActivating})
				then(h, ref)
				if s := h.session(imsi1); s.State != "active" || s.UserPlane != "deactivated" {
					t.Errorf("got %+v, want an active session without user plane", s)
				}
				if len(h.amf.taken()) != 0 || h.upf.count() != 1 {
					t.Error("want the session kept")
				}
			})
		})
	}
}

// TestLateSetupResponse: an answer that a deactivation overtook changes nothing.
func TestLateSetupResponse(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPActivating})
		h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated})
		h.update(ref, h.setupResponse(gnbB))
		if s := h.session(imsi1); s.UserPlane != "deactivated" {
			t.Errorf("got %+v, want it deactivated", s)
		}
		if _, s := h.upf.only(); s.down.Action != pfcp.ActionDrop {
			t.Errorf("got %+v at the UPF, want DROP", s.down)
		}
	})
}

// TestErrorIndication is TS 23.527 clause 5.3.3.2: the gNB does not know the tunnel.
func TestErrorIndication(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		seid := h.session(imsi1).SEID
		other := gnbA
		other.TEID++
		answers := h.upf.request(seid, &pfcp.SessionReportRequest{ErrorIndication: &other})
		if len(answers) != 1 || answers[0].(*pfcp.SessionReportResponse).Cause != pfcp.CauseAccepted {
			t.Fatalf("got %+v, want accepted", answers)
		}
		if s := h.session(imsi1); s.UserPlane != "activated" {
			t.Error("an error indication for another tunnel took this one down")
		}
		h.upf.request(seid, &pfcp.SessionReportRequest{ErrorIndication: &gnbA})
		if f := downlink(t, h.upf.want("tunnel lost", pfcp.TypeSessionModificationRequest)[0]); f.Action != pfcp.ActionDrop {
			t.Errorf("got %+v, want DROP", f)
		}
		m := h.amf.taken()
		if len(m) != 1 || m[0].N1 != nil || m[0].N2Type != sbi.N2ReleaseCommand {
			t.Errorf("got %+v, want the gNB told to release its resources, and the UE nothing", m)
		}
		if s := h.session(imsi1); s.State != "active" || s.UserPlane != "deactivated" {
			t.Errorf("got %+v, want an active session without user plane", s)
		}
	})
}

func TestUsage(t *testing.T) {
	bubble(t, func(c *Config, _ *harness) { c.Usage = Usage{Period: 10 * time.Second, Threshold: 1 << 20} }, func(h *harness) {
		h.create(imsi1)
		est := h.upf.taken()[1].m.(*pfcp.SessionEstablishmentRequest)
		if u := est.Rules.URRs[0]; u.Period != 10*time.Second || u.VolumeThreshold != 1<<20 || !u.Volume {
			t.Errorf("got %+v, want the configured reporting", u)
		}
		seid := h.session(imsi1).SEID
		report := &pfcp.SessionReportRequest{Usage: []pfcp.UsageReport{{URR: 1, Trigger: pfcp.TriggerPeriod, UplinkBytes: 100, DownlinkBytes: 2000, UplinkPackets: 1, DownlinkPackets: 2}}}
		h.upf.request(seid, report)
		h.upf.request(seid, report)
		want := UsageTotals{UplinkBytes: 200, DownlinkBytes: 4000, UplinkPackets: 2, DownlinkPackets: 4}
		if got := h.session(imsi1).Usage; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}

		t.Log("the same request again (its answer was lost) is answered but not counted")
		h.upf.mu.Lock()
		h.upf.seq--
		h.upf.mu.Unlock()
		if a := h.upf.request(seid, report); len(a) != 1 || a[0].(*pfcp.SessionReportResponse).Cause != pfcp.CauseAccepted {
			t.Errorf("got %+v, want the answer repeated", a)
		}
		if got := h.session(imsi1).Usage; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}

		t.Log("a session that does not exist")
		if a := h.upf.request(seid+99, report); len(a) != 1 || a[0].(*pfcp.SessionReportResponse).Cause != pfcp.CauseSessionNotFound {
			t.Errorf("got %+v, want cause 65", a)
		}
	})
}
