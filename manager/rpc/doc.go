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
// Questions about connections go over a connection of their own (line), which begins as
// HTTP/1.1 on the same port and is then frames in both directions: who asks on an idle one
// writes to it, else whatever waits leaves with one write, and all that one read brings is
// answered with one write, on the reader's goroutine as long as no question needs the
// store. Client.Ask waits for nothing; a client's desk keeps what was asked until it is
// answered, also across managers.
//
// Goroutines: Server.Run owns the HTTP server, the readers of every stream and those
// that answer; Client.Run owns the attachment and its connections. The package knows
// nothing of relaying.
package rpc
