// Package pfcp turns PFCP messages (TS 29.244 Release 17) into our own types and
// back. It is the only importer of the PFCP codec library. It keeps no state, does
// no I/O and starts no goroutine. No input makes it panic.
package pfcp

import (
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Header is the PFCP message header (TS 29.244 clause 7.2.2). SEID is that of the
// receiver and only travels on session messages.
type Header struct {
	Type     MessageType
	SEID     ident.SEID
	HasSEID  bool
	Sequence uint32 // 24 bits
}

// Message is one PFCP message body; its dynamic type is a pointer to one of the
// message structs of this package.
type Message interface {
	Type() MessageType
}

// NodeID is an IP address or an FQDN (TS 29.244 clause 8.2.38).
type NodeID struct {
	Addr netip.Addr
	FQDN string
}

// HeartbeatRequest is TS 29.244 clause 7.4.2.1.
type HeartbeatRequest struct{ Recovery time.Time }

// HeartbeatResponse is TS 29.244 clause 7.4.2.2.
type HeartbeatResponse struct{ Recovery time.Time }

// AssociationSetupRequest is TS 29.244 clause 7.4.4.1.
type AssociationSetupRequest struct {
	Node     NodeID
	Recovery time.Time
	FTUP     bool // UP function feature: the UPF allocates F-TEIDs; set by a UPF only
}

// AssociationSetupResponse is TS 29.244 clause 7.4.4.2.
type AssociationSetupResponse struct {
	Node     NodeID
	Cause    Cause
	Recovery time.Time
	FTUP     bool // as in AssociationSetupRequest
}

// AssociationReleaseRequest is TS 29.244 clause 7.4.4.5.
type AssociationReleaseRequest struct{ Node NodeID }

// AssociationReleaseResponse is TS 29.244 clause 7.4.4.6.
type AssociationReleaseResponse struct {
	Node  NodeID
	Cause Cause
}

// FSEID is an endpoint of a PFCP session (TS 29.244 clause 8.2.37).
type FSEID struct {
	SEID ident.SEID
	Addr netip.Addr
}

// Interface is a source or destination interface value.
type Interface uint8

// Interfaces (TS 29.244 clauses 8.2.2 and 8.2.24).
const (
	Access Interface = 0
	Core   Interface = 1
)

// SessionEstablishmentRequest is TS 29.244 clause 7.5.2.
type SessionEstablishmentRequest struct {
	Node  NodeID
	FSEID FSEID // the SMF's
	Rules Rules
}

// Rules is a set of rules to create or to update. An update changes what it names and
// leaves the rest of the rule as it is (TS 29.244 clause 5.6.3): in the rules below,
// nil and zero mean "not named" there, unless a field says otherwise.
type Rules struct {
	PDRs []PDR
	FARs []FAR
	QERs []QER
	URRs []URR
}

// PDR is a packet detection rule. In an update a PDI replaces the whole PDI, and
// QERs and URRs replace the whole list: an empty one that is not nil detaches all.
type PDR struct {
	ID         uint16
	Precedence uint32
	PDI        PDI
	// RemoveOuterHeader removes GTP-U/UDP/IP (outer header removal 0 or 6).
	RemoveOuterHeader bool
	FAR               uint32
	QERs              []uint32
	URRs              []uint32
}

// PDI is packet detection information.
type PDI struct {
	Source          Interface
	NetworkInstance string       // the DNN for N6, "" for none
	FTEID           *ident.FTEID // local tunnel endpoint, for Source Access
	// ChooseTEID is the CH flag: the UPF allocates the F-TEID, an IPv4 one when
	// FTEID is nil, one of the family of FTEID.Addr otherwise.
	ChooseTEID bool
	UEAddress  *ident.UEAddress
	UEIsSource bool // S/D flag of the UE IP address IE: true for uplink
	QFI        *ident.QFI
}

// FAR is a forwarding action rule.
type FAR struct {
	ID      uint32
	Action  Action      // never 0 in a FAR to create
	Forward *Forwarding // nil leaves forwarding parameters out
}

// Action is the apply action flags (TS 29.244 clause 8.2.26).
type Action uint8

// Actions.
const (
	ActionDrop    Action = 1
	ActionForward Action = 2
	ActionBuffer  Action = 4
	ActionNotify  Action = 8
)

// Forwarding is (update) forwarding parameters.
type Forwarding struct {
	Destination     *Interface // never nil in a FAR to create
	NetworkInstance string
	Outer           *ident.FTEID // outer header creation GTP-U/UDP/IP
	SendEndMarker   bool         // PFCPSMReq flag SNDEM, in modifications
}

// QER is a QoS enforcement rule.
type QER struct {
	ID  uint32
	QFI ident.QFI // 0 leaves it out
	// MBR in bit/s; a zero rate is unlimited. Nil in a QER to create is unlimited
	// both ways.
	MBR   *ident.AMBR
	Gates *GateStatus // nil in a QER to create is both open
}

// GateStatus says which directions are closed; the zero value is both open.
type GateStatus struct{ UplinkClosed, DownlinkClosed bool }

// URR is a usage reporting rule measuring volume and, optionally, duration.
type URR struct {
	ID              uint32
	Volume          bool
	Duration        bool
	Period          time.Duration // periodic reporting; 0 none
	VolumeThreshold uint64        // bytes in both directions; 0 none
}

// UsageReport is what a URR measured since its last report.
type UsageReport struct {
	URR                            uint32
	Sequence                       uint32
	Trigger                        UsageTrigger
	Start, End                     time.Time
	UplinkBytes, DownlinkBytes     uint64
	UplinkPackets, DownlinkPackets uint64
}

// UsageTrigger says why a report was made.
type UsageTrigger uint8

// Usage report triggers (TS 29.244 clause 8.2.41).
const (
	TriggerPeriod      UsageTrigger = 1
	TriggerVolume      UsageTrigger = 2
	TriggerTermination UsageTrigger = 3
	TriggerImmediate   UsageTrigger = 4
)

// CreatedPDR carries the F-TEID that the UPF chose.
type CreatedPDR struct {
	ID    uint16
	FTEID ident.FTEID
}

// SessionEstablishmentResponse is TS 29.244 clause 7.5.3.
type SessionEstablishmentResponse struct {
	Node        NodeID
	Cause       Cause
	OffendingIE uint16 // 0 leaves it out
	FSEID       *FSEID // the UPF's
	Created     []CreatedPDR
}

// SessionModificationRequest is TS 29.244 clause 7.5.4.
type SessionModificationRequest struct {
	FSEID     *FSEID // nil leaves it out
	Create    Rules
	Update    Rules
	Remove    RuleIDs
	QueryURRs []uint32
}

// RuleIDs names rules to remove.
type RuleIDs struct {
	PDRs []uint16
	FARs []uint32
	QERs []uint32
	URRs []uint32
}

// SessionModificationResponse is TS 29.244 clause 7.5.5.
type SessionModificationResponse struct {
	Cause       Cause
	OffendingIE uint16
	Created     []CreatedPDR
	Usage       []UsageReport
}

// SessionDeletionRequest is TS 29.244 clause 7.5.6.
type SessionDeletionRequest struct{}

// SessionDeletionResponse is TS 29.244 clause 7.5.7.
type SessionDeletionResponse struct {
	Cause       Cause
	OffendingIE uint16
	Usage       []UsageReport
}

// SessionReportRequest is TS 29.244 clause 7.5.8: usage, error indication from a
// peer, or downlink data for a buffered session.
type SessionReportRequest struct {
	Usage           []UsageReport
	ErrorIndication *ident.FTEID // remote F-TEID that answered with Error Indication
	DownlinkData    uint16       // PDR that got a packet while buffering; 0 none
}

// SessionReportResponse is TS 29.244 clause 7.5.9.
type SessionReportResponse struct {
	Cause       Cause
	OffendingIE uint16
}

// VersionNotSupported is TS 29.244 clause 7.4.7 (header only).
type VersionNotSupported struct{}
