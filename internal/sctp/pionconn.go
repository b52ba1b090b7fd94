package sctp

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/pion/logging"
	psctp "github.com/pion/sctp"
)

// pionPort is what pion believes both ports to be.
const pionPort = 5000

// pionConn is what pion takes for its network. pion's read loop calls Read,
// which is therefore also the place to look at what pion made of the packet
// before: no lock of pion's is held there. pion's write loop calls Write.
type pionConn struct {
	a    *assoc
	last inbound // Read's own
	buf  []byte  // Read's own: one message
}

func (c *pionConn) Read(b []byte) (int, error) {
	a := c.a
	c.settle()
	select {
	case <-a.done:
		return 0, io.EOF
	default:
	}
	select {
	case in := <-a.inbox:
		if in.abort != nil {
			a.end(in.abort)
			return 0, io.EOF
		}
		for _, sid := range in.touched {
			// Opened here, a stream does not count against pion's queue of 16
			// unaccepted ones, beyond which it drops DATA.
			_, _ = a.stream(sid)
		}
		c.last = in
		return copy(b, in.raw), nil
	case <-a.done:
		return 0, io.EOF
	}
}

// settle collects what the last packet has brought.
func (c *pionConn) settle() {
	a, last := c.a, c.last
	c.last = inbound{}
	for _, sid := range last.touched { // one each first: that keeps the order of arrival
		c.message(sid)
	}
	for _, sid := range last.touched {
		for c.message(sid) {
		}
	}
	if !last.sack && !last.shutdown {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if last.shutdown && a.recvErr == nil {
		a.recvErr = io.EOF
	}
	a.notifyLocked()
}

// message moves a complete message of a stream to the receive queue, if there is
// one.
func (c *pionConn) message(sid uint16) bool {
	a := c.a
	s, err := a.stream(sid)
	if err != nil {
		return false
	}
	n, ppid, err := s.ReadSCTP(c.buf)
	if errors.Is(err, io.ErrShortBuffer) { // n is its length, and it is still there
		c.buf = make([]byte, n)
		n, ppid, err = s.ReadSCTP(c.buf)
	}
	if err != nil {
		return false
	}
	if sid == trashStream {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopped {
		a.queue = append(a.queue, Message{Stream: sid, PPID: uint32(ppid), Data: slices.Clone(c.buf[:n])})
		a.queued += n
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// stream returns pion's stream, whose ReadSCTP does not wait: its deadline is
// long over.
func (a *assoc) stream(sid uint16) (*psctp.Stream, error) {
	a.streamMu.Lock()
	defer a.streamMu.Unlock()
	if s := a.streams[sid]; s != nil {
		return s, nil
	}
	s, err := a.pion.OpenStream(sid, psctp.PayloadProtocolIdentifier(PPIDNGAP))
	if err != nil {
		return nil, err
	}
	if err := s.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return nil, err
	}
	a.streams[sid] = s
	return s, nil
}

// Write sends a packet of pion's, which is ours to change, under the right ports.
func (c *pionConn) Write(b []byte) (int, error) {
	a := c.a
	select {
	case <-a.done:
		return 0, io.EOF
	default:
	}
	if len(b) > commonHeader && chunkType(b[commonHeader]) == ctHeartbeat {
		// pion probes a quiet path with a HEARTBEAT that lacks its mandatory
		// parameter: Linux answers that with ABORT. supervise sends proper ones.
		return len(b), nil
	}
	putHeader(b, a.key.local, a.key.remote, a.peerTag)
	for rest := b[commonHeader:]; len(rest) >= chunkHeader; {
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < chunkHeader || n > len(rest) {
			break
		}
		switch value := rest[chunkHeader:n]; chunkType(rest[0]) {
		case ctData:
			a.watch.onData(binary.BigEndian.Uint32(value))
		case ctSack:
			a.narrow(value)
		case ctShutdown:
			a.watch.onShutdown()
		case ctShutdownAck:
			a.shutdownAckSent.Store(true)
			a.watch.onShutdown()
		case ctAbort:
			a.violated.Store(true)
		}
		rest = rest[min(padded(n), len(rest)):]
	}
	a.st.write(seal(b), a.local.Addr(), *a.dst.Load())
	return len(b), nil
}

// narrow takes what waits for Recv off the window in a SACK.
func (a *assoc) narrow(sack []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	window := max(int(binary.BigEndian.Uint32(sack[4:]))-a.queued, 0)
	binary.BigEndian.PutUint32(sack[4:], uint32(window))
	a.advertised = window
	a.sack = append(a.sack[:0], sack...)
}

// windowUpdateLocked returns a SACK that opens the window again once Recv has
// made room for half of it: pion would leave that to the peer's probes.
func (a *assoc) windowUpdateLocked() []byte {
	full := a.st.cfg.Window
	if a.sack == nil || a.advertised > full/4 || a.queued > full/2 {
		return nil
	}
	a.advertised = full - a.queued
	return a.sackLocked(a.advertised)
}

// sackLocked is the last SACK with another window and without gap blocks.
func (a *assoc) sackLocked(window int) []byte {
	v := slices.Clone(a.sack[:12])
	binary.BigEndian.PutUint32(v[4:], uint32(window))
	binary.BigEndian.PutUint32(v[8:], 0)
	return v
}

// Close is called by pion once it is through with the association.
func (c *pionConn) Close() error {
	if c.a.violated.Load() {
		c.a.end(&AbortError{Reason: AbortLocal, Cause: causeProtocolViolation})
	} else {
		c.a.end(io.EOF)
	}
	return nil
}

func (c *pionConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.a.LocalAddr()) }
func (c *pionConn) RemoteAddr() net.Addr             { return net.UDPAddrFromAddrPort(c.a.RemoteAddr()) }
func (c *pionConn) SetDeadline(time.Time) error      { return nil }
func (c *pionConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pionConn) SetWriteDeadline(time.Time) error { return nil }

// noLog swallows pion's log, which is one line per chunk; what matters shows in
// Stats and in the errors of Conn.
type noLog struct{}

func (noLog) NewLogger(string) logging.LeveledLogger { return noLog{} }
func (noLog) Trace(string)                           {}
func (noLog) Tracef(string, ...any)                  {}
func (noLog) Debug(string)                           {}
func (noLog) Debugf(string, ...any)                  {}
func (noLog) Info(string)                            {}
func (noLog) Infof(string, ...any)                   {}
func (noLog) Warn(string)                            {}
func (noLog) Warnf(string, ...any)                   {}
func (noLog) Error(string)                           {}
func (noLog) Errorf(string, ...any)                  {}
