package amf

import (
	"errors"
	"log/slog"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/nf/sbi"
)

// ulNASTransport takes UL NAS TRANSPORT with N1 SM information (TS 24.501 clauses
// 5.4.5.2.3 and 5.4.5.2.5).
func (u *ue) ulNASTransport(m nas.Message) {
	t := m.(*nas.ULNASTransport)
	if t.PayloadType != nas.PayloadN1SM {
		u.a.stats.nasDiscarded.Add(1)
		u.log(slog.LevelDebug, "payload container of another type", "payload_type", t.PayloadType)
		return
	}
	if t.PDUSessionID < 1 || t.PDUSessionID > 15 {
		// Conditional IE: without it the payload cannot be routed.
		u.status(nas.MMConditionalIE)
		return
	}
	s := u.sessions[t.PDUSessionID]
	switch {
	case t.RequestType == nas.RequestInitial:
		if s != nil {
			// "the AMF should request the SMF to perform a local release of the existing
			// PDU session" and proceed (clause 5.4.5.2.5); the operation queue of the
			// new session must not overtake that.
			u.dropSession(s, sbi.ReleaseDuplicate)
		}
		u.createSession(t, s)
	case s == nil:
		// No routing context, and no request type that would make one.
		u.sendBack(t.PDUSessionID, t.Payload, nas.MMPayloadNotForwarded)
	default:
		u.forwardN1(s, t.Payload)
	}
}

// createSession selects slice and DNN and creates the SM context. before is the
// session the ID had until now; its release comes first.
func (u *ue) createSession(t *nas.ULNASTransport, before *smContext) {
	snssai := u.allowed[0]
	if t.SNSSAI != nil {
		snssai = *t.SNSSAI
		if !slices.Contains(u.allowed, snssai) {
			u.sendBack(t.PDUSessionID, t.Payload, nas.MMPayloadNotForwarded)
			return
		}
	}
	dnn := t.DNN
	if dnn == "" {
		dnn = u.a.cfg.DefaultDNN
	} else if len(u.a.cfg.DNNs) > 0 && !slices.Contains(u.a.cfg.DNNs, dnn) {
		u.sendBack(t.PDUSessionID, t.Payload, nas.MMDNNNotSupported)
		return
	}
	s := &smContext{id: t.PDUSessionID, dnn: dnn, snssai: snssai, a: u.a}
	s.owner.Store(u)
	u.sessions[s.id] = s
	u.a.stats.sessionsRequested.Add(1)
	req := sbi.CreateSMContext{
		SUPI: u.supi, PEI: u.pei, Session: s.id, DNN: dnn, SNSSAI: snssai,
		AMF: u.a.cfg.NFID, GUAMI: u.a.cfg.GUAMI, Location: u.location(), N1: t.Payload,
	}
	created := func(u *ue, err error) { u.sessionCreated(s, t.Payload, err) }
	start := func() bool { return s.create(req, created) }
	ok := true
	if before == nil {
		ok = start()
	} else {
		ok = before.after(func() {
			if !start() {
				s.tell(func(u *ue) { created(u, errOverload) })
			}
		})
	}
	if !ok {
		created(u, errOverload)
	}
}

// sessionCreated takes the outcome of CreateSMContext. What the UE gets on success
// comes by N1N2Transfer.
func (u *ue) sessionCreated(s *smContext, payload []byte, err error) {
	if err == nil {
		u.log(slog.LevelInfo, "SM context created", "pdu_session", s.id)
		return
	}
	u.a.stats.sessionsRefused.Add(1)
	u.log(slog.LevelWarn, "SM context not created", "pdu_session", s.id, "error", err)
	delete(u.sessions, s.id)
	if r, ok := errors.AsType[*sbi.SessionRefusal](err); ok && len(r.N1) > 0 {
		u.sendN1(s.id, r.N1)
		return
	}
	cause := nas.MMPayloadNotForwarded
	if problemCause(err) == sbi.CauseDNNNotAllowed {
		cause = nas.MMDNNNotSupported
	}
	u.sendBack(s.id, payload, cause)
}

// forwardN1 delivers a 5GSM message of the UE to the SMF.
func (u *ue) forwardN1(s *smContext, payload []byte) {
	loc := u.location()
	ok := s.update(sbi.UpdateSMContext{N1: payload, Location: &loc}, func(u *ue, upd sbi.UpdatedSMContext, err error) {
		if err != nil {
			if r, ok := errors.AsType[*sbi.SessionRefusal](err); ok && len(r.N1) > 0 {
				u.sendN1(s.id, r.N1)
				return
			}
			u.updateFailed(s, err)
			u.sendBack(s.id, payload, nas.MMPayloadNotForwarded)
			return
		}
		u.updated(s, upd)
	})
	if !ok {
		u.sendBack(s.id, payload, nas.MMPayloadNotForwarded)
	}
}

// updated passes on what the SMF answered to an update.
func (u *ue) updated(s *smContext, upd sbi.UpdatedSMContext) {
	if len(upd.N1) == 0 && len(upd.N2) == 0 {
		return
	}
	m := sbi.N1N2Message{Session: s.id, N1: upd.N1, N2: upd.N2, N2Type: upd.N2Type, SNSSAI: s.snssai}
	if err := u.transfer(s, m); err != nil {
		u.log(slog.LevelWarn, "cannot deliver for SMF", "pdu_session", s.id, "error", err)
	}
}

// updateFailed handles an update the SMF refused. A session it does not know is
// gone here too.
func (u *ue) updateFailed(s *smContext, err error) {
	u.a.stats.callFailures.Add(1)
	u.log(slog.LevelWarn, "SMF refused update", "pdu_session", s.id, "error", err)
	if problemCause(err) == sbi.CauseContextNotFound {
		delete(u.sessions, s.id)
	}
}

// sendN1 sends a 5GSM message to the UE.
func (u *ue) sendN1(id ident.PDUSessionID, n1 []byte) {
	if u.secure {
		u.downlink(&nas.DLNASTransport{PayloadType: nas.PayloadN1SM, Payload: n1, PDUSessionID: id})
	}
}

// sendBack returns a payload that was not forwarded, with the cause (TS 24.501
// clause 5.4.5.3.1).
func (u *ue) sendBack(id ident.PDUSessionID, payload []byte, cause nas.MMCause) {
	u.a.stats.payloadsReturned.Add(1)
	if u.secure {
		u.downlink(&nas.DLNASTransport{PayloadType: nas.PayloadN1SM, Payload: payload, PDUSessionID: id, Cause: cause})
	}
}
