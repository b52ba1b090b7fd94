// Package inner is the inner relay: it stands inside the closed network, takes
// ticketed CONNECT requests from outer relays, connects to the device over N6 and
// relays (R15, the method's S28 to S30).
//
// Relay.Run owns the accepting goroutine and joins it. Setting a connection up is an
// event loop's task; with TLS, or a network that is not the kernel's, a goroutine's. The package does not talk to the manager: what it needs of it, keys and
// its own instance name, comes through [Control].
package inner
