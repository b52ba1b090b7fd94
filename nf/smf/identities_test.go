package smf

import (
	"errors"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

// TestIdentities is TS 24.501 clauses 7.3.1 and 7.3.2: a message with an identity
// that it may not have gets the answer below and changes nothing, in no state.
func TestIdentities(t *testing.T) {
	const reject, status, silence = "reject", "status", ""
	at := func(id ident.PDUSessionID, pti ident.PTI) nas.SMHeader {
		return nas.SMHeader{PDUSessionID: id, PTI: pti}
	}
	complete := func(h nas.SMHeader) nas.Message { return &nas.PDUSessionModificationComplete{SMHeader: h} }
	rejected := func(h nas.SMHeader) nas.Message {
		return &nas.PDUSessionModificationCommandReject{SMHeader: h, Cause: nas.SMRequestRejected}
	}
	released := func(h nas.SMHeader) nas.Message { return &nas.PDUSessionReleaseComplete{SMHeader: h} }
	modify := func(h nas.SMHeader) nas.Message { return &nas.PDUSessionModificationRequest{SMHeader: h} }
	release := func(h nas.SMHeader) nas.Message { return &nas.PDUSessionReleaseRequest{SMHeader: h} }
	establish := func(h nas.SMHeader) nas.Message {
		m := request()
		m.SMHeader = h
		return m
	}
	say := func(h nas.SMHeader) nas.Message {
		return &nas.SMStatus{SMHeader: h, Cause: nas.SMInvalidPDUSessionIdentity}
	}
	for _, tt := range []struct {
		rule   string
		header nas.SMHeader
		of     []func(nas.SMHeader) nas.Message
		answer string
		cause  nas.SMCause
	}{
		{"an answer to no command of ours", at(5, 77), []func(nas.SMHeader) nas.Message{complete, rejected, released}, status, nas.SMPTIMismatch},
		{"a request without a PTI", at(5, 0), []func(nas.SMHeader) nas.Message{modify, release, establish}, status, nas.SMInvalidPTI},
		{"the reserved PTI", at(5, 255), []func(nas.SMHeader) nas.Message{complete, rejected, released, modify, release, establish, say}, silence, 0},
		{"the reserved PTI and another session", at(6, 255), []func(nas.SMHeader) nas.Message{release, complete}, silence, 0},
		{"a request in another session", at(6, 9), []func(nas.SMHeader) nas.Message{modify, release}, reject, nas.SMInvalidPDUSessionIdentity},
		{"an answer in another session", at(6, 0), []func(nas.SMHeader) nas.Message{complete, rejected, released, establish}, status, nas.SMInvalidPDUSessionIdentity},
		{"an unassigned session", at(0, 0), []func(nas.SMHeader) nas.Message{complete, released}, status, nas.SMInvalidPDUSessionIdentity},
		{"a reserved session", at(16, 0), []func(nas.SMHeader) nas.Message{complete, released}, status, nas.SMInvalidPDUSessionIdentity},
		{"5GSM STATUS of another session", at(6, 0), []func(nas.SMHeader) nas.Message{say}, silence, 0},
	} {
		for _, st := range []state{stEstablishing, stActive, stModifying, stReleasing} {
			for _, build := range tt.of {
				m := build(tt.header)
				pdu := n1(t, m)
				s := machine(t, st)
				ev := n1Event(pdu)
				ev.call = &call{reply: make(chan callResult, 1)}
				list := s.step(ev)
				if len(list) != 1 || s.state != st || s.counters.unexpectedN1.Load() != 1 {
					t.Errorf("%s: %T while %s: got %d actions, state %s, want an answer alone", tt.rule, m, stateNames[st], len(list), stateNames[s.state])
					continue
				}
				r, ok := list[0].(reply)
				if !ok || r.call != ev.call || r.result.err != nil {
					t.Errorf("%s: %T while %s: got %+v, want an answer", tt.rule, m, stateNames[st], list[0])
					continue
				}
				if tt.answer == silence {
					if r.result.out.N1 != nil {
						t.Errorf("%s: %T while %s: answered %x, want silence", tt.rule, m, stateNames[st], r.result.out.N1)
					}
					continue
				}
				kind, cause := "", nas.SMCause(0)
				a, err := nas.Decode(r.result.out.N1)
				switch a := a.(type) {
				case *nas.SMStatus:
					kind, cause = status, a.Cause
				case *nas.PDUSessionModificationReject:
					kind, cause = reject, a.Cause
				case *nas.PDUSessionReleaseReject:
					kind, cause = reject, a.Cause
				}
				if kind != tt.answer || cause != tt.cause {
					t.Errorf("%s: %T while %s: got %T, %v, want %s with cause %d", tt.rule, m, stateNames[st], a, err, tt.answer, tt.cause)
				}
				if h, _ := peekHeader(r.result.out.N1); h != tt.header {
					t.Errorf("%s: %T while %s: the answer is about %+v, want %+v", tt.rule, m, stateNames[st], h, tt.header)
				}
			}
		}
	}
}

// TestIdentitiesComeFirst: what cannot be read is judged by its identities before
// anything else (TS 24.501 clause 7.1).
func TestIdentitiesComeFirst(t *testing.T) {
	for _, tt := range []struct {
		pdu  []byte
		want nas.SMCause // 0: silence
	}{
		{[]byte{0x2e, 5, 255, 0xff}, 0},
		{[]byte{0x2e, 6, 1, 0xff}, nas.SMInvalidPDUSessionIdentity},
		{[]byte{0x2e, 5, 1, 0xff}, nas.SMTypeNonExistent},
		{[]byte{0x2e, 6, 1}, 0}, // too short: clause 7.2 comes before
	} {
		s := machine(t, stActive)
		ev := n1Event(tt.pdu)
		ev.call = &call{reply: make(chan callResult, 1)}
		r := s.step(ev)[0].(reply)
		if tt.want == 0 {
			if r.result.out.N1 != nil {
				t.Errorf("%x: answered %x, want silence", tt.pdu, r.result.out.N1)
			}
			continue
		}
		if st := decodeN1[*nas.SMStatus](t, r.result.out.N1); st.Cause != tt.want {
			t.Errorf("%x: got cause %d, want %d", tt.pdu, st.Cause, tt.want)
		}
	}
}

// TestEstablishmentIdentities: the same for a session that is not there yet.
func TestEstablishmentIdentities(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		create := func(pti ident.PTI) *sbi.SessionRefusal {
			t.Helper()
			req, m := h.context(imsi1), request()
			m.PTI = pti
			req.N1 = n1(t, m)
			_, err := h.smf.CreateSMContext(t.Context(), req)
			if !isProblem(err, 403) {
				t.Errorf("PTI %d: got %v, want a Problem 403", pti, err)
			}
			r, _ := errors.AsType[*sbi.SessionRefusal](err)
			return r
		}
		if r := create(0); r == nil {
			t.Error("no PTI: want 5GSM STATUS")
		} else if st := decodeN1[*nas.SMStatus](t, r.N1); st.Cause != nas.SMInvalidPTI || st.SMHeader != (nas.SMHeader{PDUSessionID: 5}) {
			t.Errorf("no PTI: got %+v, want 5GSM STATUS 81", st)
		}
		if r := create(255); r != nil {
			t.Errorf("reserved PTI: answered %x, want no 5GSM message", r.N1)
		}
		if st := h.smf.Status(); len(st.Sessions) != 0 || st.Counters.Refused != 1 || st.Counters.UnexpectedN1 != 1 {
			t.Errorf("got %+v, want no session, one refused and one ignored", st)
		}
	})
}

// TestReleaseCompleteOfAnother: only the PTI of the command ends the release.
func TestReleaseCompleteOfAnother(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionReleaseRequest{SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: 7}})})
		for _, pti := range []ident.PTI{0, 8} {
			out := h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionReleaseComplete{SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: pti}})})
			if st := decodeN1[*nas.SMStatus](t, out.N1); st.Cause != nas.SMPTIMismatch || st.PTI != pti {
				t.Errorf("PTI %d: got %+v, want 5GSM STATUS 47", pti, st)
			}
		}
		h.advance(16 * time.Second)
		if m := h.amf.taken(); len(m) != 1 {
			t.Errorf("got %+v, want the command repeated: nobody has answered it", m)
		}
		// A late answer to a modification is harmless, and none to this command.
		h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionModificationComplete{SMHeader: nas.SMHeader{PDUSessionID: 5}})})
		h.update(ref, sbi.UpdateSMContext{N2: n2(t, &ngap.ReleaseResponseTransfer{}), N2Type: sbi.N2ReleaseResponse})
		h.releaseComplete(ref, 7)
		if h.session(imsi1).State != "none" {
			t.Error("want the session gone after its release complete")
		}
	})
}

// TestStatusOfAnotherProcedure: 5GSM STATUS ends the procedure of its PTI (TS 24.501
// clause 6.5.3), here not the network's modification.
func TestStatusOfAnotherProcedure(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		done := h.setAMBR(gold)
		h.upf.want("enforced at once", pfcp.TypeSessionModificationRequest)
		status := func(pti ident.PTI) {
			h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.SMStatus{SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: pti}, Cause: nas.SMTypeNotCompatible})})
		}
		status(4)
		h.pending(done, "after a status of another procedure")
		status(0)
		var rej *ModificationRejected
		if err := <-done; !errors.As(err, &rej) || rej.Cause != nas.SMTypeNotCompatible {
			t.Errorf("got %v, want the modification ended by cause 98", err)
		}
	})
}
