package manager

import (
	"context"
	"time"
)

// RelayAttachment is a relay's attachment to one of the managers on a store.
type RelayAttachment struct {
	Session string // names it
	Manager string // the manager's instance, fresh for every start
	Relay   Relay  // Live and Draining as last heard of
	// Sequence grows with every attachment on the store: of several of one relay that do
	// not drain, the one with the highest counts. The store gives it.
	Sequence int64
	Since    time.Time // millisecond precision, UTC
	Seen     time.Time // when its manager last said that it stands
	Opened   uint64    // connections that reached their device in this session
	Closed   uint64
	Up, Down uint64 // bytes
	Rate     uint64 // bytes per second, both directions, recently
}

// AttachmentStore is the part of Store about attachments of relays.
type AttachmentStore interface {
	// SyncAttachments makes own the attachments of one manager, forgets those of all
	// managers that were not seen since `lapsed`, and returns all that there are. A
	// ChangeRelay follows for every relay that has attachments now that it did not have,
	// or the reverse, or that began to drain.
	SyncAttachments(ctx context.Context, manager string, own []RelayAttachment, lapsed time.Time) ([]RelayAttachment, error)
	// Attachments returns those of all managers.
	Attachments(ctx context.Context) ([]RelayAttachment, error)
}
