package manager

import "net/netip"

// ChangeKind is what changed in a store.
type ChangeKind string

// Kinds of change. What ID and Data hold is said with each.
const (
	// ChangeResync says that changes may have been missed, or that watching has just
	// begun: what was read from the store earlier must be read again.
	ChangeResync ChangeKind = "resync"
	// ChangeLost says that changes are being missed, until a ChangeResync.
	ChangeLost ChangeKind = "lost"
	// ChangeEntryCreated: ID is the entry's, Address its address, Relay its relay.
	ChangeEntryCreated ChangeKind = "entry-created"
	// ChangeEntryDeleted: as ChangeEntryCreated; Data is the CloseReason's name.
	ChangeEntryDeleted ChangeKind = "entry-deleted"
	// ChangeEntryAnswered: the manager Origin has told its relay of the entry ID, and the
	// relay has answered. Data is empty, or why it could not.
	ChangeEntryAnswered ChangeKind = "entry-answered"
	// ChangeRelay: the attachments of Relay changed.
	ChangeRelay ChangeKind = "relay"
	// ChangeRelayDrain: the manager Origin wants Relay to drain.
	ChangeRelayDrain ChangeKind = "relay-drain"
	// ChangePing: the manager Origin wants the inner relay Relay to send the Ping in Data,
	// as JSON. ChangePingAnswered has the same ID, and in Data the PingResult or null.
	ChangePing         ChangeKind = "ping"
	ChangePingAnswered ChangeKind = "ping-answered"
	// ChangeCredential: ID is the credential's.
	ChangeCredential ChangeKind = "credential"
	// ChangeAccount: ID is the operator's.
	ChangeAccount ChangeKind = "account"
	// ChangeSIM: the SIM with the IMSI in ID is barred, or no longer.
	ChangeSIM ChangeKind = "sim"
)

// Change is word of one change in a store, to all managers on it, also the one that
// made it. It may come twice, and late.
type Change struct {
	Kind    ChangeKind     `json:"kind"`
	ID      string         `json:"id,omitempty"`
	Address netip.AddrPort `json:"address,omitzero"`
	Relay   RelayID        `json:"relay,omitempty"`
	Data    string         `json:"data,omitempty"`   // at most 1 KiB
	Origin  string         `json:"origin,omitempty"` // the manager's instance, where the kind says so
}
