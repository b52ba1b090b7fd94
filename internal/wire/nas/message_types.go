package nas

import "fmt"

// String returns the message's name in the specification, such as
// "REGISTRATION REQUEST", or the number of a type that does not exist.
func (t MessageType) String() string {
	if l, ok := layouts[t]; ok {
		return l.text
	}
	return fmt.Sprintf("message type %#02x", uint8(t))
}

// epd returns the discriminator that t goes with: 5GSM types have the two
// highest bits set (TS 24.501 clause 9.7).
func (t MessageType) epd() byte {
	if t >= 0xc0 {
		return epd5GSM
	}
	return epd5GMM
}

// Type returns the message type octet.
func (*RegistrationRequest) Type() MessageType { return TypeRegistrationRequest }

// Type returns the message type octet.
func (*RegistrationAccept) Type() MessageType { return TypeRegistrationAccept }

// Type returns the message type octet.
func (*RegistrationComplete) Type() MessageType { return TypeRegistrationComplete }

// Type returns the message type octet.
func (*RegistrationReject) Type() MessageType { return TypeRegistrationReject }

// Type returns the message type octet.
func (*ServiceRequest) Type() MessageType { return TypeServiceRequest }

// Type returns the message type octet.
func (*ServiceReject) Type() MessageType { return TypeServiceReject }

// Type returns the message type octet.
func (*ServiceAccept) Type() MessageType { return TypeServiceAccept }

// Type returns the message type octet.
func (*ConfigurationUpdateCommand) Type() MessageType { return TypeConfigurationUpdateCommand }

// Type returns the message type octet.
func (*ConfigurationUpdateComplete) Type() MessageType { return TypeConfigurationUpdateComplete }

// Type returns the message type octet.
func (*AuthenticationRequest) Type() MessageType { return TypeAuthenticationRequest }

// Type returns the message type octet.
func (*AuthenticationResponse) Type() MessageType { return TypeAuthenticationResponse }

// Type returns the message type octet.
func (*AuthenticationReject) Type() MessageType { return TypeAuthenticationReject }

// Type returns the message type octet.
func (*AuthenticationFailure) Type() MessageType { return TypeAuthenticationFailure }

// Type returns the message type octet.
func (*IdentityRequest) Type() MessageType { return TypeIdentityRequest }

// Type returns the message type octet.
func (*IdentityResponse) Type() MessageType { return TypeIdentityResponse }

// Type returns the message type octet.
func (*SecurityModeCommand) Type() MessageType { return TypeSecurityModeCommand }

// Type returns the message type octet.
func (*SecurityModeComplete) Type() MessageType { return TypeSecurityModeComplete }

// Type returns the message type octet.
func (*SecurityModeReject) Type() MessageType { return TypeSecurityModeReject }

// Type returns the message type octet.
func (*MMStatus) Type() MessageType { return TypeMMStatus }

// Type returns the message type octet.
func (*ULNASTransport) Type() MessageType { return TypeULNASTransport }

// Type returns the message type octet.
func (*DLNASTransport) Type() MessageType { return TypeDLNASTransport }

// Type returns the message type octet.
func (*PDUSessionEstablishmentRequest) Type() MessageType { return TypePDUSessionEstablishmentRequest }

// Type returns the message type octet.
func (*PDUSessionEstablishmentAccept) Type() MessageType { return TypePDUSessionEstablishmentAccept }

// Type returns the message type octet.
func (*PDUSessionEstablishmentReject) Type() MessageType { return TypePDUSessionEstablishmentReject }

// Type returns the message type octet.
func (*PDUSessionModificationRequest) Type() MessageType { return TypePDUSessionModificationRequest }

// Type returns the message type octet.
func (*PDUSessionModificationReject) Type() MessageType { return TypePDUSessionModificationReject }

// Type returns the message type octet.
func (*PDUSessionModificationCommand) Type() MessageType { return TypePDUSessionModificationCommand }

// Type returns the message type octet.
func (*PDUSessionModificationComplete) Type() MessageType { return TypePDUSessionModificationComplete }

// Type returns the message type octet.
func (*PDUSessionModificationCommandReject) Type() MessageType {
	return TypePDUSessionModificationCommandReject
}

// Type returns the message type octet.
func (*PDUSessionReleaseRequest) Type() MessageType { return TypePDUSessionReleaseRequest }

// Type returns the message type octet.
func (*PDUSessionReleaseReject) Type() MessageType { return TypePDUSessionReleaseReject }

// Type returns the message type octet.
func (*PDUSessionReleaseCommand) Type() MessageType { return TypePDUSessionReleaseCommand }

// Type returns the message type octet.
func (*PDUSessionReleaseComplete) Type() MessageType { return TypePDUSessionReleaseComplete }

// Type returns the message type octet.
func (*SMStatus) Type() MessageType { return TypeSMStatus }

// Type returns the message type octet, which depends on the direction.
func (m *DeregistrationRequest) Type() MessageType {
	if m.FromNetwork {
		return TypeDeregistrationRequestNet
	}
	return TypeDeregistrationRequestUE
}

// Type returns the message type octet, which depends on the direction.
func (m *DeregistrationAccept) Type() MessageType {
	if m.ToNetwork {
		return TypeDeregistrationAcceptNet
	}
	return TypeDeregistrationAcceptUE
}
