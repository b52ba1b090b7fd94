// Package ports is the TCP ports of one relay address: opened and closed by the
// thousand while clients come and go, and handed from one process to the next
// without losing a connection.
//
// Ports.Run owns the sockets and the goroutines that accept, and joins them. The
// package knows nothing of what the ports stand for: connections go to Deps.Handle.
//
// # Modes
//
// sk_lookup: one listening socket, and a BPF program of the network namespace that
// steers connections for open ports to it. An open port is one byte of a map: no
// descriptor, no goroutine. The accept queue is one for all ports, so a burst on one
// delays the others; Handle must be quick. Needs Linux 5.9, CAP_BPF (or
// CAP_SYS_ADMIN) and CAP_NET_ADMIN. The socket itself is bound to a port beside the
// range, which answers RST like any that is closed. A range of all ports has none
// beside it: the last one then is what a hand-over from or to listen can refuse for
// a moment.
//
// listen: a listener, and so a descriptor and a goroutine, for every open port.
//
// In both, a port that another program listens on cannot be opened, and a closed
// port is one that nobody listens on: the kernel answers RST. With sk_lookup nothing
// keeps another program from listening on an open port later, but it gets nobody.
//
// # Restart
//
// A second process (of the same user, with the same address, in either mode) may
// open the ports while the first still serves them. From the moment that its Open
// returns, new connections of the port are its own; from sk_lookup to listen, from
// the moment that the first drains. The first then calls Drain. What is guaranteed:
//
//   - A connection for which the kernel has sent SYN-ACK is handled by one of the two,
//     unless Drain's context ends before the client's ACK has come. A client that
//     never answers keeps Drain waiting for about a minute (tcp_synack_retries), so
//     give it a deadline: what is cut then are clients that have not answered, and
//     those that Handle had no descriptors for.
//   - A port that the second process has not opened is closed by Drain, without losing
//     connections either. With listen its clients get RST only when the drain has
//     ended: until then their SYN is dropped, and sent again a second later.
//   - With sk_lookup, a process that ends without Drain, even by SIGKILL, leaves what
//     it has not accepted, half-way handshakes included, to the second (Linux 5.14).
//     With listen this needs net.ipv4.tcp_migrate_req=1; else those are reset.
//   - SYN cookies (under a flood of SYN, nothing is kept for a client that has got its
//     SYN-ACK) of the one are good for the other as long as both share a reuseport group:
//     with listen always, with sk_lookup if both were given the same range.
//   - No more than two processes at one time: with three, listen gives connections to
//     the second and not to the third. With sk_lookup the newest has them.
//   - While both serve, a port is closed for clients once both have closed it.
//
// Where the kernel does not list half-way handshakes (sock_diag(7)), Drain gives
// them three seconds. On systems other than Linux nothing is handed over.
//
// [ListenShared] is the same for a single listener.
package ports
