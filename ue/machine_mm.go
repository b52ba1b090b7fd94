package ue

import "github.com/simreach/simreach/internal/wire/nas"

// MMState is a main state of 5GMM in the UE (TS 24.501 clause 5.1.3.2.1).
type MMState uint8

// 5GMM states. Substates show as Status.GNB (empty: no cell available) and
// Status.Err (attempting registration or update).
const (
	// MMNull: switched off, nothing is sent or accepted.
	MMNull MMState = iota
	// MMDeregistered: the network does not know where the UE is.
	MMDeregistered
	// MMRegisteredInitiated: a registration procedure waits for its answer.
	MMRegisteredInitiated
	// MMRegistered: a 5GMM context exists; sessions may exist.
	MMRegistered
	// MMDeregisteredInitiated: a deregistration request waits for its answer.
	MMDeregisteredInitiated
	// MMServiceRequestInitiated: a service request waits for its answer.
	MMServiceRequestInitiated
)

var mmStateNames = [...]string{
	MMNull:                    "5GMM-NULL",
	MMDeregistered:            "5GMM-DEREGISTERED",
	MMRegisteredInitiated:     "5GMM-REGISTERED-INITIATED",
	MMRegistered:              "5GMM-REGISTERED",
	MMDeregisteredInitiated:   "5GMM-DEREGISTERED-INITIATED",
	MMServiceRequestInitiated: "5GMM-SERVICE-REQUEST-INITIATED",
}

// String returns the specification's name.
func (s MMState) String() string {
	if int(s) < len(mmStateNames) {
		return mmStateNames[s]
	}
	return "5GMM-?"
}

type handler func(*machine, nas.Message)

// on makes a table cell of a procedure function.
func on[M nas.Message](f func(*machine, M)) handler {
	return func(m *machine, msg nas.Message) { f(m, msg.(M)) }
}

// ignore is a cell where the specification says to drop the message.
func ignore(*machine, nas.Message) {}

// mmTable says which 5GMM message is legal in which state. An absent cell is
// answered with 5GMM STATUS cause 98 (TS 24.501 clause 7.4), except in 5GMM-NULL,
// where nothing is heard.
var mmTable = map[nas.MessageType]map[MMState]handler{
	nas.TypeRegistrationAccept: {
		MMRegisteredInitiated: on((*machine).registrationAccept),
		MMRegistered:          on((*machine).registrationAcceptAgain), // our COMPLETE was late (T3550)
	},
	nas.TypeRegistrationReject: {
		MMRegisteredInitiated: on((*machine).registrationReject),
	},
	nas.TypeAuthenticationRequest: {
		MMRegisteredInitiated:     on((*machine).authenticationRequest),
		MMRegistered:              on((*machine).authenticationRequest),
		MMServiceRequestInitiated: on((*machine).authenticationRequest),
		MMDeregisteredInitiated:   on((*machine).authenticationRequest), // both continue, clause 5.5.2.2.6
	},
	nas.TypeAuthenticationReject: {
		MMRegisteredInitiated:     on((*machine).authenticationReject),
		MMRegistered:              on((*machine).authenticationReject),
		MMServiceRequestInitiated: on((*machine).authenticationReject),
		MMDeregisteredInitiated:   on((*machine).authenticationReject),
	},
	nas.TypeIdentityRequest: {
		MMRegisteredInitiated:     on((*machine).identityRequest),
		MMRegistered:              on((*machine).identityRequest),
		MMServiceRequestInitiated: on((*machine).identityRequest),
		MMDeregisteredInitiated:   on((*machine).identityRequest),
	},
	nas.TypeSecurityModeCommand: {
		MMRegisteredInitiated:     on((*machine).securityModeCommand),
		MMRegistered:              on((*machine).securityModeCommand),
		MMServiceRequestInitiated: on((*machine).securityModeCommand),
		MMDeregisteredInitiated:   on((*machine).securityModeCommand),
	},
	nas.TypeConfigurationUpdateCommand: {
		MMRegistered:              on((*machine).configurationUpdateCommand),
		MMServiceRequestInitiated: on((*machine).configurationUpdateCommand),
		MMRegisteredInitiated:     on((*machine).configurationUpdateCommand), // during mobility registration
		MMDeregisteredInitiated:   ignore,                                    // clause 5.5.2.2.6
	},
	nas.TypeServiceAccept: {
		MMServiceRequestInitiated: on((*machine).serviceAccept),
	},
	nas.TypeServiceReject: {
		MMServiceRequestInitiated: on((*machine).serviceReject),
	},
	nas.TypeDeregistrationAcceptUE: {
		MMDeregisteredInitiated: on((*machine).deregistrationAccept),
		MMDeregistered:          ignore, // after the fifth expiry of T3521
	},
	nas.TypeDeregistrationRequestNet: {
		MMRegisteredInitiated:     on((*machine).deregistrationRequest), // registration is aborted, clause 5.5.1.2.7
		MMRegistered:              on((*machine).deregistrationRequest),
		MMServiceRequestInitiated: on((*machine).deregistrationRequest), // service request is aborted, clause 5.6.1.7
		MMDeregisteredInitiated:   on((*machine).deregistrationCollision),
		MMDeregistered:            ignore, // switch-off goes on, clause 5.5.2.2.6
	},
	nas.TypeDLNASTransport: {
		MMRegisteredInitiated:     on((*machine).dlNASTransport), // during mobility registration
		MMRegistered:              on((*machine).dlNASTransport),
		MMServiceRequestInitiated: on((*machine).dlNASTransport),
		MMDeregisteredInitiated:   ignore,
	},
	nas.TypeMMStatus: {
		MMDeregistered:            on((*machine).mmStatus),
		MMRegisteredInitiated:     on((*machine).mmStatus),
		MMRegistered:              on((*machine).mmStatus),
		MMServiceRequestInitiated: on((*machine).mmStatus),
		MMDeregisteredInitiated:   on((*machine).mmStatus),
	},
}

// plainAllowed says which messages the UE processes without integrity protection
// until the secure exchange of NAS messages is established (TS 24.501 clause
// 4.4.4.2).
func plainAllowed(msg nas.Message) bool {
	switch v := msg.(type) {
	case *nas.IdentityRequest:
		return v.IdentityType == nas.IdentitySUCI
	case *nas.AuthenticationRequest, *nas.AuthenticationReject, *nas.RegistrationReject,
		*nas.ServiceReject:
		return true
	case *nas.DeregistrationAccept:
		return !v.ToNetwork
	}
	return false
}
