package amf

import (
	"context"
	"log/slog"
	"reflect"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// registrationRequest takes REGISTRATION REQUEST (TS 24.501 clauses 5.5.1.2 and
// 5.5.1.3). One that repeats the request being served does not start over:
// clause 5.5.1.2.8 d resends REGISTRATION ACCEPT, or lets the procedure go on if it
// was not sent yet.
func (u *ue) registrationRequest(m nas.Message) {
	req := m.(*nas.RegistrationRequest)
	if u.initial != nil && reflect.DeepEqual(u.initial, m) {
		switch u.state {
		case stateAccepted:
			u.retx.send()
			u.start(timerGuard, u.retx.d)
			return
		case stateIdentification, stateAuthentication, stateSecurityMode, stateWaiting:
			return
		}
	}
	u.endRetransmission()
	u.epoch++
	u.newSec = nil
	u.askedPEI = false
	u.register(req)
}

// registrationWhileDeregistering: an initial registration ends the network's
// deregistration procedure, another one waits for its end (clause 5.5.2.3.5).
func (u *ue) registrationWhileDeregistering(m nas.Message) {
	if m.(*nas.RegistrationRequest).RegistrationType != nas.RegistrationInitial {
		return
	}
	u.endRetransmission()
	u.setState(stateRegistered)
	u.registrationRequest(m)
}

// register starts the registration procedure.
func (u *ue) register(req *nas.RegistrationRequest) {
	u.initial = req
	u.a.stats.registrations.Add(1)
	if req.RegistrationType == nas.RegistrationEmergency {
		u.refuse(nas.MM5GSServicesNotAllowed)
		return
	}
	tai := u.location().TAI
	served := u.a.cfg.support(tai.PLMN)
	if served == nil {
		u.refuse(nas.MMPLMNNotAllowed)
		return
	}
	if !served.serves(tai.TAC) {
		u.refuse(nas.MMTrackingAreaNotAllowed)
		return
	}
	if req.Capability != nil {
		c := *req.Capability
		u.caps = &c
	}
	if u.secure && !u.resend {
		u.admit()
		return
	}
	if u.caps == nil {
		// A periodic registration need not repeat the capability, but this AMF never
		// saw it: the UE has to register initially.
		if req.RegistrationType == nas.RegistrationInitial {
			u.refuse(nas.MMConditionalIE)
		} else {
			u.refuse(nas.MMIdentityCannotBeDerived)
		}
		return
	}
	switch {
	case u.secure:
		u.authenticate(string(u.supi), false)
	case req.Identity.SUCI != nil:
		u.authenticate(req.Identity.SUCI.String(), false)
	case u.hint != "":
		u.authenticate(string(u.hint), true)
	default:
		u.identify()
	}
}

// refuse ends the running request with the cause: REGISTRATION REJECT if it is a
// registration. A protocol error (#95 to #111; #111 also stands for a failure of
// ours that may pass) takes a registration that exists away from nobody: the UE
// stays in 5GMM-REGISTERED too (clause 5.5.1.3.7).
func (u *ue) refuse(cause nas.MMCause) {
	u.endRetransmission()
	if req, ok := u.initial.(*nas.RegistrationRequest); ok {
		u.a.stats.registrationRejects.Add(1)
		u.log(slog.LevelWarn, "registration rejected", "error", &RejectedByAMF{Procedure: "registration", Cause: cause},
			"registration_type", req.RegistrationType)
		u.downlink(&nas.RegistrationReject{Cause: cause})
	}
	u.releaseN2(ngap.NASUnspecified)
	if u.registered && cause >= nas.MMSemanticallyIncorrect {
		u.abort()
		return
	}
	u.finish()
}

// admit has the EIR check the device before the UDM is asked (TS 23.502 clause
// 4.2.2.2.2 steps 11 and 12). A registration update of a UE whose device was checked
// does without.
func (u *ue) admit() {
	req, _ := u.initial.(*nas.RegistrationRequest)
	if u.a.eir == nil || u.inUDM && req.RegistrationType != nas.RegistrationInitial {
		u.subscribe()
		return
	}
	if u.pei == "" && !u.askedPEI {
		u.identifyEquipment()
		return
	}
	u.setState(stateWaiting)
	supi, pei := u.supi, u.pei
	u.call(func(ctx context.Context) func(*ue) {
		status, err := u.a.eir.CheckEquipment(ctx, supi, pei)
		return func(u *ue) { u.equipmentChecked(status, err) }
	}, func(u *ue) { u.equipmentChecked("", errOverload) })
}

// equipmentChecked goes on with a device that may be used. One that may not be, or that
// the EIR does not know, is an illegal ME: 5GMM cause #6, sent "if the ME used is not
// acceptable to the network" (TS 24.501 annex A.1).
func (u *ue) equipmentChecked(status sbi.EquipmentStatus, err error) {
	switch {
	case err == nil && status != sbi.EquipmentBlacklisted:
		u.subscribe()
	case err == nil, problemCause(err) == sbi.CauseEquipmentUnknown:
		u.a.stats.equipmentRefused.Add(1)
		u.log(slog.LevelWarn, "device not acceptable", "pei", u.pei)
		u.refuse(nas.MMIllegalME)
	default:
		u.log(slog.LevelWarn, "device not checked", "error", err)
		u.refuse(subscriptionCause(err))
	}
}

// subscriptionCause is the 5GMM cause for a problem of the UDM's. TS 29.524 clause 4.3
// maps the errors that are about the subscription to #7; others may pass.
func subscriptionCause(err error) nas.MMCause {
	switch problemCause(err) {
	case sbi.CauseUserNotFound, sbi.CauseNoPSSubscription:
		return nas.MM5GSServicesNotAllowed
	}
	return nas.MMProtocolError
}

// subscribe fetches the subscription and registers this AMF at the UDM (TS 23.502
// clause 4.2.2.2.2 step 14).
func (u *ue) subscribe() {
	u.setState(stateWaiting)
	supi, known := u.supi, u.inUDM && u.pei == u.udmPEI
	u.inUDM, u.udmPEI = true, u.pei // from here on the UDM has to be told when the UE is gone
	reg := sbi.AMFRegistration{AMF: u.a.cfg.NFID, GUAMI: u.a.cfg.GUAMI, PEI: u.pei}
	u.call(func(ctx context.Context) func(*ue) {
		if !known {
			if err := u.a.uecm.RegisterAMF(ctx, supi, reg); err != nil {
				return func(u *ue) { u.subscribed(sbi.AccessMobilityData{}, err) }
			}
		}
		data, err := u.a.sdm.AccessMobility(ctx, supi)
		return func(u *ue) { u.subscribed(data, err) }
	}, func(u *ue) { u.subscribed(sbi.AccessMobilityData{}, errOverload) })
}

// subscribed decides on the registration.
func (u *ue) subscribed(data sbi.AccessMobilityData, err error) {
	if err != nil {
		u.log(slog.LevelWarn, "no subscription", "error", err)
		u.refuse(subscriptionCause(err))
		return
	}
	req := u.initial.(*nas.RegistrationRequest)
	u.ambr = data.AMBR
	allowed, rejected := u.slices(req.RequestedNSSAI, data)
	if len(allowed) == 0 {
		u.refuse(nas.MMNoNetworkSlices)
		return
	}
	u.allowed = allowed
	u.syncSessions(req)
	u.reactivate(req.UplinkDataStatus, func(u *ue, setups []ngap.SessionSetup, _ nas.SessionSet) {
		u.accept(req, rejected, setups)
	})
}

// slices determines the allowed NSSAI: requested, subscribed and served slices in
// the UE's order; the subscribed default ones if that leaves none (TS 23.501 clause
// 5.15.5.2.1; TS 24.501 clause 5.5.1.2.4).
func (u *ue) slices(requested []ident.SNSSAI, data sbi.AccessMobilityData) (allowed, rejected []ident.SNSSAI) {
	served := u.a.cfg.support(u.location().TAI.PLMN)
	ok := func(s ident.SNSSAI) bool { return slices.Contains(served.Slices, s) }
	for _, s := range requested {
		subscribed := slices.Contains(data.Slices, s) || slices.Contains(data.DefaultSlices, s)
		switch {
		case !subscribed || !ok(s):
			rejected = append(rejected, s)
		case !slices.Contains(allowed, s) && len(allowed) < maxAllowedNSSAI:
			allowed = append(allowed, s)
		}
	}
	if len(allowed) > 0 {
		return allowed, rejected
	}
	for _, s := range data.DefaultSlices {
		if ok(s) && len(allowed) < maxAllowedNSSAI {
			allowed = append(allowed, s)
		}
	}
	return allowed, rejected
}

// syncSessions makes the sessions here a subset of those the UE has: none after an
// initial registration, else those of the PDU session status IE (TS 24.501 clauses
// 5.5.1.2.4 and 5.5.1.3.4).
func (u *ue) syncSessions(req *nas.RegistrationRequest) {
	switch {
	case req.RegistrationType == nas.RegistrationInitial:
		for _, s := range u.sessions {
			u.dropSession(s, sbi.ReleaseDeregistration)
		}
	case req.PDUSessionStatus != nil:
		u.keepSessions(*req.PDUSessionStatus)
	}
}

// keepSessions releases the sessions the UE does not have.
func (u *ue) keepSessions(set nas.SessionSet) {
	for id, s := range u.sessions {
		if set&(1<<id) == 0 {
			u.dropSession(s, sbi.ReleaseStatusMismatch)
		}
	}
}

// sessionSet returns the sessions as an IE.
func (u *ue) sessionSet() nas.SessionSet {
	var set nas.SessionSet
	for id := range u.sessions {
		set |= 1 << id
	}
	return set
}

// accept sends REGISTRATION ACCEPT with a new 5G-GUTI, guarded by T3550 (TS 24.501
// clause 5.5.1.2.4). The 5G-GUTI before stays valid until the UE confirms.
func (u *ue) accept(req *nas.RegistrationRequest, rejected []ident.SNSSAI, setups []ngap.SessionSetup) {
	guti, err := u.a.reg.assignGUTI(u)
	if err != nil {
		u.log(slog.LevelError, "no 5G-GUTI", "error", err)
		u.refuse(nas.MMProtocolError)
		return
	}
	// "the old and the new 5G-GUTI shall be considered as valid until the old 5G-GUTI
	// can be considered as invalid by the AMF" (clause 5.5.1.2.8): of the two the UE
	// holds the one it registers by; the confirmed one if it does not say.
	held, other := u.guti, u.oldGUTI
	if u.oldGUTI != nil && (req.Identity.GUTI == nil || *req.Identity.GUTI != *u.guti) {
		held, other = other, held
	}
	u.a.reg.dropGUTI(u, other)
	u.guti, u.oldGUTI = guti, held
	tai := u.location().TAI
	msg := &nas.RegistrationAccept{
		GUTI: guti, TAIList: u.a.cfg.support(tai.PLMN).area(tai.TAC),
		AllowedNSSAI: u.allowed, RejectedNSSAI: rejected, T3512: u.a.cfg.T3512,
	}
	if req.PDUSessionStatus != nil {
		set := u.sessionSet()
		msg.PDUSessionStatus = &set
	}
	u.registered = true
	u.setState(stateAccepted)
	u.a.stats.registrationAccepts.Add(1)
	// A gNB that has no UE context yet needs one for what follows a registration; a
	// mere periodic update does without.
	if len(setups) > 0 || u.conn.wanted || req.FollowOnRequest || req.RegistrationType == nas.RegistrationInitial {
		u.setupContext(u.pdu(msg), setups)
	} else {
		u.downlink(msg)
	}
	u.guard(u.a.cfg.T3550, func() { u.downlink(msg) }, func() {
		// "on the fifth expiry of timer T3550, the registration procedure shall be
		// aborted and the AMF enters state 5GMM-REGISTERED" (clause 5.5.1.2.8 c).
		u.initial = nil
		u.setState(stateRegistered)
	})
}

// registrationComplete ends the procedure: the new 5G-GUTI is the valid one. After
// an update that announced nothing further the N1 NAS signalling connection is
// released (clause 5.5.1.3.4).
func (u *ue) registrationComplete(nas.Message) {
	u.endRetransmission()
	u.a.reg.dropGUTI(u, u.oldGUTI)
	u.oldGUTI = nil
	req, _ := u.initial.(*nas.RegistrationRequest)
	u.initial = nil
	u.setState(stateRegistered)
	u.log(slog.LevelInfo, "registered", "pei", u.pei)
	if req != nil && req.RegistrationType != nas.RegistrationInitial && !req.FollowOnRequest &&
		u.conn.context == contextNone && len(u.conn.waiting) == 0 {
		u.releaseN2(ngap.NASNormalRelease)
	}
}
