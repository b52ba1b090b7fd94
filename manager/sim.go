package manager

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// SIMStatus is where a SIM stands in its life. Clients know the words.
type SIMStatus string

// Statuses. A SIM becomes active by itself when it first has a session; suspended and
// inactive refuse sessions; terminated is final. Shipped is a SIM that nobody has
// registered yet; sessions are refused.
const (
	SIMShipped    SIMStatus = "shipped"
	SIMReady      SIMStatus = "ready"
	SIMActive     SIMStatus = "active"
	SIMInactive   SIMStatus = "inactive"
	SIMStandby    SIMStatus = "standby"
	SIMSuspended  SIMStatus = "suspended"
	SIMTerminated SIMStatus = "terminated"
)

// simStatuses are all of them, in the order in which summaries show them.
var simStatuses = []SIMStatus{SIMShipped, SIMReady, SIMActive, SIMInactive, SIMStandby, SIMSuspended, SIMTerminated}

// Valid reports whether s is one of the statuses.
func (s SIMStatus) Valid() bool { return slices.Contains(simStatuses, s) }

// Barred reports whether the core refuses a SIM of this status.
func (s SIMStatus) Barred() bool {
	switch s {
	case SIMShipped, SIMInactive, SIMSuspended, SIMTerminated:
		return true
	}
	return false
}

// transitions is the whole status machine for operators: from each status, where a
// request may lead. Asking for the status that a SIM has is no change and allowed.
// What the core does is Attached.
var transitions = map[SIMStatus][]SIMStatus{
	SIMShipped:    {},
	SIMReady:      {SIMActive, SIMInactive, SIMStandby, SIMSuspended, SIMTerminated},
	SIMActive:     {SIMInactive, SIMStandby, SIMSuspended, SIMTerminated},
	SIMInactive:   {SIMActive, SIMStandby, SIMSuspended, SIMTerminated},
	SIMStandby:    {SIMActive, SIMInactive, SIMSuspended, SIMTerminated},
	SIMSuspended:  {SIMActive, SIMInactive, SIMStandby, SIMTerminated},
	SIMTerminated: {},
}

// to returns the status after a request for `want`, or CodeSIMStatus.
func (s SIMStatus) to(want SIMStatus) (SIMStatus, error) {
	if s == want && s != SIMShipped && s != SIMTerminated || slices.Contains(transitions[s], want) {
		return want, nil
	}
	return s, NewError(CodeSIMStatus, string(s))
}

// Attached returns the status after the device got a session: ready and standby become
// active.
func (s SIMStatus) Attached() SIMStatus {
	if s == SIMReady || s == SIMStandby {
		return SIMActive
	}
	return s
}

// ExpiryAction is what happens when a SIM's expiry time has come.
type ExpiryAction string

// Expiry actions. The empty one does nothing, as ExpireNothing.
const (
	ExpireNothing       ExpiryAction = "doNothing"
	ExpireDeleteSession ExpiryAction = "deleteSession"
	ExpireDeactivate    ExpiryAction = "deactivate"
	ExpireSuspend       ExpiryAction = "suspend"
	ExpireTerminate     ExpiryAction = "terminate"
)

// Valid reports whether a is one of the actions or empty.
func (a ExpiryAction) Valid() bool {
	switch a {
	case "", ExpireNothing, ExpireDeleteSession, ExpireDeactivate, ExpireSuspend, ExpireTerminate:
		return true
	}
	return false
}

// IMEILock ties a SIM to a device.
type IMEILock struct {
	IMEI      string `json:"imei"`                // 15 digits, or 16 of an IMEISV
	Anonymous bool   `json:"anonymous,omitempty"` // a device that does not tell its IMEI is tolerated
}

// String is the form of the API: the IMEI, with "|ANONYMOUS" where that applies.
func (l IMEILock) String() string {
	if l.Anonymous {
		return l.IMEI + anonymousSuffix
	}
	return l.IMEI
}

const anonymousSuffix = "|ANONYMOUS"

// ParseIMEILock reads String's form; the suffix may be in any case. Errors:
// CodeBadIMEI.
func ParseIMEILock(text string) (IMEILock, error) {
	l := IMEILock{IMEI: text}
	if n := len(text) - len(anonymousSuffix); n >= 0 && strings.EqualFold(text[n:], anonymousSuffix) {
		l = IMEILock{IMEI: text[:n], Anonymous: true}
	}
	if n := len(l.IMEI); n != 15 && n != 16 || strings.Trim(l.IMEI, "0123456789") != "" {
		return IMEILock{}, NewError(CodeBadIMEI)
	}
	return l, nil
}

// pei is the lock's device as the core names it (TS 29.571 clause 5.3.2).
func (l IMEILock) pei() ident.PEI {
	if len(l.IMEI) == 16 {
		return ident.PEI("imeisv-" + l.IMEI)
	}
	return ident.PEI("imei-" + l.IMEI)
}

// imeiOf returns a PEI's digits; "" for none.
func imeiOf(p ident.PEI) string {
	_, digits, _ := strings.Cut(string(p), "-")
	return digits
}

// SIM is a SIM card with its one subscription, which clients also see as a
// "subscriber". Times have millisecond precision, UTC; the zero time is "never".
type SIM struct {
	IMSI       ident.IMSI        `json:"imsi"`
	SIMID      string            `json:"simId,omitempty"` // empty: known by IMSI only
	OperatorID OperatorID        `json:"operatorId,omitempty"`
	Status     SIMStatus         `json:"status"`
	SpeedClass SpeedClass        `json:"speedClass"`
	GroupID    GroupID           `json:"groupId,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"` // "name" is the display name

	MSISDN       string   `json:"msisdn,omitempty"`
	ICCID        string   `json:"iccid,omitempty"`
	SerialNumber string   `json:"serialNumber,omitempty"`
	Subscription string   `json:"subscription,omitempty"`
	ModuleType   string   `json:"moduleType,omitempty"`
	Bundles      []string `json:"bundles,omitempty"`
	// SecretHash is the SHA-256 of what registers a shipped SIM, or did, in hexadecimal.
	SecretHash string `json:"secretHash,omitempty"`

	Lock               *IMEILock    `json:"lock,omitempty"`
	ExpiryTime         time.Time    `json:"expiryTime,omitzero"`
	ExpiryAction       ExpiryAction `json:"expiryAction,omitempty"`
	Expired            bool         `json:"expired,omitempty"` // the action has been taken
	TerminationEnabled bool         `json:"terminationEnabled,omitempty"`

	Created    time.Time `json:"created"`
	Modified   time.Time `json:"modified"`
	Registered time.Time `json:"registered,omitzero"`
	PortMapped time.Time `json:"portMapped,omitzero"` // when an entry was last made for it

	// Session is the latest of the sessions that exist, as charging reported it; nil
	// without one. Previous is the one that ended last.
	Session  *SessionStatus `json:"session,omitempty"`
	Previous *SessionStatus `json:"previous,omitempty"`
	// BaseAMBR is the session AMBR that the core gave before a speed class limited it.
	BaseAMBR ident.AMBR `json:"baseAmbr,omitzero"`
	// BaseOf is the ID of the session that BaseAMBR was seen in, or was given back to.
	BaseOf string `json:"baseOf,omitempty"`

	// Version grows with every change that the core must learn; Dirty is whether it
	// has yet to learn one.
	Version int64 `json:"-"`
	Dirty   bool  `json:"-"`
}

// Name returns the tag "name".
func (s SIM) Name() string { return s.Tags["name"] }

// CoreDiffers reports whether the core must do something other for s than for o.
func (s SIM) CoreDiffers(o SIM) bool {
	same := s.Lock == nil && o.Lock == nil || s.Lock != nil && o.Lock != nil && *s.Lock == *o.Lock
	return !same || s.Status.Barred() != o.Status.Barred() || s.SpeedClass != o.SpeedClass
}

// Supervised reports whether the core has something to keep for this SIM that it
// would not have by itself after a restart.
func (s SIM) Supervised() bool {
	return s.Status.Barred() || s.Lock != nil || s.SpeedClass != DefaultSpeedClass
}

// Clone returns a copy whose changes do not reach s. Sessions are shared: they are
// replaced, never changed.
func (s SIM) Clone() SIM {
	s.Tags, s.Bundles = maps.Clone(s.Tags), slices.Clone(s.Bundles)
	if s.Lock != nil {
		l := *s.Lock
		s.Lock = &l
	}
	return s
}

// SessionStatus describes a PDU session of a device.
type SessionStatus struct {
	ID       string             `json:"id"` // ours: a ULID, also the charging reference
	Session  ident.PDUSessionID `json:"session"`
	DNN      ident.DNN          `json:"dnn"`
	UPF      string             `json:"upf,omitempty"`
	Address  ident.UEAddress    `json:"address"`
	PEI      ident.PEI          `json:"pei,omitempty"`
	Location ident.Location     `json:"location"`
	AMBR     ident.AMBR         `json:"ambr"`
	Created  time.Time          `json:"created"`
	Updated  time.Time          `json:"updated"`
	Deleted  time.Time          `json:"deleted,omitzero"`
}

// IMEI returns the device's IMEI or IMEISV; empty when it did not tell.
func (s SessionStatus) IMEI() string { return imeiOf(s.PEI) }

// Reach returns the address at which the device is reached; invalid without one.
func (s SessionStatus) Reach() netip.Addr { return s.Address.Reach().Unmap() }

// SessionEventKind is what happened to a session, as clients know it.
type SessionEventKind string

// Kinds of session events.
const (
	SessionCreated  SessionEventKind = "Created"
	SessionModified SessionEventKind = "Modified"
	SessionDeleted  SessionEventKind = "Deleted"
)

// SessionRecord is one event of a device's sessions. They are kept for 32 days.
type SessionRecord struct {
	ID         string // a ULID, in the order of events
	IMSI       ident.IMSI
	SIMID      string
	OperatorID OperatorID
	At         time.Time
	Kind       SessionEventKind
	Session    SessionStatus
}

// StatusRecord is one change of a SIM's status.
type StatusRecord struct {
	ID     string // a ULID
	IMSI   ident.IMSI
	At     time.Time
	Status SIMStatus
}

// SIMResult is a SIM with what is known of it at this moment.
type SIMResult struct {
	SIM
	// Attached is where the directory has the device now; invalid Address: nowhere.
	Attached Attachment
}

// Online reports whether the device has a session.
func (r SIMResult) Online() bool { return r.Attached.Address.IsValid() || r.Session != nil }
