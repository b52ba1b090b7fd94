package smf

import (
	"errors"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// PDU session release: TS 23.502 clause 4.3.4, TS 24.501 clauses 6.3.3 and 6.4.3.
// User plane and directory entry go first (step 2), then UE and gNB are told.

// errReleased ends a modification that a release overtook.
var errReleased = errors.New("smf: session released")

// releaseRequested is PDU SESSION RELEASE REQUEST: the command goes back in the
// answer, with the gNB's part if it has resources (step 3a).
func (s *session) releaseRequested(ev event) []action {
	hadTunnel := s.up != upDeactivated
	out := s.startRelease(ev.header.PTI, nas.SMRegularDeactivation)
	answer := sbi.UpdatedSMContext{N1: s.command}
	if hadTunnel {
		m := s.n2Release()
		answer.N2, answer.N2Type = m.N2, m.N2Type
	}
	return append([]action{reply{ev.call, callResult{out: answer}}}, out...)
}

// releaseByOperator is a network-requested release (TS 24.501 clause 6.3.3). After
// evRecreate the UE establishes the session again.
func (s *session) releaseByOperator(ev event) []action {
	cause := nas.SMRegularDeactivation
	if ev.kind == evRecreate {
		cause = nas.SMReactivationRequested
	}
	return append([]action{reply{call: ev.call}}, s.releaseFromNetwork(cause)...)
}

func (s *session) releaseFromNetwork(cause nas.SMCause) []action {
	if s.state == stReleasing || s.state == stReleased {
		return s.sync()
	}
	m := sbi.N1N2Message{Session: s.id, SNSSAI: s.snssai}
	if s.up != upDeactivated {
		m = s.n2Release()
	}
	out := s.startRelease(0, cause)
	m.N1 = s.command
	return append(out, transfer{tag: tagRelease, m: m})
}

// startRelease takes the user plane down, makes the command and starts T3592.
func (s *session) startRelease(pti ident.PTI, cause nas.SMCause) []action {
	s.state, s.up, s.attempts = stReleasing, upDeactivated, 0
	s.want, s.commandPTI = plane{}, pti
	s.command = s.encodeN1(&nas.PDUSessionReleaseCommand{SMHeader: s.header(pti), Cause: cause})
	out := []action{
		stopTimer{t3591}, stopTimer{tN2}, startTimer{t3592, s.smf.cfg.Timers.T3592}, withdraw{},
		reply{s.ambrCall, callResult{err: errReleased}},
	}
	s.ambrCall = nil
	return append(out, s.sync()...)
}

// n2Release is a resource release command, without N1.
func (s *session) n2Release() sbi.N1N2Message {
	return sbi.N1N2Message{
		Session: s.id, SNSSAI: s.snssai,
		N2: s.encodeN2(&ngap.ReleaseCommandTransfer{Cause: ngap.NASNormalRelease}), N2Type: sbi.N2ReleaseCommand,
	}
}

// repeatRelease is expiry of T3592 (TS 24.501 clause 6.3.3.5): at the fifth the
// session is gone without the UE's word.
func (s *session) repeatRelease(event) []action {
	if s.attempts == maxRetransmissions {
		return s.finish(true)
	}
	s.attempts++
	return []action{
		transfer{tag: tagRelease, m: sbi.N1N2Message{Session: s.id, SNSSAI: s.snssai, N1: s.command}},
		startTimer{t3592, s.smf.cfg.Timers.T3592},
	}
}

// releaseComplete is PDU SESSION RELEASE COMPLETE.
func (s *session) releaseComplete(ev event) []action {
	return append([]action{reply{call: ev.call}}, s.finish(true)...)
}

// releaseUndelivered: the UE cannot be reached, so it is not asked again.
func (s *session) releaseUndelivered(ev event) []action {
	if ev.tag != tagRelease {
		return nil
	}
	return s.finish(true)
}

// releasedByAMF is ReleaseSMContext (the UE deregistered or was lost), or a second
// session under the same identity: no exchange with UE and gNB.
func (s *session) releasedByAMF(ev event) []action {
	s.superseded = ev.kind == evSuperseded
	return append([]action{reply{call: ev.call}}, s.finish(false)...)
}

// finish makes the session unknown to everyone. What remains is the request that
// removes it from its UPF; only then is its address free for others.
func (s *session) finish(tellAMF bool) []action {
	if s.state == stReleased {
		return nil
	}
	s.state, s.up, s.want = stReleased, upDeactivated, plane{}
	s.counters.released.Add(1)
	out := []action{
		stopTimer{t3591}, stopTimer{t3592}, stopTimer{tN2}, withdraw{}, forget{},
		reply{s.ambrCall, callResult{err: errReleased}},
	}
	s.ambrCall = nil
	if tellAMF {
		out = append(out, notifyReleased{})
	}
	if s.registered && !s.superseded {
		out = append(out, deregister{})
	}
	return append(out, s.sync()...)
}
