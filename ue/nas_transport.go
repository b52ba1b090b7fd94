package ue

import (
	"errors"
	"maps"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// 5GSM cause 47 "PTI mismatch" (TS 24.501 table 9.11.4.2.1).
const smPTIMismatch nas.SMCause = 47

// sendSM sends a 5GSM message of a session in UL NAS TRANSPORT (TS 24.501 clause
// 5.4.5.2.2). Without a signalling connection it is kept and advance gets one.
func (m *machine) sendSM(s *session, msg nas.Message) {
	s.last = msg
	if m.state != MMRegistered || m.cm != cmConnected {
		s.unsent = true
		return
	}
	s.unsent = false
	t, err := m.transport(s, msg)
	if err != nil {
		m.log.Error("5GSM message not sent", "pdu_session", s.info.ID, "error", err)
		m.failSession(s, err)
		return
	}
	m.send(t)
}

// transport wraps a 5GSM message. DNN, S-NSSAI and request type travel with a
// request for a session only.
func (m *machine) transport(s *session, msg nas.Message) (*nas.ULNASTransport, error) {
	b, err := nas.Encode(msg)
	if err != nil {
		return nil, err
	}
	t := &nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: b, PDUSessionID: s.info.ID}
	switch msg.(type) {
	case *nas.PDUSessionEstablishmentRequest:
		t.RequestType, t.DNN, t.SNSSAI = nas.RequestInitial, s.cfg.DNN, s.cfg.SNSSAI
	case *nas.PDUSessionModificationRequest:
		t.RequestType = nas.RequestModification
	}
	return t, nil
}

// replySM sends a 5GSM message that belongs to no session of ours.
func (m *machine) replySM(id ident.PDUSessionID, msg nas.Message) {
	b, err := nas.Encode(msg)
	if err != nil {
		m.log.Error("5GSM message not sent", "pdu_session", id, "error", err)
		return
	}
	m.send(&nas.ULNASTransport{PayloadType: nas.PayloadN1SM, Payload: b, PDUSessionID: id})
}

func (m *machine) smStatusTo(h nas.SMHeader, cause nas.SMCause) {
	m.replySM(h.PDUSessionID, &nas.SMStatus{SMHeader: h, Cause: cause})
}

// dlNASTransport delivers a 5GSM message, or the news that one of ours was not
// forwarded (clause 5.4.5.3.3).
func (m *machine) dlNASTransport(t *nas.DLNASTransport) {
	if t.PayloadType != nas.PayloadN1SM {
		m.send(&nas.MMStatus{Cause: nas.MMSemanticallyIncorrect})
		return
	}
	if t.Cause != 0 {
		m.notForwarded(t)
		return
	}
	msg, err := nas.Decode(t.Payload)
	if err != nil {
		m.malformedSM(err)
		return
	}
	m.stepSM(msg)
}

// stepSM looks a 5GSM message up in the table, after the checks on PTI and PDU
// session identity (clauses 7.3.1 and 7.3.2).
func (m *machine) stepSM(msg nas.Message) {
	h, ok := smHeader(msg)
	if !ok {
		m.counters.WrongState++
		m.send(&nas.MMStatus{Cause: nas.MMTypeNotCompatible})
		return
	}
	const reservedPTI = 255
	if h.PTI == reservedPTI || h.PDUSessionID > 15 {
		m.counters.WrongState++
		return // reserved values are ignored
	}
	s := m.sessions[h.PDUSessionID]
	if s == nil {
		s = &session{info: SessionInfo{ID: h.PDUSessionID}}
	}
	t := msg.Type()
	_, status := msg.(*nas.SMStatus)
	switch {
	case solicited(t) && h.PTI == 0:
		m.counters.WrongState++
		return // an answer with the unassigned value is ignored too
	case h.PTI != 0 && h.PTI != s.pti && !status:
		if h.PTI == s.done && s.doneReply != nil && !solicited(t) {
			m.counters.Retransmissions++
			m.replySM(h.PDUSessionID, s.doneReply) // a retransmission of the network's
			return
		}
		m.counters.WrongState++
		m.smStatusTo(h, smPTIMismatch)
		return
	}
	if f, ok := smTable[t][s.state]; ok {
		f(m, s, msg)
		return
	}
	m.counters.WrongState++
	cause := nas.SMTypeNotCompatible
	if s.state == SMInactive {
		cause = nas.SMInvalidPDUSessionIdentity
	}
	m.smStatusTo(h, cause)
}

// malformedSM answers a 5GSM message that did not decode.
func (m *machine) malformedSM(err error) {
	m.counters.Malformed++
	de, ok := errors.AsType[*nas.DecodeError](err)
	if !ok || de.Ignore() {
		return
	}
	h := nas.SMHeader{PDUSessionID: de.PDUSessionID, PTI: de.PTI}
	cause := nas.SMCause(de.Cause)
	s := m.sessions[h.PDUSessionID]
	switch {
	case s == nil || s.pti == 0 || s.pti != h.PTI:
	case de.Type == nas.TypePDUSessionEstablishmentAccept && s.state == SMActivePending:
		// The network thinks the session exists (clause 6.4.1.3, 7.5.1).
		m.failSession(s, &SessionRejected{ID: s.info.ID, Cause: cause})
		m.requestRelease(s, cause)
		return
	case de.Type == nas.TypePDUSessionEstablishmentReject && s.state == SMActivePending:
		m.failSession(s, &SessionRejected{ID: s.info.ID, Cause: cause})
		return
	}
	m.smStatusTo(h, cause)
}

// notForwarded ends the procedure whose message came back.
func (m *machine) notForwarded(t *nas.DLNASTransport) {
	s := m.sessions[t.PDUSessionID]
	if s == nil {
		return
	}
	err := &NotForwarded{ID: s.info.ID, Cause: t.Cause}
	switch s.state {
	case SMActivePending:
		m.failSession(s, err)
	case SMModificationPending:
		m.endProcedure(s, SMActive)
		m.done(opModify, s.info.ID, err)
	case SMInactivePending:
		// The network has no such session (any more).
		m.dropSession(s, nil)
	}
}

// advanceSessions sends what waited for the connection and establishes what is wanted.
func (m *machine) advanceSessions() {
	for _, id := range slices.Sorted(maps.Keys(m.sessions)) {
		s := m.sessions[id]
		switch {
		case s.unsent:
			m.restart(s)
			m.sendSM(s, s.last)
		case s.wanted && s.state == SMInactive:
			m.requestEstablishment(s)
		}
	}
}

// restart begins the timer of a request that goes out only now.
func (m *machine) restart(s *session) {
	switch s.state {
	case SMActivePending:
		m.startSession(t3580, s.info.ID, m.t.T3580)
	case SMModificationPending:
		m.startSession(t3581, s.info.ID, m.t.T3581)
	case SMInactivePending:
		m.startSession(t3582, s.info.ID, m.t.T3582)
	}
}

// newPTI returns an unused procedure transaction identity, 1..254.
func (m *machine) newPTI() ident.PTI {
	for {
		m.lastPTI = m.lastPTI%254 + 1
		used := false
		for _, s := range m.sessions {
			used = used || s.pti == m.lastPTI || s.done == m.lastPTI
		}
		if !used {
			return m.lastPTI
		}
	}
}

// endProcedure releases the PTI and enters state.
func (m *machine) endProcedure(s *session, state SMState) {
	m.stopSession(s.info.ID)
	s.pti, s.last, s.sent, s.unsent = 0, nil, 0, false
	s.state = state
}

// failSession ends an establishment without success. The session is wanted no
// longer: the next attempt is the caller's decision.
func (m *machine) failSession(s *session, err error) {
	m.endProcedure(s, SMInactive)
	s.wanted, s.err = false, err
	m.done(opEstablish, s.info.ID, err)
}

// dropSession releases a session locally.
func (m *machine) dropSession(s *session, err error) {
	was := s.state
	existed := s.active()
	m.endProcedure(s, SMInactive)
	id := s.info.ID
	s.done, s.doneReply, s.up = 0, nil, false
	if s.bearer {
		m.bearer(id, false, 0)
	}
	if existed {
		m.act(actDown{id})
	}
	switch was {
	case SMActivePending:
		m.done(opEstablish, id, err)
	case SMModificationPending:
		m.done(opModify, id, err)
	case SMInactivePending:
		m.done(opRelease, id, nil)
	}
	s.info = SessionInfo{SUPI: m.cfg.SUPI, ID: id, DNN: s.cfg.DNN}
}

// dropSessions releases every session locally, as on deregistration.
func (m *machine) dropSessions(err error) {
	for _, s := range m.sessions {
		if s.state == SMInactive {
			m.done(opEstablish, s.info.ID, err)
			continue
		}
		if s.active() && !s.up {
			m.done(opEstablish, s.info.ID, err)
		}
		m.dropSession(s, err)
	}
}

// syncSessions releases locally what the network says it does not have
// (PDU session status IE, clauses 5.5.1.3.4 and 5.6.1.4.1).
func (m *machine) syncSessions(network nas.SessionSet) {
	for id, s := range m.sessions {
		if s.active() && network&(1<<id) == 0 {
			m.dropSession(s, ErrUnknownSession)
		}
	}
}
