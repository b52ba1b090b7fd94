// Package rpc carries the conversation between the manager and its relays across
// processes: Connect (and gRPC) over HTTP/2. [Server] is the manager's side, a
// component around a manager.Service. [Client] is a relay's side: it attaches,
// attaches again by itself when the manager was away, hands commands to the relay
// and asks the manager where a connection leads.
//
// HTTP/2 runs in the clear and a shared secret authenticates relays, so the
// connection belongs inside the closed network.
//
// Goroutines: Server.Run owns the HTTP server and the reader of every attached
// relay; Client.Run owns the attachment. The package knows nothing of relaying.
package rpc
