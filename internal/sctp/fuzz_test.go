package sctp

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/memnet"
)

// recorded are the packets of a short life of an association.
func recorded(t testing.TB) [][]byte {
	var mu sync.Mutex
	var all [][]byte
	k := newLink(t, memnet.Config{}, StackConfig{})
	defer k.close()
	remove := k.net.Tap(func(f memnet.Frame) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, bytes.Clone(f.Payload))
	})
	defer remove()
	c, s := k.connect(t)
	mustSend(t, c, 0, "request")
	wantRecv(t, s, 0, "request")
	mustSend(t, s, 1, string(make([]byte, 3000)))
	mustRecv(t, c)
	closeConn(t, c)
	_ = recvErr(t, s)
	closeConn(t, s)
	mu.Lock()
	defer mu.Unlock()
	return all
}

// FuzzPacket: parsing never panics, and what was parsed and built again is the
// same packet, up to padding.
func FuzzPacket(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= commonHeader { // a fuzzer does not find checksums
			b = seal(bytes.Clone(b))
		}
		p, err := parsePacket(b, nil)
		if err != nil {
			return
		}
		again := newPacket(p.src, p.dst, p.tag, 0)
		for _, c := range p.chunks {
			again = appendChunk(again, c.typ, c.flags, c.value)
			if c.typ == ctInit || c.typ == ctInitAck {
				in, params, no := parseInit(c.value)
				if no == nil && (in.tag == 0 || in.outbound == 0 || in.inbound == 0) {
					t.Fatalf("accepted %+v", in)
				}
				if no == nil {
					value := initAckValue(in, params.cookie, params.report)
					if in2, params2, no2 := parseInit(value); no2 != nil || in2 != in || !bytes.Equal(params2.cookie, params.cookie) {
						t.Fatalf("INIT ACK does not read back: %+v", no2)
					}
				}
			}
		}
		p2, err := parsePacket(seal(again), nil)
		if err != nil || p2.src != p.src || p2.dst != p.dst || p2.tag != p.tag || len(p2.chunks) != len(p.chunks) {
			t.Fatalf("built again: %v", err)
		}
		for i, c := range p.chunks {
			if d := p2.chunks[i]; c.typ != d.typ || c.flags != d.flags || !bytes.Equal(c.value, d.value) {
				t.Fatalf("chunk %d differs", i)
			}
		}
	})
}

// fuzzCarrier feeds a Stack by hand and keeps what it answers.
type fuzzCarrier struct {
	in   chan []byte
	done chan struct{}
	once sync.Once
	mu   sync.Mutex
	out  [][]byte
	wake chan struct{}
}

func newFuzzCarrier() *fuzzCarrier {
	return &fuzzCarrier{in: make(chan []byte), done: make(chan struct{}), wake: make(chan struct{}, 1)}
}

func (c *fuzzCarrier) ReadPacket(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	select {
	case p := <-c.in:
		return copy(b, p), netip.AddrPortFrom(clientIP, 0), serverIP, nil
	case <-c.done:
		return 0, netip.AddrPort{}, netip.Addr{}, net.ErrClosed
	}
}

func (c *fuzzCarrier) WritePacket(b []byte, _ netip.Addr, _ netip.AddrPort) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, bytes.Clone(b))
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

func (c *fuzzCarrier) LocalAddr() netip.Addr { return serverIP }
func (c *fuzzCarrier) Close() error          { c.once.Do(func() { close(c.done) }); return nil }

func (c *fuzzCarrier) send(src, dst uint16, tag uint32, chunks []byte) {
	c.in <- seal(append(newPacket(src, dst, tag, len(chunks)), chunks...))
}

// answer is the next packet that the Stack wrote.
func (c *fuzzCarrier) answer() packet {
	for {
		c.mu.Lock()
		if len(c.out) > 0 {
			b := c.out[0]
			c.out = c.out[1:]
			c.mu.Unlock()
			p, _ := parsePacket(b, nil)
			return p
		}
		c.mu.Unlock()
		<-c.wake
	}
}

// FuzzAssociation throws chunks at an established association, under its right
// tag, several packets in one input: each is a length byte and so many times four
// bytes. Neither our code nor pion may panic, everything we write must parse, and
// another association must still work.
func FuzzAssociation(f *testing.F) {
	add := func(packets ...[]byte) {
		var in []byte
		for _, p := range packets {
			in = append(append(in, byte(len(p)/4)), p...)
		}
		f.Add(in)
	}
	enc := func(cs ...chunk) []byte {
		var b []byte
		for _, c := range cs {
			b = appendChunk(b, c.typ, c.flags, c.value)
		}
		return b
	}
	add(enc(dataChunk(1, 0, 0, "hello")), enc(dataChunk(3, 0, 1, "gap")), enc(sackChunk(5)))
	add(enc(chunk{ctData, flagBegin, dataChunk(1, 0, 0, "first half").value}), enc(chunk{ctData, flagEnd, dataChunk(2, 0, 0, "second").value}))
	add(enc(chunk{ctSack, 0, append(sackChunk(0).value[:8], 0, 1, 0, 1, 0, 2, 0xff, 0xff, 0, 0, 0, 9)}))
	add(enc(chunk{ctHeartbeat, 0, []byte{0, 1, 0, 4}}, chunk{0xff, 1, []byte("x")}, chunk{ctShutdown, 0, make([]byte, 4)}), enc(chunk{ctShutdownComplete, 0, nil}))
	add(enc(chunk{ctAbort, 0, appendTLV(nil, 12, nil)}))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := newFuzzCarrier()
		st, err := NewStack(c, StackConfig{Heartbeat: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		l, err := st.Listen(PortNGAP)
		if err != nil {
			t.Fatal(err)
		}
		connect := func(port uint16) (Conn, uint32) {
			c.send(port, PortNGAP, 0, appendChunk(nil, ctInit, 0, peerInit(9, 1).append(nil)))
			var ack packet
			for len(ack.chunks) == 0 || ack.chunks[0].typ != ctInitAck || ack.dst != port {
				ack = c.answer()
			}
			init, params, _ := parseInit(ack.chunks[0].value)
			c.send(port, PortNGAP, init.tag, appendChunk(nil, ctCookieEcho, 0, params.cookie))
			conn := mustAccept(t, l)
			return conn, init.tag
		}
		a, tag := connect(1000)
		ctx := context.Background()
		_ = a.Send(ctx, Message{Data: []byte("something outstanding")})
		for len(in) > 0 {
			n := min(int(in[0])*4, len(in)-1)
			c.send(1000, PortNGAP, tag, in[1:1+n])
			in = in[1+n:]
		}
		b, tagB := connect(2000)
		c.send(2000, PortNGAP, tagB, appendChunk(nil, ctData, 3, dataChunk(1, 0, 0, "alive").value))
		wantRecv(t, b, 0, "alive")
		c.mu.Lock()
		for _, p := range c.out {
			if _, err := parsePacket(p, nil); err != nil {
				t.Errorf("wrote a packet that does not parse: %v: %x", err, p)
			}
		}
		c.mu.Unlock()
		short, cancel := context.WithTimeout(ctx, time.Microsecond)
		for {
			if _, err := a.Recv(short); err != nil {
				break
			}
		}
		cancel()
	})
}

// FuzzHandshake throws whole packets at a Stack that listens and dials.
func FuzzHandshake(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newFuzzCarrier()
		st, err := NewStack(c, StackConfig{Heartbeat: -1, RTOInitial: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		if _, err := st.Listen(PortNGAP); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var dialing sync.WaitGroup
		dialing.Go(func() {
			if conn, err := st.dial(ctx, netip.AddrPortFrom(clientIP, 78), 0, 0); err == nil {
				conn.Abort()
			}
		})
		ours := c.answer() // INIT: its tag is what a fuzzer cannot guess
		tag := binary.BigEndian.Uint32(ours.chunks[0].value)
		if len(b) >= commonHeader {
			c.in <- seal(bytes.Clone(b))
			for range 2 {
				b = bytes.Clone(b)
				putHeader(b, 78, ours.src, tag)
				c.in <- seal(b)
			}
		} else {
			c.in <- b
		}
		c.in <- nil // the packets before are through
		cancel()
		dialing.Wait()
	})
}
