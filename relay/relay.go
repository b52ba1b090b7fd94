package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const bufferSize = 32 << 10

// Cause says how a relayed connection ended.
type Cause uint8

// Causes.
const (
	Closed Cause = iota + 1 // both directions ended with FIN
	ResetA                  // a was reset, or failed otherwise; b was reset
	ResetB                  // the same of b
	Cut                     // somebody cut the link; both were reset
	Idle                    // nothing moved for the idle timeout; both were reset
)

// String returns a stable word.
func (c Cause) String() string {
	switch c {
	case Closed:
		return "closed"
	case ResetA:
		return "reset-a"
	case ResetB:
		return "reset-b"
	case Cut:
		return "cut"
	case Idle:
		return "idle"
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// Counters count relayed bytes while they flow; several connections may share
// them.
type Counters struct{ AToB, BToA atomic.Uint64 }

// add counts n bytes of direction 0, to b, or 1, to a.
func (c *Counters) add(d, n int) {
	if d == 0 {
		c.AToB.Add(uint64(n))
	} else {
		c.BToA.Add(uint64(n))
	}
}

// Result is what became of a relayed connection.
type Result struct {
	AToB, BToA uint64 // bytes written to b and to a
	Cause      Cause
	Err        error // the first failure, or the context's cause; nil after Closed
}

// Relayer copies between connections; NewRelayer makes one. Any goroutine may use
// it. (The zero value carries every link on goroutines and has no Run.)
type Relayer struct {
	cfg        Config
	loops      []*loop
	turn       atomic.Uint64 // whose it is to take the next link
	ready      chan struct{}
	buffers    sync.Pool
	stallCheck time.Duration  // 0: the constant
	running    sync.WaitGroup // links on goroutines

	mu      sync.Mutex         // guards the rest
	links   map[*Link]struct{} // on goroutines
	stopped bool
}

// direction copies from src to dst. All but the atomics belongs to the
// goroutine in run.
type direction struct {
	split              *splitter
	other              *direction
	src, dst           Conn
	srcCause, dstCause Cause
	bytes, total       *atomic.Uint64
	moved              *atomic.Int64
	writing            atomic.Bool // to dst, or telling it the end: it may be blocked
	ending             atomic.Bool // src has said all, and dst is told so
}

// readError and writeError tell which side failed.
type (
	readError  struct{ error }
	writeError struct{ error }
)

func (e readError) Unwrap() error  { return e.error }
func (e writeError) Unwrap() error { return e.error }

func (d *direction) run(r *Relayer) {
	err := d.copy(r)
	if err == nil {
		d.ending.Store(true)
		d.writing.Store(true) // the end may be bytes, too
		cerr := d.dst.CloseWrite()
		d.writing.Store(false)
		if cerr != nil {
			err = writeError{cerr}
		}
	}
	if err != nil {
		d.fail(err)
		return
	}
	if d.split.finished() {
		// src has said all it will say. Its reset must still be noticed, or a
		// client that is gone would hold its device for as long as that is silent.
		// But one that had closed answers so when it is told the end.
		if err := watchReset(d.src); err != nil && !d.other.ending.Load() {
			d.fail(readError{err})
		}
		return
	}
	// Wake the other direction if it watches.
	_ = d.other.src.SetReadDeadline(time.Unix(1, 0))
}

func (d *direction) fail(err error) {
	cause := d.srcCause
	if _, ok := errors.AsType[writeError](err); ok {
		cause = d.dstCause
	}
	d.split.fail(cause, err)
}

func (d *direction) copy(r *Relayer) error {
	src, ok1 := d.src.(*net.TCPConn)
	dst, ok2 := d.dst.(*net.TCPConn)
	if ok1 && ok2 {
		return d.copyTCP(r, dst, src)
	}
	return d.copyBuffered(r)
}

// copyBuffered copies until EOF, for which it returns nil. Where that can be told, a
// buffer is held only while bytes move.
func (d *direction) copyBuffered(r *Relayer) error {
	wait := arrival(d.src)
	for full := false; ; {
		if wait != nil && !full {
			if err := wait(); err != nil {
				return readError{err}
			}
		}
		buf := r.buffer()
		var err error
		full, err = d.move(buf[:])
		r.buffers.Put(buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *Relayer) buffer() *[bufferSize]byte {
	if b, ok := r.buffers.Get().(*[bufferSize]byte); ok {
		return b
	}
	return new([bufferSize]byte)
}

// move copies one buffer's worth, and reports whether there was as much. At the end it
// returns io.EOF itself.
func (d *direction) move(buf []byte) (full bool, err error) {
	n, rerr := d.src.Read(buf)
	if n > 0 {
		d.writing.Store(true)
		m, err := d.dst.Write(buf[:n])
		d.writing.Store(false)
		d.count(m)
		if err != nil {
			return false, writeError{err}
		}
	}
	switch {
	case rerr == io.EOF:
		return false, io.EOF
	case rerr != nil:
		return false, readError{rerr}
	}
	return n == len(buf), nil
}

func (d *direction) count(n int) {
	d.bytes.Add(uint64(n))
	d.total.Add(uint64(n))
	d.moved.Store(time.Now().UnixNano())
}
