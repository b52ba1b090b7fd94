package ngap

// IE identifiers (TS 38.413 clause 9.4.7).
const (
	idAllowedNSSAI               int64 = 0
	idAMFName                    int64 = 1
	idAMFSetID                   int64 = 3
	idAMFUENGAPID                int64 = 10
	idCause                      int64 = 15
	idCoreNetworkAssistance      int64 = 18
	idCriticalityDiagnostics     int64 = 19
	idDefaultPagingDRX           int64 = 21
	idEmergencyFallback          int64 = 24
	idFiveGSTMSI                 int64 = 26
	idGlobalRANNodeID            int64 = 27
	idGUAMI                      int64 = 28
	idIndexToRFSP                int64 = 31
	idInfoOnRecommendedCells     int64 = 32
	idMaskedIMEISV               int64 = 34
	idMobilityRestrictionList    int64 = 36
	idNASPDU                     int64 = 38
	idOldAMF                     int64 = 48
	idFailedToModifyListModRes   int64 = 54
	idFailedToSetupListCxtRes    int64 = 55
	idFailedToSetupListSURes     int64 = 58
	idListCxtRelCpl              int64 = 60
	idModifyListModReq           int64 = 64
	idModifyListModRes           int64 = 65
	idReleasedListRelRes         int64 = 70
	idSetupListCxtReq            int64 = 71
	idSetupListCxtRes            int64 = 72
	idSetupListSUReq             int64 = 74
	idSetupListSURes             int64 = 75
	idToReleaseListRelCmd        int64 = 79
	idPLMNSupportList            int64 = 80
	idRANNodeName                int64 = 82
	idRANPagingPriority          int64 = 83
	idRANUENGAPID                int64 = 85
	idRelativeAMFCapacity        int64 = 86
	idResetType                  int64 = 88
	idRRCEstablishmentCause      int64 = 90
	idRRCInactiveReport          int64 = 91
	idSecurityKey                int64 = 94
	idServedGUAMIList            int64 = 96
	idSupportedTAList            int64 = 102
	idTimeToWait                 int64 = 107
	idTraceActivation            int64 = 108
	idUEAMBR                     int64 = 110
	idConnectionList             int64 = 111
	idUEContextRequest           int64 = 112
	idUENGAPIDs                  int64 = 114
	idUERadioCapability          int64 = 117
	idUERadioCapabilityForPaging int64 = 118
	idUESecurityCapabilities     int64 = 119
	idUserLocation               int64 = 121
	idAdditionalUL               int64 = 126
	idDataForwardingNotPossible  int64 = 127
	idNetworkInstance            int64 = 129
	idSessionAMBR                int64 = 130
	idFailedToSetupListCxtFail   int64 = 132
	idListCxtRelReq              int64 = 133
	idPDUSessionType             int64 = 134
	idFlowAddOrModifyList        int64 = 135
	idFlowSetupList              int64 = 136
	idFlowToReleaseList          int64 = 137
	idSecurityIndication         int64 = 138
	idULTunnel                   int64 = 139
	idULTunnelModifyList         int64 = 140
	idRedirectionVoiceFallback   int64 = 146
	idUERetention                int64 = 147
	idCommonNetworkInstance      int64 = 166
	idSelectedPLMN               int64 = 174
)

// ieSpec is one line of a message's ASN.1 definition.
type ieSpec struct {
	id        int64
	crit      criticality
	mandatory bool
}

func must(id int64, c criticality) ieSpec { return ieSpec{id, c, true} }
func may(id int64, c criticality) ieSpec  { return ieSpec{id, c, false} }

// pduKey names a message: a procedure and which of its messages it is.
type pduKey struct {
	procedure  ProcedureCode
	triggering uint8
}

// pduSpec is the ASN.1 definition of a message. Its IEs are in the order that the
// definition gives them, which is the one on the wire.
type pduSpec struct {
	name string
	crit criticality
	new  func() codec
	ies  []ieSpec
}

// pduSpecs lists the messages of the testbed (TS 38.413 clauses 9.4.3 and 9.4.4).
// IEs that are listed but not used by us are stepped over; those of later
// releases and other accesses that are not listed are unknown to us.
var pduSpecs = map[pduKey]pduSpec{
	{ProcNGSetup, initiatingMessage}: {
		name: "NG SETUP REQUEST", crit: reject, new: func() codec { return new(NGSetupRequest) },
		ies: []ieSpec{
			must(idGlobalRANNodeID, reject),
			may(idRANNodeName, ignore),
			must(idSupportedTAList, reject),
			must(idDefaultPagingDRX, ignore),
			may(idUERetention, ignore),
		},
	},
	{ProcNGSetup, successfulOutcome}: {
		name: "NG SETUP RESPONSE", crit: reject, new: func() codec { return new(NGSetupResponse) },
		ies: []ieSpec{
			must(idAMFName, reject),
			must(idServedGUAMIList, reject),
			must(idRelativeAMFCapacity, ignore),
			must(idPLMNSupportList, reject),
			may(idCriticalityDiagnostics, ignore),
			may(idUERetention, ignore),
		},
	},
	{ProcNGSetup, unsuccessfulOutcome}: {
		name: "NG SETUP FAILURE", crit: reject, new: func() codec { return new(NGSetupFailure) },
		ies: []ieSpec{
			must(idCause, ignore),
			may(idTimeToWait, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcInitialUEMessage, initiatingMessage}: {
		name: "INITIAL UE MESSAGE", crit: ignore, new: func() codec { return new(InitialUEMessage) },
		ies: []ieSpec{
			must(idRANUENGAPID, reject),
			must(idNASPDU, reject),
			must(idUserLocation, reject),
			must(idRRCEstablishmentCause, ignore),
			may(idFiveGSTMSI, reject),
			may(idAMFSetID, ignore),
			may(idUEContextRequest, ignore),
			may(idAllowedNSSAI, reject),
			may(idSelectedPLMN, ignore),
		},
	},
	{ProcDownlinkNASTransport, initiatingMessage}: {
		name: "DOWNLINK NAS TRANSPORT", crit: ignore, new: func() codec { return new(DownlinkNASTransport) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			may(idOldAMF, reject),
			may(idRANPagingPriority, ignore),
			must(idNASPDU, reject),
			may(idMobilityRestrictionList, ignore),
			may(idIndexToRFSP, ignore),
			may(idUEAMBR, ignore),
			may(idAllowedNSSAI, reject),
		},
	},
	{ProcUplinkNASTransport, initiatingMessage}: {
		name: "UPLINK NAS TRANSPORT", crit: ignore, new: func() codec { return new(UplinkNASTransport) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			must(idNASPDU, reject),
			must(idUserLocation, ignore),
		},
	},
	{ProcNASNonDeliveryIndication, initiatingMessage}: {
		name: "NAS NON DELIVERY INDICATION", crit: ignore, new: func() codec { return new(NASNonDeliveryIndication) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			must(idNASPDU, ignore),
			must(idCause, ignore),
		},
	},
	{ProcInitialContextSetup, initiatingMessage}: {
		name: "INITIAL CONTEXT SETUP REQUEST", crit: reject, new: func() codec { return new(InitialContextSetupRequest) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			may(idOldAMF, reject),
			may(idUEAMBR, reject),
			may(idCoreNetworkAssistance, ignore),
			must(idGUAMI, reject),
			may(idSetupListCxtReq, reject),
			must(idAllowedNSSAI, reject),
			must(idUESecurityCapabilities, reject),
			must(idSecurityKey, reject),
			may(idTraceActivation, ignore),
			may(idMobilityRestrictionList, ignore),
			may(idUERadioCapability, ignore),
			may(idIndexToRFSP, ignore),
			may(idMaskedIMEISV, ignore),
			may(idNASPDU, ignore),
			may(idEmergencyFallback, reject),
			may(idRRCInactiveReport, ignore),
			may(idUERadioCapabilityForPaging, ignore),
			may(idRedirectionVoiceFallback, ignore),
		},
	},
	{ProcInitialContextSetup, successfulOutcome}: {
		name: "INITIAL CONTEXT SETUP RESPONSE", crit: reject, new: func() codec { return new(InitialContextSetupResponse) },
		ies: []ieSpec{
			must(idAMFUENGAPID, ignore),
			must(idRANUENGAPID, ignore),
			may(idSetupListCxtRes, ignore),
			may(idFailedToSetupListCxtRes, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcInitialContextSetup, unsuccessfulOutcome}: {
		name: "INITIAL CONTEXT SETUP FAILURE", crit: reject, new: func() codec { return new(InitialContextSetupFailure) },
		ies: []ieSpec{
			must(idAMFUENGAPID, ignore),
			must(idRANUENGAPID, ignore),
			may(idFailedToSetupListCxtFail, ignore),
			must(idCause, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcUEContextReleaseRequest, initiatingMessage}: {
		name: "UE CONTEXT RELEASE REQUEST", crit: ignore, new: func() codec { return new(UEContextReleaseRequest) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			may(idListCxtRelReq, reject),
			must(idCause, ignore),
		},
	},
	{ProcUEContextRelease, initiatingMessage}: {
		name: "UE CONTEXT RELEASE COMMAND", crit: reject, new: func() codec { return new(UEContextReleaseCommand) },
		ies: []ieSpec{
			must(idUENGAPIDs, reject),
			must(idCause, ignore),
		},
	},
	{ProcUEContextRelease, successfulOutcome}: {
		name: "UE CONTEXT RELEASE COMPLETE", crit: reject, new: func() codec { return new(UEContextReleaseComplete) },
		ies: []ieSpec{
			must(idAMFUENGAPID, ignore),
			must(idRANUENGAPID, ignore),
			may(idUserLocation, ignore),
			may(idInfoOnRecommendedCells, ignore),
			may(idListCxtRelCpl, reject),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcPDUSessionResourceSetup, initiatingMessage}: {
		name: "PDU SESSION RESOURCE SETUP REQUEST", crit: reject, new: func() codec { return new(PDUSessionResourceSetupRequest) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			may(idRANPagingPriority, ignore),
			may(idNASPDU, reject),
			must(idSetupListSUReq, reject),
			may(idUEAMBR, ignore),
		},
	},
	{ProcPDUSessionResourceSetup, successfulOutcome}: {
		name: "PDU SESSION RESOURCE SETUP RESPONSE", crit: reject, new: func() codec { return new(PDUSessionResourceSetupResponse) },
		ies: []ieSpec{
			must(idAMFUENGAPID, ignore),
			must(idRANUENGAPID, ignore),
			may(idSetupListSURes, ignore),
			may(idFailedToSetupListSURes, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcPDUSessionResourceRelease, initiatingMessage}: {
		name: "PDU SESSION RESOURCE RELEASE COMMAND", crit: reject, new: func() codec { return new(PDUSessionResourceReleaseCommand) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			may(idRANPagingPriority, ignore),
			may(idNASPDU, ignore),
			must(idToReleaseListRelCmd, reject),
		},
	},
	{ProcPDUSessionResourceRelease, successfulOutcome}: {
		name: "PDU SESSION RESOURCE RELEASE RESPONSE", crit: reject, new: func() codec { return new(PDUSessionResourceReleaseResponse) },
		ies: []ieSpec{
			must(idAMFUENGAPID, ignore),
			must(idRANUENGAPID, ignore),
			must(idReleasedListRelRes, ignore),
			may(idUserLocation, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcPDUSessionResourceModify, initiatingMessage}: {
		name: "PDU SESSION RESOURCE MODIFY REQUEST", crit: reject, new: func() codec { return new(PDUSessionResourceModifyRequest) },
		ies: []ieSpec{
			must(idAMFUENGAPID, reject),
			must(idRANUENGAPID, reject),
			may(idRANPagingPriority, ignore),
			must(idModifyListModReq, reject),
		},
	},
	{ProcPDUSessionResourceModify, successfulOutcome}: {
		name: "PDU SESSION RESOURCE MODIFY RESPONSE", crit: reject, new: func() codec { return new(PDUSessionResourceModifyResponse) },
		ies: []ieSpec{
			must(idAMFUENGAPID, ignore),
			must(idRANUENGAPID, ignore),
			may(idModifyListModRes, ignore),
			may(idFailedToModifyListModRes, ignore),
			may(idUserLocation, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcNGReset, initiatingMessage}: {
		name: "NG RESET", crit: reject, new: func() codec { return new(NGReset) },
		ies: []ieSpec{
			must(idCause, ignore),
			must(idResetType, reject),
		},
	},
	{ProcNGReset, successfulOutcome}: {
		name: "NG RESET ACKNOWLEDGE", crit: reject, new: func() codec { return new(NGResetAcknowledge) },
		ies: []ieSpec{
			may(idConnectionList, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
	{ProcErrorIndication, initiatingMessage}: {
		name: "ERROR INDICATION", crit: ignore, new: func() codec { return new(ErrorIndication) },
		ies: []ieSpec{
			may(idAMFUENGAPID, ignore),
			may(idRANUENGAPID, ignore),
			may(idCause, ignore),
			may(idCriticalityDiagnostics, ignore),
		},
	},
}

// Transfers that are containers of IEs (TS 38.413 clause 9.4.5).
var (
	setupRequestTransferIEs = []ieSpec{
		may(idSessionAMBR, reject),
		must(idULTunnel, reject),
		may(idAdditionalUL, reject),
		may(idDataForwardingNotPossible, reject),
		must(idPDUSessionType, reject),
		may(idSecurityIndication, reject),
		may(idNetworkInstance, reject),
		must(idFlowSetupList, reject),
		may(idCommonNetworkInstance, ignore),
	}
	modifyRequestTransferIEs = []ieSpec{
		may(idSessionAMBR, reject),
		may(idULTunnelModifyList, reject),
		may(idNetworkInstance, reject),
		may(idFlowAddOrModifyList, reject),
		may(idFlowToReleaseList, reject),
		may(idAdditionalUL, reject),
		may(idCommonNetworkInstance, ignore),
	}
)
