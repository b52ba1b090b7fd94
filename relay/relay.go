package relay

import (
	"context"
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
	Cut                     // the context ended; both were reset
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
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// Counters count relayed bytes while they flow; several connections may share
// them.
type Counters struct{ AToB, BToA atomic.Uint64 }

// Result is what became of a relayed connection.
type Result struct {
	AToB, BToA uint64 // bytes written to b and to a
	Cause      Cause
	Err        error // the first failure, or the context's cause; nil after Closed
}

// Relayer copies between connections. The zero value is ready. It may be used from
// any goroutine; it holds nothing but spare buffers.
type Relayer struct {
	buffers    sync.Pool
	stallCheck time.Duration // 0: the constant
}

// Relay copies bytes between a and b in both directions until both have ended
// (R15, R19), and closes both. A FIN on one side becomes a FIN on the other, after
// the bytes that came before it, and the other direction goes on for as long as it
// likes. A reset on one side, also one that follows a FIN, becomes a reset on the
// other. When ctx ends both are reset at once. total may be nil; it is added to as
// bytes flow.
//
// Between kernel sockets no buffer is held while a connection is idle, and bulk
// data is spliced.
func (r *Relayer) Relay(ctx context.Context, a, b Conn, total *Counters) Result {
	s := &splitter{a: a, b: b}
	if total == nil {
		total = &Counters{}
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		s.fail(Cut, context.Cause(ctx))
	})
	ab := &direction{split: s, src: a, dst: b, srcCause: ResetA, dstCause: ResetB, total: &total.AToB}
	ba := &direction{split: s, src: b, dst: a, srcCause: ResetB, dstCause: ResetA, total: &total.BToA}
	ab.other, ba.other = ba, ab
	stalls := watchStalls(ab, ba, r.stallCheck)
	var wg sync.WaitGroup
	wg.Go(func() { ab.run(r) })
	ba.run(r)
	wg.Wait()
	stalls.stop()
	if !stop() {
		<-cut
	}
	a.Close()
	b.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	res := Result{AToB: ab.bytes, BToA: ba.bytes, Cause: s.cause, Err: s.err}
	if res.Cause == 0 {
		res.Cause = Closed
	}
	return res
}

// splitter is what the two directions share.
type splitter struct {
	a, b Conn

	mu    sync.Mutex // guards the rest
	cause Cause
	err   error
	ended int // directions that ended with FIN
}

// fail resets both sides; only the first failure counts.
func (s *splitter) fail(c Cause, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != 0 || s.ended == 2 {
		return
	}
	s.cause, s.err = c, err
	Abort(s.a)
	Abort(s.b)
}

// finished counts a direction that ended with FIN and reports whether the other
// still runs.
func (s *splitter) finished() (alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	return s.ended == 1
}

// direction copies from src to dst. All but total and writing belongs to the
// goroutine in run.
type direction struct {
	split              *splitter
	other              *direction
	src, dst           Conn
	srcCause, dstCause Cause
	bytes              uint64
	total              *atomic.Uint64
	writing            atomic.Bool // to dst, where it may be blocked
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
		if cerr := d.dst.CloseWrite(); cerr != nil {
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
		if err := watchReset(d.src); err != nil {
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

// copyBuffered copies until EOF, for which it returns nil.
func (d *direction) copyBuffered(r *Relayer) error {
	buf := r.buffer()
	defer r.buffers.Put(buf)
	for {
		if err := d.move(buf[:]); err != nil {
			if err == io.EOF {
				return nil
			}
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

// move copies one buffer's worth. At the end it returns io.EOF itself.
func (d *direction) move(buf []byte) error {
	n, rerr := d.src.Read(buf)
	if n > 0 {
		d.writing.Store(true)
		m, err := d.dst.Write(buf[:n])
		d.writing.Store(false)
		d.count(m)
		if err != nil {
			return writeError{err}
		}
	}
	switch {
	case rerr == io.EOF:
		return io.EOF
	case rerr != nil:
		return readError{rerr}
	}
	return nil
}

func (d *direction) count(n int) {
	d.bytes += uint64(n)
	d.total.Add(uint64(n))
}
