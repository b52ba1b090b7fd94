// Package manager is the domain of the connection manager (the "connection
// management device" of the relay method, JP7209593B2; R3 to R22 are its steps): who may
// reach which device, at which relay address and port, and for how long.
//
// [Service] answers clients (create, list, delete an entry; authenticate) and
// relays (attach, resolve). [SessionDirectory] follows the SMF and knows where
// each device is attached now. What is durable lives in a [Store]; what is live
// (attached relays, sessions of devices) is held in memory and rebuilt from its
// source after a restart.
//
// Several managers may share a store. What one of them stores the others learn from the
// store's changes: a manager opens and closes, on the relays that are attached to it,
// what any of them creates and deletes, and keeps the entries in memory for resolving.
// Its attachments are in the store too, so that every manager knows the whole fleet.
// While changes do not arrive a manager believes nothing that it kept.
//
// Goroutines: Service.Run owns the expiry loop, the one that follows the
// store's changes, one for each answer of a relay that another manager waits for, and
// the loops of accounts, audit retention and attachments; for SIMs those that store
// charging reports, keep the core up to date, read again which SIMs are barred, perform
// actions of event handlers (one more for each action under way, at most 16), expire SIMs,
// and store when entries were made. The reaction to a change in the store happens in the
// goroutine that follows them. SessionDirectory.Run owns none of its own beyond the
// caller's. All other methods run in their caller's goroutine.
//
// Locks: the store serialises what is durable. fleet.mu guards the attached relays and
// the commands that await their acknowledgement, peers.mu who waits for other managers,
// entryTable.mu the entries in memory, bars.mu which SIMs are barred; caches, counters and
// queues have one each, which says what it guards. No store access and no blocking happens
// under them, and none is taken under another.
//
// The package does no network I/O: REST is manager/api, the relays' protocol is
// manager/rpc, SQL is manager/store.
package manager
