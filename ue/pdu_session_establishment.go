package ue

import (
	"fmt"

	"github.com/simreach/simreach/internal/wire/nas"
)

// commandEstablish is the EstablishSession command; it returns the identity to
// wait for.
func (m *machine) commandEstablish(c SessionConfig) (op, error) {
	if err := c.validate(); err != nil {
		return op{}, fmt.Errorf("ue: %w", err)
	}
	switch m.state {
	case MMRegistered, MMServiceRequestInitiated, MMRegisteredInitiated:
	default:
		return op{}, ErrNotRegistered
	}
	if s := m.sessions[c.ID]; s != nil && s.state == SMInactivePending {
		return op{}, ErrBusy
	}
	s, err := m.wantSession(c)
	if err != nil {
		return op{}, err
	}
	id := op{opEstablish, s.info.ID}
	if s.state == SMActive && s.up {
		m.act(actDone{op: id, info: s.info})
	}
	return id, nil
}

// requestEstablishment is TS 24.501 clause 6.4.1.2.
func (m *machine) requestEstablishment(s *session) {
	s.state = SMActivePending
	s.pti = m.newPTI()
	s.err = nil
	s.up = false
	s.sent = 1
	m.startSession(t3580, s.info.ID, m.t.T3580)
	m.sendSM(s, &nas.PDUSessionEstablishmentRequest{
		SMHeader:    nas.SMHeader{PDUSessionID: s.info.ID, PTI: s.pti},
		SessionType: s.cfg.Type,
		SSCMode:     1,
		PCO:         &nas.PCO{RequestDNSv4: s.cfg.Type&1 != 0, RequestDNSv6: s.cfg.Type&2 != 0, RequestMTU: true},
	})
}

func (m *machine) establishmentAccept(s *session, a *nas.PDUSessionEstablishmentAccept) {
	if a.PTI != s.pti {
		m.smStatusTo(a.SMHeader, smPTIMismatch)
		return
	}
	if !a.Address.Reach().IsValid() {
		// A session without address is of no use: give it back (clause 6.4.1.3).
		m.failSession(s, &SessionRejected{ID: s.info.ID, Cause: nas.SMInvalidMandatoryIE})
		m.requestRelease(s, nas.SMInvalidMandatoryIE)
		return
	}
	m.endProcedure(s, SMActive)
	s.info.Address = a.Address
	s.info.MTU = m.cfg.MTU
	if s.info.MTU == 0 {
		s.info.MTU = 1400
	}
	s.info.DNS = nil
	if a.PCO != nil {
		s.info.DNS = a.PCO.DNS
		if a.PCO.MTU != 0 {
			s.info.MTU = int(a.PCO.MTU)
		}
	}
	if a.DNN != "" {
		s.info.DNN = a.DNN
	}
	if a.SNSSAI != nil {
		s.info.SNSSAI = *a.SNSSAI
	}
	m.act(actUp{s.info})
}

// interfaceUp is the result of actUp: only now can the session be used.
func (m *machine) interfaceUp(info SessionInfo, err error) {
	s := m.sessions[info.ID]
	if s == nil || !s.active() || s.info.Address != info.Address {
		return
	}
	if err != nil {
		m.done(opEstablish, info.ID, err)
		s.wanted, s.err = false, err
		if s.state == SMActive {
			m.requestRelease(s, nas.SMInsufficientResources)
		}
		return
	}
	s.up = true
	m.act(actDone{op: op{opEstablish, info.ID}, info: s.info})
}

func (m *machine) establishmentReject(s *session, r *nas.PDUSessionEstablishmentReject) {
	m.failSession(s, &SessionRejected{ID: s.info.ID, Cause: r.Cause})
}

// establishmentTimeout is the expiry of T3580: sent again four times, then given up
// (clause 6.4.1.6).
func (m *machine) establishmentTimeout(s *session) {
	if s == nil || s.state != SMActivePending {
		return
	}
	if s.sent >= maxAttempts {
		m.failSession(s, fmt.Errorf("PDU session %d: T3580 expired: %w", s.info.ID, ErrNoAnswer))
		return
	}
	m.resend(s, t3580, m.t.T3580)
}
