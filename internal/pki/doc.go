// Package pki is the testbed's public key infrastructure: an [Authority] issues
// certificates for servers, clients, relays and managers, and a [Source] holds a
// process's own certificate and the CAs that it trusts, and notices when their files
// change. Everything is X.509 as RFC 5280 has it; there is no revocation, because the
// testbed's own certificates are replaced, and clients' certificates are judged by the
// manager's credentials.
//
// Private keys are of a type that hides itself from printers and loggers.
//
// The package has no goroutines.
package pki
