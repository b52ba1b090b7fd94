package ue

import (
	"errors"
	"fmt"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// Errors of the commands of a UE.
var (
	// ErrNotRegistered: the command needs a registered UE.
	ErrNotRegistered = errors.New("ue: not registered")
	// ErrNoCell: no gNB of the UE's list answered.
	ErrNoCell = errors.New("ue: no cell found")
	// ErrNoAnswer: the network did not answer within the timer and its
	// retransmissions.
	ErrNoAnswer = errors.New("ue: no answer from the network")
	// ErrAborted: another procedure or command overtook this one.
	ErrAborted = errors.New("ue: procedure aborted")
	// ErrDeregistered: the network deregistered the UE meanwhile.
	ErrDeregistered = errors.New("ue: deregistered by the network")
	// ErrUnknownSession: no such PDU session.
	ErrUnknownSession = errors.New("ue: unknown PDU session")
	// ErrBusy: a procedure for the same PDU session is running.
	ErrBusy = errors.New("ue: another procedure is running")
	// ErrStopped: Run has ended.
	ErrStopped = errors.New("ue: stopped")
)

// RegistrationRejected is a REGISTRATION REJECT from the network.
type RegistrationRejected struct{ Cause nas.MMCause }

func (e *RegistrationRejected) Error() string {
	return fmt.Sprintf("ue: registration rejected, 5GMM cause %d", e.Cause)
}

// DeregisteredByNetwork is a DEREGISTRATION REQUEST from the network that gave a cause.
// It wraps ErrDeregistered.
type DeregisteredByNetwork struct{ Cause nas.MMCause }

func (e *DeregisteredByNetwork) Error() string {
	return fmt.Sprintf("%v, 5GMM cause %d", ErrDeregistered, e.Cause)
}

// Unwrap returns ErrDeregistered.
func (e *DeregisteredByNetwork) Unwrap() error { return ErrDeregistered }

// ServiceRejected is a SERVICE REJECT from the network.
type ServiceRejected struct{ Cause nas.MMCause }

func (e *ServiceRejected) Error() string {
	return fmt.Sprintf("ue: service request rejected, 5GMM cause %d", e.Cause)
}

// AuthenticationFailed says that 5G AKA failed. Rejected: the network sent
// AUTHENTICATION REJECT. Cause: what this UE answered last in AUTHENTICATION
// FAILURE (20 MAC failure, 21 synch failure, 26, 71), 0 if it never did.
type AuthenticationFailed struct {
	Rejected bool
	Cause    nas.MMCause
}

func (e *AuthenticationFailed) Error() string {
	who := "by the UE"
	if e.Rejected {
		who = "by the network"
	}
	if e.Cause != 0 {
		return fmt.Sprintf("ue: authentication failed %s, 5GMM cause %d", who, e.Cause)
	}
	return "ue: authentication failed " + who
}

// SessionRejected is a 5GSM reject from the network.
type SessionRejected struct {
	ID    ident.PDUSessionID
	Cause nas.SMCause
}

func (e *SessionRejected) Error() string {
	return fmt.Sprintf("ue: PDU session %d rejected, 5GSM cause %d", e.ID, e.Cause)
}

// NotForwarded says that the AMF returned a 5GSM message unsent
// (TS 24.501 clause 5.4.5.3.1), for example because the DNN is not supported.
type NotForwarded struct {
	ID    ident.PDUSessionID
	Cause nas.MMCause
}

func (e *NotForwarded) Error() string {
	return fmt.Sprintf("ue: PDU session %d: message not forwarded, 5GMM cause %d", e.ID, e.Cause)
}
