// Package relay is what the outer and the inner relay have in common: copying
// bytes between two TCP connections with half-close and reset carried across
// ([Relayer]), and the CONNECT handshake between the two relays, on an event loop
// ([Relayer.Call], [Relayer.Greet]) or on goroutines ([Connect], [ReadRequest]).
//
// Relayer.Run owns the event loops, of which each is a goroutine, and joins them; links
// that no loop can carry have two goroutines and a timer each, which Run joins, too. A
// loop takes over the descriptors of kernel sockets, so that the runtime's poller knows
// nothing of them, and waits for their events with epoll. Small pieces go through one
// buffer of the loop, large ones through a pipe that a direction has only while bytes
// are in it. A connection that is being set up is a task of a loop, with a deadline, and
// no goroutine either. The package accepts nothing.
package relay
