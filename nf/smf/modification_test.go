package smf

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

var gold = ident.AMBR{Uplink: 50_000_000, Downlink: 80_000_000}

// setAMBR starts a change and returns where its outcome arrives.
func (h *harness) setAMBR(a ident.AMBR) <-chan error {
	done := make(chan error, 1)
	go func() { done <- h.smf.SetAMBR(h.t.Context(), imsi1, 5, a) }()
	synctest.Wait()
	return done
}

func (h *harness) pending(done <-chan error, why string) {
	h.t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		h.t.Fatalf("%s: SetAMBR returned %v, want it to wait", why, err)
	default:
	}
}

// TestModification is TS 23.502 clause 4.3.3.2 for the session AMBR.
func TestModification(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		done := h.setAMBR(gold)
		mod := h.upf.want("enforced at once", pfcp.TypeSessionModificationRequest)[0].m.(*pfcp.SessionModificationRequest)
		if len(mod.Update.QERs) != 1 || mod.Update.QERs[0].MBR == nil || *mod.Update.QERs[0].MBR != gold || mod.Update.QERs[0].Gates != nil || len(mod.Update.FARs) != 0 {
			t.Errorf("got %+v, want the QER alone", mod.Update)
		}
		m := h.amf.taken()
		if len(m) != 1 || m[0].N2Type != sbi.N2ModifyRequest {
			t.Fatalf("got %+v, want one transfer for UE and gNB", m)
		}
		if c := decodeN1[*nas.PDUSessionModificationCommand](t, m[0].N1); c.PTI != 0 || c.AMBR == nil || *c.AMBR != gold {
			t.Errorf("got %+v, want PTI 0 and the new AMBR", c)
		}
		if tr, err := ngap.DecodeModifyRequestTransfer(m[0].N2); err != nil || tr.AMBR == nil || *tr.AMBR != gold {
			t.Errorf("got %+v, %v, want the new AMBR", tr, err)
		}
		h.pending(done, "before the UE confirms")
		if err := h.smf.SetAMBR(h.t.Context(), imsi1, 5, mbps); !isProblem(err, 409) {
			t.Errorf("a second change meanwhile: got %v, want 409", err)
		}
		h.update(ref, sbi.UpdateSMContext{N2: n2(t, &ngap.ModifyResponseTransfer{}), N2Type: sbi.N2ModifyResponse})
		h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionModificationComplete{SMHeader: nas.SMHeader{PDUSessionID: 5}})})
		if err := <-done; err != nil {
			t.Errorf("got %v, want success", err)
		}
		if s := h.session(imsi1); s.State != "active" || s.AMBR != gold {
			t.Errorf("got %+v, want active with the new AMBR", s)
		}
		h.advance(time.Minute)
		if m := h.amf.taken(); len(m) != 0 {
			t.Errorf("got %+v, want T3591 stopped", m)
		}
		if err := h.smf.SetAMBR(h.t.Context(), imsi1, 5, gold); err != nil || len(h.upf.taken()) != 0 {
			t.Errorf("the same again: got %v, want success and no messages", err)
		}
		if err := h.smf.SetAMBR(h.t.Context(), imsi1, 6, gold); !isProblem(err, 404) {
			t.Errorf("no such session: got %v, want 404", err)
		}
	})
}

// TestT3591 is TS 24.501 clause 6.3.2.5: four retransmissions, then the previous
// configuration holds again.
func TestT3591(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		done := h.setAMBR(gold)
		h.amf.taken()
		for i := 1; i <= 4; i++ {
			h.advance(16*time.Second - time.Nanosecond)
			if m := h.amf.taken(); len(m) != 0 {
				t.Fatalf("got %+v before expiry %d", m, i)
			}
			h.advance(time.Nanosecond)
			m := h.amf.taken()
			if len(m) != 1 || m[0].N2 != nil {
				t.Fatalf("expiry %d: got %+v, want the command alone", i, m)
			}
			decodeN1[*nas.PDUSessionModificationCommand](t, m[0].N1)
		}
		h.pending(done, "before the fifth expiry")
		h.upf.taken()
		h.advance(16 * time.Second)
		if err := <-done; !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", err)
		}
		q := h.upf.want("back to before", pfcp.TypeSessionModificationRequest)[0].m.(*pfcp.SessionModificationRequest)
		if q.Update.QERs[0].MBR == nil || *q.Update.QERs[0].MBR != mbps {
			t.Errorf("got %+v, want the old AMBR", q.Update.QERs)
		}
		if m := h.amf.taken(); len(m) != 1 || m[0].N1 != nil || m[0].N2Type != sbi.N2ModifyRequest {
			t.Errorf("got %+v, want the old AMBR for the gNB", m)
		}
		if s := h.session(imsi1); s.State != "active" || s.AMBR != mbps {
			t.Errorf("got %+v, want active with the old AMBR", s)
		}
	})
}

func TestModificationRefused(t *testing.T) {
	t.Run("by the UE", func(t *testing.T) {
		bubble(t, nil, func(h *harness) {
			ref := h.active(imsi1)
			done := h.setAMBR(gold)
			h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionModificationCommandReject{SMHeader: nas.SMHeader{PDUSessionID: 5}, Cause: nas.SMRequestRejected})})
			var rej *ModificationRejected
			if err := <-done; !errors.As(err, &rej) || rej.Cause != nas.SMRequestRejected {
				t.Errorf("got %v, want ModificationRejected with cause 31", err)
			}
			if _, s := h.upf.only(); *s.qer.MBR != mbps {
				t.Errorf("got %v at the UPF, want the old AMBR", s.qer.MBR)
			}
		})
	})
	t.Run("by the UPF", func(t *testing.T) {
		bubble(t, nil, func(h *harness) {
			h.active(imsi1)
			h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
				if _, ok := m.(*pfcp.SessionModificationRequest); ok {
					return &pfcp.SessionModificationResponse{Cause: pfcp.CauseRuleCreationFailure}, true
				}
				return nil, true
			})
			var rej *PFCPRejection
			if err := <-h.setAMBR(gold); !errors.As(err, &rej) || rej.Cause != pfcp.CauseRuleCreationFailure {
				t.Errorf("got %v, want PFCPRejection with cause 73", err)
			}
			if s := h.session(imsi1); s.State != "active" || s.AMBR != mbps {
				t.Errorf("got %+v, want active with the old AMBR", s)
			}
		})
	})
	t.Run("asked for by the UE", func(t *testing.T) {
		bubble(t, nil, func(h *harness) {
			ref := h.active(imsi1)
			out := h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionModificationRequest{SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: 4}})})
			if m := decodeN1[*nas.PDUSessionModificationReject](t, out.N1); m.PTI != 4 || m.Cause != nas.SMServiceOptionNotSupported {
				t.Errorf("got %+v, want PTI 4 cause 32", m)
			}
		})
	})
}

// TestModificationIdle: the UPF enforces at once, the UE hears of it when it is
// back, and the gNB with the resource setup.
func TestModificationIdle(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated})
		h.upf.taken()
		if err := <-h.setAMBR(gold); err != nil {
			t.Fatalf("got %v, want success", err)
		}
		h.upf.want("enforced", pfcp.TypeSessionModificationRequest)
		if m := h.amf.taken(); len(m) != 0 {
			t.Fatalf("got %+v, want no message to an idle UE", m)
		}
		out := h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPActivating})
		if tr, err := ngap.DecodeSetupRequestTransfer(out.N2); err != nil || *tr.AMBR != gold {
			t.Errorf("got %+v, %v, want the new AMBR in the setup request", tr, err)
		}
		h.update(ref, h.setupResponse(gnbA))
		m := h.amf.taken()
		if len(m) != 1 || m[0].N2 != nil {
			t.Fatalf("got %+v, want the command for the UE alone", m)
		}
		decodeN1[*nas.PDUSessionModificationCommand](t, m[0].N1)
	})
}

// TestModificationUnreachable: the UE is found to be idle when the command is sent.
func TestModificationUnreachable(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		h.amf.setFail(func(sbi.N1N2Message) error { return &sbi.Problem{Status: 409, Cause: sbi.CauseUEUnreachable} })
		if err := <-h.setAMBR(gold); err != nil {
			t.Errorf("got %v, want success: the UPF enforces it", err)
		}
		if s := h.session(imsi1); s.State != "active" || s.AMBR != gold {
			t.Errorf("got %+v, want active with the new AMBR", s)
		}
	})
}

// TestReleaseOvertakesModification: a release ends a pending modification.
func TestReleaseOvertakesModification(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		done := h.setAMBR(gold)
		h.amf.taken()
		if err := h.smf.Release(h.t.Context(), imsi1, 5); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, errReleased) {
			t.Errorf("got %v, want errReleased", err)
		}
		h.advance(15 * time.Second)
		if m := h.amf.taken(); len(m) != 1 {
			t.Errorf("got %+v, want the release command only", m)
		}
	})
}
