package amf

import (
	"fmt"

	"github.com/simreach/simreach/internal/wire/nas"
)

// gmmState is the state of the 5GMM machine, finer than the main states of
// TS 24.501 clause 5.1.3.3: 5GMM-COMMON-PROCEDURE-INITIATED is split by what the
// network waits for.
type gmmState uint8

const (
	// stateDeregistered: 5GMM-DEREGISTERED. Only a context that just got its first
	// message is here; one that returns here ends.
	stateDeregistered gmmState = iota
	// stateIdentification: IDENTITY REQUEST sent, T3570 runs.
	stateIdentification
	// stateAuthentication: AUTHENTICATION REQUEST sent, T3560 runs.
	stateAuthentication
	// stateSecurityMode: SECURITY MODE COMMAND sent, T3560 runs.
	stateSecurityMode
	// stateWaiting: a registration waits for another network function; nothing is
	// awaited from the UE.
	stateWaiting
	// stateAccepted: REGISTRATION ACCEPT with a new 5G-GUTI sent, T3550 runs.
	stateAccepted
	// stateRegistered: 5GMM-REGISTERED, in CM-CONNECTED or CM-IDLE.
	stateRegistered
	// stateDeregistering: 5GMM-DEREGISTERED-INITIATED, T3522 runs.
	stateDeregistering
	stateCount
)

// String names the state as Status shows it.
func (s gmmState) String() string {
	names := [...]string{
		"DEREGISTERED", "IDENTIFICATION", "AUTHENTICATION", "SECURITY-MODE", "WAITING",
		"REGISTRATION-ACCEPTED", "REGISTERED", "DEREGISTERED-INITIATED",
	}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// handler performs a message in a state in which it is legal.
type handler func(*ue, nas.Message)

// gmmTable says which uplink 5GMM message is legal in which state. A missing entry
// is "message not compatible with protocol state".
type gmmTable [stateCount]map[nas.MessageType]handler

// newGMMTable returns the table; it is a function so that no global holds state.
func newGMMTable() gmmTable {
	return gmmTable{
		stateDeregistered: {
			nas.TypeRegistrationRequest:     (*ue).registrationRequest,
			nas.TypeServiceRequest:          (*ue).serviceRequestUnknown,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
		},
		stateIdentification: {
			nas.TypeRegistrationRequest:     (*ue).registrationRequest,
			nas.TypeIdentityResponse:        (*ue).identityResponse,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
			nas.TypeMMStatus:                (*ue).mmStatus,
		},
		stateAuthentication: {
			nas.TypeRegistrationRequest:     (*ue).registrationRequest,
			nas.TypeAuthenticationResponse:  (*ue).authenticationResponse,
			nas.TypeAuthenticationFailure:   (*ue).authenticationFailure,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
			nas.TypeMMStatus:                (*ue).mmStatus,
		},
		stateSecurityMode: {
			nas.TypeRegistrationRequest:     (*ue).registrationRequest,
			nas.TypeSecurityModeComplete:    (*ue).securityModeComplete,
			nas.TypeSecurityModeReject:      (*ue).securityModeReject,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
			nas.TypeMMStatus:                (*ue).mmStatus,
		},
		stateWaiting: {
			nas.TypeRegistrationRequest:     (*ue).registrationRequest,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
			nas.TypeMMStatus:                (*ue).mmStatus,
		},
		stateAccepted: {
			nas.TypeRegistrationRequest:     (*ue).registrationRequest,
			nas.TypeRegistrationComplete:    (*ue).registrationComplete,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
			nas.TypeULNASTransport:          (*ue).ulNASTransport,
			nas.TypeMMStatus:                (*ue).mmStatus,
		},
		stateRegistered: {
			nas.TypeRegistrationRequest:     (*ue).registrationRequest,
			nas.TypeServiceRequest:          (*ue).serviceRequest,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
			nas.TypeULNASTransport:          (*ue).ulNASTransport,
			nas.TypeMMStatus:                (*ue).mmStatus,
		},
		stateDeregistering: {
			nas.TypeRegistrationRequest:     (*ue).registrationWhileDeregistering,
			nas.TypeDeregistrationRequestUE: (*ue).deregistrationRequest,
			nas.TypeDeregistrationAcceptNet: (*ue).deregistrationAccept,
			nas.TypeMMStatus:                (*ue).mmStatus,
		},
	}
}

// uplinkTypes are the 5GMM messages a UE can send; any other type is unknown to
// the AMF.
func uplinkTypes() []nas.MessageType {
	return []nas.MessageType{
		nas.TypeRegistrationRequest, nas.TypeRegistrationComplete, nas.TypeDeregistrationRequestUE,
		nas.TypeDeregistrationAcceptNet, nas.TypeServiceRequest, nas.TypeConfigurationUpdateComplete,
		nas.TypeAuthenticationResponse, nas.TypeAuthenticationFailure, nas.TypeIdentityResponse,
		nas.TypeSecurityModeComplete, nas.TypeSecurityModeReject, nas.TypeMMStatus, nas.TypeULNASTransport,
	}
}

// unprotectedAllowed are the messages processed without a successful integrity
// check until secure exchange is established (TS 24.501 clause 4.4.4.3). SERVICE
// REQUEST is there to be rejected with cause #9. IDENTITY RESPONSE counts for a
// SUCI only, which its handler checks.
func unprotectedAllowed(t nas.MessageType) bool {
	switch t {
	case nas.TypeRegistrationRequest, nas.TypeIdentityResponse, nas.TypeAuthenticationResponse,
		nas.TypeAuthenticationFailure, nas.TypeSecurityModeReject, nas.TypeDeregistrationRequestUE,
		nas.TypeDeregistrationAcceptNet, nas.TypeServiceRequest:
		return true
	}
	return false
}
