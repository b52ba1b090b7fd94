package smf

import (
	"fmt"

	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// PDU session modification: TS 23.502 clause 4.3.3, TS 24.501 clauses 6.3.2
// (network-requested) and 6.4.2 (UE-requested: there is nothing a UE may change).

// ModificationRejected is a modification that the UE refused.
type ModificationRejected struct{ Cause nas.SMCause }

// Error implements error.
func (e *ModificationRejected) Error() string {
	return fmt.Sprintf("smf: modification refused by the UE: 5gsm cause %d", e.Cause)
}

// errUnanswered: the UE answered none of the five commands.
var errUnanswered = fmt.Errorf("smf: the UE did not answer: %w", ErrTimeout)

// modify changes the session AMBR. The UPF enforces it at once; UE and gNB are told
// now if the user plane is up, and else when it next is.
func (s *session) modify(ev event) []action {
	switch {
	case s.ambrCall != nil:
		return s.unexpected(ev)
	case ev.ambr == s.want.ambr:
		return []action{reply{call: ev.call}}
	}
	s.oldAMBR, s.want.ambr, s.ambrCall = s.want.ambr, ev.ambr, ev.call
	if s.up != upActivated {
		s.owesN1 = true
		return s.sync()
	}
	return append(s.commandModification(true), s.sync()...)
}

// commandModification sends PDU SESSION MODIFICATION COMMAND and starts T3591.
// withN2 is false when the gNB has the new AMBR from a resource setup.
func (s *session) commandModification(withN2 bool) []action {
	ambr := onWire(s.want.ambr)
	s.state, s.attempts, s.owesN1 = stModifying, 0, false
	s.commandPTI = 0
	s.command = s.encodeN1(&nas.PDUSessionModificationCommand{SMHeader: s.header(s.commandPTI), AMBR: &ambr})
	m := sbi.N1N2Message{Session: s.id, SNSSAI: s.snssai, N1: s.command}
	if withN2 {
		m.N2, m.N2Type = s.encodeN2(&ngap.ModifyRequestTransfer{AMBR: &ambr}), sbi.N2ModifyRequest
	}
	return []action{transfer{tag: tagModification, m: m}, startTimer{t3591, s.smf.cfg.Timers.T3591}}
}

// repeatModification is expiry of T3591 (TS 24.501 clause 6.3.2.5).
func (s *session) repeatModification(event) []action {
	if s.attempts == maxRetransmissions {
		return s.giveUpModification(errUnanswered)
	}
	s.attempts++
	return []action{
		transfer{tag: tagModification, m: sbi.N1N2Message{Session: s.id, SNSSAI: s.snssai, N1: s.command}},
		startTimer{t3591, s.smf.cfg.Timers.T3591},
	}
}

// modified is PDU SESSION MODIFICATION COMPLETE.
func (s *session) modified(ev event) []action {
	s.state = stActive
	s.counters.modified.Add(1)
	out := []action{stopTimer{t3591}, reply{call: ev.call}, reply{call: s.ambrCall}}
	s.ambrCall = nil
	return out
}

// modificationRejected is PDU SESSION MODIFICATION COMMAND REJECT (clause 6.3.2.4).
func (s *session) modificationRejected(ev event) []action {
	cause := ev.n1.(*nas.PDUSessionModificationCommandReject).Cause
	out := []action{reply{call: ev.call}}
	if cause == nas.SMInvalidPDUSessionIdentity { // the UE has no such session
		return append(out, s.finish(true)...)
	}
	return append(out, s.giveUpModification(&ModificationRejected{Cause: cause})...)
}

// giveUpModification returns to the AMBR of before.
func (s *session) giveUpModification(err error) []action {
	s.log.Warn("pdu session modification failed", "error", err)
	pending := s.state == stModifying
	s.state, s.owesN1 = stActive, false
	s.want.ambr = s.oldAMBR
	out := []action{stopTimer{t3591}, reply{s.ambrCall, callResult{err: err}}}
	s.ambrCall = nil
	if pending && s.up == upActivated {
		ambr := onWire(s.want.ambr)
		out = append(out, transfer{tag: tagNone, m: sbi.N1N2Message{
			Session: s.id, SNSSAI: s.snssai, N2: s.encodeN2(&ngap.ModifyRequestTransfer{AMBR: &ambr}), N2Type: sbi.N2ModifyRequest,
		}})
	}
	return append(out, s.sync()...)
}

// modificationUndelivered: the UE is not reachable now. The AMBR holds, and the UE
// hears of it when its user plane is next activated.
func (s *session) modificationUndelivered(ev event) []action {
	if ev.tag != tagModification {
		return nil
	}
	s.state, s.owesN1 = stActive, true
	return append([]action{stopTimer{t3591}}, s.settled()...)
}

// modificationRefused is the answer to PDU SESSION MODIFICATION REQUEST.
func (s *session) modificationRefused(ev event) []action {
	return []action{s.answerN1(ev.call, &nas.PDUSessionModificationReject{
		SMHeader: s.header(ev.header.PTI), Cause: nas.SMServiceOptionNotSupported,
	})}
}
