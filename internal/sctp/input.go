package sctp

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// trashStream receives, unordered, what came on a stream that does not exist:
// pion then acknowledges its TSN, as clause 6.5 wants.
const trashStream = 65535

// pionPacket is the size of the buffer into which pion reads.
const pionPacket = 8192

// inbound is a packet on its way to pion, and what happens once pion has
// worked on it.
type inbound struct {
	raw      []byte
	touched  []uint16 // streams of its DATA, in order
	sack     bool     // send space may have grown
	shutdown bool     // nothing more will come
	abort    *AbortError
}

// input takes the chunks of a packet whose tag was checked. It runs on the
// Stack's goroutine. pion sees only DATA, SACK and the three SHUTDOWN chunks, in
// the form that it accepts: it drops a whole packet for one chunk type that it
// does not know (HEARTBEAT ACK is one), for padding that is not zero, and it does
// not look at verification tags.
func (a *assoc) input(p packet, chunks []chunk, from netip.AddrPort) {
	if old := *a.dst.Load(); old != from {
		a.dst.Store(&from) // the UDP port moved: RFC 6951 clause 5.4
	}
	out := a.start(p)
	for _, c := range chunks {
		ok := true
		switch c.typ {
		case ctData:
			ok = a.inputData(p, &out, c)
		case ctSack:
			if ok = sackFits(c.value); ok {
				a.watch.onSack(binary.BigEndian.Uint32(c.value))
				out.sack = true
				a.forward(p, &out, c)
			}
		case ctHeartbeat: // clause 8.3: returned unchanged
			a.writeChunk(ctHeartbeatAck, 0, c.value)
		case ctHeartbeatAck:
			a.watch.onHeartbeatAck(c.value)
		case ctAbort:
			out.abort = &AbortError{Reason: AbortByPeer, Cause: firstCause(c.value)}
			a.push(out)
			return
		case ctShutdown:
			if ok = len(c.value) == 4; ok {
				a.watch.onSack(binary.BigEndian.Uint32(c.value))
				out.sack, out.shutdown = true, true
				a.forward(p, &out, c)
			}
		case ctShutdownAck, ctShutdownComplete:
			c.value = nil
			a.forward(p, &out, c)
		case ctError:
			a.st.cfg.Log.Debug("sctp peer reports an error", "conn", a.RemoteAddr(), "cause", firstCause(c.value))
		case ctInit, ctInitAck, ctCookieEcho, ctCookieAck: // late or misplaced: clause 5.2
		default:
			if !a.unknown(c) {
				a.push(out)
				return
			}
		}
		if !ok {
			a.st.count.malformed.Add(1)
		}
		select {
		case <-a.done:
			return
		default:
		}
	}
	a.push(out)
}

func (a *assoc) start(p packet) inbound {
	return inbound{raw: newPacket(pionPort, pionPort, p.tag, 512)}
}

// forward adds a chunk for pion, in a further packet if it does not fit.
func (a *assoc) forward(p packet, out *inbound, c chunk) bool {
	size := padded(chunkHeader + len(c.value))
	if commonHeader+size > pionPacket {
		return false
	}
	if len(out.raw)+size > pionPacket {
		later := a.start(p)
		later.touched, later.sack, later.shutdown = out.touched, out.sack, out.shutdown
		out.touched, out.sack, out.shutdown = nil, false, false
		a.push(*out)
		*out = later
	}
	out.raw = appendChunk(out.raw, c.typ, c.flags, c.value)
	return true
}

// push queues a packet for pion. SCTP repairs what is dropped here.
func (a *assoc) push(in inbound) {
	if len(in.raw) == commonHeader && in.abort == nil {
		return
	}
	seal(in.raw)
	select {
	case a.inbox <- in:
	default:
		a.st.count.overrun.Add(1)
		if in.abort != nil { // nobody repeats an ABORT
			a.end(in.abort)
		}
	}
}

// inputData asks pion to acknowledge at once (RFC 7053): it would wait 200 ms,
// and a peer with Nagle's algorithm with it.
func (a *assoc) inputData(p packet, out *inbound, c chunk) bool {
	const fixed = 12 // TSN, stream, stream sequence number, PPID
	if len(c.value) <= fixed {
		if len(c.value) == fixed { // clause 6.2: DATA without data
			a.writeChunk(ctAbort, 0, appendTLV(nil, causeNoUserData, c.value[:4]))
			a.end(&AbortError{Reason: AbortLocal, Cause: causeNoUserData})
		}
		return false
	}
	c.flags = c.flags&(flagEnd|flagBegin|flagUnordered) | flagImmediate
	sid := binary.BigEndian.Uint16(c.value[4:])
	if sid >= maxInStreams { // clause 6.5
		a.st.count.malformed.Add(1)
		a.writeChunk(ctError, 0, appendTLV(nil, causeInvalidStream, []byte{c.value[4], c.value[5], 0, 0}))
		sid = trashStream
		c.value = slices.Clone(c.value)
		binary.BigEndian.PutUint16(c.value[4:], sid)
		c.flags = flagEnd | flagBegin | flagUnordered | flagImmediate
	}
	if sack := a.park(p, sid, c); sack != nil {
		a.writeChunk(ctSack, 0, sack)
		return true
	}
	out.touched = append(out.touched, sid)
	return a.forward(p, out, c)
}

// park keeps DATA from pion while Recv has left no room: it is a probe of the
// closed window, or of a peer that ignores it. The first such chunk waits for
// room, others are dropped. Either gets the SACK that park returns, since silence
// would count as loss. With room it returns nil.
func (a *assoc) park(p packet, sid uint16, c chunk) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.queued < a.st.cfg.Window || a.sack == nil {
		return nil
	}
	if a.parked == nil {
		in := a.start(p)
		if a.forward(p, &in, c) {
			in.touched = []uint16{sid}
			a.parked = &in
		}
	} else {
		a.st.count.overrun.Add(1)
	}
	a.advertised = 0
	return a.sackLocked(0)
}

func sackFits(v []byte) bool {
	if len(v) < 12 {
		return false
	}
	gaps, dups := int(binary.BigEndian.Uint16(v[8:])), int(binary.BigEndian.Uint16(v[10:]))
	return len(v) == 12+4*gaps+4*dups
}

// unknown treats a chunk of unknown type by its two highest bits, clause 3.2. It
// reports whether the rest of the packet counts.
func (a *assoc) unknown(c chunk) bool {
	a.st.count.unknown.Add(1)
	if c.typ&unknownReport != 0 {
		whole := appendChunk(nil, c.typ, c.flags, c.value)
		whole = whole[:min(len(whole), a.st.cfg.MTU-commonHeader-2*chunkHeader)]
		a.writeChunk(ctError, 0, appendTLV(nil, causeUnrecognizedChunk, whole))
	}
	return c.typ&unknownProceed != 0
}
