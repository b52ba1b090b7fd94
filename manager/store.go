package manager

import (
	"context"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Store keeps what must survive a restart. All methods may be called from any
// goroutine; each is one transaction, durable when it returns. Times have millisecond
// precision. Errors that are not named are faults of the engine.
//
// Several managers may share one store: Watch tells each what the others changed.
type Store interface {
	EntryStore
	KeyStore
	CredentialStore
	AuditStore
	ContractStore
	AttachmentStore
	AccountStore
	SIMStore

	// Watch calls f with every change from now on, one at a time, until ctx ends; then
	// it returns nil. The first is a ChangeResync; a ChangeLost, when it cannot be told
	// what changes, is followed by another. f may use the store.
	Watch(ctx context.Context, f func(Change)) error
	// Notify tells all managers on the store of changes that no other method tells.
	Notify(ctx context.Context, changes ...Change) error
	// Shared reports whether several managers may use the store at one time.
	Shared() bool
}

// EntryStore is the part of Store about entries.
type EntryStore interface {
	// CreateEntry adds e, and its CREATED record to the audit log. ErrAddressTaken:
	// another entry has e.Address, or it is in quarantine at e.Created.
	// ChangeEntryCreated follows.
	CreateEntry(ctx context.Context, e Entry) error
	// EntryByAddress returns the entry at an address, expired or not. ErrNotFound.
	EntryByAddress(ctx context.Context, a netip.AddrPort) (Entry, error)
	// Entries lists what q selects, leaving out what has expired at now.
	Entries(ctx context.Context, q EntryQuery, now time.Time) ([]Entry, error)
	// AllEntries lists the entries of all operators that have not expired at now, in no
	// order.
	AllEntries(ctx context.Context, now time.Time) ([]Entry, error)
	// RelayEntries lists the entries of an outer relay that have not expired at now, in no
	// order.
	RelayEntries(ctx context.Context, relay RelayID, now time.Time) ([]Entry, error)
	// DeleteEntry removes an entry, with a DELETED record, and keeps its address in
	// quarantine until `until`. ErrNotFound. ChangeEntryDeleted follows.
	DeleteEntry(ctx context.Context, id EntryID, until time.Time) error
	// DeleteExpired removes up to limit entries that have expired at now, with EXPIRED
	// records, keeps their addresses in quarantine until `until`, and returns them. A
	// ChangeEntryDeleted follows for each.
	DeleteExpired(ctx context.Context, now, until time.Time, limit int) ([]Entry, error)
	// PurgeQuarantine forgets the quarantine of up to limit addresses whose time was over
	// at now, and returns how many.
	PurgeQuarantine(ctx context.Context, now time.Time, limit int) (int, error)
	// NextExpiry returns when the next entry expires; the zero time if there is
	// no entry.
	NextExpiry(ctx context.Context) (time.Time, error)
	// CountEntries returns how many entries there are, of all operators.
	CountEntries(ctx context.Context) (int, error)
	// TakenPorts returns the ports of a relay address that are in use or in
	// quarantine at now, in ascending order.
	TakenPorts(ctx context.Context, a netip.Addr, now time.Time) ([]uint16, error)
}

// KeyStore is the part of Store about signing keys.
type KeyStore interface {
	// SigningKeys returns the manager's signing keys, newest first.
	SigningKeys(ctx context.Context) ([]SigningKey, error)
	// AddSigningKey adds a key unless there is one already, and returns the
	// newest: of several managers that start at once on one store, all sign with
	// the same key.
	AddSigningKey(ctx context.Context, k SigningKey) (SigningKey, error)
}

// SigningKey is an Ed25519 private key of the manager, for tickets and tokens.
type SigningKey struct {
	ID      string
	Seed    []byte // 32 bytes; secret
	Created time.Time
}

// Directory knows where devices are attached now (R12, R22). It is asked for
// every connection and its answers are not kept.
type Directory interface {
	// Lookup returns where a device is attached. ErrNotAttached.
	Lookup(ctx context.Context, imsi ident.IMSI) (Attachment, error)
	// Size returns how many devices are attached.
	Size() int
	// Changed returns a channel that is closed when an answer of Lookup may next
	// be another one.
	Changed() <-chan struct{}
}

// Departures is what a Directory is, too, if devices can leave it.
type Departures interface {
	// Departed has f called for every device that leaves a place: its session ended, or
	// has another address now. Lookup does not answer with that place any more. f must
	// not block. There is one f at a time; nil: none.
	Departed(f func(ident.IMSI, Attachment))
	// Places returns where a device is attached: Lookup's answer, and others that it may be
	// reached at. known is false while the directory has yet to learn where devices are.
	Places(imsi ident.IMSI) (at []Attachment, known bool)
}

// Barring is what a Directory is, too, if no core tells it that a SIM is barred.
type Barring interface {
	// Bar has a device leave, or come back, as its SIM's status of a version says. What is
	// older than what was said before counts nothing. It must not block.
	Bar(imsi ident.IMSI, version int64, barred bool)
}

// Attachment is a device's place: the UPF that anchors its session and its
// address there. Addresses of different UPFs may overlap.
type Attachment struct {
	UPF     string
	Address netip.Addr
}
