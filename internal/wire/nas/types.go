package nas

// MessageType is the message type octet of a 5GMM or 5GSM message
// (TS 24.501 tables 9.7.1 and 9.7.2).
type MessageType uint8

// Message types.
const (
	TypeRegistrationRequest         MessageType = 0x41
	TypeRegistrationAccept          MessageType = 0x42
	TypeRegistrationComplete        MessageType = 0x43
	TypeRegistrationReject          MessageType = 0x44
	TypeDeregistrationRequestUE     MessageType = 0x45 // UE originating
	TypeDeregistrationAcceptUE      MessageType = 0x46 // answers 0x45
	TypeDeregistrationRequestNet    MessageType = 0x47 // UE terminated
	TypeDeregistrationAcceptNet     MessageType = 0x48 // answers 0x47
	TypeServiceRequest              MessageType = 0x4c
	TypeServiceReject               MessageType = 0x4d
	TypeServiceAccept               MessageType = 0x4e
	TypeConfigurationUpdateCommand  MessageType = 0x54
	TypeConfigurationUpdateComplete MessageType = 0x55
	TypeAuthenticationRequest       MessageType = 0x56
	TypeAuthenticationResponse      MessageType = 0x57
	TypeAuthenticationReject        MessageType = 0x58
	TypeAuthenticationFailure       MessageType = 0x59
	TypeIdentityRequest             MessageType = 0x5b
	TypeIdentityResponse            MessageType = 0x5c
	TypeSecurityModeCommand         MessageType = 0x5d
	TypeSecurityModeComplete        MessageType = 0x5e
	TypeSecurityModeReject          MessageType = 0x5f
	TypeMMStatus                    MessageType = 0x64
	TypeULNASTransport              MessageType = 0x67
	TypeDLNASTransport              MessageType = 0x68

	TypePDUSessionEstablishmentRequest      MessageType = 0xc1
	TypePDUSessionEstablishmentAccept       MessageType = 0xc2
	TypePDUSessionEstablishmentReject       MessageType = 0xc3
	TypePDUSessionModificationRequest       MessageType = 0xc9
	TypePDUSessionModificationReject        MessageType = 0xca
	TypePDUSessionModificationCommand       MessageType = 0xcb
	TypePDUSessionModificationComplete      MessageType = 0xcc
	TypePDUSessionModificationCommandReject MessageType = 0xcd
	TypePDUSessionReleaseRequest            MessageType = 0xd1
	TypePDUSessionReleaseReject             MessageType = 0xd2
	TypePDUSessionReleaseCommand            MessageType = 0xd3
	TypePDUSessionReleaseComplete           MessageType = 0xd4
	TypeSMStatus                            MessageType = 0xd6
)

// MMCause is a 5GMM cause (TS 24.501 table 9.11.3.2.1). It is not an error: see
// the error types of the packages that send or receive it.
type MMCause uint8

// 5GMM causes used by the testbed.
const (
	MMIllegalUE                       MMCause = 3
	MMPEINotAccepted                  MMCause = 5
	MMIllegalME                       MMCause = 6
	MM5GSServicesNotAllowed           MMCause = 7
	MMIdentityCannotBeDerived         MMCause = 9
	MMImplicitlyDeregistered          MMCause = 10
	MMPLMNNotAllowed                  MMCause = 11
	MMTrackingAreaNotAllowed          MMCause = 12
	MMRoamingNotAllowed               MMCause = 13
	MMNoSuitableCells                 MMCause = 15
	MMMACFailure                      MMCause = 20
	MMSynchFailure                    MMCause = 21
	MMCongestion                      MMCause = 22
	MMSecurityCapabilityMismatch      MMCause = 23
	MMSecurityModeRejected            MMCause = 24
	MMNon5GAuthenticationUnacceptable MMCause = 26
	MMN1ModeNotAllowed                MMCause = 27
	MMNoNetworkSlices                 MMCause = 62
	MMMaximumPDUSessions              MMCause = 65
	MMInsufficientResourcesSlice      MMCause = 69
	MMNGKSIInUse                      MMCause = 71
	MMServingNetworkNotAuthorized     MMCause = 73
	MMPayloadNotForwarded             MMCause = 90
	MMDNNNotSupported                 MMCause = 91
	MMInsufficientUserPlane           MMCause = 92
	MMSemanticallyIncorrect           MMCause = 95
	MMInvalidMandatoryIE              MMCause = 96
	MMTypeNonExistent                 MMCause = 97
	MMTypeNotCompatible               MMCause = 98
	MMIENonExistent                   MMCause = 99
	MMConditionalIE                   MMCause = 100
	MMNotCompatibleWithState          MMCause = 101
	MMProtocolError                   MMCause = 111
)

// SMCause is a 5GSM cause (TS 24.501 table 9.11.4.2.1).
type SMCause uint8

// 5GSM causes used by the testbed.
const (
	SMInsufficientResources     SMCause = 26
	SMMissingOrUnknownDNN       SMCause = 27
	SMUnknownPDUSessionType     SMCause = 28
	SMUserAuthenticationFailed  SMCause = 29
	SMRequestRejected           SMCause = 31
	SMServiceOptionNotSupported SMCause = 32
	SMServiceNotSubscribed      SMCause = 33
	SMRegularDeactivation       SMCause = 36
	SMNetworkFailure            SMCause = 38
	SMReactivationRequested     SMCause = 39
	SMInvalidPDUSessionIdentity SMCause = 43
	SMPTIMismatch               SMCause = 47
	SMIPv4OnlyAllowed           SMCause = 50
	SMIPv6OnlyAllowed           SMCause = 51
	SMPDUSessionDoesNotExist    SMCause = 54
	SMInsufficientSlice         SMCause = 67
	SMNotSupportedSSCMode       SMCause = 68
	SMMissingDNNInSlice         SMCause = 70
	SMInvalidPTI                SMCause = 81
	SMSemanticallyIncorrect     SMCause = 95
	SMInvalidMandatoryIE        SMCause = 96
	SMTypeNonExistent           SMCause = 97
	SMTypeNotCompatible         SMCause = 98
	SMNotCompatibleWithState    SMCause = 101
	SMProtocolError             SMCause = 111
)
