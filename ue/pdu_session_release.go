package ue

import (
	"fmt"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// commandRelease is the ReleaseSession command.
func (m *machine) commandRelease(id ident.PDUSessionID) error {
	s := m.sessions[id]
	if s == nil || s.state == SMInactive {
		if s != nil {
			s.wanted = false
		}
		return ErrUnknownSession
	}
	s.wanted = false
	switch s.state {
	case SMActivePending:
		// Nothing to release yet; the session is given back when it comes.
		return ErrBusy
	case SMInactivePending:
		return nil // joins
	case SMModificationPending:
		m.endProcedure(s, SMActive)
		m.done(opModify, id, ErrAborted)
	}
	m.requestRelease(s, nas.SMRegularDeactivation)
	return nil
}

// requestRelease is TS 24.501 clause 6.4.3.2.
func (m *machine) requestRelease(s *session, cause nas.SMCause) {
	s.state = SMInactivePending
	s.pti = m.newPTI()
	s.sent = 1
	m.startSession(t3582, s.info.ID, m.t.T3582)
	m.sendSM(s, &nas.PDUSessionReleaseRequest{
		SMHeader: nas.SMHeader{PDUSessionID: s.info.ID, PTI: s.pti}, Cause: cause,
	})
}

// releaseCommand ends the session on both sides (clause 6.3.3.3). With cause 39 the
// UE establishes it again.
func (m *machine) releaseCommand(s *session, c *nas.PDUSessionReleaseCommand) {
	r := &nas.PDUSessionReleaseComplete{SMHeader: c.SMHeader}
	m.replySM(s.info.ID, r)
	if c.Cause != nas.SMReactivationRequested {
		s.wanted = false
	}
	m.dropSession(s, &SessionRejected{ID: s.info.ID, Cause: c.Cause})
	if c.PTI != 0 {
		s.done, s.doneReply = c.PTI, r
	}
}

func (m *machine) releaseReject(s *session, r *nas.PDUSessionReleaseReject) {
	if r.Cause == nas.SMInvalidPDUSessionIdentity {
		m.dropSession(s, nil) // it is gone already: clause 6.4.3.4
		return
	}
	m.endProcedure(s, SMActive)
	m.done(opRelease, s.info.ID, &SessionRejected{ID: s.info.ID, Cause: r.Cause})
}

// releaseTimeout is the expiry of T3582: after the fifth the session is released
// locally (clause 6.4.3.5).
func (m *machine) releaseTimeout(s *session) {
	if s == nil || s.state != SMInactivePending {
		return
	}
	if s.sent >= maxAttempts {
		m.done(opRelease, s.info.ID, fmt.Errorf("PDU session %d: T3582 expired: %w", s.info.ID, ErrNoAnswer))
		m.dropSession(s, nil)
		return
	}
	m.resend(s, t3582, m.t.T3582)
}

// smStatus ends the procedure that the network cannot go on with (clause 6.5.2).
func (m *machine) smStatus(s *session, st *nas.SMStatus) {
	err := &SessionRejected{ID: s.info.ID, Cause: st.Cause}
	switch st.Cause {
	case nas.SMInvalidPDUSessionIdentity:
		if s.state == SMActivePending {
			m.failSession(s, err)
			return
		}
		m.dropSession(s, err)
	case smPTIMismatch, nas.SMInvalidPTI, nas.SMTypeNonExistent, nas.SMTypeNotCompatible:
		if st.PTI != s.pti || s.pti == 0 {
			return
		}
		switch s.state {
		case SMActivePending:
			m.failSession(s, err)
		case SMModificationPending:
			m.endProcedure(s, SMActive)
			m.done(opModify, s.info.ID, err)
		case SMInactivePending:
			m.dropSession(s, nil)
		}
	}
}
