// Package relayv1 is the protocol between relays and the manager, generated from
// relay.proto by `go generate ./manager/rpc`. It starts no goroutine. manager/rpc
// turns its messages into the domain's types; nothing else uses them.
package relayv1
