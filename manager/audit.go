package manager

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// AuditType is the kind of an audit record (N7).
type AuditType string

// Types. An entry has CREATED and then DELETED or EXPIRED. A connection has ACCESS,
// then exactly one of CONNECTED, DENIED and REFUSED, then CLOSED, all with one
// connection ID.
const (
	AuditCreated   AuditType = "CREATED"
	AuditDeleted   AuditType = "DELETED"
	AuditExpired   AuditType = "EXPIRED"
	AuditAccess    AuditType = "ACCESS"    // a client reached the relay
	AuditConnected AuditType = "CONNECTED" // the device was reached
	AuditDenied    AuditType = "DENIED"    // a condition was not met, or the device could not be reached
	AuditRefused   AuditType = "REFUSED"   // too many accesses in a short time, or at one time
	AuditClosed    AuditType = "CLOSED"    // the connection is over
)

// AuditRecord is one line of the audit log. Its maker gives it an ID, and the store
// keeps one record for each ID however often it is handed in.
type AuditRecord struct {
	ID           string // ULID
	Type         AuditType
	At           time.Time // millisecond precision, UTC
	OperatorID   OperatorID
	EntryID      EntryID
	ConnectionID string     // empty for the life of an entry
	IMSI         ident.IMSI // empty while the device of an entry for several is not known
	SIMID        string
	RelayID      RelayID
	Source       netip.AddrPort // the client; zero for the life of an entry
	Destination  netip.AddrPort // the device; zero while it is not known
	DevicePort   uint16
	TLS          bool
	Cause        Cause  // why denied, refused or closed; empty for the other types
	Up, Down     uint64 // bytes from and to the client, on CLOSED
}

// AuditQuery selects records of one operator, newest first.
type AuditQuery struct {
	OperatorID OperatorID
	IMSI       ident.IMSI // empty: any
	From, To   time.Time  // From inclusive, To exclusive; zero: unbounded
	Before     string     // only records before this one, by (At, ID) of AuditKey; empty: from the newest
	Limit      int        // at most this many; 0: all
	Failures   bool       // only those whose Cause is a failure: the error log (N9)
}

// AuditKey is the place of a record in the audit log, for AuditQuery.Before.
func AuditKey(r AuditRecord) string { return strconv.FormatInt(r.At.UnixMilli(), 10) + "." + r.ID }

// ParseAuditKey takes a key of AuditKey apart. CodeBadPageKey.
func ParseAuditKey(key string) (at time.Time, id string, err error) {
	text, id, ok := strings.Cut(key, ".")
	ms, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || id == "" || len(id) > 64 {
		return time.Time{}, "", NewError(CodeBadPageKey)
	}
	return time.UnixMilli(ms).UTC(), id, nil
}

// AuditStore is the part of Store about the audit log.
type AuditStore interface {
	// AddAudit keeps records, once for each ID.
	AddAudit(ctx context.Context, records []AuditRecord) error
	// Audit lists records. CodeBadPageKey.
	Audit(ctx context.Context, q AuditQuery) ([]AuditRecord, error)
	// PurgeAudit removes an operator's records from before a time, the oldest first, at
	// most limit of them, and returns how many.
	PurgeAudit(ctx context.Context, op OperatorID, before time.Time, limit int) (int, error)
	// AuditOperators lists the operators that have records.
	AuditOperators(ctx context.Context) ([]OperatorID, error)
	// EntryOwner returns whose an entry is and on which relay, also of one that has
	// ended while its CREATED record is kept. ErrNotFound.
	EntryOwner(ctx context.Context, id EntryID) (OperatorID, RelayID, error)
	// AddAuditExport counts bytes of records that an operator has read in a month
	// ("YYYYMM"), and AuditExport returns how many there were.
	AddAuditExport(ctx context.Context, op OperatorID, month string, bytes int64) error
	AuditExport(ctx context.Context, op OperatorID, month string) (int64, error)
}

// ContractStore is the part of Store about what operators have subscribed to.
type ContractStore interface {
	// Contracts lists the names of an operator's contracts in ascending order.
	Contracts(ctx context.Context, op OperatorID) ([]string, error)
	// AddContract adds one unless it is there.
	AddContract(ctx context.Context, op OperatorID, name string, at time.Time) error
	// DeleteContract ends one. ErrNotFound.
	DeleteContract(ctx context.Context, op OperatorID, name string) error
}
