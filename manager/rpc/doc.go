// Package rpc carries the conversation between the managers and their relays across
// processes: Connect (and gRPC) over HTTP/2. [Server] is the manager's side, a
// component around a manager.Service. [Client] is a relay's side: it attaches to one of
// the managers, goes on to the next by itself when that one goes away, hands commands to
// the relay, asks where connections lead, and hands in audit records.
//
// Both sides show certificates (TLS 1.3) if TLS is configured: the relay's names the
// relay (pki.RelayURI), and the server lets it speak for no other. Otherwise HTTP/2 runs
// in the clear and a shared secret authenticates relays, so the connection belongs
// inside the closed network.
//
// Questions about connections go over streams of their own, one for each of a few
// connections: an HTTP request for each would take longer than the answer.
//
// Goroutines: Server.Run owns the HTTP server, the readers of every stream and those
// that answer; Client.Run owns the attachment and its streams. The package knows nothing
// of relaying.
package rpc
