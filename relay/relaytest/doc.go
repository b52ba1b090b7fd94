// Package relaytest is a test of TCP relays, ours and others: what a relay owes the two
// ends of a connection, seen from the ends alone. Run is the suite, Target the relay
// under test, Impair a bad network to put it on.
//
// Goroutines that the suite starts end with the test that it was given.
package relaytest
