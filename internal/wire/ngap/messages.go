// Package ngap turns NGAP messages (TS 38.413 Release 17) into our own types and
// back. It is the only importer of the NGAP and APER codec libraries. It keeps no
// state, does no I/O and starts no goroutine. No input makes it panic.
package ngap

import "github.com/simreach/simreach/internal/ident"

// Message is one NGAP PDU; its dynamic type is a pointer to one of the message
// structs of this package.
type Message interface {
	// Procedure is the procedure code (TS 38.413 clause 9.4.7).
	Procedure() ProcedureCode
}

// IsResponse reports whether m is the outcome of a procedure the receiver began.
// Errors in one are handled locally, never answered (TS 38.413 clauses 10.3 and
// 10.4).
func IsResponse(m Message) bool {
	c, ok := m.(codec)
	return ok && c.triggering() != initiatingMessage
}

// UEIDs is the pair of identifiers of a UE-associated logical NG-connection.
type UEIDs struct {
	AMF int64  // AMF UE NGAP ID, 0..2^40-1
	RAN uint32 // RAN UE NGAP ID
}

// SupportedTA is one entry of the supported TA list.
type SupportedTA struct {
	TAC       ident.TAC
	Broadcast []BroadcastPLMN
}

// BroadcastPLMN is a PLMN with the slices it supports.
type BroadcastPLMN struct {
	PLMN   ident.PLMN
	Slices []ident.SNSSAI
}

// NGSetupRequest is TS 38.413 clause 9.2.6.1.
type NGSetupRequest struct {
	GNB        ident.GNBID
	Name       string // up to 150 characters; empty leaves it out
	Supported  []SupportedTA
	DefaultDRX uint16 // paging DRX: 32, 64, 128 or 256; 0 stands for 128
}

// NGSetupResponse is TS 38.413 clause 9.2.6.2.
type NGSetupResponse struct {
	AMFName  string
	GUAMIs   []ident.GUAMI
	Capacity uint8 // relative AMF capacity
	PLMNs    []BroadcastPLMN
}

// NGSetupFailure is TS 38.413 clause 9.2.6.3.
type NGSetupFailure struct {
	Cause       Cause
	TimeToWait  uint8        // seconds: 1, 2, 5, 10, 20 or 60; 0 leaves it out
	Diagnostics *Diagnostics // nil leaves it out
}

// InitialUEMessage is TS 38.413 clause 9.2.5.1.
type InitialUEMessage struct {
	RAN                uint32
	NAS                []byte
	Location           ident.Location
	EstablishmentCause uint8 // RRC establishment cause, TS 38.413 clause 9.3.1.111: 3 mo-Signalling, 4 mo-Data
	STMSI              *ident.STMSI
	ContextRequested   bool
}

// DownlinkNASTransport is TS 38.413 clause 9.2.5.2.
type DownlinkNASTransport struct {
	IDs UEIDs
	NAS []byte
}

// UplinkNASTransport is TS 38.413 clause 9.2.5.3.
type UplinkNASTransport struct {
	IDs      UEIDs
	NAS      []byte
	Location ident.Location
}

// NASNonDeliveryIndication is TS 38.413 clause 9.2.5.4.
type NASNonDeliveryIndication struct {
	IDs   UEIDs
	NAS   []byte
	Cause Cause
}

// SessionSetup is one item of a PDU session resource setup list: NAS for the
// UE and the transfer for the gNB, opaque here (see the Transfer types).
type SessionSetup struct {
	ID       ident.PDUSessionID
	NAS      []byte // nil leaves it out
	SNSSAI   ident.SNSSAI
	Transfer []byte // SetupRequestTransfer
}

// SessionTransfer is one item of the many lists that pair a PDU session with a
// transfer IE.
type SessionTransfer struct {
	ID       ident.PDUSessionID
	Transfer []byte
}

// InitialContextSetupRequest is TS 38.413 clause 9.2.2.1.
type InitialContextSetupRequest struct {
	IDs          UEIDs
	AMBR         *ident.AMBR
	GUAMI        ident.GUAMI
	Sessions     []SessionSetup
	AllowedNSSAI []ident.SNSSAI
	EA, IA       uint8 // UE NR security algorithms; bit i says NEAi / NIAi, as in nas.SecurityCapability; bit 0 does not travel, Decode sets it
	SecurityKey  [32]byte
	NAS          []byte
}

// InitialContextSetupResponse is TS 38.413 clause 9.2.2.2.
type InitialContextSetupResponse struct {
	IDs      UEIDs
	Sessions []SessionTransfer // SetupResponseTransfer
	Failed   []SessionTransfer // UnsuccessfulTransfer
}

// InitialContextSetupFailure is TS 38.413 clause 9.2.2.3.
type InitialContextSetupFailure struct {
	IDs         UEIDs
	Cause       Cause
	Failed      []SessionTransfer
	Diagnostics *Diagnostics // nil leaves it out
}

// UEContextReleaseRequest is TS 38.413 clause 9.2.2.4 (sent by the gNB).
type UEContextReleaseRequest struct {
	IDs      UEIDs
	Sessions []ident.PDUSessionID
	Cause    Cause
}

// UEContextReleaseCommand is TS 38.413 clause 9.2.2.5.
type UEContextReleaseCommand struct {
	IDs    UEIDs
	HasRAN bool // false: only the AMF UE NGAP ID is known
	Cause  Cause
}

// UEContextReleaseComplete is TS 38.413 clause 9.2.2.6.
type UEContextReleaseComplete struct {
	IDs      UEIDs
	Sessions []ident.PDUSessionID
}

// PDUSessionResourceSetupRequest is TS 38.413 clause 9.2.1.1.
type PDUSessionResourceSetupRequest struct {
	IDs      UEIDs
	AMBR     *ident.AMBR
	Sessions []SessionSetup
}

// PDUSessionResourceSetupResponse is TS 38.413 clause 9.2.1.2.
type PDUSessionResourceSetupResponse struct {
	IDs      UEIDs
	Sessions []SessionTransfer // SetupResponseTransfer
	Failed   []SessionTransfer // UnsuccessfulTransfer
}

// PDUSessionResourceReleaseCommand is TS 38.413 clause 9.2.1.3.
type PDUSessionResourceReleaseCommand struct {
	IDs      UEIDs
	NAS      []byte
	Sessions []SessionTransfer // ReleaseCommandTransfer
}

// PDUSessionResourceReleaseResponse is TS 38.413 clause 9.2.1.4.
type PDUSessionResourceReleaseResponse struct {
	IDs      UEIDs
	Sessions []SessionTransfer // ReleaseResponseTransfer (may be empty octets of an empty sequence)
}

// PDUSessionResourceModifyRequest is TS 38.413 clause 9.2.1.5.
type PDUSessionResourceModifyRequest struct {
	IDs      UEIDs
	Sessions []SessionSetup // SNSSAI unused; Transfer is a ModifyRequestTransfer
}

// PDUSessionResourceModifyResponse is TS 38.413 clause 9.2.1.6.
type PDUSessionResourceModifyResponse struct {
	IDs      UEIDs
	Sessions []SessionTransfer // ModifyResponseTransfer
	Failed   []SessionTransfer // UnsuccessfulTransfer
}

// NGReset is TS 38.413 clause 9.2.6.11. An empty Connections means all.
type NGReset struct {
	Cause       Cause
	All         bool
	Connections []PartialIDs
}

// PartialIDs names a UE-associated connection by either or both identifiers.
type PartialIDs struct {
	AMF *int64
	RAN *uint32
}

// NGResetAcknowledge is TS 38.413 clause 9.2.6.12.
type NGResetAcknowledge struct{ Connections []PartialIDs }

// ErrorIndication is TS 38.413 clause 9.2.6.13.
type ErrorIndication struct {
	IDs         PartialIDs
	Cause       *Cause
	Diagnostics *Diagnostics
}

// Diagnostics is the part of Criticality Diagnostics that is used.
type Diagnostics struct {
	Procedure  ProcedureCode
	Triggering uint8 // 0 initiating message, 1 successful outcome, 2 unsuccessful outcome
	IEs        []IEDiagnostic
}

// IEDiagnostic names an IE that was missing or not understood.
type IEDiagnostic struct {
	ID          int64
	Missing     bool
	Criticality uint8 // 0 reject, 1 ignore, 2 notify: the one received, or specified if missing
}

// SetupRequestTransfer is TS 38.413 clause 9.3.4.1, from SMF to gNB.
type SetupRequestTransfer struct {
	AMBR   *ident.AMBR
	Uplink ident.FTEID // the UPF's N3 endpoint
	Type   ident.PDUSessionType
	Flows  []QoSFlow
}

// QoSFlow is a flow to set up: a non-dynamic 5QI with its ARP priority.
type QoSFlow struct {
	QFI         ident.QFI
	FiveQI      uint8
	ARPPriority uint8 // 1..15
}

// SetupResponseTransfer is TS 38.413 clause 9.3.4.2, from gNB to SMF.
type SetupResponseTransfer struct {
	Downlink ident.FTEID // the gNB's N3 endpoint
	Flows    []ident.QFI
}

// UnsuccessfulTransfer is TS 38.413 clauses 9.3.4.16 and 9.3.4.17.
type UnsuccessfulTransfer struct{ Cause Cause }

// ReleaseCommandTransfer is TS 38.413 clause 9.3.4.12.
type ReleaseCommandTransfer struct{ Cause Cause }

// ReleaseResponseTransfer is TS 38.413 clause 9.3.4.21; it is empty.
type ReleaseResponseTransfer struct{}

// ModifyRequestTransfer is TS 38.413 clause 9.3.4.3.
type ModifyRequestTransfer struct{ AMBR *ident.AMBR }

// ModifyResponseTransfer is TS 38.413 clause 9.3.4.4.
type ModifyResponseTransfer struct{}
