// Package relayv1connect is the client and handler of the service
// simreach.relay.v1.RelayControl, generated from relay.proto by
// `go generate ./manager/rpc`. It starts no goroutine of its own.
package relayv1connect
