package relay

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// pair is the state of one link or task on a loop, which alone touches it. It has no pointer:
// the collector does not look at slabs of it.
type pair struct {
	fd   [2]int32 // a and b
	half [2]half  // a to b, b to a
	side [2]side  // a, b
	// generation tells events of this link from those of the one that had the slot
	// before.
	generation     uint32
	next, previous uint32 // at the same tick of a wheel, or next in the list of free slots
	tick           uint8  // of the idle wheel, or of that of tasks, or noTick
	tunnel         int8   // the side that another relay is at, if frames are spoken there, or noSide
	cut            bool   // a was reset, and the pair waits in loop.dying
	moved          int64  // by the loop's clock: when bytes moved last, or a task's deadline
}

// half is one direction of a pair.
type half struct {
	pipe    int32  // holds pending bytes, or noPipe
	pending uint32 // bytes read and not yet written: in pipe, or in loop.spilled
	bulk    bool   // splice the next bytes: the last were many
	eof     bool   // the source has sent FIN
	ended   bool   // and so have we
	queued  bool   // in loop.again
	framing
}

// noSide is the side of a pair without frames.
const noSide = -1

// wraps reports whether what direction d writes goes into frames.
func (p *pair) wraps(d int) bool { return p.half[d].framed && p.tunnel == int8(1-d) }

// side is what is known of one socket.
type side struct {
	readable, writable bool
	// over means that the socket has said FIN or failed: a short read is not the last
	// thing to be read.
	over   bool
	failed bool // an event said so; socketError has not been asked yet
}

// spliceMin is from how many bytes at once on a splice is cheaper than a copy; also
// for the goroutines.
const spliceMin = 16 << 10

// rounds is how often a direction may move bytes before others have their turn.
const rounds = 16

// outcome is what a pump leaves behind.
type outcome uint8

const (
	waits outcome = iota // for an event
	more                 // there is more to do
	ended                // the pair is gone
)

// pump moves the bytes of one direction, d being its source, until there is nothing to
// move, no room, or others must have their turn.
func (l *loop) pump(i uint32, p *pair, d int) outcome {
	h := &p.half[d]
	if h.ended {
		return waits
	}
	from, to := &p.side[d], &p.side[1-d]
	for range rounds {
		if h.pending > 0 {
			if !to.writable {
				return waits
			}
			if e := l.flush(i, p, d); e != 0 {
				return l.failed(i, p, 1-d, "send", e)
			}
			continue
		}
		if h.eof {
			l.unpipe(h)
			return l.end(i, p, d)
		}
		if !from.readable || !to.writable {
			l.unpipe(h)
			return waits
		}
		var n int
		var e syscall.Errno
		var call string
		if h.bulk && !h.framed && l.pipe(h) {
			call = "splice"
			n, e = l.fill(p, d)
		} else {
			call = "recv"
			var sendError syscall.Errno
			n, e, sendError = l.copy(i, p, d)
			if sendError != 0 {
				return l.failed(i, p, 1-d, "send", sendError)
			}
		}
		switch {
		case e == unix.EAGAIN:
			from.readable = false
		case e != 0:
			return l.failed(i, p, d, call, e)
		case n == 0:
			h.eof = true
		default:
			h.bulk = n >= spliceMin
			p.moved = l.now
		}
	}
	return more
}

// fill splices from the source to h's pipe, which is empty.
func (l *loop) fill(p *pair, d int) (int, syscall.Errno) {
	h := &p.half[d]
	pipe := &l.pipes.all[h.pipe]
	n, e := spliceNow(p.fd[d], pipe.w, int(pipe.size))
	if e == 0 {
		h.pending = uint32(n)
	}
	return n, e
}

// copy receives into the loop's buffer and sends what it received. What cannot be sent
// now becomes pending.
func (l *loop) copy(i uint32, p *pair, d int) (n int, recvError, sendError syscall.Errno) {
	h, room, wraps := &p.half[d], l.buffer, p.wraps(d)
	if wraps {
		room = room[frameHead:]
	}
	n, e := receiveNow(p.fd[d], room)
	switch {
	case e != 0:
		return 0, e, 0
	case n == 0 && h.framed && !wraps: // the other relay has gone
		return 0, unix.ECONNRESET, 0
	case n == 0:
		return 0, 0, 0
	}
	if from := &p.side[d]; n < len(room) && !from.over {
		from.readable = false // drained: the next byte is an event
	}
	b, head := room[:n], 0
	switch {
	case wraps:
		b, head = l.buffer[:frameHead+n], frameHead
		h.wrap(b, n)
	case h.framed:
		if b, h.eof, e = h.unwrap(b); e != 0 {
			return 0, e, 0
		}
		if len(b) == 0 {
			return n, 0, 0
		}
	}
	return n, 0, l.put(i, p, d, b, head)
}

// put sends bytes that a direction has, of which the first are no payload. What cannot be
// sent now becomes pending.
func (l *loop) put(i uint32, p *pair, d int, b []byte, head int) syscall.Errno {
	n, e := sendNow(p.fd[1-d], b)
	switch {
	case e == unix.EAGAIN:
		n = 0
	case e != 0:
		return e
	}
	l.count(i, d, max(n-head, 0))
	if n < len(b) {
		p.side[1-d].writable = false
		p.half[d].owed = uint8(max(head-n, 0))
		l.keep(i, p, d, b[n:])
	}
	return 0
}

// keep keeps bytes that the destination does not take now.
func (l *loop) keep(i uint32, p *pair, d int, b []byte) {
	h := &p.half[d]
	h.pending = uint32(len(b))
	if l.pipe(h) {
		// An empty pipe of at least this size takes all of it.
		if n, e := writeNow(l.pipes.all[h.pipe].w, b); e == 0 && n == len(b) {
			return
		}
		l.pipes.release(h.pipe, false)
		h.pipe = noPipe
	}
	l.spilled[spillKey(i, d)] = slices.Clone(b)
}

func spillKey(i uint32, d int) uint64 { return uint64(i)<<1 | uint64(d) }

// flush writes pending bytes to the destination.
func (l *loop) flush(i uint32, p *pair, d int) syscall.Errno {
	h := &p.half[d]
	var n int
	var e syscall.Errno
	var rest []byte
	if h.pipe != noPipe {
		n, e = spliceNow(l.pipes.all[h.pipe].r, p.fd[1-d], int(h.pending))
	} else {
		rest = l.spilled[spillKey(i, d)]
		n, e = sendNow(p.fd[1-d], rest)
	}
	switch {
	case e == unix.EAGAIN:
		p.side[1-d].writable = false
		return 0
	case e != 0:
		return e
	}
	h.pending -= uint32(n)
	head := min(n, int(h.owed))
	h.owed -= uint8(head)
	l.count(i, d, n-head)
	p.moved = l.now
	if rest == nil {
		return 0
	}
	if h.pending == 0 {
		delete(l.spilled, spillKey(i, d))
	} else {
		l.spilled[spillKey(i, d)] = rest[n:]
	}
	return 0
}

// pipe makes sure that h has one, and reports whether it could.
func (l *loop) pipe(h *half) bool {
	if h.pipe == noPipe {
		h.pipe = l.pipes.take()
	}
	return h.pipe != noPipe
}

// unpipe gives h's pipe back.
func (l *loop) unpipe(h *half) {
	if h.pipe != noPipe {
		l.pipes.release(h.pipe, h.pending == 0)
		h.pipe = noPipe
	}
}

func (l *loop) count(i uint32, d, n int) {
	link := l.links[i]
	link.counters.add(d, n)
	if link.total != nil {
		link.total.add(d, n)
	}
}

// end passes the end of a direction on. When both have ended the pair is over.
func (l *loop) end(i uint32, p *pair, d int) outcome {
	h, last := &p.half[d], p.half[1-d].ended
	switch {
	case p.wraps(d):
		if h.said {
			break
		}
		h.said = true
		b := frames(frameFin, frameFree)
		if h.free = last && p.tunnel == atOuter && p.half[1-d].framed; !h.free {
			b = b[:frameHead]
		}
		if e := l.put(i, p, d, b, len(b)); e != 0 {
			return l.failed(i, p, 1-d, "send", e)
		}
		if h.pending > 0 {
			return waits
		}
	case last: // closing sends this FIN
	default:
		if e := finishNow(p.fd[1-d]); e != 0 {
			if pending := socketError(p.fd[1-d]); pending != 0 {
				e = pending // what made it fail, as a reset
			}
			return l.failed(i, p, 1-d, "shutdown", e)
		}
	}
	h.ended = true
	if !last {
		return waits
	}
	l.over(i, p)
	return ended
}

// over closes a pair of which both directions have ended, but for the connection to another
// relay, if it can be used again.
func (l *loop) over(i uint32, p *pair) {
	side := p.tunnel
	again := side != noSide && p.half[0].framed && p.half[1].framed && !p.half[side].begun
	if again && side == atOuter && !p.half[1-side].free { // or it went with fin
		n, e := sendNow(p.fd[side], frames(frameFree))
		again = e == 0 && n == frameHead
	}
	if !again {
		closeFD(p.fd[0])
		closeFD(p.fd[1])
		l.remove(i, p, Closed, nil)
		return
	}
	closeFD(p.fd[1-side])
	l.links[i].kept.keep(l, i, p)
}

// failed resets both sides after a failure of one.
func (l *loop) failed(i uint32, p *pair, side int, call string, e syscall.Errno) outcome {
	cause := ResetA
	if side == 1 {
		cause = ResetB
	}
	l.abort(i, p, cause, callError(call, e))
	return ended
}

// abort resets both sides.
func (l *loop) abort(i uint32, p *pair, c Cause, err error) {
	abortFD(p.fd[0])
	abortFD(p.fd[1])
	l.remove(i, p, c, err)
}
