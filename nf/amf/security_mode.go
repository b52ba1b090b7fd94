package amf

import (
	"log/slog"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/wire/nas"
)

// securityMode starts security mode control for the key set just agreed
// (TS 24.501 clause 5.4.2.2), guarded by T3560.
func (u *ue) securityMode() {
	nea, nia, ok := u.algorithms()
	if !ok {
		u.log(slog.LevelWarn, "no common NAS security algorithm", "ea", u.caps.EA, "ia", u.caps.IA)
		u.refuse(nas.MMSecurityCapabilityMismatch)
		return
	}
	enc, integ := aka.NASKeys(u.newKAMF, nea, nia)
	u.newSec = nas.NewSecurityContext(u.auth.ksi, nea, nia, enc, integ, true)
	u.setState(stateSecurityMode)
	u.a.stats.securityModes.Add(1)
	cmd := &nas.SecurityModeCommand{
		Ciphering: nea, Integrity: nia, NGKSI: u.auth.ksi, Replayed: *u.caps,
		IMEISVRequested: u.pei == "",
		// "if the REGISTRATION REQUEST message [...] does not successfully pass the
		// integrity check [...] or the AMF could not decipher the value part of the
		// NAS message container": ask for the initial message (clause 5.4.2.2).
		Retransmit: u.resend,
	}
	send := func() { u.sendSecurityMode(cmd) }
	send()
	u.guard(u.a.cfg.T3560, send, u.abandoned)
}

// sendSecurityMode protects the command with the new context: "the AMF shall send
// the SECURITY MODE COMMAND message unciphered, but shall integrity protect the
// message with the NAS integrity key based on KAMF indicated by the ngKSI".
func (u *ue) sendSecurityMode(cmd *nas.SecurityModeCommand) {
	plain, err := nas.Encode(cmd)
	if err == nil {
		plain, err = u.newSec.Protect(plain, nas.HeaderIntegrityNew)
	}
	if err != nil {
		u.a.stats.encodeFailures.Add(1)
		u.log(slog.LevelError, "cannot encode security mode command", "error", err)
		return
	}
	u.downlinkPDU(plain)
}

// algorithms picks the first NEA and NIA of the configured lists that the UE has
// (TS 33.501 clause 6.7.1).
func (u *ue) algorithms() (nea, nia uint8, ok bool) {
	nea, okE := pick(u.a.cfg.Ciphering, u.caps.EA)
	nia, okI := pick(u.a.cfg.Integrity, u.caps.IA)
	return nea, nia, okE && okI
}

func pick(preference []int, mask uint8) (uint8, bool) {
	for _, n := range preference {
		if mask&(1<<n) != 0 {
			return uint8(n), true
		}
	}
	return 0, false
}

// securityModeComplete takes the new context into use (clause 5.4.2.4). The
// message was verified with it before it came here.
func (u *ue) securityModeComplete(m nas.Message) {
	u.endRetransmission()
	c := m.(*nas.SecurityModeComplete)
	u.sec, u.kamf, u.newSec, u.newKAMF = u.newSec, u.newKAMF, nil, [32]byte{}
	u.secure, u.resend = true, false
	u.kgnbCount = u.sec.UplinkCount() // TS 33.501 clause 6.8.1.2.2
	if c.PEI != "" {
		u.pei = c.PEI
	}
	if len(c.NASContainer) > 0 {
		// "the AMF shall consider this message as the initial NAS message that
		// triggered the procedure" (clause 5.4.2.4).
		if inner, err := nas.Decode(c.NASContainer); err == nil && inner.Type() == u.initial.Type() {
			u.initial = inner
		} else {
			u.a.stats.nasUndecodable.Add(1)
			u.log(slog.LevelDebug, "NAS message container not understood", "error", err)
		}
	}
	u.proceed()
}

// securityModeReject aborts the procedure that wanted security (clause 5.4.2.5).
func (u *ue) securityModeReject(m nas.Message) {
	u.endRetransmission()
	u.a.stats.securityModeRejects.Add(1)
	u.log(slog.LevelWarn, "security mode rejected by UE", "cause", m.(*nas.SecurityModeReject).Cause)
	u.abandoned()
}

// proceed goes on with the request that led to authentication.
func (u *ue) proceed() {
	switch m := u.initial.(type) {
	case *nas.RegistrationRequest:
		u.admit()
	case *nas.DeregistrationRequest:
		u.deregistered(m)
	default:
		u.abandoned()
	}
}
