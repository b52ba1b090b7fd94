package ue

import (
	"strings"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/wire/nas"
)

// receiveSecurityMode takes a PDU with security header type 3, which only a
// SECURITY MODE COMMAND may have: the key to check it with depends on what it says
// (TS 24.501 clause 5.4.2.3).
func (m *machine) receiveSecurityMode(pdu []byte) {
	plain, err := nas.PeekPlain(pdu)
	if err != nil {
		m.counters.Malformed++
		return
	}
	msg, err := nas.Decode(plain)
	if err != nil {
		m.malformed(err, false)
		return
	}
	c, ok := msg.(*nas.SecurityModeCommand)
	if !ok {
		m.counters.WrongState++
		return
	}
	if _, legal := mmTable[c.Type()][m.state]; !legal {
		m.step(c) // answers as the table says
		return
	}
	ctx, kamf, cause := m.checkSecurityMode(c)
	if cause == 0 {
		if _, _, err := ctx.Unprotect(pdu); err != nil {
			m.counters.IntegrityFailed++
			cause = nas.MMSecurityModeRejected
		}
	}
	if cause != 0 {
		m.rejectSecurityMode(cause)
		return
	}
	m.sec.current, m.sec.kamf, m.sec.partial = ctx, kamf, nil
	m.sec.secure = true
	m.step(c)
}

// checkSecurityMode returns the context to check and answer c with, or the cause to
// reject it with: 23 for capabilities that differ from those sent (bidding down),
// 24 for anything else unacceptable.
func (m *machine) checkSecurityMode(c *nas.SecurityModeCommand) (*nas.SecurityContext, [32]byte, nas.MMCause) {
	var kamf [32]byte
	if c.Replayed != m.caps {
		return nil, kamf, nas.MMSecurityCapabilityMismatch
	}
	// NIA0 is for emergency services, which the testbed has not.
	if c.Integrity == 0 || c.Integrity > 7 || m.caps.IA&(1<<c.Integrity) == 0 ||
		c.Ciphering > 7 || m.caps.EA&(1<<c.Ciphering) == 0 {
		return nil, kamf, nas.MMSecurityModeRejected
	}
	switch p, cur := m.sec.partial, m.sec.current; {
	case p != nil && p.ksi == c.NGKSI:
		kamf = p.kamf
	case cur != nil && cur.NGKSI() == c.NGKSI:
		if nea, nia := cur.Algorithms(); nea == c.Ciphering && nia == c.Integrity {
			return cur, m.sec.kamf, 0 // the same again: its counts go on
		}
		// Other algorithms, no new keys: the counts go on (clause 5.4.2.3).
		enc, integ := aka.NASKeys(m.sec.kamf, c.Ciphering, c.Integrity)
		return cur.WithAlgorithms(c.Ciphering, c.Integrity, enc, integ), m.sec.kamf, 0
	default:
		return nil, kamf, nas.MMSecurityModeRejected
	}
	enc, integ := aka.NASKeys(kamf, c.Ciphering, c.Integrity)
	return nas.NewSecurityContext(c.NGKSI, c.Ciphering, c.Integrity, enc, integ, false), kamf, 0
}

// securityModeCommand answers an accepted command. The complete initial message
// goes along when only its cleartext IEs could be sent before, or when the network
// could not read it (clauses 4.4.6 and 5.4.2.3).
func (m *machine) securityModeCommand(c *nas.SecurityModeCommand) {
	m.resumeProcedure() // the network went on without another challenge
	m.forgetChallenge()
	r := &nas.SecurityModeComplete{}
	if c.IMEISVRequested && strings.HasPrefix(string(m.cfg.PEI), "imeisv-") {
		r.PEI = m.cfg.PEI // the IE has no room for an IMEI: table 8.2.26.1.1
	}
	if m.reg.cleartext || c.Retransmit {
		r.NASContainer = m.reg.initial
	}
	plain, err := nas.Encode(r)
	if err == nil {
		plain, err = m.sec.current.Protect(plain, nas.HeaderIntegrityCipheredNew)
	}
	if err != nil {
		m.log.Error("SECURITY MODE COMPLETE not sent", "error", err)
		return
	}
	m.act(actSend{plain})
}

// rejectSecurityMode leaves the context in use as it was (clause 5.4.2.5).
func (m *machine) rejectSecurityMode(cause nas.MMCause) {
	m.send(&nas.SecurityModeReject{Cause: cause})
}
