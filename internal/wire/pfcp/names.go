package pfcp

import "strconv"

// Type implements Message.
func (*HeartbeatRequest) Type() MessageType             { return TypeHeartbeatRequest }
func (*HeartbeatResponse) Type() MessageType            { return TypeHeartbeatResponse }
func (*AssociationSetupRequest) Type() MessageType      { return TypeAssociationSetupRequest }
func (*AssociationSetupResponse) Type() MessageType     { return TypeAssociationSetupResponse }
func (*AssociationReleaseRequest) Type() MessageType    { return TypeAssociationReleaseRequest }
func (*AssociationReleaseResponse) Type() MessageType   { return TypeAssociationReleaseResponse }
func (*VersionNotSupported) Type() MessageType          { return TypeVersionNotSupported }
func (*SessionEstablishmentRequest) Type() MessageType  { return TypeSessionEstablishmentRequest }
func (*SessionEstablishmentResponse) Type() MessageType { return TypeSessionEstablishmentResponse }
func (*SessionModificationRequest) Type() MessageType   { return TypeSessionModificationRequest }
func (*SessionModificationResponse) Type() MessageType  { return TypeSessionModificationResponse }
func (*SessionDeletionRequest) Type() MessageType       { return TypeSessionDeletionRequest }
func (*SessionDeletionResponse) Type() MessageType      { return TypeSessionDeletionResponse }
func (*SessionReportRequest) Type() MessageType         { return TypeSessionReportRequest }
func (*SessionReportResponse) Type() MessageType        { return TypeSessionReportResponse }

// typeInfo is what the header and the transaction layer need to know of a type.
type typeInfo struct {
	name     string
	response MessageType // of a request; 0 for a response
	session  bool        // carries a SEID
}

var types = map[MessageType]typeInfo{
	TypeHeartbeatRequest:             {"Heartbeat Request", TypeHeartbeatResponse, false},
	TypeHeartbeatResponse:            {"Heartbeat Response", 0, false},
	TypeAssociationSetupRequest:      {"Association Setup Request", TypeAssociationSetupResponse, false},
	TypeAssociationSetupResponse:     {"Association Setup Response", 0, false},
	TypeAssociationReleaseRequest:    {"Association Release Request", TypeAssociationReleaseResponse, false},
	TypeAssociationReleaseResponse:   {"Association Release Response", 0, false},
	TypeVersionNotSupported:          {"Version Not Supported Response", 0, false},
	TypeSessionEstablishmentRequest:  {"Session Establishment Request", TypeSessionEstablishmentResponse, true},
	TypeSessionEstablishmentResponse: {"Session Establishment Response", 0, true},
	TypeSessionModificationRequest:   {"Session Modification Request", TypeSessionModificationResponse, true},
	TypeSessionModificationResponse:  {"Session Modification Response", 0, true},
	TypeSessionDeletionRequest:       {"Session Deletion Request", TypeSessionDeletionResponse, true},
	TypeSessionDeletionResponse:      {"Session Deletion Response", 0, true},
	TypeSessionReportRequest:         {"Session Report Request", TypeSessionReportResponse, true},
	TypeSessionReportResponse:        {"Session Report Response", 0, true},
}

// Response returns the type that answers t, and false when t is not a request.
func (t MessageType) Response() (MessageType, bool) {
	r := types[t].response
	return r, r != 0
}

// Session reports whether messages of type t belong to a PFCP session and so
// carry a SEID.
func (t MessageType) Session() bool { return types[t].session }

// String returns the name of TS 29.244 table 7.3-1.
func (t MessageType) String() string {
	if i, ok := types[t]; ok {
		return i.name
	}
	return "message type " + strconv.Itoa(int(t))
}

var causes = map[Cause]string{
	CauseAccepted:             "request accepted",
	CauseRejected:             "request rejected",
	CauseSessionNotFound:      "session context not found",
	CauseMandatoryIEMissing:   "mandatory IE missing",
	CauseConditionalIEMissing: "conditional IE missing",
	CauseInvalidLength:        "invalid length",
	CauseMandatoryIEIncorrect: "mandatory IE incorrect",
	CauseNoAssociation:        "no established PFCP association",
	CauseRuleCreationFailure:  "rule creation/modification failure",
	CauseNoResources:          "no resources available",
	CauseServiceNotSupported:  "service not supported",
	CauseSystemFailure:        "system failure",
}

// String returns the name of TS 29.244 table 8.2.1-1.
func (c Cause) String() string {
	if s, ok := causes[c]; ok {
		return s
	}
	return "cause " + strconv.Itoa(int(c))
}
