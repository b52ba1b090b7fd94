package smf

import (
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// Unknown and unforeseen identities of 5GSM messages: TS 24.501 clauses 7.3.1 and
// 7.3.2. They come before everything that is wrong otherwise (clause 7.1).

// reservedPTI is never assigned (TS 24.007 clause 11.2.3.1a); 0 stands for none.
const reservedPTI ident.PTI = 255

// peekHeader reads the identities of a 5GSM message, which stand in front of
// everything else; ok is false for one that is too short or of another protocol.
func peekHeader(pdu []byte) (h nas.SMHeader, ok bool) {
	const epd5GSM = 0x2e
	if len(pdu) < 4 || pdu[0] != epd5GSM {
		return nas.SMHeader{}, false
	}
	return nas.SMHeader{PDUSessionID: ident.PDUSessionID(pdu[1]), PTI: ident.PTI(pdu[2])}, true
}

// checkIdentities answers a 5GSM message whose PTI or PDU session identity is not
// one it may have; wrong is false if all is well.
func (s *session) checkIdentities(ev event) (out []action, wrong bool) {
	if !ev.headed {
		return nil, false
	}
	var answer nas.Message
	h := ev.header
	switch {
	case h.PTI == reservedPTI: // ignored, whatever it is
	case h.PDUSessionID != s.id:
		answer = otherSession(ev)
	case h.PTI == 0 && isRequest(ev):
		answer = &nas.SMStatus{SMHeader: h, Cause: nas.SMInvalidPTI}
	case isAnswer(ev.kind) && h.PTI != s.answerPTI(ev.kind):
		answer = &nas.SMStatus{SMHeader: h, Cause: nas.SMPTIMismatch}
	default:
		return nil, false
	}
	s.counters.unexpectedN1.Add(1)
	if answer == nil {
		return []action{reply{call: ev.call}}, true
	}
	return []action{s.answerN1(ev.call, answer)}, true
}

// otherSession answers a message that came in this session's name (the AMF goes by
// the UL NAS TRANSPORT around it) but names another: a request with its reject
// (clauses 6.4.2.4 and 6.4.3.4), the rest with 5GSM STATUS, a status not at all.
func otherSession(ev event) nas.Message {
	switch ev.kind {
	case evN1Status:
		return nil
	case evN1ModificationRequest:
		return &nas.PDUSessionModificationReject{SMHeader: ev.header, Cause: nas.SMInvalidPDUSessionIdentity}
	case evN1ReleaseRequest:
		return &nas.PDUSessionReleaseReject{SMHeader: ev.header, Cause: nas.SMInvalidPDUSessionIdentity}
	}
	return &nas.SMStatus{SMHeader: ev.header, Cause: nas.SMInvalidPDUSessionIdentity}
}

// isRequest reports whether the UE starts a procedure, for which it assigns a PTI.
func isRequest(ev event) bool {
	_, establishment := ev.n1.(*nas.PDUSessionEstablishmentRequest)
	return establishment || ev.kind == evN1ModificationRequest || ev.kind == evN1ReleaseRequest
}

// isAnswer reports whether the UE answers a command of ours.
func isAnswer(k eventKind) bool {
	return k == evN1ModificationComplete || k == evN1ModificationReject || k == evN1ReleaseComplete
}

// answerPTI is the PTI of the command that an answer of kind k belongs to: the UE's
// if it asked for the release, else none. Modification is always the network's idea.
func (s *session) answerPTI(k eventKind) ident.PTI {
	if k == evN1ReleaseComplete && s.state == stReleasing {
		return s.commandPTI
	}
	return 0
}
