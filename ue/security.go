package ue

import (
	"errors"
	"fmt"

	"github.com/simreach/simreach/internal/wire/nas"
)

// security is the UE's 5G NAS security context (TS 24.501 clause 4.4).
type security struct {
	current *nas.SecurityContext // nil: none
	kamf    [32]byte             // of current
	// partial is the outcome of an authentication that no SECURITY MODE COMMAND
	// has taken into use yet.
	partial *partialContext
	// secure: the secure exchange of NAS messages is established on this
	// signalling connection.
	secure bool
}

type partialContext struct {
	ksi  nas.NGKSI
	kamf [32]byte
}

// ksi is the ngKSI to put into an initial message.
func (s *security) ksi() nas.NGKSI {
	if s.current == nil {
		return nas.NoKey
	}
	return s.current.NGKSI()
}

// protect encodes msg with the protection its moment calls for: ciphered once the
// secure exchange is established, integrity protected with a context at hand, else
// plain.
func (m *machine) protect(msg nas.Message) ([]byte, error) {
	plain, err := nas.Encode(msg)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", msg, err)
	}
	switch {
	case m.sec.secure:
		return m.sec.current.Protect(plain, nas.HeaderIntegrityCiphered)
	case m.sec.current != nil && initial(msg):
		return m.sec.current.Protect(plain, nas.HeaderIntegrity)
	}
	// Before the secure exchange the network processes these without integrity
	// protection (TS 24.501 clause 4.4.4.3): a network that has lost the context
	// can read them only so.
	return plain, nil
}

// initial reports whether msg may be the first of a signalling connection.
func initial(msg nas.Message) bool {
	switch msg.(type) {
	case *nas.RegistrationRequest, *nas.ServiceRequest, *nas.DeregistrationRequest:
		return true
	}
	return false
}

// send protects and sends one message on the signalling connection, and reports
// whether it could.
func (m *machine) send(msg nas.Message) bool {
	pdu, err := m.protect(msg)
	if err != nil {
		m.log.Error("NAS message not sent", "error", err)
		return false
	}
	m.act(actSend{pdu})
	return true
}

// sendInitial sends an initial NAS message: on the signalling connection if there
// is one, else as the first of a new one. full is the complete message, clear the
// same with cleartext IEs only (TS 24.501 clause 4.4.6); attach puts the ciphered
// container into clear.
func (m *machine) sendInitial(full, clear nas.Message, attach func(container []byte), cause uint8) error {
	plain, err := nas.Encode(full)
	if err != nil {
		return fmt.Errorf("encode %T: %w", full, err)
	}
	msg := full
	switch {
	case clear == nil: // nothing beyond cleartext IEs in it
	case m.sec.current != nil:
		container, err := m.sec.current.CipherContainer(plain)
		if err != nil {
			return fmt.Errorf("cipher NAS message container: %w", err)
		}
		attach(container)
		msg = clear
	default:
		msg = clear
	}
	m.reg.initial = plain
	m.reg.cleartext = msg == clear && m.sec.current == nil
	// REGISTRATION REQUEST and SERVICE REQUEST are never ciphered as a whole
	// (clause 4.4.5).
	var pdu []byte
	if pdu, err = nas.Encode(msg); err != nil {
		return fmt.Errorf("encode %T: %w", msg, err)
	}
	if m.sec.current != nil {
		if pdu, err = m.sec.current.Protect(pdu, nas.HeaderIntegrity); err != nil {
			return fmt.Errorf("protect %T: %w", msg, err)
		}
	}
	m.connectWith(pdu, cause)
	return nil
}

// connectWith sends pdu, setting up a connection for it in 5GMM-IDLE.
func (m *machine) connectWith(pdu []byte, cause uint8) {
	if m.cm == cmConnected {
		m.act(actSend{pdu})
		return
	}
	m.cm = cmConnecting
	req := ConnectRequest{Cause: cause, NAS: pdu}
	if m.guti != nil {
		t := m.guti.STMSI()
		req.STMSI = &t
	}
	m.act(actConnect{req})
}

// receive takes one NAS message from the network: checks its protection, decodes
// it and steps the machine.
func (m *machine) receive(pdu []byte) {
	if m.state == MMNull {
		return
	}
	h, err := nas.PeekSecurityHeader(pdu)
	if err != nil {
		m.counters.Malformed++
		return // too short: ignored (clause 7.2)
	}
	plain, protected := pdu, false
	switch {
	case h == nas.HeaderPlain:
	case h == nas.HeaderIntegrityNew:
		m.receiveSecurityMode(pdu)
		return
	case h == nas.HeaderIntegrityCipheredNew:
		m.counters.IntegrityFailed++
		return // only a UE sends this type
	default:
		err = errors.New("no security context")
		if m.sec.current != nil {
			plain, _, err = m.sec.current.Unprotect(pdu)
		}
		if err == nil {
			protected = true
			m.sec.secure = true
			break
		}
		m.counters.IntegrityFailed++
		if h != nas.HeaderIntegrity || m.sec.secure {
			return
		}
		// Some messages are processed although their check failed, until the secure
		// exchange is established (clause 4.4.4.2).
		if plain, err = nas.PeekPlain(pdu); err != nil {
			return
		}
	}
	if !protected && m.sec.secure {
		m.counters.Unprotected++
		return
	}
	msg, err := nas.Decode(plain)
	if err != nil {
		m.malformed(err, protected)
		return
	}
	if !protected && !plainAllowed(msg) {
		m.counters.Unprotected++
		return
	}
	m.step(msg)
}

// step looks a 5GMM message up in the table.
func (m *machine) step(msg nas.Message) {
	row, known := mmTable[msg.Type()]
	if h, ok := row[m.state]; ok {
		h(m, msg)
		return
	}
	if m.state == MMNull {
		return
	}
	m.counters.WrongState++
	cause := nas.MMTypeNotCompatible
	if !known {
		cause = nas.MMTypeNonExistent
	}
	m.send(&nas.MMStatus{Cause: cause})
}

// malformed answers a message that did not decode (clauses 7.2 to 7.7).
func (m *machine) malformed(err error, protected bool) {
	m.counters.Malformed++
	if m.counters.Malformed == 1 {
		m.log.Warn("malformed NAS message from the network", "error", err)
	}
	de, ok := errors.AsType[*nas.DecodeError](err)
	if !ok || de.Ignore() || !protected {
		return
	}
	m.send(&nas.MMStatus{Cause: nas.MMCause(de.Cause)})
}

// mmStatus: no state transition and no action towards the radio (TS 24.501
// clause 5.4.6.2).
func (m *machine) mmStatus(s *nas.MMStatus) {
	m.log.Info("5GMM STATUS received", "cause", uint8(s.Cause))
}
