// Package api is the manager's REST interface, compatible with parts of the SORACOM
// API: [Handler] serves it, [Server] is the component around the handler, [Client] calls
// it. The domain's errors become flat JSON bodies with a code and a message in the
// caller's language; a refusal for business reasons is never a 5xx, because clients
// repeat those. What the SORACOM API has and this one has not is answered with 404 and a
// code of its own.
//
// # Adding an operation
//
// Every resource has a file with its list of routes, which routes() names, and a file in
// openapi that describes each of them. A route names the permission that SAM users
// need and is recorded under in the API audit log. Lists use request.page and cut. Bodies
// are read with decode; a slice is never null in an answer.
//
// Goroutines: Server.Run owns those of net/http. Handler and Client own none.
package api
