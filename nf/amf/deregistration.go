package amf

import (
	"context"
	"errors"
	"log/slog"

	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// releaseGone is the cause given to the SMF when the UE is no longer registered.
const releaseGone = sbi.ReleaseDeregistration

// deregistrationRequest takes a UE-initiated DEREGISTRATION REQUEST (TS 24.501
// clause 5.5.2.2).
func (u *ue) deregistrationRequest(m nas.Message) {
	req := m.(*nas.DeregistrationRequest)
	u.endRetransmission()
	u.epoch++
	if u.secure {
		u.deregistered(req)
		return
	}
	// Clause 4.4.4.3: a DEREGISTRATION REQUEST that fails the integrity check is
	// ignored if due to switch off, and otherwise leads to authentication of the
	// subscriber, so that nobody deregisters another UE.
	if u.hint != "" && !req.SwitchOff && u.state == stateDeregistered && u.borrowCapability() {
		u.initial = req
		u.authenticate(string(u.hint), true)
		return
	}
	// Nobody this AMF knows: there is nothing to take away.
	if !req.SwitchOff && u.hint == "" {
		u.downlink(&nas.DeregistrationAccept{})
	}
	u.releaseN2(ngap.NASDeregister)
	u.finish()
}

// borrowCapability takes the security capability that the context of the hint
// holds: DEREGISTRATION REQUEST does not carry it. It reports false without one.
func (u *ue) borrowCapability() bool {
	known := u.a.reg.ueBySUPI(u.hint)
	if known == nil {
		return false
	}
	s := known.snap.Load()
	if s == nil || s.capability == nil {
		return false
	}
	u.caps = s.capability
	return true
}

// deregistered carries out a deregistration the UE was entitled to ask for.
func (u *ue) deregistered(req *nas.DeregistrationRequest) {
	u.a.stats.deregistrations.Add(1)
	u.log(slog.LevelInfo, "deregistered by UE", "switch_off", req.SwitchOff)
	if !req.SwitchOff {
		u.downlink(&nas.DeregistrationAccept{})
	}
	u.releaseN2(ngap.NASDeregister)
	u.finish()
}

// deregister starts network-initiated deregistration (clause 5.5.2.3), guarded by
// T3522. A UE in CM-IDLE would have to be paged first; it is deregistered without
// being told. The PDU sessions are released at the SMF meanwhile (TS 23.502 clause
// 4.2.2.3.3 step 4), so that no traffic passes while the UE keeps silent.
func (u *ue) deregister(reason sbi.DeregistrationReason) {
	if u.state == stateDeregistering {
		return
	}
	u.a.stats.deregistrations.Add(1)
	u.endRetransmission()
	u.epoch++
	if u.conn == nil || !u.secure {
		u.log(slog.LevelInfo, "deregistered by network in CM-IDLE")
		u.finish()
		return
	}
	u.setState(stateDeregistering)
	for _, s := range u.sessions {
		u.dropSession(s, releaseGone)
	}
	msg := &nas.DeregistrationRequest{FromNetwork: true, Reregister: reason == sbi.ReregistrationRequired}
	if reason == sbi.SubscriptionWithdrawn {
		// What the next registration would be refused with, see subscriptionCause.
		msg.Cause = nas.MM5GSServicesNotAllowed
	}
	send := func() { u.downlink(msg) }
	send()
	u.guard(u.a.cfg.T3522, send, func() {
		// "on the fifth expiry of timer T3522, the de-registration procedure shall be
		// aborted and the AMF changes to state 5GMM-DEREGISTERED" (clause 5.5.2.3.5 a).
		u.releaseN2(ngap.NASDeregister)
		u.finish()
	})
}

// deregistrationAccept ends network-initiated deregistration.
func (u *ue) deregistrationAccept(nas.Message) {
	u.endRetransmission()
	u.log(slog.LevelInfo, "deregistered by network")
	u.releaseN2(ngap.NASDeregister)
	u.finish()
}

// deregisterUDM tells the UDM that this AMF no longer serves the UE. The context
// does not wait for the answer.
func (u *ue) deregisterUDM() {
	a, supi := u.a, u.supi
	u.out = append(u.out, call{run: func(ctx context.Context) func(*ue) {
		// That the UDM has no such registration is what was asked for: it may have
		// refused it, or given it to another AMF since.
		if err := a.uecm.DeregisterAMF(ctx, supi, a.cfg.NFID); err != nil && problemCause(err) != sbi.CauseContextNotFound {
			a.stats.callFailures.Add(1)
			if !errors.Is(ctx.Err(), context.Canceled) { // else the AMF stops
				a.log.Warn("cannot deregister at UDM", "supi", supi, "error", err)
			}
		}
		return nil
	}})
}
