// Package nas turns 5GS NAS messages (TS 24.501 Release 17) into our own types
// and back, and applies NAS security (clause 4.4). It is the only importer of the
// NAS codec library. It keeps no state beyond a SecurityContext that its caller
// owns, does no I/O and starts no goroutine. No input makes it panic.
package nas

import (
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Message is one plain 5GMM or 5GSM message; its dynamic type is a pointer to one
// of the message structs of this package.
type Message interface {
	// Type is the message type octet (TS 24.501 clause 9.7).
	Type() MessageType
}

// MobileIdentity is the 5GS mobile identity IE (TS 24.501 clause 9.11.3.4).
// At most one of its fields is set; all nil means "no identity".
type MobileIdentity struct {
	SUCI  *SUCI
	GUTI  *ident.GUTI
	STMSI *ident.STMSI
	PEI   ident.PEI
}

// SUCI is a subscription concealed identifier of SUPI type IMSI (TS 23.003
// clause 2.2B). For the null scheme SchemeOutput holds the MSIN's digits as
// BCD, as on the wire; for ECIES it is ephemeral key, cipher text and MAC tag
// (TS 33.501 annex C.3).
type SUCI struct {
	PLMN             ident.PLMN
	RoutingIndicator string // 1 to 4 digits
	Scheme           uint8  // 0 null, 1 ECIES profile A, 2 profile B
	KeyID            uint8  // home network public key identifier; 0 for the null scheme
	SchemeOutput     []byte
}

// SecurityCapability is what the UE can do: bit i says NEAi / NIAi (i 0..7)
// (TS 24.501 clause 9.11.3.54). Bits are numbered from the left on the wire:
// EA&(1<<i) here means algorithm i.
type SecurityCapability struct {
	EA, IA uint8
	// More holds the octets that follow 5G-EA and 5G-IA (EPS algorithms, spare),
	// 0 to 6 of them, so that the network can replay the IE as it came.
	More string
}

// NGKSI is a NAS key set identifier: 0..6, NoKey when none is available; mapped
// contexts are not used.
type NGKSI uint8

// NoKey is the ngKSI value "no key is available".
const NoKey NGKSI = 7

// RegistrationType values (TS 24.501 clause 9.11.3.7).
const (
	RegistrationInitial   uint8 = 1
	RegistrationMobility  uint8 = 2
	RegistrationPeriodic  uint8 = 3
	RegistrationEmergency uint8 = 4
)

// RegistrationRequest is TS 24.501 clause 8.2.6.
type RegistrationRequest struct {
	RegistrationType uint8
	FollowOnRequest  bool
	NGKSI            NGKSI
	Identity         MobileIdentity
	Capability       *SecurityCapability // absent in cleartext form is allowed
	RequestedNSSAI   []ident.SNSSAI
	LastVisitedTAI   *ident.TAI
	PDUSessionStatus *SessionSet // nil when absent
	UplinkDataStatus *SessionSet
	NASContainer     []byte // complete message, ciphered by the current context (clause 4.4.6)
}

// SessionSet is a set of PDU session IDs: bit i stands for session i (1..15).
type SessionSet uint16

// RegistrationAccept is TS 24.501 clause 8.2.7.
type RegistrationAccept struct {
	GUTI             *ident.GUTI
	TAIList          []ident.TAI
	AllowedNSSAI     []ident.SNSSAI
	RejectedNSSAI    []ident.SNSSAI // cause "not available in the current PLMN"
	PDUSessionStatus *SessionSet
	// T3512 is the periodic registration timer; 0 leaves the IE out. A received value
	// of zero is TimerDeactivated, as clause 5.3.7 reads it.
	T3512 time.Duration
	T3502 time.Duration // 0 leaves the IE out
}

// RegistrationComplete is TS 24.501 clause 8.2.8.
type RegistrationComplete struct{}

// RegistrationReject is TS 24.501 clause 8.2.9.
type RegistrationReject struct {
	Cause MMCause
	T3346 time.Duration // back-off; 0 leaves the IE out
	T3502 time.Duration
}

// AuthenticationRequest is TS 24.501 clause 8.2.1 (5G AKA only).
type AuthenticationRequest struct {
	NGKSI NGKSI
	ABBA  []byte
	RAND  [16]byte
	AUTN  [16]byte
}

// AuthenticationResponse is TS 24.501 clause 8.2.2.
type AuthenticationResponse struct{ RESStar []byte } // 16 octets from a correct UE

// AuthenticationFailure is TS 24.501 clause 8.2.4. AUTS is set for cause
// synch failure only.
type AuthenticationFailure struct {
	Cause MMCause
	AUTS  []byte // 14 octets or nil
}

// AuthenticationReject is TS 24.501 clause 8.2.5.
type AuthenticationReject struct{}

// IdentityType values (TS 24.501 clause 9.11.3.3).
const (
	IdentitySUCI   uint8 = 1
	IdentityGUTI   uint8 = 2
	IdentityIMEI   uint8 = 3
	IdentityIMEISV uint8 = 5
)

// IdentityRequest is TS 24.501 clause 8.2.21.
type IdentityRequest struct{ IdentityType uint8 }

// IdentityResponse is TS 24.501 clause 8.2.22.
type IdentityResponse struct{ Identity MobileIdentity }

// SecurityModeCommand is TS 24.501 clause 8.2.25.
type SecurityModeCommand struct {
	Ciphering       uint8 // NEA 0..3
	Integrity       uint8 // NIA 0..3
	NGKSI           NGKSI
	Replayed        SecurityCapability
	IMEISVRequested bool
	Retransmit      bool // additional 5G security information: retransmission of initial NAS message
}

// SecurityModeComplete is TS 24.501 clause 8.2.26.
type SecurityModeComplete struct {
	PEI          ident.PEI // empty when absent
	NASContainer []byte    // the complete initial NAS message in plain form
}

// SecurityModeReject is TS 24.501 clause 8.2.27.
type SecurityModeReject struct{ Cause MMCause }

// DeregistrationRequest is TS 24.501 clauses 8.2.12 (UE originating) and 8.2.14
// (UE terminated).
type DeregistrationRequest struct {
	FromNetwork bool           // selects the message type
	SwitchOff   bool           // UE originating only
	Reregister  bool           // UE terminated only: re-registration required
	NGKSI       NGKSI          // UE originating only
	Identity    MobileIdentity // UE originating only
	Cause       MMCause        // UE terminated only; 0 leaves it out
}

// DeregistrationAccept is TS 24.501 clauses 8.2.13 and 8.2.15.
type DeregistrationAccept struct{ ToNetwork bool } // true: answers a UE-terminated request

// ServiceRequest is TS 24.501 clause 8.2.16.
type ServiceRequest struct {
	NGKSI            NGKSI
	ServiceType      uint8 // 0 signalling, 1 data, ...
	STMSI            ident.STMSI
	UplinkDataStatus *SessionSet
	PDUSessionStatus *SessionSet
	NASContainer     []byte
}

// ServiceAccept is TS 24.501 clause 8.2.17.
type ServiceAccept struct {
	PDUSessionStatus   *SessionSet
	ReactivationResult *SessionSet
}

// ServiceReject is TS 24.501 clause 8.2.18.
type ServiceReject struct {
	Cause            MMCause
	PDUSessionStatus *SessionSet
	T3346            time.Duration // back-off; 0 leaves the IE out
}

// ConfigurationUpdateCommand is TS 24.501 clause 8.2.19.
type ConfigurationUpdateCommand struct {
	AckRequested          bool
	RegistrationRequested bool
	GUTI                  *ident.GUTI
	AllowedNSSAI          []ident.SNSSAI
}

// ConfigurationUpdateComplete is TS 24.501 clause 8.2.20.
type ConfigurationUpdateComplete struct{}

// MMStatus is 5GMM STATUS, TS 24.501 clause 8.2.29.
type MMStatus struct{ Cause MMCause }

// Request types of UL NAS TRANSPORT (TS 24.501 clause 9.11.3.47).
const (
	RequestInitial      uint8 = 1
	RequestExisting     uint8 = 2
	RequestModification uint8 = 5
)

// PayloadN1SM is the payload container type "N1 SM information".
const PayloadN1SM uint8 = 1

// ULNASTransport is TS 24.501 clause 8.2.10.
type ULNASTransport struct {
	PayloadType  uint8
	Payload      []byte
	PDUSessionID ident.PDUSessionID // 0 leaves it out
	RequestType  uint8              // 0 leaves it out
	SNSSAI       *ident.SNSSAI
	DNN          ident.DNN // empty leaves it out
}

// DLNASTransport is TS 24.501 clause 8.2.11.
type DLNASTransport struct {
	PayloadType  uint8
	Payload      []byte
	PDUSessionID ident.PDUSessionID
	Cause        MMCause       // 0 leaves it out
	BackOff      time.Duration // 0 leaves it out
}

// SMHeader starts every 5GSM message (TS 24.501 clause 9.1.1).
type SMHeader struct {
	PDUSessionID ident.PDUSessionID
	PTI          ident.PTI
}

// PDUSessionEstablishmentRequest is TS 24.501 clause 8.3.1.
type PDUSessionEstablishmentRequest struct {
	SMHeader
	SessionType ident.PDUSessionType // 0 leaves it out
	SSCMode     uint8                // 1..3; 0 leaves it out
	PCO         *PCO                 // extended protocol configuration options
}

// PCO is the part of the protocol configuration options the testbed uses
// (TS 24.008 clause 10.5.6.3): requests when sent by the UE, values when sent by
// the network.
type PCO struct {
	RequestDNSv4 bool
	RequestDNSv6 bool
	RequestMTU   bool
	DNS          []netip.Addr
	MTU          uint16 // IPv4 link MTU; 0 absent
}

// QoSRule is one entry of the QoS rules IE (TS 24.501 clause 9.11.4.13). Only
// the match-all packet filter is used by the default rule.
type QoSRule struct {
	ID         uint8 // 1..255
	Default    bool
	Precedence uint8
	QFI        ident.QFI
}

// QoSFlow is one entry of the QoS flow descriptions IE (TS 24.501 clause 9.11.4.12).
type QoSFlow struct {
	QFI    ident.QFI
	FiveQI uint8
}

// PDUSessionEstablishmentAccept is TS 24.501 clause 8.3.2.
type PDUSessionEstablishmentAccept struct {
	SMHeader
	SessionType ident.PDUSessionType
	SSCMode     uint8
	Rules       []QoSRule
	AMBR        ident.AMBR
	Cause       SMCause         // 0 leaves it out (e.g. 50 "IPv4 only allowed")
	Address     ident.UEAddress // V6: the interface identifier travels, the prefix comes by router advertisement
	SNSSAI      *ident.SNSSAI
	DNN         ident.DNN
	Flows       []QoSFlow
	PCO         *PCO
}

// PDUSessionEstablishmentReject is TS 24.501 clause 8.3.3.
type PDUSessionEstablishmentReject struct {
	SMHeader
	Cause   SMCause
	BackOff time.Duration // T3396; 0 leaves it out
}

// PDUSessionModificationRequest is TS 24.501 clause 8.3.7.
type PDUSessionModificationRequest struct {
	SMHeader
	Cause SMCause // 0 leaves it out
}

// PDUSessionModificationReject is TS 24.501 clause 8.3.8.
type PDUSessionModificationReject struct {
	SMHeader
	Cause SMCause
}

// PDUSessionModificationCommand is TS 24.501 clause 8.3.9.
type PDUSessionModificationCommand struct {
	SMHeader
	Cause SMCause     // 0 leaves it out
	AMBR  *ident.AMBR // nil leaves it out
}

// PDUSessionModificationComplete is TS 24.501 clause 8.3.10.
type PDUSessionModificationComplete struct{ SMHeader }

// PDUSessionModificationCommandReject is TS 24.501 clause 8.3.11.
type PDUSessionModificationCommandReject struct {
	SMHeader
	Cause SMCause
}

// PDUSessionReleaseRequest is TS 24.501 clause 8.3.12.
type PDUSessionReleaseRequest struct {
	SMHeader
	Cause SMCause // 0 leaves it out
}

// PDUSessionReleaseReject is TS 24.501 clause 8.3.13.
type PDUSessionReleaseReject struct {
	SMHeader
	Cause SMCause
}

// PDUSessionReleaseCommand is TS 24.501 clause 8.3.14.
type PDUSessionReleaseCommand struct {
	SMHeader
	Cause SMCause
}

// PDUSessionReleaseComplete is TS 24.501 clause 8.3.15.
type PDUSessionReleaseComplete struct {
	SMHeader
	Cause SMCause // 0 leaves it out
}

// SMStatus is 5GSM STATUS, TS 24.501 clause 8.3.16.
type SMStatus struct {
	SMHeader
	Cause SMCause
}
