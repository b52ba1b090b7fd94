package nas

// Extended protocol discriminators (TS 24.007 clause 11.2.3.1.1A).
const (
	epd5GMM byte = 0x7e
	epd5GSM byte = 0x2e
)

// format is the way an IE is laid out (TS 24.007 clause 11.2.1.1).
type format uint8

const (
	formatV   format = iota // value only (type 1 pair of half octets, or type 3)
	formatLV                // length octet, value
	formatLVE               // two length octets, value
	formatT1                // optional type 1: IEI in the high half octet, value in the low one
	formatTV                // optional type 3: IEI, value of fixed length
	formatTLV
	formatTLVE
)

// field describes one IE of a message: how it is laid out, the lengths its value
// may have, and the name it has in the codec library. An IE without a name is
// one that we know how to step over but have no use for.
type field struct {
	name     string
	iei      uint8
	format   format
	min, max int
}

// layout describes a message. IEs that it does not list are stepped over by the
// rules of TS 24.007 clause 11.2.4, which work for all but optional type 3 IEs:
// those are therefore always listed.
type layout struct {
	text      string // name of the message in the specification
	lib       string // name of the message in the codec library
	new       func() codec
	mandatory []field
	optional  []field
}

// codec is a message that can move its fields to and from the library's struct.
type codec interface {
	Message
	encode(*writer)
	decode(*reader)
}

// anyLength is the largest value an IE with two length octets can have.
const anyLength = 0xffff

var (
	fieldMMCause      = field{"Cause5GMM", 0, formatV, 1, 1}
	fieldSMCause      = field{"Cause5GSM", 0, formatV, 1, 1}
	fieldOptMMCause   = field{"Cause5GMM", 0x58, formatTV, 1, 1}
	fieldOptSMCause   = field{"Cause5GSM", 0x59, formatTV, 1, 1}
	fieldStatus       = field{"PDUSessionStatus", 0x50, formatTLV, 2, 32}
	fieldUplinkData   = field{"UplinkDataStatus", 0x40, formatTLV, 2, 32}
	fieldContainer    = field{"NASMessageContainer", 0x71, formatTLVE, 1, anyLength}
	fieldGUTI         = field{"GUTI5G", 0x77, formatTLVE, 11, 11}
	fieldAllowed      = field{"AllowedNSSAI", 0x15, formatTLV, 2, 72}
	fieldT3346        = field{"T3346Value", 0x5f, formatTLV, 1, 1}
	fieldT3502        = field{"T3502Value", 0x16, formatTLV, 1, 1}
	fieldBackOff      = field{"BackoffTimerValue", 0x37, formatTLV, 1, 1}
	fieldSessionID2   = field{"PduSessionID2Value", 0x12, formatTV, 1, 1}
	fieldSNSSAI       = field{"SNSSAI", 0x22, formatTLV, 1, 8}
	fieldDNN          = field{"DNN", 0x25, formatTLV, 1, 100}
	fieldPCO          = field{"ExtendedProtocolConfigurationOptions", 0x7b, formatTLVE, 1, anyLength}
	fieldIdentity     = field{"MobileIdentity5GS", 0, formatLVE, 4, anyLength}
	fieldPayloadType  = field{"SpareHalfOctetAndPayloadContainerType", 0, formatV, 1, 1}
	fieldPayload      = field{"PayloadContainer", 0, formatLVE, 1, anyLength}
	fieldNGKSI        = field{"SpareHalfOctetAndNgksi", 0, formatV, 1, 1}
	fieldRQTimer      = field{"", 0x56, formatTV, 1, 1}
	fieldFilterNumber = field{"", 0x55, formatTV, 2, 2}
)

// layouts lists every message (TS 24.501 clauses 8.2 and 8.3).
var layouts = map[MessageType]layout{
	TypeRegistrationRequest: {"REGISTRATION REQUEST", "RegistrationRequest",
		func() codec { return new(RegistrationRequest) },
		[]field{{"NgksiAndRegistrationType5GS", 0, formatV, 1, 1}, fieldIdentity},
		[]field{
			{"UESecurityCapability", 0x2e, formatTLV, 2, 8},
			{"RequestedNSSAI", 0x2f, formatTLV, 2, 72},
			{"LastVisitedRegisteredTAI", 0x52, formatTV, 6, 6},
			fieldUplinkData, fieldStatus, fieldContainer,
		}},
	TypeRegistrationAccept: {"REGISTRATION ACCEPT", "RegistrationAccept",
		func() codec { return new(RegistrationAccept) },
		[]field{{"RegistrationResult5GS", 0, formatLV, 1, 1}},
		[]field{
			fieldGUTI,
			{"TAIList", 0x54, formatTLV, 7, 112},
			fieldAllowed,
			{"RejectedNSSAI", 0x11, formatTLV, 2, 40},
			fieldStatus,
			{"T3512Value", 0x5e, formatTLV, 1, 1},
			fieldT3502,
		}},
	TypeRegistrationComplete: {"REGISTRATION COMPLETE", "RegistrationComplete",
		func() codec { return new(RegistrationComplete) }, nil, nil},
	TypeRegistrationReject: {"REGISTRATION REJECT", "RegistrationReject",
		func() codec { return new(RegistrationReject) },
		[]field{fieldMMCause}, []field{fieldT3346, fieldT3502}},
	TypeDeregistrationRequestUE: {"DEREGISTRATION REQUEST (UE originating)",
		"DeregistrationRequestUEOriginatingDeregistration",
		func() codec { return new(DeregistrationRequest) },
		[]field{{"NgksiAndDeregistrationType", 0, formatV, 1, 1}, fieldIdentity}, nil},
	TypeDeregistrationAcceptUE: {"DEREGISTRATION ACCEPT (UE originating)",
		"DeregistrationAcceptUEOriginatingDeregistration",
		func() codec { return new(DeregistrationAccept) }, nil, nil},
	TypeDeregistrationRequestNet: {"DEREGISTRATION REQUEST (UE terminated)",
		"DeregistrationRequestUETerminatedDeregistration",
		func() codec { return &DeregistrationRequest{FromNetwork: true} },
		[]field{{"SpareHalfOctetAndDeregistrationType", 0, formatV, 1, 1}}, []field{fieldOptMMCause}},
	TypeDeregistrationAcceptNet: {"DEREGISTRATION ACCEPT (UE terminated)",
		"DeregistrationAcceptUETerminatedDeregistration",
		func() codec { return &DeregistrationAccept{ToNetwork: true} }, nil, nil},
	TypeServiceRequest: {"SERVICE REQUEST", "ServiceRequest",
		func() codec { return new(ServiceRequest) },
		[]field{{"ServiceTypeAndNgksi", 0, formatV, 1, 1}, {"TMSI5GS", 0, formatLVE, 7, 7}},
		[]field{fieldUplinkData, fieldStatus, fieldContainer}},
	TypeServiceReject: {"SERVICE REJECT", "ServiceReject",
		func() codec { return new(ServiceReject) }, []field{fieldMMCause}, []field{fieldStatus, fieldT3346}},
	TypeServiceAccept: {"SERVICE ACCEPT", "ServiceAccept",
		func() codec { return new(ServiceAccept) }, nil,
		[]field{fieldStatus, {"PDUSessionReactivationResult", 0x26, formatTLV, 2, 32}}},
	TypeConfigurationUpdateCommand: {"CONFIGURATION UPDATE COMMAND", "ConfigurationUpdateCommand",
		func() codec { return new(ConfigurationUpdateCommand) }, nil,
		[]field{
			{"ConfigurationUpdateIndication", 0xd, formatT1, 1, 1},
			fieldGUTI, fieldAllowed,
			{"", 0x46, formatTV, 1, 1}, // local time zone
			{"", 0x47, formatTV, 7, 7}, // universal time and local time zone
		}},
	TypeConfigurationUpdateComplete: {"CONFIGURATION UPDATE COMPLETE", "ConfigurationUpdateComplete",
		func() codec { return new(ConfigurationUpdateComplete) }, nil, nil},
	TypeAuthenticationRequest: {"AUTHENTICATION REQUEST", "AuthenticationRequest",
		func() codec { return new(AuthenticationRequest) },
		[]field{fieldNGKSI, {"ABBA", 0, formatLV, 2, 255}},
		[]field{
			{"AuthenticationParameterRAND", 0x21, formatTV, 16, 16},
			{"AuthenticationParameterAUTN", 0x20, formatTLV, 16, 16},
		}},
	TypeAuthenticationResponse: {"AUTHENTICATION RESPONSE", "AuthenticationResponse",
		func() codec { return new(AuthenticationResponse) }, nil,
		[]field{{"AuthenticationResponseParameter", 0x2d, formatTLV, 16, 16}}},
	TypeAuthenticationReject: {"AUTHENTICATION REJECT", "AuthenticationReject",
		func() codec { return new(AuthenticationReject) }, nil, nil},
	TypeAuthenticationFailure: {"AUTHENTICATION FAILURE", "AuthenticationFailure",
		func() codec { return new(AuthenticationFailure) }, []field{fieldMMCause},
		[]field{{"AuthenticationFailureParameter", 0x30, formatTLV, 14, 14}}},
	TypeIdentityRequest: {"IDENTITY REQUEST", "IdentityRequest",
		func() codec { return new(IdentityRequest) },
		[]field{{"SpareHalfOctetAndIdentityType", 0, formatV, 1, 1}}, nil},
	TypeIdentityResponse: {"IDENTITY RESPONSE", "IdentityResponse",
		func() codec { return new(IdentityResponse) },
		[]field{{"MobileIdentity", 0, formatLVE, 1, anyLength}}, nil},
	TypeSecurityModeCommand: {"SECURITY MODE COMMAND", "SecurityModeCommand",
		func() codec { return new(SecurityModeCommand) },
		[]field{
			{"SelectedNASSecurityAlgorithms", 0, formatV, 1, 1}, fieldNGKSI,
			{"ReplayedUESecurityCapabilities", 0, formatLV, 2, 8},
		},
		[]field{
			{"IMEISVRequest", 0xe, formatT1, 1, 1},
			{"", 0x57, formatTV, 1, 1}, // selected EPS NAS security algorithms
			{"Additional5GSecurityInformation", 0x36, formatTLV, 1, 1},
		}},
	TypeSecurityModeComplete: {"SECURITY MODE COMPLETE", "SecurityModeComplete",
		func() codec { return new(SecurityModeComplete) }, nil,
		[]field{{"IMEISV", 0x77, formatTLVE, 9, 9}, fieldContainer}},
	TypeSecurityModeReject: {"SECURITY MODE REJECT", "SecurityModeReject",
		func() codec { return new(SecurityModeReject) }, []field{fieldMMCause}, nil},
	TypeMMStatus: {"5GMM STATUS", "Status5GMM",
		func() codec { return new(MMStatus) }, []field{fieldMMCause}, nil},
	TypeULNASTransport: {"UL NAS TRANSPORT", "ULNASTransport",
		func() codec { return new(ULNASTransport) },
		[]field{fieldPayloadType, fieldPayload},
		[]field{
			fieldSessionID2,
			{"", 0x59, formatTV, 1, 1}, // old PDU session ID
			{"RequestType", 0x8, formatT1, 1, 1},
			fieldSNSSAI, fieldDNN,
		}},
	TypeDLNASTransport: {"DL NAS TRANSPORT", "DLNASTransport",
		func() codec { return new(DLNASTransport) },
		[]field{fieldPayloadType, fieldPayload},
		[]field{fieldSessionID2, fieldOptMMCause, fieldBackOff}},

	TypePDUSessionEstablishmentRequest: {"PDU SESSION ESTABLISHMENT REQUEST", "PDUSessionEstablishmentRequest",
		func() codec { return new(PDUSessionEstablishmentRequest) },
		[]field{{"IntegrityProtectionMaximumDataRate", 0, formatV, 2, 2}},
		[]field{
			{"PDUSessionType", 0x9, formatT1, 1, 1},
			{"SSCMode", 0xa, formatT1, 1, 1},
			fieldFilterNumber, fieldPCO,
		}},
	TypePDUSessionEstablishmentAccept: {"PDU SESSION ESTABLISHMENT ACCEPT", "PDUSessionEstablishmentAccept",
		func() codec { return new(PDUSessionEstablishmentAccept) },
		[]field{
			{"SelectedSSCModeAndSelectedPDUSessionType", 0, formatV, 1, 1},
			{"AuthorizedQosRules", 0, formatLVE, 4, anyLength},
			{"SessionAMBR", 0, formatLV, 6, 6},
		},
		[]field{
			fieldOptSMCause,
			{"PDUAddress", 0x29, formatTLV, 5, 13},
			fieldRQTimer, fieldSNSSAI,
			{"AuthorizedQosFlowDescriptions", 0x79, formatTLVE, 3, anyLength},
			fieldPCO, fieldDNN,
		}},
	TypePDUSessionEstablishmentReject: {"PDU SESSION ESTABLISHMENT REJECT", "PDUSessionEstablishmentReject",
		func() codec { return new(PDUSessionEstablishmentReject) },
		[]field{fieldSMCause}, []field{fieldBackOff}},
	TypePDUSessionModificationRequest: {"PDU SESSION MODIFICATION REQUEST", "PDUSessionModificationRequest",
		func() codec { return new(PDUSessionModificationRequest) }, nil,
		[]field{
			fieldOptSMCause, fieldFilterNumber,
			{"", 0x13, formatTV, 2, 2}, // integrity protection maximum data rate
		}},
	TypePDUSessionModificationReject: {"PDU SESSION MODIFICATION REJECT", "PDUSessionModificationReject",
		func() codec { return new(PDUSessionModificationReject) }, []field{fieldSMCause}, nil},
	TypePDUSessionModificationCommand: {"PDU SESSION MODIFICATION COMMAND", "PDUSessionModificationCommand",
		func() codec { return new(PDUSessionModificationCommand) }, nil,
		[]field{fieldOptSMCause, {"SessionAMBR", 0x2a, formatTLV, 6, 6}, fieldRQTimer}},
	TypePDUSessionModificationComplete: {"PDU SESSION MODIFICATION COMPLETE", "PDUSessionModificationComplete",
		func() codec { return new(PDUSessionModificationComplete) }, nil, nil},
	TypePDUSessionModificationCommandReject: {"PDU SESSION MODIFICATION COMMAND REJECT",
		"PDUSessionModificationCommandReject",
		func() codec { return new(PDUSessionModificationCommandReject) }, []field{fieldSMCause}, nil},
	TypePDUSessionReleaseRequest: {"PDU SESSION RELEASE REQUEST", "PDUSessionReleaseRequest",
		func() codec { return new(PDUSessionReleaseRequest) }, nil, []field{fieldOptSMCause}},
	TypePDUSessionReleaseReject: {"PDU SESSION RELEASE REJECT", "PDUSessionReleaseReject",
		func() codec { return new(PDUSessionReleaseReject) }, []field{fieldSMCause}, nil},
	TypePDUSessionReleaseCommand: {"PDU SESSION RELEASE COMMAND", "PDUSessionReleaseCommand",
		func() codec { return new(PDUSessionReleaseCommand) }, []field{fieldSMCause}, nil},
	TypePDUSessionReleaseComplete: {"PDU SESSION RELEASE COMPLETE", "PDUSessionReleaseComplete",
		func() codec { return new(PDUSessionReleaseComplete) }, nil, []field{fieldOptSMCause}},
	TypeSMStatus: {"5GSM STATUS", "Status5GSM",
		func() codec { return new(SMStatus) }, []field{fieldSMCause}, nil},
}
