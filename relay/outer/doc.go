// Package outer is the outer relay: it stands outside the core network and holds
// the ports that clients connect to (R10). The manager opens and closes them with
// a stream of commands; for every connection the relay asks the manager where it
// leads and on what conditions (R11), checks them (R13, R14), has an inner relay
// connect to the device (R15), and copies bytes until one side ends it, the entry
// expires (R16) or it is revoked (R17). TLS ends here (R18), and over one connection
// a client may reach several devices (R9b). Every connection is in the audit log from
// ACCESS to CLOSED (N7). CAUSES.md says how clients are told why they were turned away.
//
// Relay.Run owns all goroutines: the loop that owns the table of ports, the receiver
// of commands, the teller of the load, and what relay.Relayer, ports.Ports and an
// http.Server run. A connection between kernel sockets has none, neither while it is set
// up (setup.go and reach.go: steps that call each other as answers come) nor while it is
// relayed. TLS with a client or with inner relays takes a worker, and then two goroutines.
//
// Locks are taken in this order: conn.mu, then those of credentials, Relay and port,
// none of which is held while another is taken.
package outer
