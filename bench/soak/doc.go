// Package soak runs the relay tier for as long as one likes under a part of the load that
// it can carry, and says whether anything was lost or left behind: bytes, audit records,
// descriptors, goroutines, memory; and how soon connections are cut meanwhile.
//
// Manager, inner and outer relay are processes of this program on loopback addresses;
// clients and devices are goroutines of the caller's. Run joins all of them and stops the
// processes.
package soak
