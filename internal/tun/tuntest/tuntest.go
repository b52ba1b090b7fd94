// Package tuntest is a tun.Device made of channels, for tests: what one end of a
// pair is given to write, the other end reads. It starts no goroutine and blocks on
// channels only, so it works in a synctest bubble. It knows nothing of IP.
package tuntest

import (
	"os"
	"sync"
	"sync/atomic"

	"github.com/simreach/simreach/internal/tun"
)

const (
	queueLength = 1024
	batchSize   = 64
)

// Channel is one end of a pair.
type Channel struct {
	name    string
	mtu     int
	in      chan []byte
	peer    *Channel
	closed  chan struct{}
	once    sync.Once
	dropped atomic.Uint64
}

var _ tun.Device = (*Channel)(nil)

// NewPair returns two joined devices named "a" and "b". Each direction queues up to
// 1024 packets; more are dropped and counted.
func NewPair(mtu int) (a, b *Channel) {
	a = &Channel{name: "a", mtu: mtu, in: make(chan []byte, queueLength), closed: make(chan struct{})}
	b = &Channel{name: "b", mtu: mtu, in: make(chan []byte, queueLength), closed: make(chan struct{})}
	a.peer, b.peer = b, a
	return a, b
}

// Read implements tun.Device.
func (c *Channel) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if len(bufs) == 0 {
		return 0, nil
	}
	select {
	case <-c.closed:
		return 0, os.ErrClosed
	default:
	}
	select {
	case p := <-c.in:
		sizes[0] = copy(bufs[0][offset:], p)
	case <-c.closed:
		return 0, os.ErrClosed
	}
	for n := 1; n < min(len(bufs), batchSize); n++ {
		select {
		case p := <-c.in:
			sizes[n] = copy(bufs[n][offset:], p)
		default:
			return n, nil
		}
	}
	return min(len(bufs), batchSize), nil
}

// Write implements tun.Device. Packets longer than the MTU, and those for which
// there is no room, are dropped.
func (c *Channel) Write(bufs [][]byte, offset int) (int, error) {
	select {
	case <-c.closed:
		return 0, os.ErrClosed
	default:
	}
	n := 0
	for _, b := range bufs {
		p := b[offset:]
		if len(p) > c.mtu {
			c.dropped.Add(1)
			continue
		}
		select {
		case c.peer.in <- append([]byte(nil), p...):
			n++
		default:
			c.dropped.Add(1)
		}
	}
	return n, nil
}

// Dropped is how many packets Write did not accept.
func (c *Channel) Dropped() uint64 { return c.dropped.Load() }

// MTU implements tun.Device.
func (c *Channel) MTU() int { return c.mtu }

// Name implements tun.Device.
func (c *Channel) Name() string { return c.name }

// BatchSize implements tun.Device.
func (c *Channel) BatchSize() int { return batchSize }

// Close implements tun.Device. The other end stays open; what it writes is lost
// once the queue is full.
func (c *Channel) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
