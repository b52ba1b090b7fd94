package smf

import (
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

func releaseCommand(t *testing.T, b []byte, pti ident.PTI, cause nas.SMCause) {
	t.Helper()
	if m := decodeN1[*nas.PDUSessionReleaseCommand](t, b); m.PTI != pti || m.Cause != cause || m.PDUSessionID != 5 {
		t.Errorf("got release command %+v, want session 5 PTI %d cause %d", m, pti, cause)
	}
}

func (h *harness) releaseComplete(ref sbi.SMContextRef, pti ident.PTI) {
	h.t.Helper()
	h.update(ref, sbi.UpdateSMContext{N1: n1(h.t, &nas.PDUSessionReleaseComplete{SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: pti}})})
}

// TestReleaseByUE is TS 23.502 clause 4.3.4.2 with TS 24.501 clause 6.4.3.
func TestReleaseByUE(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		events := h.events(false)
		ref := h.active(imsi1)
		out := h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionReleaseRequest{SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: 7}})})
		releaseCommand(t, out.N1, 7, nas.SMRegularDeactivation)
		if out.N2Type != sbi.N2ReleaseCommand {
			t.Errorf("got N2 %q, want a release command", out.N2Type)
		}
		if c, err := ngap.DecodeReleaseCommandTransfer(out.N2); err != nil || c.Cause != ngap.NASNormalRelease {
			t.Errorf("got %+v, %v, want cause normal release", c, err)
		}
		h.upf.want("the user plane goes first", pfcp.TypeSessionDeletionRequest)
		wantStrings(t, "and the directory entry", events(), "PDU_SES_EST 001/5 10.45.0.2 upf1", "PDU_SES_REL 001/5 10.45.0.2 upf1")

		h.update(ref, sbi.UpdateSMContext{N2: n2(t, &ngap.ReleaseResponseTransfer{}), N2Type: sbi.N2ReleaseResponse})
		if h.amf.gone() != 0 {
			t.Error("the AMF was told before the UE confirmed")
		}
		h.releaseComplete(ref, 7)
		if h.amf.gone() != 1 || h.session(imsi1).State != "none" {
			t.Error("want the context gone after release complete")
		}
		wantStrings(t, "registration", h.udm.registered, "+imsi-001010000000001/5 internet", "-imsi-001010000000001/5")
		if p := h.smf.Status().UPFs[0]; p.Sessions != 0 || p.Pools[0].Used != 0 {
			t.Errorf("got %+v, want no session and no address in use", p)
		}
		h.active(supi(2))
		if a := h.session(supi(2)).Address.V4.String(); a != "10.45.0.3" {
			t.Errorf("got %s, want 10.45.0.3: a returned address rests", a)
		}
	})
}

// TestReleaseByOperator is TS 24.501 clause 6.3.3 with its timer T3592.
func TestReleaseByOperator(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		start := time.Now()
		if err := h.smf.Release(h.t.Context(), imsi1, 5); err != nil {
			t.Fatal(err)
		}
		m := h.amf.taken()
		if len(m) != 1 || m[0].N2Type != sbi.N2ReleaseCommand {
			t.Fatalf("got %+v, want one transfer with a release command for the gNB", m)
		}
		releaseCommand(t, m[0].N1, 0, nas.SMRegularDeactivation)
		if err := h.smf.Release(h.t.Context(), imsi1, 5); err != nil {
			t.Errorf("again: got %v, want no harm", err)
		}

		for i := 1; i <= 4; i++ {
			h.advance(16*time.Second - time.Nanosecond)
			if m := h.amf.taken(); len(m) != 0 {
				t.Fatalf("got a retransmission before T3592 ended: %+v", m)
			}
			h.advance(time.Nanosecond)
			m := h.amf.taken()
			if len(m) != 1 || m[0].N2 != nil || m[0].at.Sub(start) != time.Duration(i)*16*time.Second {
				t.Fatalf("retransmission %d: got %+v, want the 5GSM command alone after %d times 16 s", i, m, i)
			}
			releaseCommand(t, m[0].N1, 0, nas.SMRegularDeactivation)
		}
		h.advance(16*time.Second - time.Nanosecond)
		if s := h.session(imsi1).State; s != "releasing" {
			t.Errorf("got %s before the fifth expiry, want releasing", s)
		}
		h.advance(time.Nanosecond)
		if h.session(imsi1).State != "none" || h.amf.gone() != 1 || len(h.amf.taken()) != 0 {
			t.Error("want the session released locally at the fifth expiry")
		}
		if _, err := h.smf.UpdateSMContext(h.t.Context(), ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated}); !isProblem(err, 404) {
			t.Errorf("got %v, want 404", err)
		}
		if err := h.smf.Release(h.t.Context(), imsi1, 5); !isProblem(err, 404) {
			t.Errorf("got %v, want 404", err)
		}
	})
}

func TestReleaseConfirmed(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		if err := h.smf.Release(h.t.Context(), imsi1, 5); err != nil {
			t.Fatal(err)
		}
		h.amf.taken()
		h.advance(15 * time.Second)
		h.releaseComplete(ref, 0)
		h.advance(time.Minute)
		if len(h.amf.taken()) != 0 || h.amf.gone() != 1 {
			t.Error("want T3592 stopped by release complete")
		}
	})
}

// TestReleaseUnreachable: a UE in CM-IDLE is not waited for.
func TestReleaseUnreachable(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		h.update(ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated})
		h.amf.setFail(func(m sbi.N1N2Message) error {
			if m.N2 != nil {
				t.Error("got N2 for a session without radio resources")
			}
			return &sbi.Problem{Status: 409, Cause: sbi.CauseUEUnreachable}
		})
		if err := h.smf.Release(h.t.Context(), imsi1, 5); err != nil {
			t.Fatal(err)
		}
		if h.session(imsi1).State != "none" || h.upf.count() != 0 || h.amf.gone() != 1 {
			t.Error("want the session gone at SMF, UPF and AMF")
		}
	})
}

// TestReleaseByAMF is TS 29.502 clause 5.2.2.4: no word to UE, gNB or AMF.
func TestReleaseByAMF(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		events := h.events(false)
		ref := h.active(imsi1)
		if err := h.smf.ReleaseSMContext(h.t.Context(), ref, sbi.ReleaseDeregistration); err != nil {
			t.Fatal(err)
		}
		if h.upf.count() != 0 || len(h.amf.taken()) != 0 || h.amf.gone() != 0 || h.session(imsi1).State != "none" {
			t.Error("want the session gone without a word to the AMF")
		}
		wantStrings(t, "directory", events(), "PDU_SES_EST 001/5 10.45.0.2 upf1", "PDU_SES_REL 001/5 10.45.0.2 upf1")
		if err := h.smf.ReleaseSMContext(h.t.Context(), ref, sbi.ReleaseDeregistration); !isProblem(err, 404) {
			t.Errorf("again: got %v, want 404", err)
		}
	})
}

// TestReleaseWhileEstablishing: the AMF and the operator may be quicker than the UPF.
func TestReleaseWhileEstablishing(t *testing.T) {
	for name, release := range map[string]func(h *harness, ref sbi.SMContextRef) error{
		"AMF":      func(h *harness, ref sbi.SMContextRef) error { return h.smf.ReleaseSMContext(h.t.Context(), ref, "") },
		"operator": func(h *harness, _ sbi.SMContextRef) error { return h.smf.Release(h.t.Context(), imsi1, 5) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(h *harness) {
				var held pfcp.Message
				h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
					if _, ok := m.(*pfcp.SessionEstablishmentRequest); ok && held == nil {
						held = m // lost: the retransmission will be answered
						return nil, false
					}
					return nil, true
				})
				ref := h.create(imsi1)
				if s := h.session(imsi1).State; s != "establishing" {
					t.Fatalf("got %s, want establishing", s)
				}
				if err := release(h, ref); err != nil {
					t.Fatal(err)
				}
				h.advance(time.Second)
				if h.upf.count() != 0 || h.session(imsi1).State != "none" {
					t.Error("want nothing left at the UPF and the SMF")
				}
				if p := h.smf.Status().UPFs[0].Pools[0].Used; p != 0 {
					t.Errorf("got %d addresses in use, want 0", p)
				}
			})
		})
	}
}

// TestStatusFromUE is TS 24.501 clause 6.5.3: cause 43 means that the UE has no
// such session.
func TestStatusFromUE(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		status := func(c nas.SMCause) {
			h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.SMStatus{SMHeader: nas.SMHeader{PDUSessionID: 5}, Cause: c})})
		}
		status(nas.SMProtocolError)
		if s := h.session(imsi1).State; s != "active" {
			t.Errorf("got %s after status 111, want active", s)
		}
		status(nas.SMInvalidPDUSessionIdentity)
		if h.session(imsi1).State != "none" || h.amf.gone() != 1 {
			t.Error("want the session gone after status 43")
		}
	})
}

func TestMalformedFromAMF(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		for _, bad := range []sbi.UpdateSMContext{
			{}, {N2: []byte{0xff}, N2Type: sbi.N2SetupResponse}, {N2: []byte{0xff}, N2Type: sbi.N2SetupFail},
			{N2: []byte{1}, N2Type: sbi.N2SetupRequest},
		} {
			if _, err := h.smf.UpdateSMContext(h.t.Context(), ref, bad); !isProblem(err, 403) && !isProblem(err, 400) {
				t.Errorf("%+v: got %v, want a Problem 403 or 400", bad, err)
			}
		}
		if out := h.update(ref, sbi.UpdateSMContext{N1: []byte{0x2e, 5, 1, 0xff}}); decodeN1[*nas.SMStatus](t, out.N1).Cause != nas.SMTypeNonExistent {
			t.Error("want 5GSM STATUS 97 for an unknown message type")
		}
		if out := h.update(ref, sbi.UpdateSMContext{N1: []byte{0x2e}}); out.N1 != nil {
			t.Error("want a message that is too short ignored")
		}
		if s := h.session(imsi1); s.State != "active" || s.UserPlane != "activated" {
			t.Errorf("got %+v, want the session unharmed", s)
		}
		c := h.smf.Status().Counters
		if c.MalformedN1 != 2 || c.MalformedN2 != 3 {
			t.Errorf("got %d N1 and %d N2 malformed, want 2 and 3", c.MalformedN1, c.MalformedN2)
		}
	})
}

// TestFinalUsage: without periodic reports all usage is in the deletion response. It
// is logged then, and until then Status shows the session.
func TestFinalUsage(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
			_, deletion := m.(*pfcp.SessionDeletionRequest)
			return nil, !deletion
		})
		if err := h.smf.ReleaseSMContext(h.t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		h.advance(100 * time.Millisecond)
		if s := h.session(imsi1); s.State != "released" || len(h.log.lines("pdu session released")) != 0 {
			t.Errorf("got %+v before the UPF confirmed, want it shown as released and not logged", s)
		}
		h.upf.setOverride(nil)
		h.advance(time.Second)
		if s := h.session(imsi1).State; s != "none" {
			t.Errorf("got %s, want the session gone", s)
		}
		l := h.log.lines("pdu session released", "nf=smf", "smf_id=", "uplink_bytes=1", "supi="+string(imsi1))
		if len(l) != 1 {
			t.Errorf("got %q, want one line with the final usage", h.log.lines("pdu session released"))
		}
	})
}
