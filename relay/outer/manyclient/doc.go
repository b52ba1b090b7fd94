// Package manyclient is the client of an entry for several devices (R9b): one TLS
// connection to an outer relay, and over it a CONNECT stream of HTTP/2 (RFC 9113
// clause 8.5) for each device. It has no goroutines of its own; net/http has, until
// Client.Close.
package manyclient
