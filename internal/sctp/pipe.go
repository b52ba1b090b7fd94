package sctp

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
)

// pipeBuffer is how many bytes one direction of a Pipe holds before Send waits;
// one message may exceed it.
const pipeBuffer = 1 << 20

var pipeAddr = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Pipe returns the two ends of an association in memory. It starts no goroutine
// and works in synctest bubbles. Abort of one end discards what the other has
// not read, as an ABORT may.
func Pipe() (a, b Conn) {
	return pipe(netip.AddrPortFrom(pipeAddr, firstEphemeral), netip.AddrPortFrom(pipeAddr, PortNGAP))
}

func pipe(addrA, addrB netip.AddrPort) (a, b *pipeConn) {
	p := &pipeState{changed: make(chan struct{})}
	a = &pipeConn{p: p, me: 0, local: addrA, remote: addrB}
	b = &pipeConn{p: p, me: 1, local: addrB, remote: addrA}
	return a, b
}

// pipeState is shared by both ends. changed is closed and replaced at each
// change.
type pipeState struct {
	mu      sync.Mutex
	changed chan struct{}
	end     [2]pipeEnd
}

type pipeEnd struct {
	queue  []Message // to be received here
	bytes  int
	closed bool // this side called Close or Abort
	abort  bool // ... Abort
}

func (p *pipeState) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

type pipeConn struct {
	p             *pipeState
	me            int
	local, remote netip.AddrPort
}

func (c *pipeConn) Recv(ctx context.Context) (Message, error) {
	p := c.p
	for {
		p.mu.Lock()
		mine, theirs := &p.end[c.me], &p.end[1-c.me]
		var err error
		switch {
		case mine.closed:
			err = ErrClosed
		case theirs.abort:
			err = &AbortError{Reason: AbortByPeer}
		case len(mine.queue) > 0:
			m := mine.queue[0]
			mine.queue[0] = Message{}
			mine.queue = mine.queue[1:]
			mine.bytes -= len(m.Data)
			p.notify()
			p.mu.Unlock()
			return m, nil
		case theirs.closed:
			err = io.EOF
		}
		changed := p.changed
		p.mu.Unlock()
		if err != nil {
			return Message{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

func (c *pipeConn) Send(ctx context.Context, m Message) error {
	if err := checkMessage(m, maxOutStreams); err != nil {
		return err
	}
	p := c.p
	for {
		p.mu.Lock()
		mine, theirs := &p.end[c.me], &p.end[1-c.me]
		var err error
		switch {
		case mine.closed:
			err = ErrClosed
		case theirs.abort:
			err = &AbortError{Reason: AbortByPeer}
		case theirs.closed:
			err = ErrShutdown
		case theirs.bytes == 0 || theirs.bytes+len(m.Data) <= pipeBuffer:
			m.Data = append([]byte(nil), m.Data...)
			theirs.queue = append(theirs.queue, m)
			theirs.bytes += len(m.Data)
			p.notify()
			p.mu.Unlock()
			return nil
		}
		changed := p.changed
		p.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *pipeConn) Close(context.Context) error {
	c.end(false)
	return nil
}

func (c *pipeConn) Abort() { c.end(true) }

func (c *pipeConn) end(abort bool) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := &p.end[c.me]
	if mine.closed {
		return
	}
	mine.closed, mine.abort = true, abort
	mine.queue, mine.bytes = nil, 0
	p.notify()
}

func (c *pipeConn) LocalAddr() netip.AddrPort  { return c.local }
func (c *pipeConn) RemoteAddr() netip.AddrPort { return c.remote }

// PipeListener accepts what its own Dial opens: both are ends of Pipes. It
// starts no goroutine and works in synctest bubbles.
type PipeListener struct {
	addr    netip.AddrPort
	backlog chan *pipeConn

	mu     sync.Mutex // guards what follows
	next   uint16
	closed bool
	done   chan struct{}
}

var (
	_ Listener = (*PipeListener)(nil)
	_ Dialer   = (*PipeListener)(nil)
)

// NewPipeListener returns a listener that answers to addr.
func NewPipeListener(addr netip.AddrPort) *PipeListener {
	return &PipeListener{addr: addr, backlog: make(chan *pipeConn, backlog), next: firstEphemeral, done: make(chan struct{})}
}

// Accept waits for the next Dial. After Close it returns ErrClosed.
func (l *PipeListener) Accept(ctx context.Context) (Conn, error) {
	select {
	case <-l.done:
		return nil, ErrClosed
	default:
	}
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Addr is what the listener answers to.
func (l *PipeListener) Addr() netip.AddrPort { return l.addr }

// Close aborts the associations not yet accepted.
func (l *PipeListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.closed = true
	close(l.done)
	for {
		select {
		case c := <-l.backlog:
			c.Abort()
		default:
			return nil
		}
	}
}

// Dial opens an association at once; Accept need not be waiting. Another
// address, a closed listener and a full backlog refuse as a host without
// listener does: with ErrAborted.
func (l *PipeListener) Dial(ctx context.Context, addr netip.AddrPort) (Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || addr != l.addr {
		return nil, fmt.Errorf("sctp: dial %s: %w", addr, &AbortError{Reason: AbortByPeer})
	}
	client, server := pipe(netip.AddrPortFrom(pipeAddr, l.next), l.addr)
	select {
	case l.backlog <- server:
	default:
		return nil, fmt.Errorf("sctp: dial %s: %w", addr, &AbortError{Reason: AbortByPeer, Cause: causeOutOfResource})
	}
	if l.next++; l.next < firstEphemeral {
		l.next = firstEphemeral
	}
	return client, nil
}
