package smf

import (
	"net/http"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/nf/sbi"
)

// User-plane connection: deactivation for AN release (TS 23.502 clause 4.2.6),
// activation for service request (clause 4.2.3.2), and the gNB's answers to
// resource setup, which establishment shares.

// activate answers with a resource setup request for the tunnel endpoint that the
// UPF has had all along (TS 29.502 clause 5.2.2.3.2.2).
func (s *session) activate(ev event) []action {
	s.up = upActivating
	return []action{
		reply{ev.call, callResult{out: sbi.UpdatedSMContext{N2: s.setupRequest(), N2Type: sbi.N2SetupRequest, UPState: sbi.UPActivating}}},
		startTimer{tN2, s.smf.cfg.Timers.N2},
	}
}

// deactivated makes the UPF drop what arrives for the UE: there is no paging.
func (s *session) deactivated(ev event) []action {
	s.up, s.want.downlink = upDeactivated, ident.FTEID{}
	out := []action{
		stopTimer{tN2},
		reply{ev.call, callResult{out: sbi.UpdatedSMContext{UPState: sbi.UPDeactivated}}},
	}
	return append(out, s.sync()...)
}

// tunnelUp: the gNB gave its endpoint. If the UPF was sending to another one, that
// one gets an end marker (TS 23.501 clause 5.8.2.9).
func (s *session) tunnelUp(ev event) []action {
	if s.up == upDeactivated { // overtaken by a deactivation
		return []action{reply{call: ev.call}}
	}
	s.up, s.wasUp = upActivated, true
	s.want.downlink = ev.setup.Downlink
	out := []action{
		stopTimer{tN2},
		reply{ev.call, callResult{out: sbi.UpdatedSMContext{UPState: sbi.UPActivated}}},
	}
	if s.owesN1 && s.state == stActive {
		out = append(out, s.commandModification(false)...)
	}
	return append(out, s.sync()...)
}

// setupFailed: the gNB refused the resources or did not answer in time. Without
// them a new session is pointless; an established one stays without user plane.
func (s *session) setupFailed(ev event) []action {
	out := []action{reply{call: ev.call}}
	if s.up == upDeactivated {
		return out
	}
	if !s.wasUp {
		s.counters.refused.Add(1)
		n1 := s.encodeN1(&nas.PDUSessionEstablishmentReject{SMHeader: s.header(s.pti), Cause: nas.SMInsufficientResources})
		out = append(out, transfer{tag: tagReject, m: sbi.N1N2Message{Session: s.id, SNSSAI: s.snssai, N1: n1}})
		return append(out, s.finish(true)...)
	}
	s.up, s.want.downlink = upDeactivated, ident.FTEID{}
	return append(append(out, stopTimer{tN2}), s.sync()...)
}

// badN2 is the answer to an N2 transfer that cannot be read.
func badN2(err error) error {
	return problem(http.StatusForbidden, causeN2Error, "%v", err)
}
