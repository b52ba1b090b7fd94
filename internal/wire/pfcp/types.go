package pfcp

// MessageType is a PFCP message type (TS 29.244 table 7.3-1).
type MessageType uint8

// Message types.
const (
	TypeHeartbeatRequest             MessageType = 1
	TypeHeartbeatResponse            MessageType = 2
	TypeAssociationSetupRequest      MessageType = 5
	TypeAssociationSetupResponse     MessageType = 6
	TypeAssociationReleaseRequest    MessageType = 9
	TypeAssociationReleaseResponse   MessageType = 10
	TypeVersionNotSupported          MessageType = 11
	TypeSessionEstablishmentRequest  MessageType = 50
	TypeSessionEstablishmentResponse MessageType = 51
	TypeSessionModificationRequest   MessageType = 52
	TypeSessionModificationResponse  MessageType = 53
	TypeSessionDeletionRequest       MessageType = 54
	TypeSessionDeletionResponse      MessageType = 55
	TypeSessionReportRequest         MessageType = 56
	TypeSessionReportResponse        MessageType = 57
)

// Cause is a PFCP cause (TS 29.244 table 8.2.1-1). It is not an error: see the
// error types of the packages that send or receive it.
type Cause uint8

// Causes.
const (
	CauseAccepted             Cause = 1
	CauseRejected             Cause = 64
	CauseSessionNotFound      Cause = 65
	CauseMandatoryIEMissing   Cause = 66
	CauseConditionalIEMissing Cause = 67
	CauseInvalidLength        Cause = 68
	CauseMandatoryIEIncorrect Cause = 69
	CauseNoAssociation        Cause = 72
	CauseRuleCreationFailure  Cause = 73
	CauseNoResources          Cause = 75
	CauseServiceNotSupported  Cause = 76
	CauseSystemFailure        Cause = 77
)
