// Package sbi is what the network functions promise each other: the types and the
// small interfaces of the service-based interface, and for each service an HTTP/2
// client and handler with the 3GPP resource paths and JSON (Release 17). The same
// interface is satisfied by the network function itself (one process) and by the
// client (several processes).
//
// Server and EventsClient own the goroutines of this package and join them before
// Run returns; Client and Handler work on their callers', except that a Handler
// has one goroutine for each event subscription, until Close. There is no NRF:
// base URLs are configured. There is no TLS and no OAuth2.
package sbi

import (
	"context"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// NFID is an NF instance ID: a UUID in text form (TS 29.510 type NfInstanceId).
type NFID string

// Authentication is Nausf_UEAuthentication (TS 29.509 clause 5.2), 5G AKA only.
type Authentication interface {
	// Authenticate starts 5G AKA for a UE. It returns a Problem with cause
	// USER_NOT_FOUND (404), SERVING_NETWORK_NOT_AUTHORIZED (403) or
	// AUTHENTICATION_REJECTED (403).
	Authenticate(ctx context.Context, req AuthenticationRequest) (AuthenticationContext, error)
	// Confirm checks RES*. A wrong RES* is not an error: Success is false.
	Confirm(ctx context.Context, contextID string, resStar []byte) (Confirmation, error)
}

// AuthenticationRequest is the part of AuthenticationInfo used.
type AuthenticationRequest struct {
	// SUPIOrSUCI is "imsi-..." or "suci-0-<mcc>-<mnc>-<routing>-<scheme>-<key>-<output>"
	// (TS 29.509 type SupiOrSuci; TS 23.003 clause 28.7.3).
	SUPIOrSUCI         string
	ServingNetworkName string
	Resync             *Resync
}

// Resync carries the UE's AUTS with the RAND it answers (TS 33.102 clause 6.3.5).
type Resync struct {
	RAND [16]byte
	AUTS [14]byte
}

// AuthenticationContext is a 5G AKA challenge (TS 29.509 type Av5gAka).
type AuthenticationContext struct {
	ID        string
	RAND      [16]byte
	AUTN      [16]byte
	HXRESStar [16]byte
}

// Confirmation is the outcome of 5G AKA.
type Confirmation struct {
	Success bool
	SUPI    ident.SUPI
	KSEAF   [32]byte // set on success only; never logged
}

// SubscriberData is Nudm_SDM (TS 29.503 clause 5.2), plus change notification.
type SubscriberData interface {
	// AccessMobility returns the access and mobility subscription
	// (type AccessAndMobilitySubscriptionData). Unknown SUPI: Problem
	// USER_NOT_FOUND.
	AccessMobility(ctx context.Context, supi ident.SUPI) (AccessMobilityData, error)
	// SessionManagement returns the session subscription for one slice and DNN
	// (type SessionManagementSubscriptionData). A DNN that is not subscribed:
	// Problem DNN_NOT_ALLOWED (403); a slice: SNSSAI_NOT_ALLOWED (403).
	SessionManagement(ctx context.Context, supi ident.SUPI, s ident.SNSSAI, dnn ident.DNN) (SessionData, error)
}

// AccessMobilityData is what the AMF needs of a subscription.
type AccessMobilityData struct {
	AMBR          ident.AMBR // subscribed UE-AMBR
	DefaultSlices []ident.SNSSAI
	Slices        []ident.SNSSAI // all subscribed: the defaults first
}

// SessionData is one DNN configuration.
type SessionData struct {
	Types       []ident.PDUSessionType // the first is the default
	AMBR        ident.AMBR             // session AMBR
	FiveQI      uint8
	ARPPriority uint8
	Static      ident.UEAddress // a static address of the SUPI; zero when none
	UEGroup     string          // selects UPFs; empty when none (internal group, TS 29.503 internalGroupIds)
}

// UEContext is Nudm_UECM (TS 29.503 clause 5.3).
type UEContext interface {
	RegisterAMF(ctx context.Context, supi ident.SUPI, r AMFRegistration) error
	DeregisterAMF(ctx context.Context, supi ident.SUPI, amf NFID) error
	RegisterSMF(ctx context.Context, supi ident.SUPI, r SMFRegistration) error
	DeregisterSMF(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error
}

// AMFRegistration is the part of Amf3GppAccessRegistration used.
type AMFRegistration struct {
	AMF   NFID
	GUAMI ident.GUAMI
	PEI   ident.PEI
	// Callback is where Deregister goes (deregCallbackUri): set by Handler, see
	// CallbackBase; empty in process. Client puts its own CallbackURL there.
	Callback string
}

// SMFRegistration is the part of SmfRegistration used.
type SMFRegistration struct {
	SMF     NFID
	Session ident.PDUSessionID
	SNSSAI  ident.SNSSAI
	DNN     ident.DNN
	PLMN    ident.PLMN
}

// Sessions is Nsmf_PDUSession (TS 29.502 clause 5.2), as the AMF uses it. N1 is
// a plain 5GSM message, N2 a transfer of TS 38.413 clause 9.3.4.
type Sessions interface {
	// CreateSMContext starts a PDU session. The SMF answers at once and sends the
	// 5GSM accept or reject with its N2 part by N1N2Transfer.
	// A Problem with an N1 message (reject) is returned as *SessionRefusal.
	CreateSMContext(ctx context.Context, req CreateSMContext) (SMContextRef, error)
	// UpdateSMContext delivers N1 or N2 from the UE or gNB, or a user-plane state
	// change. An unknown ref: Problem CONTEXT_NOT_FOUND (404).
	UpdateSMContext(ctx context.Context, ref SMContextRef, req UpdateSMContext) (UpdatedSMContext, error)
	// ReleaseSMContext ends the session without any further N1 or N2 exchange.
	ReleaseSMContext(ctx context.Context, ref SMContextRef, cause ReleaseCause) error
}

// SMContextRef names an SM context in its SMF; the AMF treats it as opaque.
type SMContextRef string

// CreateSMContext is the part of SmContextCreateData used.
type CreateSMContext struct {
	SUPI     ident.SUPI
	PEI      ident.PEI
	Session  ident.PDUSessionID
	DNN      ident.DNN    // the UE's, or the AMF's default
	SNSSAI   ident.SNSSAI // the UE's, or the AMF's default
	AMF      NFID
	GUAMI    ident.GUAMI
	Location ident.Location
	N1       []byte // PDU SESSION ESTABLISHMENT REQUEST
}

// UpdateSMContext is the part of SmContextUpdateData used. Exactly one of N1, N2
// and UPState is set.
type UpdateSMContext struct {
	N1       []byte
	N2       []byte
	N2Type   N2Type
	UPState  UPState
	Location *ident.Location
}

// UpdatedSMContext is the part of SmContextUpdatedData used: what the AMF must
// send on.
type UpdatedSMContext struct {
	N1      []byte
	N2      []byte
	N2Type  N2Type
	UPState UPState
}

// UPState is the state of the session's user-plane connection (TS 29.502 type
// UpCnxState). Empty means unchanged.
type UPState string

// User-plane states.
const (
	UPActivated   UPState = "ACTIVATED"
	UPDeactivated UPState = "DEACTIVATED"
	UPActivating  UPState = "ACTIVATING"
)

// N2Type says which transfer an N2 payload is (TS 29.502 type N2SmInfoType).
type N2Type string

// N2 payload types.
const (
	N2SetupRequest    N2Type = "PDU_RES_SETUP_REQ"
	N2SetupResponse   N2Type = "PDU_RES_SETUP_RSP"
	N2SetupFail       N2Type = "PDU_RES_SETUP_FAIL"
	N2ReleaseCommand  N2Type = "PDU_RES_REL_CMD"
	N2ReleaseResponse N2Type = "PDU_RES_REL_RSP"
	N2ModifyRequest   N2Type = "PDU_RES_MOD_REQ"
	N2ModifyResponse  N2Type = "PDU_RES_MOD_RSP"
	N2ModifyFail      N2Type = "PDU_RES_MOD_FAIL"
)

// ReleaseCause is TS 29.502 type Cause, the values used.
type ReleaseCause string

// Release causes.
const (
	ReleaseDeregistration ReleaseCause = "REL_DUE_TO_UE_NOT_REGISTERED" // UE deregistered or was lost
	ReleaseDuplicate      ReleaseCause = "REL_DUE_TO_DUPLICATE_SESSION_ID"
	ReleaseStatusMismatch ReleaseCause = "REL_DUE_TO_PS_STATUS_MISMATCH"
)

// Communication is the part of Namf_Communication (TS 29.518 clause 5.2.2.3) that
// the SMF uses, with the SM context status notification of TS 29.502 clause
// 5.2.2.5 going the same way.
type Communication interface {
	// N1N2Transfer delivers N1 and N2 to the UE and its gNB. A UE without N2
	// connection: Problem UE_IN_CM_IDLE_STATE... (409); unknown: CONTEXT_NOT_FOUND.
	N1N2Transfer(ctx context.Context, supi ident.SUPI, m N1N2Message) error
	// SMContextReleased tells the AMF that the SMF let a session go. ref says which: the
	// UE may have established another under the same identity meanwhile. Empty stands for
	// whichever there is.
	SMContextReleased(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID, ref SMContextRef) error
	// Deregister is network-initiated deregistration (Nudm_UECM_DeregistrationNotification,
	// TS 29.503 clause 5.3.2.3): the AMF deregisters the UE for the reason given, with the
	// cause or the wish for re-registration that follows from it. An unknown UE: Problem
	// CONTEXT_NOT_FOUND (404).
	Deregister(ctx context.Context, supi ident.SUPI, reason DeregistrationReason) error
}

// DeregistrationReason is TS 29.503 type DeregistrationReason (clause 6.2.6.3.3), the
// values used.
type DeregistrationReason string

// Reasons for deregistration.
const (
	// SubscriptionWithdrawn: the UE is told 5GMM cause #7 and does not come back.
	SubscriptionWithdrawn DeregistrationReason = "SUBSCRIPTION_WITHDRAWN"
	// ReregistrationRequired: the UE is asked to register again.
	ReregistrationRequired DeregistrationReason = "REREGISTRATION_REQUIRED"
)

// N1N2Message is the part of N1N2MessageTransferReqData used. N1 and N2 may each
// be nil, not both.
type N1N2Message struct {
	Session ident.PDUSessionID
	N1      []byte
	N2      []byte
	N2Type  N2Type
	SNSSAI  ident.SNSSAI
}

// SessionEvents is Nsmf_EventExposure (TS 29.508 clause 4).
type SessionEvents interface {
	// Subscribe delivers events to notify until the returned cancel is called or
	// the SMF ends. With ImmediateReport the sessions that exist are reported
	// first, each as a PDU_SES_EST event. notify is called from one goroutine, in
	// order, and must not block for long.
	Subscribe(ctx context.Context, s EventSubscription, notify func(SessionEvent)) (cancel func(), err error)
}

// EventSubscription is the part of NsmfEventExposure used: any UE, the events of
// this package.
type EventSubscription struct {
	ImmediateReport bool
	// Reported, if not nil, is called once when the last immediate report has been
	// notified, from the goroutine that calls notify. An implementation calls it
	// for ImmediateReport also when there was no session to report.
	Reported func()
}

// EventType is TS 29.508 type SmfEvent.
type EventType string

// Session events.
const (
	SessionEstablished EventType = "PDU_SES_EST"
	SessionReleased    EventType = "PDU_SES_REL"
	AddressChanged     EventType = "UE_IP_CH"
)

// SessionEvent is the part of TS 29.508 type EventNotification used. UPF names
// the user plane function that anchors the session (carried as the N6 network
// instance, upfInfo, in JSON).
type SessionEvent struct {
	Type    EventType
	SUPI    ident.SUPI
	Session ident.PDUSessionID
	DNN     ident.DNN
	SNSSAI  ident.SNSSAI
	Address ident.UEAddress
	UPF     string
	At      time.Time
}

// SessionControl is what an operator asks of the SMF: the network-requested
// procedures of TS 23.502 clauses 4.3.3 and 4.3.4, reached by operation and
// maintenance rather than by a 3GPP service.
type SessionControl interface {
	// SetAMBR changes the session AMBR (PDU session modification).
	SetAMBR(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID, ambr ident.AMBR) error
	// Release starts the network-requested release (5GSM cause #36, regular deactivation).
	Release(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error
	// Recreate starts the network-requested release with 5GSM cause #39, reactivation
	// requested: the UE establishes the session again by itself (TS 24.501 clause 6.3.3.3).
	Recreate(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error
	// SessionsOf returns the PDU sessions of a SUPI, ordered by session ID; none is no
	// error. An empty supi returns the sessions of all, ordered by SUPI first.
	SessionsOf(ctx context.Context, supi ident.SUPI) ([]SessionInfo, error)
}

// SessionInfo is what SessionControl shows of a PDU session.
type SessionInfo struct {
	SUPI     ident.SUPI
	PEI      ident.PEI // empty when the UE did not tell
	Session  ident.PDUSessionID
	DNN      ident.DNN
	SNSSAI   ident.SNSSAI
	Address  ident.UEAddress // zero before one is assigned
	UPF      string          // empty before one is chosen
	AMBR     ident.AMBR      // session AMBR, bit/s
	Location ident.Location  // last known
	State    string          // "establishing", "active", "modifying" or "releasing"
	Created  time.Time
	Used     UsedUnits // since Created, as far as the UPF has reported
}
