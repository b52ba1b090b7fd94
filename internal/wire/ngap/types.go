package ngap

// ProcedureCode is an NGAP elementary procedure (TS 38.413 clause 9.4.7).
type ProcedureCode uint8

// Procedure codes.
const (
	ProcDownlinkNASTransport      ProcedureCode = 4
	ProcErrorIndication           ProcedureCode = 9
	ProcInitialContextSetup       ProcedureCode = 14
	ProcInitialUEMessage          ProcedureCode = 15
	ProcNASNonDeliveryIndication  ProcedureCode = 19
	ProcNGReset                   ProcedureCode = 20
	ProcNGSetup                   ProcedureCode = 21
	ProcPDUSessionResourceModify  ProcedureCode = 26
	ProcPDUSessionResourceRelease ProcedureCode = 28
	ProcPDUSessionResourceSetup   ProcedureCode = 29
	ProcUEContextRelease          ProcedureCode = 41
	ProcUEContextReleaseRequest   ProcedureCode = 42
	ProcUplinkNASTransport        ProcedureCode = 46
)

// CauseGroup is a choice of the Cause IE (TS 38.413 clause 9.3.1.2).
type CauseGroup uint8

// Cause groups.
const (
	CauseRadioNetwork CauseGroup = 1
	CauseTransport    CauseGroup = 2
	CauseNAS          CauseGroup = 3
	CauseProtocol     CauseGroup = 4
	CauseMisc         CauseGroup = 5
)

// Cause is an NGAP cause: its group in the high octet and the enumeration value
// within the group in the low one (TS 38.413 clauses 9.3.1.2 and 9.4.5). It is
// not an error: see the error types of the packages that send or receive it.
type Cause uint16

// NewCause joins a group and a value.
func NewCause(g CauseGroup, value uint8) Cause { return Cause(g)<<8 | Cause(value) }

// Group returns the cause's choice.
func (c Cause) Group() CauseGroup { return CauseGroup(c >> 8) }

// Value returns the enumeration value within the group.
func (c Cause) Value() uint8 { return uint8(c) }

// Causes used by the testbed.
const (
	RadioUnspecified             = Cause(CauseRadioNetwork) << 8
	RadioReleaseNGRANReason      = Cause(CauseRadioNetwork)<<8 | 3
	RadioRelease5GCReason        = Cause(CauseRadioNetwork)<<8 | 4
	RadioUnknownLocalUENGAPID    = Cause(CauseRadioNetwork)<<8 | 14
	RadioInconsistentRemoteID    = Cause(CauseRadioNetwork)<<8 | 15
	RadioUserInactivity          = Cause(CauseRadioNetwork)<<8 | 20
	RadioConnectionWithUELost    = Cause(CauseRadioNetwork)<<8 | 21
	RadioResourcesNotAvailable   = Cause(CauseRadioNetwork)<<8 | 22
	RadioUnknownPDUSessionID     = Cause(CauseRadioNetwork)<<8 | 26
	RadioMultipleSessionIDs      = Cause(CauseRadioNetwork)<<8 | 28
	TransportResourceUnavailable = Cause(CauseTransport) << 8
	NASNormalRelease             = Cause(CauseNAS) << 8
	NASAuthenticationFailure     = Cause(CauseNAS)<<8 | 1
	NASDeregister                = Cause(CauseNAS)<<8 | 2
	NASUnspecified               = Cause(CauseNAS)<<8 | 3
	ProtocolTransferSyntax       = Cause(CauseProtocol) << 8
	ProtocolAbstractReject       = Cause(CauseProtocol)<<8 | 1
	ProtocolAbstractIgnoreNotify = Cause(CauseProtocol)<<8 | 2
	ProtocolNotCompatibleState   = Cause(CauseProtocol)<<8 | 3
	ProtocolSemantic             = Cause(CauseProtocol)<<8 | 4
	ProtocolFalselyConstructed   = Cause(CauseProtocol)<<8 | 5
	MiscControlOverload          = Cause(CauseMisc) << 8
	MiscOMIntervention           = Cause(CauseMisc)<<8 | 3
	MiscUnknownPLMN              = Cause(CauseMisc)<<8 | 4
	MiscUnspecified              = Cause(CauseMisc)<<8 | 5
)
