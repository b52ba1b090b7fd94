// Package relay is what the outer and the inner relay have in common: copying
// bytes between two TCP connections with half-close and reset carried across
// ([Relayer]), and the CONNECT handshake between the two relays ([Connect],
// [ReadRequest]).
//
// Relayer.Relay joins the goroutine that it starts before it returns; nothing else
// here starts one. The package accepts and dials nothing.
package relay
