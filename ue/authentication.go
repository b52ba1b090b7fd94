package ue

import (
	"time"

	"github.com/simreach/simreach/internal/wire/nas"
)

// authentication is the state of the 5G AKA based primary authentication
// (TS 24.501 clause 5.4.1.3).
type authentication struct {
	// challenge is kept while T3516 runs: the same RAND again gets the same RES*
	// without asking the USIM, whose SQN check would fail (clause 5.4.1.3.2).
	challenge *challenge
	failures  int         // consecutive AUTHENTICATION FAILUREs
	cause     nas.MMCause // of the last of them
	// paused are T3510, T3517 or T3521, stopped while the network may make its
	// failure good.
	paused []timerKind
}

type challenge struct {
	rand    [16]byte
	resStar [16]byte
}

// maxAuthenticationFailures: after the third consecutive failure the network is
// deemed false (clause 5.4.1.3.7).
const maxAuthenticationFailures = 3

func (m *machine) authenticationRequest(r *nas.AuthenticationRequest) {
	m.stop(t3520)
	if c := m.auth.challenge; c != nil && c.rand == r.RAND {
		m.send(&nas.AuthenticationResponse{RESStar: c.resStar[:]})
		return
	}
	if len(r.ABBA) < 2 {
		m.send(&nas.MMStatus{Cause: nas.MMInvalidMandatoryIE})
		return
	}
	if m.sec.current != nil && r.NGKSI == m.sec.current.NGKSI() {
		m.authenticationFailure(nas.MMNGKSIInUse, nil)
		return
	}
	v, auts, verdict := m.usim.authenticate(r.RAND, r.AUTN)
	switch verdict {
	case akaMACFailure:
		m.authenticationFailure(nas.MMMACFailure, nil)
		return
	case akaNotSeparated:
		m.authenticationFailure(nas.MMNon5GAuthenticationUnacceptable, nil)
		return
	case akaSyncFailure:
		m.authenticationFailure(nas.MMSynchFailure, auts[:])
		return
	}
	snn := m.cell.Location.TAI.PLMN.ServingNetworkName()
	res := v.resStar(snn, r.RAND)
	m.sec.partial = &partialContext{ksi: r.NGKSI, kamf: v.kamf(snn, m.cfg.SUPI, r.ABBA)}
	m.resumeProcedure()
	m.auth = authentication{challenge: &challenge{rand: r.RAND, resStar: res}}
	m.start(t3516, m.t.T3516)
	m.send(&nas.AuthenticationResponse{RESStar: res[:]})
}

// pauseProcedure: with an AUTHENTICATION FAILURE "the UE shall stop any of the
// retransmission timers that are running (e.g. T3510, T3517 or T3521)" (clause
// 5.4.1.3.7 c to f).
func (m *machine) pauseProcedure() {
	for _, k := range []timerKind{t3510, t3517, t3521} {
		if m.timers.running(k) {
			m.auth.paused = append(m.auth.paused, k)
			m.stop(k)
		}
	}
}

// resumeProcedure: once the network is validated, or deemed false, the UE "shall
// start any retransmission timers [...] if they were running and stopped" (clause
// 5.4.1.3.7).
func (m *machine) resumeProcedure() {
	for _, k := range m.auth.paused {
		m.start(k, map[timerKind]time.Duration{t3510: m.t.T3510, t3517: m.t.T3517, t3521: m.t.T3521}[k])
	}
	m.auth.paused = nil
}

// forgetChallenge deletes RAND and RES* on the messages that say so (clause
// 5.4.1.3.3): SECURITY MODE COMMAND, accepts and rejects.
func (m *machine) forgetChallenge() {
	m.stop(t3516, t3520)
	m.auth.challenge, m.auth.paused = nil, nil
}

// authenticationFailure sends AUTHENTICATION FAILURE and starts T3520, or gives the
// network up (clause 5.4.1.3.7).
func (m *machine) authenticationFailure(cause nas.MMCause, auts []byte) {
	m.auth.failures++
	m.auth.cause = cause
	m.auth.challenge = nil
	m.stop(t3516)
	m.pauseProcedure()
	m.send(&nas.AuthenticationFailure{Cause: cause, AUTS: auts})
	if m.auth.failures >= maxAuthenticationFailures {
		m.authenticationTimeout()
		return
	}
	m.start(t3520, m.t.T3520)
}

// authenticationTimeout: the network did not make its failure good, so the cell is
// treated as barred and the connection dropped (clause 5.4.1.3.7).
func (m *machine) authenticationTimeout() {
	err := &AuthenticationFailed{Cause: m.auth.cause}
	m.resumeProcedure() // what follows here ends each of the procedures
	m.auth = authentication{}
	m.stop(t3520)
	m.loseCell()
	m.releaseConnection()
	switch m.state {
	case MMRegisteredInitiated:
		m.registrationFailed(err)
		m.done(opRegister, 0, err)
		m.done(opMove, 0, err)
	case MMServiceRequestInitiated:
		m.serviceFailed()
	case MMDeregisteredInitiated:
		m.finishDeregistration(nil)
	case MMRegistered:
		m.lastErr = err
		if !m.cfg.NoReselect {
			m.want = wantRecovery
		}
	}
}

// authenticationReject: the USIM is invalid for this network until the UE is
// switched off (clause 5.4.1.3.5); here until the next Register command.
func (m *machine) authenticationReject(*nas.AuthenticationReject) {
	err := &AuthenticationFailed{Rejected: true, Cause: m.auth.cause}
	m.stop(t3510, t3516, t3517, t3520, t3521)
	m.auth = authentication{}
	m.forget()
	m.deregisteredLocally(err)
	m.start(t3540, m.t.T3540)
}

// forget deletes what a rejected UE must delete: 5G-GUTI, TAI list, last TAI and
// ngKSI.
func (m *machine) forget() {
	m.guti = nil
	m.tais = nil
	m.suci = nil
	m.stop(t3519)
	m.sec = security{}
}
