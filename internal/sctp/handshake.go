package sctp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Association set-up, RFC 9260 clauses 5.1 and 5.2. We do it ourselves and hand
// pion an association that is already established (its SNAP entry): the server
// side then needs no memory before a valid COOKIE ECHO, a restart can lead to a
// fresh association, and pion never parses an INIT.

// dial is our side of a handshake that we began.
type dial struct {
	key      assocKey
	dst      netip.AddrPort
	init     initChunk
	events   chan struct{} // capacity 1: state has changed
	echo     []byte        // the COOKIE ECHO packet, in state COOKIE-ECHOED
	peer     initChunk     // from INIT ACK
	conn     *assoc        // set at the end
	err      error         // set at the end
	finished bool
}

// fail ends a handshake. The Stack's mutex is held.
func (d *dial) fail(err error) {
	if !d.finished {
		d.finished, d.err = true, err
		d.changed()
	}
}

func (d *dial) changed() {
	select {
	case d.events <- struct{}{}:
	default:
	}
}

func (st *Stack) localInit() initChunk {
	return initChunk{
		tag:      randomTag(),
		window:   uint32(st.cfg.Window),
		outbound: uint16(st.cfg.Streams),
		inbound:  maxInStreams,
		tsn:      randomTag(),
	}
}

// Dial opens an association from an ephemeral port. dst is the peer's address
// with its SCTP port; carrierPort the UDP port there, zero for raw IP. It returns
// ctx.Err(), or an *AbortError: AbortByPeer where the peer refuses, AbortTimeout
// after MaxInit retransmissions.
func (st *Stack) Dial(ctx context.Context, dst netip.AddrPort, carrierPort uint16) (Conn, error) {
	a, err := st.dial(ctx, dst, carrierPort, 0)
	if err != nil {
		return nil, fmt.Errorf("sctp: dial %s: %w", dst, err)
	}
	return a, nil
}

func (st *Stack) dial(ctx context.Context, dst netip.AddrPort, carrierPort, localPort uint16) (*assoc, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ip := dst.Addr().Unmap()
	if !ip.IsValid() || ip.IsUnspecified() || dst.Port() == 0 {
		return nil, errors.New("no such address")
	}
	d := &dial{
		dst:    netip.AddrPortFrom(ip, carrierPort),
		init:   st.localInit(),
		events: make(chan struct{}, 1),
	}
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return nil, ErrClosed
	}
	if localPort == 0 {
		var err error
		if localPort, err = st.freePortLocked(); err != nil {
			st.mu.Unlock()
			return nil, err
		}
	}
	d.key = assocKey{ip, localPort, dst.Port()}
	if st.dials[d.key] != nil || st.assocs[d.key] != nil {
		st.mu.Unlock()
		return nil, errors.New("address in use")
	}
	st.dials[d.key] = d
	st.used[localPort]++
	st.mu.Unlock()
	return st.shakeHands(ctx, d)
}

// shakeHands retransmits INIT and COOKIE ECHO by T1 until the reader has ended
// the handshake.
func (st *Stack) shakeHands(ctx context.Context, d *dial) (*assoc, error) {
	initPacket := newPacket(d.key.local, d.key.remote, 0, initFixed+chunkHeader)
	initPacket = seal(appendChunk(initPacket, ctInit, 0, d.init.append(nil)))
	st.write(initPacket, netip.Addr{}, d.dst)
	rto, tries := st.cfg.RTOInitial, 0
	echoed := false
	t1 := time.NewTimer(rto)
	defer t1.Stop()
	for {
		select {
		case <-d.events:
		case <-t1.C:
			if tries++; tries > st.cfg.MaxInit {
				return st.giveUp(d, &AbortError{Reason: AbortTimeout})
			}
			rto = min(2*rto, st.cfg.RTOMax)
			st.mu.Lock()
			b, dst := d.echo, d.dst
			st.mu.Unlock()
			if b == nil {
				b = initPacket
			}
			st.write(b, netip.Addr{}, dst)
			t1.Reset(rto)
		case <-ctx.Done():
			return st.giveUp(d, ctx.Err())
		}
		st.mu.Lock()
		finished, nowEchoed := d.finished, d.echo != nil
		st.mu.Unlock()
		if finished {
			return st.giveUp(d, nil)
		}
		if nowEchoed && !echoed {
			echoed = true
			rto, tries = st.cfg.RTOInitial, 0
			t1.Reset(rto)
		}
	}
}

// giveUp takes the handshake out and returns its result, or err if it had none.
// A peer that may already have an association gets an ABORT.
func (st *Stack) giveUp(d *dial, err error) (*assoc, error) {
	st.mu.Lock()
	d.fail(err)
	if st.dials[d.key] == d {
		delete(st.dials, d.key)
		st.releaseLocked(d.key.local)
	}
	half, dst := d.conn == nil && d.peer.tag != 0, d.dst
	idle := !st.closed && st.idleLocked()
	st.mu.Unlock()
	if half {
		st.abort(d.key, d.peer.tag, 0, causeUserAbort, netip.Addr{}, dst)
	}
	if idle {
		_ = st.carrier.Close()
	}
	return d.conn, d.err
}

// abort sends an ABORT with one cause; zero for none.
func (st *Stack) abort(k assocKey, tag uint32, flags uint8, cause uint16, src netip.Addr, dst netip.AddrPort) {
	var v []byte
	if cause != 0 {
		v = appendTLV(nil, cause, nil)
	}
	st.write(seal(appendChunk(newPacket(k.local, k.remote, tag, 2*chunkHeader), ctAbort, flags, v)), src, dst)
}

// onInit answers INIT statelessly: clause 5.1 B, 5.2.1 and 5.2.2.
func (st *Stack) onInit(k assocKey, p packet, from netip.AddrPort, to netip.Addr) {
	if p.tag != 0 { // clause 8.5.1 A)
		st.count.malformed.Add(1)
		return
	}
	peer, params, no := parseInit(p.chunks[0].value)
	if no != nil {
		st.count.malformed.Add(1)
		if !no.drop && st.answersFor(k.local) {
			st.count.refused.Add(1)
			b := newPacket(k.local, k.remote, peer.tag, chunkHeader+len(no.cause))
			st.write(seal(appendChunk(b, ctAbort, 0, no.cause)), to, from)
		}
		return
	}
	c := cookie{issued: time.Now(), peer: k.peer, local: k.local, remote: k.remote, peerTag: peer.tag, peerInit: peer}
	mine := st.localInit()
	st.mu.Lock()
	a, d, l := st.assocs[k], st.dials[k], st.listeners[k.local]
	st.mu.Unlock()
	switch {
	case d != nil: // clause 5.2.1: both sides dial; the tag must not change
		st.count.duplicateInits.Add(1)
		mine.tag, mine.tsn = d.init.tag, d.init.tsn
		c.localTie, c.peerTie = d.init.tag, d.peer.tag
	case a != nil && l != nil: // clause 5.2.2: perhaps a restart
		st.count.duplicateInits.Add(1)
		c.localTie, c.peerTie = a.myTag, a.peerTag
	case l != nil:
	default: // clause 8.4 rule 3: nobody listens
		if st.answersFor(k.local) {
			st.count.refused.Add(1)
			st.abort(k, peer.tag, 0, 0, to, from)
		}
		return
	}
	mine.outbound = min(mine.outbound, peer.inbound)
	c.localTag, c.localTSN = mine.tag, mine.tsn
	value := initAckValue(mine, c.seal(st.secret), params.report)
	if chunkHeader+len(value) > maxPacket-commonHeader {
		st.count.malformed.Add(1)
		return
	}
	b := newPacket(k.local, k.remote, peer.tag, chunkHeader+len(value))
	st.write(seal(appendChunk(b, ctInitAck, 0, value)), to, from)
}

// onCookieEcho ends a handshake on the side that was called: clauses 5.1.5 and
// 5.2.4.
func (st *Stack) onCookieEcho(k assocKey, p packet, from netip.AddrPort, to netip.Addr) {
	c, ok := openCookie(p.chunks[0].value, st.secret)
	if !ok || c.peer != k.peer || c.local != k.local || c.remote != k.remote || c.localTag != p.tag {
		st.count.badCookie.Add(1)
		return
	}
	age := time.Since(c.issued)
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return
	}
	a, d, l := st.assocs[k], st.dials[k], st.listeners[k.local]
	duplicate := a != nil && a.myTag == c.localTag && a.peerTag == c.peerTag // 5.2.4 D)
	restart := a != nil && a.myTag != c.localTag && a.peerTag != c.peerTag &&
		c.localTie == a.myTag && c.peerTie == a.peerTag // 5.2.4 A)
	met := d != nil && d.init.tag == c.localTag // 5.2.4 B): the peer's call and ours have met
	var refused uint16
	switch {
	case duplicate:
	case a != nil && !restart: // B) and C): left from another handshake
		st.mu.Unlock()
		st.count.badCookie.Add(1)
		return
	case age > cookieLife || age < 0:
		st.mu.Unlock()
		st.count.badCookie.Add(1)
		staleness := binary.BigEndian.AppendUint32(nil, uint32(min((age-cookieLife).Microseconds(), 1<<31)))
		st.sendError(k, c.peerTag, appendTLV(nil, causeStaleCookie, staleness), to, from)
		return
	case restart && a.shutdownAckSent.Load():
		st.mu.Unlock()
		st.sendError(k, c.peerTag, appendTLV(nil, causeShuttingDown, nil), to, from)
		return
	case !met && (l == nil || len(l.ready) == cap(l.ready)):
		refused = causeOutOfResource
	}
	if refused != 0 {
		st.mu.Unlock()
		st.count.refused.Add(1)
		st.abort(k, c.peerTag, 0, refused, to, from)
		return
	}
	old := a
	if !duplicate {
		mine := initChunk{tag: c.localTag, tsn: c.localTSN, window: uint32(st.cfg.Window), outbound: uint16(st.cfg.Streams), inbound: maxInStreams}
		var err error
		if a, err = st.establishLocked(k, mine, c.peerInit, from, to); err != nil {
			st.mu.Unlock()
			st.cfg.Log.Error("sctp association not established", "conn", k.peer, "error", err)
			return
		}
		if met {
			st.finishDialLocked(d, a)
		} else {
			l.ready <- a // there is room: only this goroutine adds
		}
	}
	st.mu.Unlock()
	if restart {
		st.count.restarts.Add(1)
		old.end(&AbortError{Reason: AbortRestart})
	}
	ack := newPacket(k.local, k.remote, c.peerTag, chunkHeader)
	st.write(seal(appendChunk(ack, ctCookieAck, 0, nil)), to, from)
	a.input(p, p.chunks[1:], from)
}

func (st *Stack) sendError(k assocKey, tag uint32, cause []byte, src netip.Addr, dst netip.AddrPort) {
	b := newPacket(k.local, k.remote, tag, chunkHeader+len(cause))
	st.write(seal(appendChunk(b, ctError, 0, cause)), src, dst)
}

// onDialPacket moves a handshake that we began: clauses 5.1 C and E.
func (st *Stack) onDialPacket(d *dial, p packet, from netip.AddrPort, to netip.Addr) {
	first := p.chunks[0]
	reflected := first.typ == ctAbort && first.flags&flagT != 0
	st.mu.Lock()
	defer func() {
		// What rode behind the COOKIE ACK belongs to the association.
		a := d.conn
		st.mu.Unlock()
		if a != nil && first.typ == ctCookieAck {
			a.input(p, p.chunks[1:], from)
		}
	}()
	fits := p.tag == d.init.tag
	if reflected {
		fits = p.tag == d.peer.tag && p.tag != 0 || p.tag == 0 && d.peer.tag == 0
	}
	if !fits {
		st.count.badTag.Add(1)
		return
	}
	switch {
	case d.finished:
	case first.typ == ctAbort:
		d.fail(&AbortError{Reason: AbortByPeer, Cause: firstCause(first.value)})
	case first.typ == ctInitAck && d.echo == nil:
		peer, params, no := parseInit(first.value)
		if no == nil && params.cookie == nil {
			no = &refusal{cause: appendTLV(nil, 2, []byte{0, 0, 0, 1, 0, paramCookie})} // Missing Mandatory Parameter
		}
		if no != nil {
			st.count.malformed.Add(1)
			if !no.drop {
				b := newPacket(d.key.local, d.key.remote, peer.tag, chunkHeader+len(no.cause))
				st.write(seal(appendChunk(b, ctAbort, 0, no.cause)), to, from)
				d.fail(&AbortError{Reason: AbortLocal})
			}
			return
		}
		d.peer = peer
		d.dst = from // the peer's UDP port may differ from the one we called (RFC 6951 clause 5.4)
		b := newPacket(d.key.local, d.key.remote, peer.tag, chunkHeader+len(params.cookie)+len(params.report))
		b = appendChunk(b, ctCookieEcho, 0, params.cookie)
		if len(params.report) > 0 {
			b = appendChunk(b, ctError, 0, appendTLV(nil, causeUnrecognizedParams, params.report))
		}
		d.echo = seal(b)
		st.write(d.echo, to, from)
		d.changed()
	case first.typ == ctCookieAck && d.echo != nil:
		a, err := st.establishLocked(d.key, d.init, d.peer, from, to)
		if err != nil {
			d.fail(err)
			return
		}
		st.finishDialLocked(d, a)
	case first.typ == ctError && firstCause(first.value) == causeStaleCookie:
		// Clause 5.2.6 option 1: ask for a new cookie with a new INIT.
		d.echo, d.peer = nil, initChunk{}
	}
}

func (st *Stack) finishDialLocked(d *dial, a *assoc) {
	d.conn, d.finished = a, true
	d.changed()
	delete(st.dials, d.key)
	st.releaseLocked(d.key.local)
}
