package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/simreach/simreach/relay"
)

// party is one of the two that bytes are carried between.
type party interface {
	io.ReadWriter
	// CloseWrite says that no more will come.
	CloseWrite() error
	// Abort ends both directions at once; a Read or Write that waits returns. Harmless
	// twice, and from any goroutine.
	Abort()
	// Close ends a party whose directions have both ended in order.
	Close() error
}

// conn is a TCP or TLS connection as a party.
type conn struct{ relay.Conn }

// Abort implements party.
func (c conn) Abort() { relay.Abort(c.Conn) }

// cutError says at whose side a connection broke.
type cutError struct {
	side string
	err  error
}

// Error implements error.
func (e *cutError) Error() string { return fmt.Sprintf("%s: %v", e.side, e.err) }

// Unwrap returns what broke it.
func (e *cutError) Unwrap() error { return e.err }

// Sides of a join.
const (
	sideLocal = "local side"
	sideRelay = "connection to the device"
)

// join carries bytes both ways until both have ended, each by itself: half-close is
// kept. When one breaks, or ctx ends, the other is broken too. The error is the first:
// a *cutError, or the context's.
func join(ctx context.Context, local, remote party) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(aborted)
		local.Abort()
		remote.Abort()
	})
	var both sync.WaitGroup
	carry := func(to, from party, toSide, fromSide string) {
		both.Go(func() {
			if err := carryOne(to, from, toSide, fromSide); err != nil {
				cancel(err)
			}
		})
	}
	carry(remote, local, sideRelay, sideLocal)
	carry(local, remote, sideLocal, sideRelay)
	both.Wait()
	if !stop() {
		<-aborted
		return context.Cause(ctx)
	}
	// Both have ended in order, there is nothing left to lose.
	_ = local.Close()
	_ = remote.Close()
	return nil
}

// carryOne copies until EOF and passes that on.
func carryOne(to, from party, toSide, fromSide string) error {
	buf := make([]byte, 64<<10)
	for {
		n, rerr := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return &cutError{toSide, err}
			}
		}
		if rerr == io.EOF {
			break
		}
		if rerr != nil {
			return &cutError{fromSide, rerr}
		}
	}
	// A peer that has gone away meanwhile does not need to be told.
	if err := to.CloseWrite(); err != nil && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, net.ErrClosed) {
		return &cutError{toSide, err}
	}
	return nil
}

// stdio is standard input and output as a party.
type stdio struct {
	in    io.Reader
	out   io.Writer
	abort func()
	wake  int
}

// newStdio makes a party of input and output. Where they are files it waits for them in
// a way that Abort can end, without touching their mode, which they may share with
// other processes. release it after the last use.
func newStdio(in io.Reader, out io.Writer) (*stdio, error) {
	var wake [2]int
	if err := unix.Pipe2(wake[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("wait for standard input: %w", err)
	}
	s := &stdio{in: in, out: out, wake: wake[0]}
	s.abort = sync.OnceFunc(func() {
		_ = unix.Close(wake[1]) // which ends every wait on the other end
		for _, x := range []any{in, out} {
			if _, file := x.(*os.File); file {
				continue
			}
			if c, ok := x.(io.Closer); ok {
				_ = c.Close()
			}
		}
	})
	if f, ok := in.(*os.File); ok {
		s.in = &waitFile{f, wake[0]}
	}
	if f, ok := out.(*os.File); ok {
		s.out = &waitFile{f, wake[0]}
	}
	return s, nil
}

// Read implements party.
func (s *stdio) Read(b []byte) (int, error) { return s.in.Read(b) }

// Write implements party.
func (s *stdio) Write(b []byte) (int, error) { return s.out.Write(b) }

// CloseWrite closes the output, so that who reads it knows: ssh as much as cat. A
// terminal stays open.
func (s *stdio) CloseWrite() error {
	w, ok := s.out.(*waitFile)
	if ok && !term.IsTerminal(int(w.f.Fd())) {
		return w.f.Close()
	}
	if c, ok := s.out.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Abort implements party.
func (s *stdio) Abort() { s.abort() }

// Close implements party.
func (s *stdio) Close() error {
	s.abort()
	return nil
}

// release gives the party's descriptors back; nobody may use it any more.
func (s *stdio) release() {
	s.abort()
	_ = unix.Close(s.wake)
}

// waitFile reads and writes a file only when that does not block, and waits for that
// and for the other end of wake to be closed.
type waitFile struct {
	f    *os.File
	wake int
}

// pipeBuf is what a pipe that has room takes without blocking (pipe(7)), in bytes.
const pipeBuf = 4096

func (w *waitFile) wait(events int16) error {
	for {
		fds := []unix.PollFd{{Fd: int32(w.f.Fd()), Events: events}, {Fd: int32(w.wake), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case fds[1].Revents != 0:
			return os.ErrDeadlineExceeded
		case fds[0].Revents != 0:
			return nil
		}
	}
}

// Read implements io.Reader.
func (w *waitFile) Read(b []byte) (int, error) {
	if err := w.wait(unix.POLLIN); err != nil {
		return 0, err
	}
	return w.f.Read(b)
}

// Write implements io.Writer.
func (w *waitFile) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		if err = w.wait(unix.POLLOUT); err != nil {
			return n, err
		}
		var m int
		m, err = w.f.Write(b[:min(len(b), pipeBuf)])
		n, b = n+m, b[m:]
	}
	return n, err
}
