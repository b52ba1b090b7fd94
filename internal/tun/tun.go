// Package tun is the seam between a user plane and an IP stack: a Device hands
// over whole IP packets in batches. Its forms are a Linux TUN (this package), a
// channel double for tests (tuntest) and a userspace TCP/IP stack with Dial and
// Listen (netstack). It starts no goroutine of its own.
package tun

// Device moves IP packets in batches. One goroutine reads; any number may write.
type Device interface {
	// Read fills bufs[i][offset:] with one packet each and sets sizes[i]; it
	// blocks until there is at least one packet and returns how many it filled.
	// After Close it returns os.ErrClosed. offset bytes before each packet stay
	// free for the caller's headers.
	Read(bufs [][]byte, sizes []int, offset int) (n int, err error)
	// Write sends bufs[i][offset:] as one packet each and returns how many were
	// accepted. The device keeps no reference to bufs after it returns.
	Write(bufs [][]byte, offset int) (n int, err error)
	// MTU is the largest packet in bytes.
	MTU() int
	// Name is the interface's name, for logs.
	Name() string
	// BatchSize is how many buffers Read and Write make use of at once.
	BatchSize() int
	// Close wakes a blocked Read. It may be called more than once.
	Close() error
}
