package sctp

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/memnet"
)

// rawPeer plays the other end by hand: it sends and expects single packets.
type rawPeer struct {
	t     *testing.T
	conn  *memnet.IPConn
	to    netip.Addr
	local uint16
	port  uint16
	got   chan packet
}

// newRawPeer must be used in a bubble.
func newRawPeer(t *testing.T, n *memnet.Network, ip, to netip.Addr, local, port uint16) *rawPeer {
	t.Helper()
	c, err := n.ListenIP(ip, memnet.ProtocolSCTP)
	if err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{t: t, conn: c, to: to, local: local, port: port, got: make(chan packet, 1000)}
	go func() {
		defer close(p.got)
		for {
			b := make([]byte, maxPacket)
			n, _, _, err := c.ReadPacket(b)
			if err != nil {
				return
			}
			pk, err := parsePacket(b[:n], nil)
			if err != nil {
				t.Errorf("the stack sent a packet that does not parse: %v: %x", err, b[:n])
				return
			}
			p.got <- pk
		}
	}()
	return p
}

func (p *rawPeer) close() { _ = p.conn.Close() }

func (p *rawPeer) send(tag uint32, chunks ...chunk) {
	p.t.Helper()
	b := newPacket(p.local, p.port, tag, 0)
	for _, c := range chunks {
		b = appendChunk(b, c.typ, c.flags, c.value)
	}
	p.sendBytes(seal(b))
}

func (p *rawPeer) sendBytes(b []byte) {
	p.t.Helper()
	if err := p.conn.WritePacket(b, netip.Addr{}, netip.AddrPortFrom(p.to, 0)); err != nil {
		p.t.Fatal(err)
	}
}

// want is the next packet, whose first chunk must be typ.
func (p *rawPeer) want(why string, typ chunkType) packet {
	p.t.Helper()
	select {
	case pk := <-p.got:
		if pk.chunks[0].typ != typ {
			p.t.Fatalf("%s: got chunk type %d (flags %#x), want %d", why, pk.chunks[0].typ, pk.chunks[0].flags, typ)
		}
		if pk.src != p.port || pk.dst != p.local {
			p.t.Fatalf("%s: ports %d-%d, want %d-%d", why, pk.src, pk.dst, p.port, p.local)
		}
		return pk
	case <-time.After(10 * time.Minute):
		p.t.Fatalf("%s: nothing came, want chunk type %d", why, typ)
		panic("unreachable")
	}
}

// wantIdle demands that nothing is sent now.
func (p *rawPeer) wantIdle(why string) {
	p.t.Helper()
	synctest.Wait()
	select {
	case pk := <-p.got:
		p.t.Fatalf("%s: got chunk type %d, want silence", why, pk.chunks[0].typ)
	default:
	}
}

func peerInit(tag, tsn uint32) initChunk {
	return initChunk{tag: tag, window: 100000, outbound: 10, inbound: 10, tsn: tsn}
}

func initOf(c initChunk, params ...byte) chunk {
	return chunk{ctInit, 0, append(c.append(nil), params...)}
}

// association is what a rawPeer knows of one.
type association struct {
	mine, theirs uint32 // tags
	tsn          uint32 // ours to use next
	theirTSN     uint32 // initial
}

// connect does the handshake as a client.
func (p *rawPeer) connect(tag, tsn uint32) association {
	p.t.Helper()
	p.send(0, initOf(peerInit(tag, tsn)))
	ack := p.want("INIT", ctInitAck)
	if ack.tag != tag {
		p.t.Fatalf("INIT ACK with tag %#x, want ours, %#x", ack.tag, tag)
	}
	in, params, no := parseInit(ack.chunks[0].value)
	if no != nil || params.cookie == nil {
		p.t.Fatalf("INIT ACK not acceptable: %+v", no)
	}
	p.send(in.tag, chunk{ctCookieEcho, 0, params.cookie})
	p.want("COOKIE ECHO", ctCookieAck)
	return association{mine: tag, theirs: in.tag, tsn: tsn, theirTSN: in.tsn}
}

func dataChunk(tsn uint32, stream, ssn uint16, data string) chunk {
	v := []byte{
		byte(tsn >> 24), byte(tsn >> 16), byte(tsn >> 8), byte(tsn), byte(stream >> 8), byte(stream),
		byte(ssn >> 8), byte(ssn), 0, 0, 0, byte(PPIDNGAP),
	}
	return chunk{ctData, flagBegin | flagEnd, append(v, data...)}
}

func sackChunk(tsn uint32) chunk {
	return chunk{ctSack, 0, []byte{byte(tsn >> 24), byte(tsn >> 16), byte(tsn >> 8), byte(tsn), 0, 1, 0, 0, 0, 0, 0, 0}}
}

// withPeer runs f in a bubble with a server Stack that listens, and a rawPeer.
func withPeer(t *testing.T, sc StackConfig, f func(t *testing.T, p *rawPeer, st *Stack, l Listener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		st := memStack(t, n, serverIP, sc)
		l, err := st.Listen(PortNGAP)
		if err != nil {
			t.Fatal(err)
		}
		p := newRawPeer(t, n, clientIP, serverIP, 50000, PortNGAP)
		defer func() {
			_ = st.Close()
			p.close()
			_ = n.Close()
		}()
		f(t, p, st, l)
	})
}
