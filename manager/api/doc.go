// Package api is the manager's REST interface, compatible with the port mapping
// calls of the SORACOM API: [Handler] serves it, [Server] is the component around
// the handler, [Client] calls it. The domain's errors become flat JSON bodies with
// a code and a message in the caller's language; a refusal for business reasons
// is never a 5xx, because clients repeat those.
//
// Goroutines: Server.Run owns those of net/http. Handler and Client own none.
package api
