package manager

import (
	"context"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Store keeps what must survive a restart. All methods may be called from any
// goroutine; each is one transaction. Times have millisecond precision.
// Errors that are not named below are faults of the engine.
type Store interface {
	// CreateEntry adds e. ErrAddressTaken: another entry has e.Address, or it is
	// in quarantine at e.Created.
	CreateEntry(ctx context.Context, e Entry) error
	// EntryByAddress returns the entry at an address, expired or not. ErrNotFound.
	EntryByAddress(ctx context.Context, a netip.AddrPort) (Entry, error)
	// Entries lists what q selects, leaving out what has expired at now.
	Entries(ctx context.Context, q EntryQuery, now time.Time) ([]Entry, error)
	// RelayEntries lists the entries of an outer relay that have not expired at now.
	RelayEntries(ctx context.Context, relay RelayID, now time.Time) ([]Entry, error)
	// DeleteEntry removes an entry and keeps its address in quarantine until
	// `until`. ErrNotFound.
	DeleteEntry(ctx context.Context, id EntryID, until time.Time) error
	// DeleteExpired removes up to limit entries that have expired at now, keeps
	// their addresses in quarantine until `until`, and returns them. Quarantine
	// that ended before now is forgotten.
	DeleteExpired(ctx context.Context, now, until time.Time, limit int) ([]Entry, error)
	// NextExpiry returns when the next entry expires; the zero time if there is
	// no entry.
	NextExpiry(ctx context.Context) (time.Time, error)
	// CountEntries returns how many entries there are, of all operators.
	CountEntries(ctx context.Context) (int, error)
	// TakenPorts returns the ports of a relay address that are in use or in
	// quarantine at now, in ascending order.
	TakenPorts(ctx context.Context, a netip.Addr, now time.Time) ([]uint16, error)

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

// Attachment is a device's place: the UPF that anchors its session and its
// address there. Addresses of different UPFs may overlap.
type Attachment struct {
	UPF     string
	Address netip.Addr
}
