package ue

import (
	"github.com/simreach/simreach/internal/wire/nas"
)

// service is the state of the service request procedure (TS 24.501 clause 5.6.1).
type service struct {
	attempts int
}

// Service types (TS 24.501 clause 9.11.3.50).
const (
	serviceSignalling uint8 = 0
	serviceData       uint8 = 1
)

// startService asks to leave 5GMM-IDLE, with user plane for every session there is.
func (m *machine) startService() {
	if m.guti == nil || m.sec.current == nil {
		m.detach(ErrNotRegistered)
		m.want = wantInitial
		return
	}
	active := m.activeSet()
	req := nas.ServiceRequest{NGKSI: m.sec.ksi(), ServiceType: serviceSignalling, STMSI: m.guti.STMSI()}
	cause := causeSignalling
	if active != 0 {
		req.ServiceType, cause = serviceData, causeData
	}
	full := req
	full.PDUSessionStatus = &active
	if active != 0 {
		full.UplinkDataStatus = &active
	}
	m.state = MMServiceRequestInitiated
	m.start(t3517, m.t.T3517)
	if err := m.sendInitial(&full, &req, func(c []byte) { req.NASContainer = c }, cause); err != nil {
		m.log.Error("service request not sent", "error", err)
		m.serviceFailed()
	}
}

func (m *machine) serviceAccept(a *nas.ServiceAccept) {
	m.stop(t3517)
	m.forgetChallenge()
	m.state = MMRegistered
	m.service.attempts = 0
	m.lastErr = nil
	if a.PDUSessionStatus != nil {
		m.syncSessions(*a.PDUSessionStatus)
	}
}

// serviceReject acts on the cause (clause 5.6.1.5).
func (m *machine) serviceReject(r *nas.ServiceReject) {
	m.stop(t3517)
	m.forgetChallenge()
	m.state = MMRegistered
	err := &ServiceRejected{Cause: r.Cause}
	m.lastErr = err
	if r.PDUSessionStatus != nil {
		m.syncSessions(*r.PDUSessionStatus)
	}
	switch r.Cause {
	case nas.MMIdentityCannotBeDerived:
		m.forget()
		m.detach(err)
		m.reattach()
	case nas.MMImplicitlyDeregistered:
		m.detach(err)
		m.reattach()
	case nas.MMIllegalUE, nas.MMIllegalME, nas.MM5GSServicesNotAllowed, nas.MMPLMNNotAllowed,
		nas.MMTrackingAreaNotAllowed, nas.MMRoamingNotAllowed, nas.MMNoSuitableCells, nas.MMN1ModeNotAllowed,
		nas.MMServingNetworkNotAuthorized:
		m.forget()
		m.deregisteredLocally(err)
		m.start(t3540, m.t.T3540)
	case nas.MMCongestion:
		m.start(t3540, m.t.T3540)
		m.service.attempts = 0
		if r.T3346 > 0 {
			m.start(t3346, r.T3346)
			return
		}
		m.serviceBackOff()
	default:
		m.start(t3540, m.t.T3540)
		m.service.attempts++
		m.serviceBackOff()
	}
}

// serviceTimeout is the expiry of T3517 (clause 5.6.1.7).
func (m *machine) serviceTimeout() {
	if m.state != MMServiceRequestInitiated {
		return
	}
	m.counters.Retransmissions++
	m.lastErr = ErrNoAnswer
	m.releaseConnection()
	m.serviceFailed()
}

// serviceFailed aborts the procedure. Its reason remains, so advance tries again:
// after the pause, and after T3525 from the fifth attempt on.
func (m *machine) serviceFailed() {
	m.stop(t3517)
	m.state = MMRegistered
	m.service.attempts++
	m.serviceBackOff()
	if !m.cfg.NoReselect || m.cell.Name != "" {
		m.want = wantService
	}
}

func (m *machine) serviceBackOff() {
	if m.service.attempts >= maxAttempts {
		m.start(t3525, m.t.T3525)
		return
	}
	m.backOff(tReturn)
}
