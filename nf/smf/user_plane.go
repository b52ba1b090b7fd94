package smf

import (
	"errors"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// The user plane of a session is kept by comparing what the session wants of the
// UPF with what the UPF is known to have: procedures change s.want, and sync
// sends whatever PFCP request brings the UPF there. One request is under way at a
// time. That makes one rule of the ordinary procedures, of the repair after a
// UPF's restart and of changes that overlap with either.

// sync returns the request that brings the UPF closer to s.want, if one is due.
func (s *session) sync() []action {
	if s.busy || !s.upfUp || s.want == s.have || !s.want.exists && !s.have.exists {
		return nil
	}
	s.busy, s.sent = true, s.want
	s.token++
	send := sendN4{seid: s.remote.SEID, token: s.token}
	switch {
	case !s.have.exists: // TS 29.244 clause 7.5.2
		send.seid = 0
		send.m = &pfcp.SessionEstablishmentRequest{
			Node: s.smf.n4.node, FSEID: pfcp.FSEID{SEID: s.seid, Addr: s.smf.local}, Rules: s.rules(),
		}
	case !s.want.exists:
		send.m = &pfcp.SessionDeletionRequest{}
	default:
		send.m = s.change()
	}
	return []action{send}
}

// change is the modification from s.have to s.want (TS 29.244 clause 7.5.4).
func (s *session) change() *pfcp.SessionModificationRequest {
	m := &pfcp.SessionModificationRequest{}
	if s.have.downlink != s.want.downlink {
		m.Update.FARs = []pfcp.FAR{downlinkFAR(s.want.downlink, s.have.downlink.Addr)}
	}
	if s.have.ambr != s.want.ambr {
		m.Update.QERs = []pfcp.QER{{ID: qerSession, MBR: new(s.want.ambr)}}
	}
	return m
}

// n4Done is the end of the request under way.
func (s *session) n4Done(ev event) []action {
	if !s.busy || ev.token != s.token { // overtaken by a restart of the UPF
		return nil
	}
	s.busy = false
	if ev.err != nil {
		s.counters.n4Failures.Add(1)
		switch {
		case s.state == stEstablishing:
			return s.upfFailed(ev.err)
		case errors.Is(ev.err, pfcp.ErrUnencodable):
			s.log.Error("pfcp request not encodable", "error", ev.err)
			s.have = plane{}
			return s.finish(true)
		}
		return s.sync() // again, until the association is found to be down
	}
	switch m := ev.response.(type) {
	case *pfcp.SessionEstablishmentResponse:
		return s.established(m)
	case *pfcp.SessionModificationResponse:
		s.measured(m.Usage)
		return s.changed(m)
	case *pfcp.SessionDeletionResponse: // whatever it says, the session is gone
		s.measured(m.Usage)
		s.have = plane{}
		return s.settled()
	}
	return nil
}

// established handles the answer to an establishment, the first or a repeated one.
func (s *session) established(m *pfcp.SessionEstablishmentResponse) []action {
	if m.Cause != pfcp.CauseAccepted || m.FSEID == nil {
		err := &PFCPRejection{Request: pfcp.TypeSessionEstablishmentRequest, Cause: m.Cause, OffendingIE: m.OffendingIE}
		s.counters.n4Failures.Add(1)
		var out []action
		if m.Cause == pfcp.CauseNoAssociation {
			s.upfUp = false
			out = append(out, reassociate{s.grant.upf, s.grant.epoch})
		}
		switch {
		case s.state == stEstablishing && m.Cause == pfcp.CauseNoAssociation:
			return append(out, s.upfAway()...)
		case s.state == stEstablishing:
			return append(out, s.upfFailed(err)...)
		case m.Cause == pfcp.CauseNoAssociation, !s.want.exists:
			return out
		}
		s.log.Error("pfcp session not restored", "upf", s.grant.upf.cfg.Name, "error", err)
		return append(out, s.releaseFromNetwork(nas.SMReactivationRequested)...)
	}
	s.have, s.remote = s.sent, *m.FSEID
	before := s.uplink
	for _, c := range m.Created {
		if c.ID == pdrUplink && c.FTEID.Addr.IsValid() {
			s.uplink = c.FTEID
		}
	}
	if s.state == stEstablishing {
		if !s.uplink.Addr.IsValid() {
			return s.refuse(errors.New("smf: the UPF gave no F-TEID"), nas.SMNetworkFailure)
		}
		return append(s.accepted(), s.settled()...)
	}
	if before.Addr.IsValid() && before != s.uplink {
		// The gNB still sends to the old endpoint: have the tunnel made anew.
		s.log.Warn("upf changed its n3 endpoint", "upf", s.grant.upf.cfg.Name, "teid", s.uplink.TEID)
		return append(s.tunnelLost(), s.settled()...)
	}
	return s.settled()
}

// changed handles the answer to a modification.
func (s *session) changed(m *pfcp.SessionModificationResponse) []action {
	switch m.Cause {
	case pfcp.CauseAccepted:
		s.have = s.sent
		return s.settled()
	case pfcp.CauseSessionNotFound: // the UPF lost it: start from nothing
		s.have = plane{}
		return s.settled()
	case pfcp.CauseNoAssociation:
		s.have, s.upfUp = plane{}, false
		return []action{reassociate{s.grant.upf, s.grant.epoch}}
	}
	err := &PFCPRejection{Request: pfcp.TypeSessionModificationRequest, Cause: m.Cause, OffendingIE: m.OffendingIE}
	s.counters.n4Failures.Add(1)
	s.log.Error("pfcp session not modified", "upf", s.grant.upf.cfg.Name, "error", err)
	if !s.want.exists {
		return s.sync()
	}
	if s.sent.downlink != s.have.downlink {
		return s.releaseFromNetwork(nas.SMReactivationRequested)
	}
	s.oldAMBR = s.have.ambr
	return s.giveUpModification(err)
}

// settled follows every success at the UPF.
func (s *session) settled() []action {
	var out []action
	present := s.state == stActive || s.state == stModifying
	if present && !s.announced && s.have.exists && s.have.downlink.Addr.IsValid() {
		s.announced = true
		out = append(out, announce{})
	}
	if s.state == stActive && s.ambrCall != nil && s.have.ambr == s.want.ambr {
		out = append(out, reply{call: s.ambrCall})
		s.ambrCall = nil
	}
	return append(out, s.sync()...)
}

// upfLost: no new requests until the UPF is back.
func (s *session) upfLost(ev event) []action {
	if ev.upf != s.grant.upf {
		return nil
	}
	s.upfUp = false
	if s.state == stEstablishing {
		return s.upfAway()
	}
	return nil
}

// upfBack: the path is back and the UPF kept its sessions.
func (s *session) upfBack(ev event) []action {
	if ev.upf != s.grant.upf {
		return nil
	}
	s.upfUp = true
	return append(s.noLongerAway(), s.sync()...)
}

// noLongerAway ends the wait of upfAway.
func (s *session) noLongerAway() []action {
	if s.state != stEstablishing {
		return nil
	}
	return []action{stopTimer{tN2}}
}

// upfRestarted restores the session on a UPF that lost it (TS 23.527 clause
// 4.3.3): the same UE address, F-TEIDs and rules, so that neither UE nor gNB nor
// AMF notices.
func (s *session) upfRestarted(ev event) []action {
	if ev.upf != s.grant.upf || ev.epoch <= s.grant.epoch {
		return nil
	}
	s.grant.epoch = ev.epoch
	s.busy, s.upfUp = false, true
	s.token++ // whatever the old instance answers no longer counts
	if s.have.exists {
		s.restores++
	}
	s.have = plane{}
	return append(append(s.noLongerAway(), cancelN4{}), s.sync()...)
}

// tunnelLost takes the user plane down from the core's side: the gNB no longer
// knows the tunnel (TS 23.527 clause 5.3.3.2) or must make it anew.
func (s *session) tunnelLost() []action {
	if s.state != stActive && s.state != stModifying {
		return nil
	}
	s.up, s.want.downlink = upDeactivated, ident.FTEID{}
	out := []action{stopTimer{tN2}, transfer{tag: tagN2Release, m: s.n2Release()}}
	return append(out, s.sync()...)
}
