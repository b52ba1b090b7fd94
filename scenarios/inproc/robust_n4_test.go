package inproc

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/smf"
	"github.com/simreach/simreach/nf/upf"
	"github.com/simreach/simreach/scenarios/plan"
)

// n4Peer is a PFCP peer of the tests' own, with its node ID and its sequence numbers.
type n4Peer struct {
	*udpPeer
	node pfcp.NodeID
	seq  uint32
}

// pdu encodes a message with the next sequence number.
func (p *n4Peer) pdu(t *testing.T, seid ident.SEID, m pfcp.Message) []byte {
	t.Helper()
	p.seq++
	b, err := pfcp.Encode(pfcp.Header{SEID: seid, Sequence: p.seq}, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answer receives the response to the request with sequence number p.seq.
func (p *n4Peer) answer(t *testing.T) (pfcp.Header, pfcp.Message) {
	t.Helper()
	b := p.next(t)
	h, m, err := pfcp.Decode(b)
	if err != nil {
		t.Fatalf("answer %x: %v", b, err)
	}
	if h.Sequence != p.seq {
		t.Errorf("answer %T to number %d, want %d", m, h.Sequence, p.seq)
	}
	return h, m
}

// wantHeartbeat makes sure that nothing of what was sent before was answered: the
// next message is the answer to a heartbeat.
func (p *n4Peer) wantHeartbeat(t *testing.T, to netip.AddrPort) {
	t.Helper()
	p.send(t, to, p.pdu(t, 0, &pfcp.HeartbeatRequest{Recovery: time.Unix(1700000000, 0)}))
	if _, m := p.answer(t); m.Type() != pfcp.TypeHeartbeatResponse {
		t.Errorf("got %T, want the answer to the heartbeat", m)
	}
}

// verdict returns cause, offending IE and whether m carries them.
func verdict(m pfcp.Message) (c pfcp.Cause, ie uint16, ok bool) {
	switch m := m.(type) {
	case *pfcp.AssociationSetupResponse:
		return m.Cause, 0, true
	case *pfcp.AssociationReleaseResponse:
		return m.Cause, 0, true
	case *pfcp.SessionEstablishmentResponse:
		return m.Cause, m.OffendingIE, true
	case *pfcp.SessionModificationResponse:
		return m.Cause, m.OffendingIE, true
	case *pfcp.SessionDeletionResponse:
		return m.Cause, m.OffendingIE, true
	case *pfcp.SessionReportResponse:
		return m.Cause, m.OffendingIE, true
	}
	return 0, 0, false
}

// wantCause receives a response with a cause.
func (p *n4Peer) wantCause(t *testing.T, typ pfcp.MessageType, c pfcp.Cause, ie uint16) pfcp.Header {
	t.Helper()
	h, m := p.answer(t)
	gotCause, gotIE, ok := verdict(m)
	if m.Type() != typ || !ok || gotCause != c || gotIE != ie {
		t.Errorf("got %+v, want %s with cause %d and offending IE %d", m, typ, c, ie)
	}
	return h
}

// without returns a message without the IEs of a type, which are not inside others.
func without(b []byte, header int, typ uint16) []byte {
	out := append([]byte(nil), b[:header]...)
	for rest := b[header:]; len(rest) >= 4; {
		n := 4 + int(binary.BigEndian.Uint16(rest[2:]))
		if binary.BigEndian.Uint16(rest) != typ {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)-4))
	return out
}

// IE types (TS 29.244 table 8.1.2-1) and header sizes.
const (
	ieNodeID, ieFSEID         = 60, 57
	nodeHeader, sessionHeader = 8, 16
)

// establish is a session without user that only names rules.
func (p *n4Peer) establish(seid ident.SEID) *pfcp.SessionEstablishmentRequest {
	access := pfcp.Access
	return &pfcp.SessionEstablishmentRequest{
		Node: p.node, FSEID: pfcp.FSEID{SEID: seid, Addr: p.node.Addr},
		Rules: pfcp.Rules{
			PDRs: []pfcp.PDR{{ID: 1, Precedence: 100, FAR: 1, PDI: pfcp.PDI{
				Source: pfcp.Core, NetworkInstance: "internet",
				UEAddress: &ident.UEAddress{V4: netip.AddrFrom4([4]byte{10, 45, 200, 200})},
			}}},
			FARs: []pfcp.FAR{{ID: 1, Action: pfcp.ActionDrop, Forward: &pfcp.Forwarding{Destination: &access}}},
		},
	}
}

// n4Case is something that a node on N4 should not get, or answers in a special way.
type n4Case[C any] struct {
	name    string
	do      func(t *testing.T, p *n4Peer, to netip.AddrPort)
	counter func(C) uint64
}

func (w *world) n4Peer(t *testing.T) *n4Peer {
	t.Helper()
	at := netip.AddrPortFrom(w.strangerOn("smf", plan.N4), portPFCP)
	c, err := w.links.n4.ListenUDP(at)
	if err != nil {
		t.Fatal(err)
	}
	return &n4Peer{udpPeer: newUDPPeer(t, c), node: pfcp.NodeID{Addr: at.Addr()}}
}

// version2 is a message of a PFCP version that does not exist.
func version2(b []byte) []byte {
	b = append([]byte(nil), b...)
	b[0] = 0x40 | b[0]&0x1f
	return b
}

// common is what UPF and SMF treat alike.
func common[C any](malformed, unexpected func(C) uint64) []n4Case[C] {
	heartbeat := &pfcp.HeartbeatRequest{Recovery: time.Unix(1700000000, 0)}
	return []n4Case[C]{
		{"less than a header: discarded", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			b := p.pdu(t, 0, heartbeat)
			for n := range nodeHeader {
				p.send(t, to, b[:n])
			}
		}, malformed},
		{"another version", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, version2(p.pdu(t, 0, heartbeat)))
			if _, m := p.answer(t); m.Type() != pfcp.TypeVersionNotSupported {
				t.Errorf("got %T, want VersionNotSupportedResponse", m)
			}
		}, malformed},
		{"a message type that does not exist: discarded", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			b := p.pdu(t, 0, heartbeat)
			b[1] = 99
			p.send(t, to, b)
		}, malformed},
		{"a response without a request: discarded", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 0, &pfcp.HeartbeatResponse{Recovery: time.Unix(1700000000, 0)}))
			p.send(t, to, p.pdu(t, 1, &pfcp.SessionModificationResponse{Cause: pfcp.CauseAccepted}))
		}, unexpected},
		{"association setup without node ID", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			b := p.pdu(t, 0, &pfcp.AssociationSetupRequest{Node: p.node, Recovery: time.Unix(1700000000, 0)})
			p.send(t, to, without(b, nodeHeader, ieNodeID))
			p.wantCause(t, pfcp.TypeAssociationSetupResponse, pfcp.CauseMandatoryIEMissing, 0)
		}, malformed},
		{"association setup whose last IE is cut short", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			b := p.pdu(t, 0, &pfcp.AssociationSetupRequest{Node: p.node, Recovery: time.Unix(1700000000, 0)})
			b = b[:len(b)-2]
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)-4))
			p.send(t, to, b)
			p.wantCause(t, pfcp.TypeAssociationSetupResponse, pfcp.CauseInvalidLength, 0)
		}, malformed},
	}
}

// TestN4UPFAnswersAsSpecified sends the UPF what it should not get on N4 (TS 29.244
// clauses 6.4 and 7.6), and checks the answer, the counter, and that the witness's
// session goes on.
func TestN4UPFAnswersAsSpecified(t *testing.T) {
	w := newWorld(t)
	p, u, to := w.n4Peer(t), w.parts.upfs["upf1"], w.at("upf1", plan.N4, portPFCP)
	rejected := func(c upf.Counters) uint64 { return c.Rejected }
	malformed := func(c upf.Counters) uint64 { return c.Malformed }
	cases := append(common(malformed, func(c upf.Counters) uint64 { return c.Unexpected }), []n4Case[upf.Counters]{
		{"session establishment without association", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 0, p.establish(7)))
			if h := p.wantCause(t, pfcp.TypeSessionEstablishmentResponse, pfcp.CauseNoAssociation, 0); h.SEID != 7 {
				t.Errorf("answer to SEID %d, want ours, 7", h.SEID)
			}
		}, rejected},
		{"association release without association", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 0, &pfcp.AssociationReleaseRequest{Node: p.node}))
			p.wantCause(t, pfcp.TypeAssociationReleaseResponse, pfcp.CauseNoAssociation, 0)
		}, rejected},
		{"modification and deletion without association", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 0xdead, &pfcp.SessionModificationRequest{}))
			p.wantCause(t, pfcp.TypeSessionModificationResponse, pfcp.CauseNoAssociation, 0)
			p.send(t, to, p.pdu(t, 0xdead, &pfcp.SessionDeletionRequest{}))
			p.wantCause(t, pfcp.TypeSessionDeletionResponse, pfcp.CauseNoAssociation, 0)
		}, rejected},
		{"a request that only a CP function serves: discarded", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 1, &pfcp.SessionReportRequest{DownlinkData: 1}))
		}, func(c upf.Counters) uint64 { return c.Unexpected }},
		{"a heartbeat again: the same answer again", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			b := p.pdu(t, 0, &pfcp.HeartbeatRequest{Recovery: time.Unix(1700000000, 0)})
			p.send(t, to, b)
			first := p.next(t)
			p.send(t, to, b)
			if again := p.next(t); !bytes.Equal(first, again) {
				t.Errorf("answers %x and %x differ", first, again)
			}
		}, func(c upf.Counters) uint64 { return c.Retransmissions }},
		// From here on with an association of our own.
		{"session establishment without F-SEID", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 0, &pfcp.AssociationSetupRequest{Node: p.node, Recovery: time.Unix(1700000000, 0)}))
			p.wantCause(t, pfcp.TypeAssociationSetupResponse, pfcp.CauseAccepted, 0)
			p.send(t, to, without(p.pdu(t, 0, p.establish(8)), sessionHeader, ieFSEID))
			p.wantCause(t, pfcp.TypeSessionEstablishmentResponse, pfcp.CauseMandatoryIEMissing, ieFSEID)
		}, malformed},
		{"modification and deletion of a session that does not exist", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 0xdead, &pfcp.SessionModificationRequest{}))
			if h := p.wantCause(t, pfcp.TypeSessionModificationResponse, pfcp.CauseSessionNotFound, 0); h.SEID != 0 {
				t.Errorf("answer to SEID %d, want 0", h.SEID)
			}
			p.send(t, to, p.pdu(t, 0xdead, &pfcp.SessionDeletionRequest{}))
			p.wantCause(t, pfcp.TypeSessionDeletionResponse, pfcp.CauseSessionNotFound, 0)
		}, rejected},
		{"session establishment truncated at every octet", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			b := p.pdu(t, 0, p.establish(8))
			for n := sessionHeader; n < len(b); n++ {
				p.seq++
				cut := append([]byte(nil), b[:n]...)
				cut[12], cut[13], cut[14] = byte(p.seq>>16), byte(p.seq>>8), byte(p.seq)
				p.send(t, to, cut)
				p.wantCause(t, pfcp.TypeSessionEstablishmentResponse, pfcp.CauseInvalidLength, 0)
			}
		}, malformed},
		{"session establishment again: one session, the same answer", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			before := len(u.Status().Sessions)
			b := p.pdu(t, 0, p.establish(9))
			p.send(t, to, b)
			first := p.next(t)
			p.send(t, to, b)
			if again := p.next(t); !bytes.Equal(first, again) {
				t.Errorf("answers %x and %x differ", first, again)
			}
			if n := len(u.Status().Sessions); n != before+1 {
				t.Errorf("%d sessions, want %d", n, before+1)
			}
			_, m, err := pfcp.Decode(first)
			if err != nil {
				t.Fatal(err)
			}
			r, ok := m.(*pfcp.SessionEstablishmentResponse)
			if !ok || r.Cause != pfcp.CauseAccepted || r.FSEID == nil {
				t.Fatalf("got %+v, want a session", m)
			}
			b = p.pdu(t, r.FSEID.SEID, &pfcp.SessionDeletionRequest{})
			p.send(t, to, b)
			p.wantCause(t, pfcp.TypeSessionDeletionResponse, pfcp.CauseAccepted, 0)
			p.send(t, to, b)
			p.wantCause(t, pfcp.TypeSessionDeletionResponse, pfcp.CauseAccepted, 0)
		}, func(c upf.Counters) uint64 { return c.Retransmissions }},
	}...)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			count := func() uint64 { return tt.counter(u.Status().N4) }
			before := count()
			tt.do(t, p, to)
			p.wantHeartbeat(t, to)
			counted(t, tt.name, before, count, 0)
			w.alive(t)
		})
	}
}

// TestN4SMFAnswersAsSpecified is the same for the SMF.
func TestN4SMFAnswersAsSpecified(t *testing.T) {
	w := newWorld(t)
	p, to := w.n4Peer(t), w.at("smf", plan.N4, portPFCP)
	malformed := func(c smf.Counters) uint64 { return c.PFCPMalformed }
	cases := append(common(malformed, func(c smf.Counters) uint64 { return c.PFCPUnmatched }), []n4Case[smf.Counters]{
		{"association setup of an unknown UPF", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 0, &pfcp.AssociationSetupRequest{Node: p.node, Recovery: time.Unix(1700000000, 0)}))
			p.wantCause(t, pfcp.TypeAssociationSetupResponse, pfcp.CauseRejected, 0)
		}, func(c smf.Counters) uint64 { return c.PFCPUnknownPeer }},
		{"a report for a session that does not exist, twice", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			b := p.pdu(t, 0xdead, &pfcp.SessionReportRequest{DownlinkData: 1})
			for range 2 {
				p.send(t, to, b)
				p.wantCause(t, pfcp.TypeSessionReportResponse, pfcp.CauseSessionNotFound, 0)
			}
		}, func(c smf.Counters) uint64 { return c.PFCPRepeated }},
		{"a request that only a UPF serves: discarded", func(t *testing.T, p *n4Peer, to netip.AddrPort) {
			p.send(t, to, p.pdu(t, 1, &pfcp.SessionDeletionRequest{}))
		}, malformed},
	}...)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			count := func() uint64 { return tt.counter(w.parts.smf.Status().Counters) }
			before := count()
			tt.do(t, p, to)
			p.wantHeartbeat(t, to)
			counted(t, tt.name, before, count, 0)
			w.alive(t)
		})
	}
}
