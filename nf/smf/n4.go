package smf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// n4 is the PFCP transaction layer (TS 29.244 clause 6.4): it numbers and repeats
// requests, pairs responses with them by peer and sequence number, and answers
// what cannot be understood. Any goroutine may send; one goroutine reads.
type n4 struct {
	conn     dgram.Conn
	t1       time.Duration
	n1       int
	log      *slog.Logger
	recovery time.Time
	node     pfcp.NodeID

	counters n4Counters

	mu       sync.Mutex // guards what follows
	sequence uint32
	pending  map[transaction]awaited
	answers  map[transaction]*answer // to requests of UPFs, for repeats of them
	order    []transaction           // of answers, oldest first
	loggedAt map[netip.Addr]bool     // peers whose malformed messages were logged
}

// awaited is where the response to a request goes.
type awaited struct {
	typ pfcp.MessageType
	to  chan<- pfcp.Message
}

type transaction struct {
	peer netip.AddrPort
	seq  uint32
}

// answer to a request; bytes is nil while the request is being worked on.
type answer struct{ bytes []byte }

// maxAnswers is how many answers are kept for repeated requests.
const maxAnswers = 1024

type n4Counters struct {
	sent, retransmitted, timeouts, received, malformed, unmatched, unknownPeer, repeated atomic.Uint64
}

func newN4(conn dgram.Conn, t Timers, log *slog.Logger, node pfcp.NodeID, recovery time.Time, sequence uint32) *n4 {
	return &n4{
		conn: conn, t1: t.T1, n1: t.N1, log: log, node: node, recovery: recovery, sequence: sequence,
		pending: map[transaction]awaited{}, answers: map[transaction]*answer{}, loggedAt: map[netip.Addr]bool{},
	}
}

// request sends m until it is answered, N1 times at most and T1 apart. It blocks
// until the response, ErrTimeout, or the end of ctx.
func (n *n4) request(ctx context.Context, peer netip.AddrPort, seid ident.SEID, m pfcp.Message) (pfcp.Message, error) {
	got := make(chan pfcp.Message, 1)
	n.mu.Lock()
	n.sequence = (n.sequence + 1) & 0xffffff
	key := transaction{peer, n.sequence}
	typ, _ := m.Type().Response()
	n.pending[key] = awaited{typ, got}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.pending, key)
		n.mu.Unlock()
	}()

	b, err := pfcp.Encode(pfcp.Header{SEID: seid, Sequence: key.seq}, m)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(n.t1)
	defer timer.Stop()
	for i := range n.n1 {
		if i > 0 {
			n.counters.retransmitted.Add(1)
			timer.Reset(n.t1)
		}
		n.counters.sent.Add(1)
		n.write(peer, b)
		select {
		case r := <-got:
			return r, nil
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.counters.timeouts.Add(1)
	return nil, fmt.Errorf("%s to %s: %w", m.Type(), peer, ErrTimeout)
}

// respond answers a UPF's request and remembers the answer for its repeats.
func (n *n4) respond(to transaction, seid ident.SEID, m pfcp.Message) {
	b, err := pfcp.Encode(pfcp.Header{SEID: seid, Sequence: to.seq}, m)
	if err != nil {
		n.log.Error("pfcp response not encodable", "error", err)
		return
	}
	n.mu.Lock()
	if a := n.answers[to]; a != nil {
		a.bytes = b
	}
	n.mu.Unlock()
	n.write(to.peer, b)
}

// write sends one datagram. Loss is what retransmission is for.
func (n *n4) write(peer netip.AddrPort, b []byte) {
	if _, err := n.conn.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: peer}}); err != nil && !errors.Is(err, net.ErrClosed) {
		n.log.Debug("pfcp send failed", "peer", peer, "error", err)
	}
}

// forget drops remembered answers to a peer that started anew, and with it its
// sequence numbers.
func (n *n4) forget(peer netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := n.order[:0]
	for _, t := range n.order {
		if t.peer.Addr() == peer {
			delete(n.answers, t)
		} else {
			kept = append(kept, t)
		}
	}
	n.order = kept
}

// read delivers requests to handle until the socket is closed, and with them
// responses to session establishments that nobody waits for any more: they may have
// left something behind at the UPF.
func (n *n4) read(handle func(transaction, pfcp.Header, pfcp.Message)) error {
	ds := make([]dgram.Datagram, 32)
	for i := range ds {
		ds[i].Buf = make([]byte, 65535)
	}
	for {
		got, err := n.conn.ReadBatch(ds)
		if err != nil {
			return err
		}
		for _, d := range ds[:got] {
			n.datagram(d.Buf[:d.N], netip.AddrPortFrom(d.Addr.Addr().Unmap(), d.Addr.Port()), handle)
		}
	}
}

func (n *n4) datagram(b []byte, peer netip.AddrPort, handle func(transaction, pfcp.Header, pfcp.Message)) {
	n.counters.received.Add(1)
	h, m, err := pfcp.Decode(b)
	t := transaction{peer, h.Sequence}
	if err != nil {
		n.malformed(t, err)
		return
	}
	if _, request := h.Type.Response(); !request {
		n.mu.Lock()
		w, ok := n.pending[t]
		ok = ok && w.typ == h.Type
		if ok {
			delete(n.pending, t)
		}
		n.mu.Unlock()
		if !ok {
			n.counters.unmatched.Add(1)
			if h.Type == pfcp.TypeSessionEstablishmentResponse {
				handle(t, h, m)
			}
			return
		}
		w.to <- m
		return
	}
	// Only session reports change anything when they are handled twice; node
	// messages are answered afresh, as their content may have changed.
	if h.Type == pfcp.TypeSessionReportRequest && n.repeat(t) {
		return
	}
	handle(t, h, m)
}

// repeat reports whether a request was seen before, and answers it again.
func (n *n4) repeat(t transaction) bool {
	n.mu.Lock()
	a, seen := n.answers[t]
	if !seen {
		n.answers[t] = &answer{}
		n.order = append(n.order, t)
		if len(n.order) > maxAnswers {
			delete(n.answers, n.order[0])
			n.order = n.order[1:]
		}
	}
	var b []byte
	if seen {
		b = a.bytes
	}
	n.mu.Unlock()
	if !seen {
		return false
	}
	n.counters.repeated.Add(1)
	if b != nil {
		n.write(t.peer, b)
	}
	return true
}

// malformed does what TS 29.244 clause 7.6 asks for: a request gets a response
// with the cause, a response counts as not received, the rest is dropped.
func (n *n4) malformed(t transaction, err error) {
	n.counters.malformed.Add(1)
	n.mu.Lock()
	first := !n.loggedAt[t.peer.Addr()]
	n.loggedAt[t.peer.Addr()] = true
	n.mu.Unlock()
	if first {
		n.log.Warn("malformed pfcp message; further ones of this peer are only counted", "peer", t.peer, "error", err)
	}
	var de *pfcp.DecodeError
	if !errors.As(err, &de) {
		return
	}
	if errors.Is(err, pfcp.ErrVersion) {
		n.respond(t, 0, &pfcp.VersionNotSupported{})
		return
	}
	switch de.Header.Type {
	case pfcp.TypeSessionReportRequest:
		n.respond(t, 0, &pfcp.SessionReportResponse{Cause: de.Cause, OffendingIE: de.OffendingIE})
	case pfcp.TypeAssociationSetupRequest:
		n.respond(t, 0, &pfcp.AssociationSetupResponse{Node: n.node, Cause: de.Cause, Recovery: n.recovery})
	case pfcp.TypeAssociationReleaseRequest:
		n.respond(t, 0, &pfcp.AssociationReleaseResponse{Node: n.node, Cause: de.Cause})
	}
}
