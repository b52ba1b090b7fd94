// Package outer is the outer relay: it stands outside the core network and holds
// the ports that clients connect to (R10). The manager opens and closes them with
// a stream of commands; for every connection the relay asks the manager where it
// leads and on what conditions (R11), checks them (R13), has an inner relay connect
// to the device (R15), and copies bytes until one side ends it, the entry expires
// (R16) or it is revoked (R17).
//
// Relay.Run owns all goroutines: the loop that owns the table of ports, the
// receiver of commands, one acceptor for each port and one goroutine for each
// connection. A client that is turned away gets a reset, so that it never hangs.
package outer
