package outer

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/simreach/simreach/relay"
)

// aheadSize is how much is read at one time from a client that sends fast.
const aheadSize = 128 << 10

// recordSize is the largest plaintext of one TLS record (RFC 8446 clause 5.1).
const recordSize = 16 << 10

// errNotNow is wire.Read's answer when it must not wait. crypto/tls does not hold it
// against the connection, for it calls itself temporary.
type errNotNow struct{}

func (errNotNow) Error() string   { return "nothing has arrived" }
func (errNotNow) Timeout() bool   { return true }
func (errNotNow) Temporary() bool { return true }

// wire is the TCP side of a TLS connection. It makes many records cost few system
// calls: while a client sends fast, it reads ahead into a large buffer, which it holds
// only for as long as there is something in it, and it can hold back what is written.
// One goroutine reads; any may write.
type wire struct {
	relay.Conn
	sys  syscall.RawConn // nil: not the kernel's
	pool *sync.Pool      // of *[aheadSize]byte

	// Of the reader.
	more  bool // the last read filled its buffer
	hurry bool // reads must not wait
	ahead *[aheadSize]byte
	r, w  int   // what is left of ahead
	err   error // met when reading ahead

	told atomic.Bool // last has told the peer why it ends

	mu   sync.Mutex // guards the rest
	hold bool       // writes go to held
	held []byte
	tell teller
}

// newWire makes a wire on c, whose large buffers come from pool.
func newWire(c relay.Conn, pool *sync.Pool) *wire {
	w := &wire{Conn: c, pool: pool}
	if s, ok := c.(syscall.Conn); ok {
		if sys, err := s.SyscallConn(); err == nil {
			w.sys = sys
		}
	}
	return w
}

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if w.ahead == nil && w.more && w.sys != nil {
		w.fill()
	}
	if w.ahead != nil {
		n := copy(p, w.ahead[w.r:w.w])
		if w.r += n; w.r == w.w {
			w.pool.Put(w.ahead)
			w.ahead = nil
		}
		return n, nil
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.hurry {
		return 0, errNotNow{}
	}
	n, err := w.Conn.Read(p)
	w.more = n == len(p)
	return n, err
}

// fill reads ahead without waiting. The end, too, is an error to readNow.
func (w *wire) fill() {
	b := w.buffer()
	var n int
	n, w.err = readNow(w.sys, b[:])
	w.more = n == len(b)
	if n == 0 {
		w.pool.Put(b)
		return
	}
	w.ahead, w.r, w.w = b, 0, n
}

func (w *wire) buffer() *[aheadSize]byte {
	if b, ok := w.pool.Get().(*[aheadSize]byte); ok {
		return b
	}
	return new([aheadSize]byte)
}

// Write implements net.Conn.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, err := w.tell.outgoing(p)
	if err != nil {
		return 0, err
	}
	if w.hold {
		w.held = append(w.held, out...)
		return len(p), nil
	}
	if n, err := w.Conn.Write(out); err != nil {
		return min(n, len(p)), err
	}
	return len(p), nil
}

// writeHeld has f's writes leave as one.
func (w *wire) writeHeld(f func() (int, error)) (int, error) {
	b := w.buffer()
	defer w.pool.Put(b)
	w.mu.Lock()
	w.hold, w.held = true, b[:0]
	w.mu.Unlock()
	n, err := f()
	w.mu.Lock()
	defer w.mu.Unlock()
	held := w.held
	w.hold, w.held = false, nil
	if _, werr := w.Conn.Write(held); werr != nil && err == nil {
		return 0, werr
	}
	return n, err
}

// tlsConn is a TLS connection whose directions end separately. Reads return as many
// records as have arrived and fit.
type tlsConn struct {
	*tls.Conn
	wire *wire
	part func(relay.Conn) // closes the TCP connection of a client that was told, in its own time
	over atomic.Bool      // the peer has said that no more will follow
	// drained is the reader's: the last Read took all but a part of a record.
	drained bool

	mu     sync.Mutex // guards parted
	parted bool       // the TCP connection is part's
}

// Read implements net.Conn.
func (t *tlsConn) Read(b []byte) (int, error) {
	t.drained = false
	n, err := t.Conn.Read(b)
	if err == io.EOF {
		t.over.Store(true)
	}
	if err != nil || n == 0 || n == len(b) {
		return n, err
	}
	t.wire.hurry = true
	defer func() { t.wire.hurry = false }()
	for n < len(b) {
		m, err := t.Conn.Read(b[n:])
		n += m
		if err != nil {
			t.drained = err == errNotNow{} // or the next read finds the same
			break
		}
	}
	return n, nil
}

// Holds implements relay.Holder. Until something was read it may hold what came with the
// handshake.
func (t *tlsConn) Holds() bool { return !t.drained }

// Write implements net.Conn.
func (t *tlsConn) Write(b []byte) (int, error) {
	if len(b) <= recordSize {
		return t.Conn.Write(b)
	}
	return t.wire.writeHeld(func() (int, error) { return t.Conn.Write(b) })
}

// CloseWrite says that no more will follow, in TLS and in TCP. A peer that has said so, too,
// may have gone since: that it cannot be told is no failure.
func (t *tlsConn) CloseWrite() error {
	err := t.Conn.CloseWrite()
	if err == nil {
		err = t.wire.CloseWrite()
	}
	if t.over.Load() && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN)) {
		return nil
	}
	return err
}

// Close implements net.Conn. What a client was told arrives before.
func (t *tlsConn) Close() error {
	if !t.wire.told.Load() {
		return t.Conn.Close()
	}
	t.mu.Lock()
	t.parted = true
	t.mu.Unlock()
	t.part(t.wire.Conn)
	return nil
}

// NetConn returns the TCP connection, which relay.Abort resets; of a client that was told
// why it ends, one that Abort only stops: a reset may overtake the alert.
func (t *tlsConn) NetConn() net.Conn {
	if t.wire.told.Load() {
		return parting{t.wire.Conn, t}
	}
	return t.wire.Conn
}

// parting is a TCP connection over which nothing goes out any more.
type parting struct {
	relay.Conn
	over *tlsConn
}

// Close ends whoever reads over the connection; tlsConn.Close follows.
func (p parting) Close() error {
	p.over.mu.Lock()
	defer p.over.mu.Unlock()
	if p.over.parted {
		return nil
	}
	return p.SetReadDeadline(time.Unix(1, 0))
}
