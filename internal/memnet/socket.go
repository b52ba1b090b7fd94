package memnet

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// socket is a bounded queue of received datagrams. Its buffers are reused.
type socket struct {
	net  *Network
	key  key
	wake chan struct{} // one token: there may be something to read
	done chan struct{}

	mu     sync.Mutex // guards what follows
	ring   []packet
	head   int
	count  int
	closed bool
}

type packet struct {
	src netip.AddrPort
	buf []byte
}

func newSocket(n *Network, k key, size int) *socket {
	return &socket{net: n, key: k, wake: make(chan struct{}, 1), done: make(chan struct{}), ring: make([]packet, size)}
}

func (s *socket) deliver(src netip.AddrPort, payload []byte) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.net.count.unreachable.Add(1)
		return
	}
	if s.count == len(s.ring) {
		s.mu.Unlock()
		s.net.count.overflowed.Add(1)
		return
	}
	p := &s.ring[(s.head+s.count)%len(s.ring)]
	p.src = src
	p.buf = append(p.buf[:0], payload...)
	s.count++
	s.mu.Unlock()
	s.net.count.delivered.Add(1)
	s.token()
}

func (s *socket) token() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// read hands up to limit datagrams to f; it waits for the first until deadline
// fires (nil: for ever). The bytes are valid only during the call.
func (s *socket) read(limit int, deadline <-chan struct{}, f func(i int, p *packet)) (int, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return 0, net.ErrClosed
		}
		n := min(limit, s.count)
		for i := range n {
			f(i, &s.ring[s.head])
			s.head = (s.head + 1) % len(s.ring)
			s.count--
		}
		more := s.count > 0
		if !more {
			s.head = 0 // the next ones reuse the same few buffers
		}
		s.mu.Unlock()
		if n > 0 {
			if more { // another reader may be waiting
				s.token()
			}
			return n, nil
		}
		select {
		case <-s.wake:
		case <-s.done:
		case <-deadline:
			return 0, errTimeout
		}
	}
}

// close reports false the second time.
func (s *socket) close() bool {
	s.net.unbind(s)
	return s.shut()
}

func (s *socket) shut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	close(s.done)
	return true
}

// deadline is a settable point in time with a channel that closes then.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	fired chan struct{}
}

func (d *deadline) channel() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fired == nil {
		d.fired = make(chan struct{})
	}
	return d.fired
}

// set replaces the deadline, also for a reader that already waits, unless the
// old one has fired: that reader is gone.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.fired == nil || isClosed(d.fired) {
		d.fired = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	fired := d.fired
	wait := time.Until(t)
	if wait <= 0 {
		close(fired)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer { // not replaced meanwhile
			close(fired)
			d.timer = nil
		}
	})
	d.timer = timer
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
