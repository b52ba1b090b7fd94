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
// Goroutines: Service.Run owns one, the expiry loop; SessionDirectory.Run owns
// none of its own beyond the caller's. All other methods run in their caller's
// goroutine.
//
// Locks: the store serialises what is durable. One mutex, fleet.mu, guards the
// attached relays and the commands that await their acknowledgement; no store
// access and no blocking happens under it.
//
// The package does no network I/O: REST is manager/api, the relays' protocol is
// manager/rpc, SQL is manager/store.
package manager
