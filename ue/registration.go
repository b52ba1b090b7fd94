package ue

import (
	"fmt"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// registration is the state of the registration procedure (TS 24.501 clauses
// 5.5.1.2 and 5.5.1.3).
type registration struct {
	kind     uint8 // registration type of the procedure running or last run
	before   MMState
	attempts int
	// initial is the complete initial NAS message of the running procedure, plain;
	// cleartext says that only its cleartext IEs were sent.
	initial   []byte
	cleartext bool
	again     bool          // the network wants a mobility registration after release
	t3512     time.Duration // from the last accept
	t3502     time.Duration
}

// maxAttempts bounds registration, service request and 5GSM attempts alike.
const maxAttempts = 5

func (r *registration) intent() intent {
	switch r.kind {
	case nas.RegistrationMobility:
		return wantMobility
	case nas.RegistrationPeriodic:
		return wantPeriodic
	}
	return wantInitial
}

// commandRegister is the Register command. Causes such as #3, #6 and #7 make the USIM
// invalid "until switching off or the UICC containing the USIM is removed" (clause
// 5.5.1.2.5): until then nothing starts by itself. The command stands for the user who
// has switched the UE off and on again.
func (m *machine) commandRegister(gnb string) {
	m.powerOn()
	switch m.state {
	case MMRegistered, MMServiceRequestInitiated:
		if gnb == "" || gnb == m.cell.Name {
			m.done(opRegister, 0, nil)
			return
		}
		m.commandMove(gnb)
		return
	case MMDeregisteredInitiated:
		m.done(opRegister, 0, ErrBusy)
		return
	case MMRegisteredInitiated:
		return // joins the procedure that runs
	}
	m.dereg.switchOff = false
	m.reg = registration{}
	m.auth = authentication{}
	m.pause = 0
	m.stop(t3346, t3502, t3511, tSearch)
	m.releaseConnection() // one that the last procedure left for the network to release
	m.goTo(gnb)
	m.want = wantInitial
}

// commandMove is the MoveTo command. There is no handover: the UE leaves its cell
// and registers again from the new one, with its sessions.
func (m *machine) commandMove(gnb string) {
	switch m.state {
	case MMRegistered, MMServiceRequestInitiated:
	case MMRegisteredInitiated, MMDeregisteredInitiated:
		m.done(opMove, 0, ErrBusy)
		return
	default:
		m.done(opMove, 0, ErrNotRegistered)
		return
	}
	if m.state == MMServiceRequestInitiated {
		m.stop(t3517)
		m.state = MMRegistered
	}
	m.releaseConnection()
	m.reg.attempts = 0
	m.pause = 0
	m.stop(t3346, t3502, t3511, t3525, tSearch, tReturn)
	m.cell = Cell{}
	m.goTo(gnb)
	m.want = wantMobility
}

// goTo makes the next search begin with gnb, if it is not the cell camped on.
func (m *machine) goTo(gnb string) {
	if gnb == "" || gnb == m.cell.Name {
		return
	}
	m.releaseConnection()
	m.prefer = gnb
	m.cell = Cell{}
}

func (m *machine) startRegistration(kind uint8) {
	m.reg.kind = kind
	m.reg.before = m.state
	m.reg.again = false
	if m.reg.before != MMRegistered {
		m.reg.before = MMDeregistered
	}
	req := nas.RegistrationRequest{
		RegistrationType: kind,
		FollowOnRequest:  m.follows(),
		NGKSI:            m.sec.ksi(),
		Capability:       &m.caps,
	}
	if m.guti != nil {
		req.Identity.GUTI = m.guti
	} else {
		s, err := m.concealed()
		if err != nil {
			m.registrationFailed(err)
			m.done(opRegister, 0, err)
			return
		}
		req.Identity.SUCI = s
	}
	full := req
	full.RequestedNSSAI = m.cfg.RequestedNSSAI
	if kind != nas.RegistrationInitial {
		active := m.activeSet()
		full.PDUSessionStatus = &active
		if kind == nas.RegistrationMobility && active != 0 {
			full.UplinkDataStatus = &active
		}
	}
	var clear *nas.RegistrationRequest
	if len(full.RequestedNSSAI) > 0 || full.PDUSessionStatus != nil || full.UplinkDataStatus != nil {
		clear = &req
	}
	m.stop(t3502, t3511, t3512)
	m.state = MMRegisteredInitiated
	m.start(t3510, m.t.T3510)
	var err error
	if clear == nil {
		err = m.sendInitial(&full, nil, nil, causeSignalling)
	} else {
		err = m.sendInitial(&full, clear, func(c []byte) { clear.NASContainer = c }, causeSignalling)
	}
	if err != nil {
		m.registrationFailed(err)
		m.done(opRegister, 0, err)
		m.done(opMove, 0, err)
	}
}

// RRC establishment causes.
const (
	causeSignalling uint8 = 3
	causeData       uint8 = 4
)

// follows reports whether something is to be sent after the registration.
func (m *machine) follows() bool {
	for _, s := range m.sessions {
		if s.wanted {
			return true
		}
	}
	return false
}

// activeSet is the PDU session status of the UE.
func (m *machine) activeSet() nas.SessionSet {
	var set nas.SessionSet
	for id, s := range m.sessions {
		if s.active() {
			set |= 1 << id
		}
	}
	return set
}

func (m *machine) registrationAccept(a *nas.RegistrationAccept) {
	m.stop(t3510, t3511, t3502, t3519)
	m.forgetChallenge()
	m.suci = nil
	kind := m.reg.kind
	m.state = MMRegistered
	m.reg.attempts, m.service.attempts = 0, 0
	m.auth.failures = 0
	m.pause = 0
	m.lastErr = nil
	m.tais = a.TAIList
	if len(m.tais) == 0 {
		m.tais = []ident.TAI{m.cell.Location.TAI}
	}
	m.reg.t3512, m.reg.t3502 = m.t.T3512, m.t.T3502
	if a.T3512 != 0 {
		m.reg.t3512 = a.T3512
	}
	if a.T3502 > 0 {
		m.reg.t3502 = a.T3502
	}
	if a.GUTI != nil {
		g := *a.GUTI
		m.guti = &g
		m.send(&nas.RegistrationComplete{})
	}
	if kind == nas.RegistrationInitial {
		m.dropSessions(ErrAborted) // what another registration left
	} else if a.PDUSessionStatus != nil {
		m.syncSessions(*a.PDUSessionStatus)
	}
	m.done(opRegister, 0, nil)
	m.done(opMove, 0, nil)
}

// registrationAcceptAgain answers an accept that was sent again because our
// complete was late or lost (T3550, clause 5.5.1.2.8 on the network side).
func (m *machine) registrationAcceptAgain(a *nas.RegistrationAccept) {
	if a.GUTI != nil {
		g := *a.GUTI
		m.guti = &g
		m.send(&nas.RegistrationComplete{})
	}
}

// registrationReject acts on the cause (clauses 5.5.1.2.5 and 5.5.1.3.5).
func (m *machine) registrationReject(r *nas.RegistrationReject) {
	m.stop(t3510)
	m.forgetChallenge()
	if r.T3502 > 0 {
		m.reg.t3502 = r.T3502
	}
	err := &RegistrationRejected{Cause: r.Cause}
	mobile := m.reg.kind != nas.RegistrationInitial
	m.start(t3540, m.t.T3540)
	switch r.Cause {
	case nas.MMImplicitlyDeregistered, nas.MMIdentityCannotBeDerived:
		// The network has lost the UE: it registers initially, and who waits for this
		// registration waits for that one. A request by SUCI leaves nothing to forget,
		// so it counts as any other failure and cannot loop.
		if mobile || m.guti != nil {
			if r.Cause == nas.MMIdentityCannotBeDerived {
				m.forget()
			}
			m.detach(err)
			m.reattach()
			return
		}
	case nas.MMIllegalUE, nas.MMIllegalME, nas.MMPEINotAccepted, nas.MM5GSServicesNotAllowed,
		nas.MMPLMNNotAllowed, nas.MMTrackingAreaNotAllowed, nas.MMRoamingNotAllowed, nas.MMNoSuitableCells,
		nas.MMN1ModeNotAllowed, nas.MMNoNetworkSlices, nas.MMServingNetworkNotAuthorized:
		m.forget()
		m.deregisteredLocally(err)
		return
	case nas.MMCongestion:
		// "If the T3346 value IE is present [...] and the value indicates that this
		// timer is neither zero nor deactivated"; otherwise it is an abnormal case.
		if r.T3346 > 0 {
			m.fail(err)
			m.reg.attempts = 0
			m.start(t3346, r.T3346)
			m.want = m.reg.intent()
			return
		}
	case nas.MMSemanticallyIncorrect, nas.MMInvalidMandatoryIE, nas.MMTypeNonExistent,
		nas.MMIENonExistent, nas.MMProtocolError:
		m.reg.attempts = maxAttempts - 1 // clauses 5.5.1.2.7 and 5.5.1.3.7
	}
	m.registrationFailed(err)
	m.done(opRegister, 0, err)
	m.done(opMove, 0, err)
}

// fail leaves REGISTERED-INITIATED without success.
func (m *machine) fail(err error) {
	m.lastErr = err
	m.state = m.reg.before
	m.done(opRegister, 0, err)
	m.done(opMove, 0, err)
}

// registrationTimeout is the expiry of T3510: the connection is dropped and the
// attempt counted (clause 5.5.1.2.7).
func (m *machine) registrationTimeout() {
	if m.state != MMRegisteredInitiated {
		return
	}
	m.releaseConnection()
	m.registrationFailed(fmt.Errorf("registration: T3510 expired: %w", ErrNoAnswer))
}

// registrationFailed counts an attempt and starts T3511 or, after the fifth, T3502
// (clauses 5.5.1.2.7 and 5.5.1.3.7). Who waits for the registration goes on waiting
// until the attempts are used up.
func (m *machine) registrationFailed(err error) {
	if m.state == MMRegisteredInitiated {
		m.state = m.reg.before
	}
	m.stop(t3510)
	m.lastErr = err
	m.reg.attempts++
	m.want = m.reg.intent()
	if m.reg.attempts < maxAttempts {
		m.start(t3511, m.t.T3511)
		return
	}
	d := m.reg.t3502
	if d == 0 {
		d = m.t.T3502
	}
	m.start(t3502, d)
	if m.reg.before == MMDeregistered {
		m.forget()
	}
	m.done(opRegister, 0, err)
	m.done(opMove, 0, err)
}

// periodicTimeout is the expiry of T3512.
func (m *machine) periodicTimeout() {
	if m.state == MMRegistered && m.cm == cmIdle && m.want == wantNothing {
		m.want = wantPeriodic
	}
}

// deregisteredLocally is detach after which nothing follows by itself: waiters
// learn why.
func (m *machine) deregisteredLocally(err error) {
	m.detach(err)
	m.endAll(err)
}

// detach enters 5GMM-DEREGISTERED: sessions are gone.
func (m *machine) detach(err error) {
	m.state = MMDeregistered
	m.want = wantNothing
	m.lastErr = err
	m.stop(t3510, t3511, t3512, t3517, t3521, t3525, tReturn)
	m.service = service{}
	m.dropSessions(ErrDeregistered)
}

// reattach registers initially again; sessions that are wanted follow.
func (m *machine) reattach() {
	m.reg.attempts = 0
	m.stop(t3540)
	m.releaseConnection()
	m.want = wantInitial
}
