package ue

import (
	"fmt"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// commandModify is the ModifySession command (TS 24.501 clause 6.4.2.2). The
// request names no QoS rules: it asks the network to look again.
func (m *machine) commandModify(id ident.PDUSessionID) error {
	s := m.sessions[id]
	if s == nil || s.state == SMInactive {
		return ErrUnknownSession
	}
	if s.state != SMActive {
		return ErrBusy
	}
	s.state = SMModificationPending
	s.pti = m.newPTI()
	s.sent = 1
	m.startSession(t3581, id, m.t.T3581)
	m.sendSM(s, &nas.PDUSessionModificationRequest{SMHeader: nas.SMHeader{PDUSessionID: id, PTI: s.pti}})
	return nil
}

// modificationCommand is accepted as it is: the simulated UE enforces no AMBR
// (clause 6.3.2.3).
func (m *machine) modificationCommand(s *session, c *nas.PDUSessionModificationCommand) {
	r := &nas.PDUSessionModificationComplete{SMHeader: c.SMHeader}
	switch {
	case c.PTI != 0:
		m.endProcedure(s, SMActive)
		s.done, s.doneReply = c.PTI, r
		m.done(opModify, s.info.ID, nil)
	case s.state == SMModificationPending:
		// Collision: the network's procedure goes on, the UE's is aborted (clause
		// 6.4.2.5).
		m.endProcedure(s, SMActive)
		m.done(opModify, s.info.ID, ErrAborted)
	}
	m.replySM(s.info.ID, r)
}

func (m *machine) modificationReject(s *session, r *nas.PDUSessionModificationReject) {
	err := &SessionRejected{ID: s.info.ID, Cause: r.Cause}
	m.done(opModify, s.info.ID, err)
	m.endProcedure(s, SMActive)
	if r.Cause == nas.SMInvalidPDUSessionIdentity {
		m.dropSession(s, err) // clause 6.4.2.4
	}
}

// modificationTimeout is the expiry of T3581 (clause 6.4.2.5).
func (m *machine) modificationTimeout(s *session) {
	if s == nil || s.state != SMModificationPending {
		return
	}
	if s.sent >= maxAttempts {
		m.endProcedure(s, SMActive)
		m.done(opModify, s.info.ID, fmt.Errorf("PDU session %d: T3581 expired: %w", s.info.ID, ErrNoAnswer))
		return
	}
	m.resend(s, t3581, m.t.T3581)
}

// resend repeats the running procedure's request and its timer.
func (m *machine) resend(s *session, k timerKind, d time.Duration) {
	s.sent++
	m.counters.Retransmissions++
	m.startSession(k, s.info.ID, d)
	m.sendSM(s, s.last)
}
