package amf

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// initialUEMessage starts an N2 connection (TS 38.413 clause 8.6.1). If the NAS
// message names a UE of this AMF its context verifies it; otherwise, and if that
// fails, the message starts a context of its own.
func (a *AMF) initialUEMessage(ctx context.Context, g *gnb, stream uint16, m *ngap.InitialUEMessage) {
	c, replaced := a.reg.newConn(g, m.RAN, stream)
	if c == nil {
		a.stats.overloads.Add(1)
		a.sendError(ctx, g, stream, ngap.PartialIDs{RAN: &m.RAN}, ngap.MiscControlOverload, nil)
		return
	}
	if replaced != nil {
		a.connsLost([]*n2conn{replaced})
	}
	c.location, c.wanted = m.Location, m.ContextRequested
	u := a.candidate(m)
	if u == nil {
		a.firstContact(c, m, "")
		return
	}
	a.reg.own(c, u)
	if !u.postOr(func(u *ue) { u.returning(c, m) }, func() { a.firstContact(c, m, "") }) {
		a.firstContact(c, m, "")
	}
}

// firstContact gives an N2 connection a new UE context. hint is the SUPI an
// unverified 5G-GUTI stood for, if any.
func (a *AMF) firstContact(c *n2conn, m *ngap.InitialUEMessage, hint ident.SUPI) {
	u := newUE(a)
	u.hint = hint
	if !a.reg.own(c, u) || !u.post(func(u *ue) { u.first(c, m) }) {
		a.reg.removeUE(u)
	}
}

// candidate returns the context that the message claims to come from, or nil.
func (a *AMF) candidate(m *ngap.InitialUEMessage) *ue {
	if plain, _, err := peekInitial(m.NAS); err == nil {
		if msg, err := nas.Decode(plain); err == nil {
			switch msg := msg.(type) {
			case *nas.RegistrationRequest:
				return a.ueByGUTI(msg.Identity.GUTI)
			case *nas.DeregistrationRequest:
				return a.ueByGUTI(msg.Identity.GUTI)
			case *nas.ServiceRequest:
				return a.reg.ueByTMSI(msg.STMSI)
			}
		}
	}
	if m.STMSI != nil {
		return a.reg.ueByTMSI(*m.STMSI)
	}
	return nil
}

func (a *AMF) ueByGUTI(g *ident.GUTI) *ue {
	if g == nil || g.GUAMI != a.cfg.GUAMI {
		return nil
	}
	return a.reg.ueByTMSI(g.STMSI())
}

// peekInitial returns the plain message inside an initial NAS message, which is
// either plain or integrity protected only (TS 24.501 clause 4.4.6), unverified.
func peekInitial(pdu []byte) (plain []byte, protected bool, err error) {
	h, err := nas.PeekSecurityHeader(pdu)
	if err != nil {
		return nil, false, err
	}
	if h == nas.HeaderPlain {
		return pdu, false, nil
	}
	plain, err = nas.PeekPlain(pdu)
	return plain, true, err
}

// returning takes the first message of a UE that has a context here. It is
// believed only if the context's integrity check succeeds; a message that fails it
// is treated like a stranger's, and this context stays as it is.
func (u *ue) returning(c *n2conn, m *ngap.InitialUEMessage) {
	if u.sec == nil {
		u.a.firstContact(c, m, u.supi)
		return
	}
	plain, _, err := u.sec.Unprotect(m.NAS)
	if err != nil {
		u.countUnprotect(err)
		u.a.firstContact(c, m, u.supi)
		return
	}
	u.a.stats.nasReceived.Add(1)
	if !u.a.reg.own(c, u) {
		return // the gNB was lost meanwhile
	}
	u.adopt(c)
	if u.dead {
		return
	}
	u.secure, u.kgnbCount = true, u.sec.UplinkCount()
	msg, err := nas.Decode(plain)
	if err != nil {
		u.protocolError(err)
		return
	}
	u.receive(u.openContainer(msg))
}

// first takes the first message of a UE that has no context here, or could not
// prove that it has.
func (u *ue) first(c *n2conn, m *ngap.InitialUEMessage) {
	if !u.a.reg.own(c, u) {
		u.finish() // the gNB was lost meanwhile
		return
	}
	u.conn = c
	u.a.stats.nasReceived.Add(1)
	plain, protected, err := peekInitial(m.NAS)
	var msg nas.Message
	if err == nil {
		msg, err = nas.Decode(plain)
	}
	if err != nil {
		u.protocolError(err)
	} else {
		u.resend = protected
		u.receive(msg)
	}
	if u.state == stateDeregistered && !u.dead {
		u.releaseN2(ngap.NASUnspecified)
		u.finish()
	}
}

// uplinkNAS takes UPLINK NAS TRANSPORT (TS 38.413 clause 8.6.3).
func (u *ue) uplinkNAS(c *n2conn, m *ngap.UplinkNASTransport) {
	if u.conn != c {
		u.a.stats.ngapStale.Add(1)
		return
	}
	if m.Location != (ident.Location{}) {
		c.location = m.Location
	}
	u.a.stats.nasReceived.Add(1)
	plain, ok := u.unprotect(m.NAS)
	if !ok {
		return
	}
	msg, err := nas.Decode(plain)
	if err != nil {
		u.protocolError(err)
		return
	}
	u.receive(u.openContainer(msg))
}

// unprotect applies TS 24.501 clause 4.4.4.3 to an uplink message on an existing
// connection and returns the plain message, or false if it is to be discarded.
func (u *ue) unprotect(pdu []byte) (plain []byte, ok bool) {
	h, err := nas.PeekSecurityHeader(pdu)
	if err != nil {
		u.a.stats.nasUndecodable.Add(1)
		return nil, false // too short: ignored, clause 7.2.1
	}
	ctx := u.sec
	if h == nas.HeaderIntegrityCipheredNew || h == nas.HeaderIntegrityNew {
		ctx = u.newSec
	}
	if h != nas.HeaderPlain && ctx != nil {
		plain, _, err := ctx.Unprotect(pdu)
		if err == nil {
			if ctx == u.newSec && !isType(plain, nas.TypeSecurityModeComplete) {
				u.a.stats.nasDiscarded.Add(1) // clause 4.4.2.3: the new context's first message is SECURITY MODE COMPLETE
				return nil, false
			}
			return plain, true
		}
		u.countUnprotect(err)
		if u.secure || errors.Is(err, nas.ErrReplay) {
			return nil, false
		}
	}
	if u.secure {
		// "If any NAS signalling message is received as not integrity protected even
		// though the secure exchange of NAS messages has been established by the
		// network, then the NAS shall discard this message."
		u.a.stats.nasUnprotected.Add(1)
		u.a.logOnce(u.conn.gnb, "unprotected", "discarded unprotected NAS message")
		return nil, false
	}
	plain = pdu
	if h != nas.HeaderPlain {
		if plain, err = nas.PeekPlain(pdu); err != nil {
			u.a.stats.nasDiscarded.Add(1)
			return nil, false
		}
	}
	if len(plain) < 3 || !unprotectedAllowed(nas.MessageType(plain[2])) {
		u.a.stats.nasUnprotected.Add(1)
		u.a.logOnce(u.conn.gnb, "unprotected", "discarded unprotected NAS message")
		return nil, false
	}
	return plain, true
}

// isType reports whether a plain 5GMM message has the type; octet 3 holds it
// (TS 24.501 clause 9.1.1).
func isType(plain []byte, t nas.MessageType) bool {
	return len(plain) > 2 && nas.MessageType(plain[2]) == t
}

func (u *ue) countUnprotect(err error) {
	switch {
	case errors.Is(err, nas.ErrReplay):
		u.a.stats.nasReplays.Add(1)
	case errors.Is(err, nas.ErrMAC):
		u.a.stats.nasMACFailures.Add(1)
	default:
		u.a.stats.nasDiscarded.Add(1)
	}
	if u.conn != nil {
		u.a.logOnce(u.conn.gnb, "integrity", "NAS message failed the integrity check", "error", err)
	}
}

// receive runs a message through the state table.
func (u *ue) receive(m nas.Message) {
	if h := u.a.table[u.state][m.Type()]; h != nil {
		u.log(slog.LevelDebug, "NAS message", "type", m.Type())
		h(u, m)
		return
	}
	if !slices.Contains(uplinkTypes(), m.Type()) {
		// TS 24.501 clause 7.4: not defined or not implemented by the receiver.
		u.a.stats.nasUndecodable.Add(1)
		u.status(nas.MMTypeNonExistent)
		return
	}
	// Clause 7.4 leaves the network's action to the implementation: the UE is told.
	u.a.stats.nasNotCompatible.Add(1)
	u.log(slog.LevelDebug, "NAS message not compatible with state", "type", m.Type(), "state", u.state)
	u.status(nas.MMNotCompatibleWithState)
}

// protocolError answers a message that could not be decoded: a request with its
// reject (TS 24.501 clauses 5.5.1.2.8 b, 5.6.1.8), others with 5GMM STATUS (clause
// 7), one that is too short with nothing (clause 7.2.1).
func (u *ue) protocolError(err error) {
	u.a.stats.nasUndecodable.Add(1)
	if u.conn != nil {
		u.a.logOnce(u.conn.gnb, "nas", "cannot decode NAS message", "error", err)
	}
	d, ok := errors.AsType[*nas.DecodeError](err)
	if !ok || d.Cause == 0 || d.Ignore() {
		return
	}
	cause := nas.MMCause(d.Cause)
	switch {
	case d.Type == nas.TypeRegistrationRequest && (u.state == stateDeregistered || u.state == stateRegistered):
		u.initial = &nas.RegistrationRequest{}
		u.refuse(cause)
	case d.Type == nas.TypeServiceRequest && (u.state == stateDeregistered || u.state == stateRegistered):
		u.serviceReject(cause)
	default:
		u.status(cause)
	}
}

// status sends 5GMM STATUS. A UE discards it unless it is protected, so without
// secure exchange nothing is sent (TS 24.501 clause 4.4.4.2).
func (u *ue) status(cause nas.MMCause) {
	if u.secure {
		u.downlink(&nas.MMStatus{Cause: cause})
	}
}

// mmStatus takes 5GMM STATUS: "no state transition and no specific action shall be
// taken" (TS 24.501 clause 5.4.6).
func (u *ue) mmStatus(m nas.Message) {
	u.a.stats.statusReceived.Add(1)
	u.log(slog.LevelDebug, "5GMM status from UE", "cause", m.(*nas.MMStatus).Cause)
}

// pdu encodes a message for the UE: ciphered under the current context once
// secure exchange is established, else plain.
func (u *ue) pdu(m nas.Message) []byte {
	plain, err := nas.Encode(m)
	if err == nil && u.secure {
		plain, err = u.sec.Protect(plain, nas.HeaderIntegrityCiphered)
	}
	if err != nil {
		u.a.stats.encodeFailures.Add(1)
		u.log(slog.LevelError, "cannot encode NAS message", "type", m.Type(), "error", err)
		return nil
	}
	return plain
}

// downlink sends a NAS message in DOWNLINK NAS TRANSPORT (TS 38.413 clause 8.6.2).
func (u *ue) downlink(m nas.Message) { u.downlinkPDU(u.pdu(m)) }

func (u *ue) downlinkPDU(pdu []byte) {
	if u.conn == nil || pdu == nil {
		return
	}
	u.a.stats.nasSent.Add(1)
	u.send(u.conn, &ngap.DownlinkNASTransport{IDs: u.conn.ids(), NAS: pdu})
}

// nasNonDelivery takes NAS NON DELIVERY INDICATION (TS 38.413 clause 8.6.4). The
// NAS procedures have their own timers, so it is only counted.
func (u *ue) nasNonDelivery(_ *n2conn, m *ngap.NASNonDeliveryIndication) {
	u.a.stats.nasNonDeliveries.Add(1)
	u.log(slog.LevelDebug, "NAS message not delivered", "cause", m.Cause)
}
