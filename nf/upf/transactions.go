package upf

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// exchange names a request and its response (TS 29.244 clause 6.4).
type exchange struct {
	peer     netip.AddrPort
	sequence uint32
}

// pending is a request of ours that waits for its response.
type pending struct {
	data  []byte
	sent  int
	timer *timer
	done  func(m pfcp.Message, now time.Time) // m is nil if no response came
}

// answered is a request of a peer's with the response that it got.
type answered struct {
	request  pfcp.MessageType
	response []byte
}

// call is a decoded message and its sender.
type call struct {
	from   netip.AddrPort
	header pfcp.Header
	now    time.Time
}

// receive handles one datagram.
func (u *UPF) receive(p packet, now time.Time) {
	h, m, err := pfcp.Decode(p.data)
	if err != nil {
		u.malformed(p.from, err, now)
		return
	}
	c := call{from: p.from, header: h, now: now}
	u.count.Received++
	if _, request := h.Type.Response(); request {
		u.request(c, m)
	} else {
		u.response(c, m)
	}
}

// request answers a request of a peer's; one that it has sent again gets the same
// response again (TS 29.244 clause 6.4).
func (u *UPF) request(c call, m pfcp.Message) {
	key := exchange{c.from, c.header.Sequence}
	if a, ok := u.answered[key]; ok && a.request == c.header.Type {
		u.count.Retransmissions++
		u.write(c.from, a.response)
		return
	}
	p, ok := procedures[c.header.Type]
	if !ok {
		u.count.Unexpected++
		return
	}
	answer, seid := p(u, c, m)
	u.answer(c, answer, seid)
}

// answer sends a response and remembers it for as long as its request may come
// again.
func (u *UPF) answer(c call, m pfcp.Message, seid ident.SEID) {
	b, err := pfcp.Encode(pfcp.Header{SEID: seid, Sequence: c.header.Sequence}, m)
	if err != nil {
		u.count.Internal++
		u.log.Error("encode PFCP response", "error", err)
		return
	}
	key := exchange{c.from, c.header.Sequence}
	a := &answered{request: c.header.Type, response: b}
	u.answered[key] = a
	u.timers.add(c.now.Add(u.cfg.T1*time.Duration(u.cfg.N1+2)), func(time.Time) {
		if u.answered[key] == a {
			delete(u.answered, key)
		}
	})
	u.write(c.from, b)
}

// response gives a response to the request that waits for it.
func (u *UPF) response(c call, m pfcp.Message) {
	key := exchange{c.from, c.header.Sequence}
	p, ok := u.pending[key]
	if !ok {
		u.count.Unexpected++
		return
	}
	delete(u.pending, key)
	u.timers.stop(p.timer)
	p.done(m, c.now)
}

// send sends a request of ours and calls done in the N4 loop with the response, or
// with nil once N1 attempts have gone unanswered for T1 each.
func (u *UPF) send(to netip.AddrPort, seid ident.SEID, m pfcp.Message, now time.Time, done func(pfcp.Message, time.Time)) {
	u.sequence = (u.sequence + 1) & 0xffffff
	b, err := pfcp.Encode(pfcp.Header{SEID: seid, Sequence: u.sequence}, m)
	if err != nil {
		u.count.Internal++
		u.log.Error("encode PFCP request", "error", err)
		done(nil, now)
		return
	}
	key := exchange{to, u.sequence}
	p := &pending{data: b, done: done}
	u.pending[key] = p
	u.attempt(key, p, now)
}

func (u *UPF) attempt(key exchange, p *pending, now time.Time) {
	if p.sent == u.cfg.N1 {
		delete(u.pending, key)
		u.count.RequestsUnanswered++
		p.done(nil, now)
		return
	}
	p.sent++
	u.write(key.peer, p.data)
	p.timer = u.timers.add(now.Add(u.cfg.T1), func(now time.Time) { u.attempt(key, p, now) })
}

func (u *UPF) write(to netip.AddrPort, b []byte) {
	_, err := u.n4.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: to}})
	switch {
	case err == nil:
		u.count.Sent++
	case errors.Is(err, net.ErrClosed): // the UPF stops: nobody is to know
	default:
		u.count.SendFailed++
		u.warnOnce("send N4", "peer", to, "error", err)
	}
}

// malformed answers what could not be decoded as TS 29.244 clause 7.6 says.
func (u *UPF) malformed(from netip.AddrPort, err error, now time.Time) {
	u.count.Malformed++
	u.warnOnce("malformed PFCP message", "peer", from, "error", err)
	e, ok := errors.AsType[*pfcp.DecodeError](err)
	if !ok {
		return
	}
	c := call{from: from, header: e.Header, now: now}
	switch {
	case errors.Is(err, pfcp.ErrTooShort), errors.Is(err, pfcp.ErrUnknownType):
		return
	case errors.Is(err, pfcp.ErrVersion):
		if e.Header.Type != pfcp.TypeVersionNotSupported {
			u.answer(c, &pfcp.VersionNotSupported{}, 0)
		}
		return
	}
	if _, request := e.Header.Type.Response(); !request {
		return
	}
	if m := u.reject(e.Header.Type, e.Cause, e.OffendingIE); m != nil {
		u.answer(c, m, u.peerSEID(c))
	}
}

// reject is the response to a request of type t that is not accepted; nil if its
// response has no cause.
func (u *UPF) reject(t pfcp.MessageType, cause pfcp.Cause, ie uint16) pfcp.Message {
	switch t {
	case pfcp.TypeAssociationSetupRequest:
		return &pfcp.AssociationSetupResponse{Node: u.node, Cause: cause, Recovery: u.recovery}
	case pfcp.TypeAssociationReleaseRequest:
		return &pfcp.AssociationReleaseResponse{Node: u.node, Cause: cause}
	case pfcp.TypeSessionEstablishmentRequest:
		return &pfcp.SessionEstablishmentResponse{Node: u.node, Cause: cause, OffendingIE: ie}
	case pfcp.TypeSessionModificationRequest:
		return &pfcp.SessionModificationResponse{Cause: cause, OffendingIE: ie}
	case pfcp.TypeSessionDeletionRequest:
		return &pfcp.SessionDeletionResponse{Cause: cause}
	}
	return nil
}

// peerSEID is the CP function's SEID of the session that a request is in, 0 if there is
// none (TS 29.244 clause 7.2.2.4.2).
func (u *UPF) peerSEID(c call) ident.SEID {
	if s := u.sessionOf(c); s != nil {
		return s.cp.SEID
	}
	return 0
}
