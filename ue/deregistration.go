package ue

import (
	"github.com/simreach/simreach/internal/wire/nas"
)

// deregistration is the state of the UE-initiated de-registration procedure
// (TS 24.501 clause 5.5.2.2).
type deregistration struct {
	switchOff bool
	request   *nas.DeregistrationRequest
	sent      int
}

// commandDeregister is the Deregister command.
func (m *machine) commandDeregister(switchOff bool) {
	switch m.state {
	case MMNull, MMDeregistered:
		m.want = wantNothing
		m.reg.again = false
		m.endAll(ErrAborted)
		if switchOff {
			m.powerOff()
		}
		return
	case MMDeregisteredInitiated:
		return // joins
	case MMRegisteredInitiated:
		// The registration is aborted (clause 5.5.1.2.7).
		m.stop(t3510)
		m.fail(ErrAborted)
		if m.state == MMDeregistered {
			m.releaseConnection()
			m.want = wantNothing
			m.done(opDeregister, 0, nil)
			if switchOff {
				m.powerOff()
			}
			return
		}
	case MMServiceRequestInitiated:
		m.stop(t3517)
		m.state = MMRegistered
	}
	m.dereg = deregistration{switchOff: switchOff}
	m.want = wantDeregistration
	if m.cm == cmIdle && m.cell.Name == "" {
		// Nobody to tell: the network finds out by T3512 (implicit detach timer).
		m.want = wantNothing
		m.finishDeregistration(nil)
	}
}

func (m *machine) startDeregistration() {
	req := &nas.DeregistrationRequest{SwitchOff: m.dereg.switchOff, NGKSI: m.sec.ksi()}
	req.Identity.GUTI = m.guti
	if m.guti == nil {
		s, err := m.concealed()
		if err != nil {
			m.finishDeregistration(err)
			return
		}
		req.Identity.SUCI = s
	}
	m.dereg.request = req
	m.state = MMDeregisteredInitiated
	m.sendDeregistration()
	if m.dereg.switchOff {
		// No answer comes (clause 5.5.2.2.1). The network releases the connection;
		// T3540 bounds the wait.
		m.finishDeregistration(nil)
		m.start(t3540, m.t.T3540)
	}
}

func (m *machine) sendDeregistration() {
	pdu, err := m.protect(m.dereg.request)
	if err != nil {
		m.log.Error("deregistration request not sent", "error", err)
		m.finishDeregistration(err)
		return
	}
	m.dereg.sent++
	m.connectWith(pdu, causeSignalling)
	if !m.dereg.switchOff {
		m.start(t3521, m.t.T3521)
	}
}

// deregistrationTimeout is the expiry of T3521: sent again four times, then the UE
// deregisters on its own (clause 5.5.2.2.6).
func (m *machine) deregistrationTimeout() {
	if m.state != MMDeregisteredInitiated {
		return
	}
	if m.dereg.sent >= maxAttempts {
		m.releaseConnection()
		m.finishDeregistration(nil)
		return
	}
	m.counters.Retransmissions++
	m.sendDeregistration()
}

func (m *machine) deregistrationAccept(*nas.DeregistrationAccept) {
	m.finishDeregistration(nil)
	m.start(t3540, m.t.T3540) // the network releases the connection
}

// finishDeregistration enters 5GMM-DEREGISTERED at the UE's own wish.
func (m *machine) finishDeregistration(err error) {
	m.done(opDeregister, 0, err)
	m.deregisteredLocally(nil)
	m.dereg = deregistration{switchOff: m.dereg.switchOff}
}

// deregistrationRequest is the network's (clause 5.5.2.3.2).
func (m *machine) deregistrationRequest(r *nas.DeregistrationRequest) {
	again := r.Reregister
	err := ErrDeregistered
	if r.Cause != 0 {
		err = &DeregisteredByNetwork{Cause: r.Cause}
	}
	m.send(&nas.DeregistrationAccept{ToNetwork: true})
	switch r.Cause {
	case nas.MMIllegalUE, nas.MMIllegalME, nas.MM5GSServicesNotAllowed, nas.MMPLMNNotAllowed,
		nas.MMTrackingAreaNotAllowed:
		m.forget()
	}
	m.deregisteredLocally(err)
	m.start(t3540, m.t.T3540)
	if again {
		// A new signalling connection follows the release of this one
		// (clause 5.5.2.3.2); T3540 bounds the wait.
		m.reg.attempts = 0
		m.reg.again = true
	}
}

// deregistrationCollision: both sides deregister. The network's request is answered
// and ends the UE's own procedure too, but "the UE need not initiate the
// registration procedure" that it may ask for (clause 5.5.2.2.6). A UE that
// switches off ignores it: see the table.
func (m *machine) deregistrationCollision(*nas.DeregistrationRequest) {
	m.send(&nas.DeregistrationAccept{ToNetwork: true})
	m.finishDeregistration(nil)
	m.start(t3540, m.t.T3540)
}
