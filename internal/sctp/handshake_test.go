package sctp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/memnet"
)

func TestInitWithManyParameters(t *testing.T) {
	params := func(tlvs ...[]byte) []byte {
		var b []byte
		for _, p := range tlvs {
			b = pad(append(b, p...), len(p))
		}
		return b
	}
	tlv := func(typ uint16, v ...byte) []byte { return appendTLV(nil, typ, v) }
	for _, tc := range []struct {
		name   string
		params []byte
		report []byte // parameters that the INIT ACK must report
	}{
		{"none", nil, nil},
		{"as Linux sends them", params(tlv(paramIPv4, 192, 0, 2, 1), tlv(paramAddressTypes, 0, 5, 0, 6), tlv(0x8000), tlv(0x8008, 0xc0, 0x82), tlv(0xc000)),
			params(tlv(0xc000))},
		{"IPv6 and cookie preservative", params(tlv(paramIPv6, make([]byte, 16)...), tlv(paramPreservative, 0, 0, 0, 1)), nil},
		{"zero checksum acceptable", params(tlv(0x8001, 0, 0, 0, 1)), nil},
		{"unknown, skip", params(tlv(0x9999, 1, 2, 3)), nil},
		{"unknown, skip and report", params(tlv(0xd999, 1, 2, 3), tlv(0xd99a, 1)), params(tlv(0xd999, 1, 2, 3), tlv(0xd99a, 1))},
		{"unknown, stop and report", params(tlv(0x5999, 1), tlv(0xd999, 1)), params(tlv(0x5999, 1))},
		{"unknown, stop", params(tlv(0x1999, 1), tlv(0xd999, 1)), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
				p.send(0, initOf(peerInit(7, 100), tc.params...))
				ack := p.want("INIT", ctInitAck)
				_, params, _ := parseInit(ack.chunks[0].value)
				var reported []byte
				for rest := ack.chunks[0].value[initFixed:]; len(rest) >= 4; {
					n := int(binary.BigEndian.Uint16(rest[2:]))
					if binary.BigEndian.Uint16(rest) == paramUnrecognized {
						reported = pad(append(reported, rest[4:n]...), n)
					}
					rest = rest[min(padded(n), len(rest)):]
				}
				if !bytes.Equal(reported, tc.report) {
					t.Errorf("reported %x, want %x", reported, tc.report)
				}
				in, _, _ := parseInit(ack.chunks[0].value)
				p.send(in.tag, chunk{ctCookieEcho, 0, params.cookie}, dataChunk(100, 1, 0, "with the cookie"))
				p.want("COOKIE ECHO", ctCookieAck)
				p.want("DATA", ctSack)
				wantRecv(t, mustAccept(t, l), 1, "with the cookie")
			})
		})
	}
}

func TestInitRefused(t *testing.T) {
	with := func(f func(*initChunk)) initChunk { c := peerInit(7, 1); f(&c); return c }
	for _, tc := range []struct {
		name  string
		tag   uint32
		chunk []chunk
		abort bool
	}{
		{"tag of packet not zero", 1, []chunk{initOf(peerInit(7, 1))}, false},
		{"bundled", 0, []chunk{initOf(peerInit(7, 1)), {ctCookieAck, 0, nil}}, false},
		{"initiate tag zero", 0, []chunk{initOf(peerInit(0, 1))}, false},
		{"cut short", 0, []chunk{{ctInit, 0, peerInit(7, 1).append(nil)[:12]}}, false},
		{"no outbound streams", 0, []chunk{initOf(with(func(c *initChunk) { c.outbound = 0 }))}, true},
		{"no inbound streams", 0, []chunk{initOf(with(func(c *initChunk) { c.inbound = 0 }))}, true},
		{"window too small", 0, []chunk{initOf(with(func(c *initChunk) { c.window = 1499 }))}, true},
		{"host name", 0, []chunk{initOf(peerInit(7, 1), appendTLV(nil, paramHostName, []byte("a.b\x00"))...)}, true},
		{"parameter too long", 0, []chunk{initOf(peerInit(7, 1), 0, 5, 0, 99)}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
				p.send(tc.tag, tc.chunk...)
				if tc.abort {
					if a := p.want(tc.name, ctAbort); a.tag != 7 || a.chunks[0].flags != 0 {
						t.Errorf("ABORT with tag %d and flags %d, want the initiate tag and no T bit", a.tag, a.chunks[0].flags)
					}
				}
				p.wantIdle(tc.name)
				if st.Stats().Malformed == 0 {
					t.Error("not counted")
				}
				p.connect(8, 1) // and the listener still works
				mustAccept(t, l)
			})
		})
	}
}

// RFC 9260 clause 8.4.
func TestOutOfTheBlue(t *testing.T) {
	for _, tc := range []struct {
		name  string
		port  uint16
		tag   uint32
		chunk []chunk
		want  chunkType
		quiet bool
	}{
		{name: "INIT to a closed port", port: 9, chunk: []chunk{initOf(peerInit(7, 1))}, want: ctAbort},
		{name: "ABORT", port: PortNGAP, tag: 5, chunk: []chunk{{ctAbort, 0, nil}}, quiet: true},
		{name: "ABORT behind something", port: PortNGAP, tag: 5, chunk: []chunk{{ctHeartbeat, 0, []byte{0, 1, 0, 4}}, {ctAbort, 0, nil}}, quiet: true},
		{name: "COOKIE ECHO that is not ours", port: PortNGAP, tag: 5, chunk: []chunk{{ctCookieEcho, 0, make([]byte, cookieSize)}}, quiet: true},
		{name: "SHUTDOWN ACK", port: PortNGAP, tag: 5, chunk: []chunk{{ctShutdownAck, 0, nil}}, want: ctShutdownComplete},
		{name: "SHUTDOWN COMPLETE", port: PortNGAP, tag: 5, chunk: []chunk{{ctShutdownComplete, 0, nil}}, quiet: true},
		{name: "COOKIE ACK", port: PortNGAP, tag: 5, chunk: []chunk{{ctCookieAck, 0, nil}}, quiet: true},
		{name: "ERROR stale cookie", port: PortNGAP, tag: 5, chunk: []chunk{{ctError, 0, appendTLV(nil, causeStaleCookie, make([]byte, 4))}}, quiet: true},
		{name: "DATA", port: PortNGAP, tag: 5, chunk: []chunk{dataChunk(1, 0, 0, "x")}, want: ctAbort},
		{name: "HEARTBEAT to a closed port", port: 9, tag: 5, chunk: []chunk{{ctHeartbeat, 0, []byte{0, 1, 0, 4}}}, want: ctAbort},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
				p.port = tc.port
				p.send(tc.tag, tc.chunk...)
				if tc.quiet {
					p.wantIdle(tc.name)
					return
				}
				got := p.want(tc.name, tc.want)
				wantTag, wantFlags := tc.tag, uint8(flagT) // reflected
				if tc.chunk[0].typ == ctInit {
					wantTag, wantFlags = 7, 0
				}
				if got.tag != wantTag || got.chunks[0].flags != wantFlags {
					t.Errorf("tag %d, flags %#x; want %d, %#x", got.tag, got.chunks[0].flags, wantTag, wantFlags)
				}
			})
		})
	}
}

func TestCookieRules(t *testing.T) {
	shake := func(p *rawPeer, tag uint32) (initChunk, []byte) {
		p.send(0, initOf(peerInit(tag, 1)))
		ack := p.want("INIT", ctInitAck)
		in, params, _ := parseInit(ack.chunks[0].value)
		return in, params.cookie
	}
	t.Run("a stale cookie is answered with ERROR", func(t *testing.T) {
		withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
			in, cookie := shake(p, 7)
			<-time.After(cookieLife + 2*time.Second)
			p.send(in.tag, chunk{ctCookieEcho, 0, cookie})
			e := p.want("stale cookie", ctError)
			if firstCause(e.chunks[0].value) != causeStaleCookie || binary.BigEndian.Uint32(e.chunks[0].value[4:]) < 1_900_000 {
				t.Errorf("ERROR %x, want a stale cookie by two seconds", e.chunks[0].value)
			}
		})
	})
	t.Run("a cookie with a changed bit, tag or port is dropped", func(t *testing.T) {
		withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
			in, cookie := shake(p, 7)
			for i := range cookie {
				bad := bytes.Clone(cookie)
				bad[i] ^= 4
				p.send(in.tag, chunk{ctCookieEcho, 0, bad})
			}
			p.send(in.tag+1, chunk{ctCookieEcho, 0, cookie})
			p.local++
			p.send(in.tag, chunk{ctCookieEcho, 0, cookie})
			p.wantIdle("forged cookies")
			if got := st.Stats(); got.BadCookie != uint64(len(cookie))+2 || got.Associations != 0 {
				t.Errorf("%+v", got)
			}
		})
	})
	t.Run("a repeated COOKIE ECHO gets a COOKIE ACK and no second association", func(t *testing.T) {
		withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
			in, cookie := shake(p, 7)
			for range 3 {
				p.send(in.tag, chunk{ctCookieEcho, 0, cookie})
				p.want("COOKIE ECHO", ctCookieAck)
			}
			mustAccept(t, l)
			if n := st.Stats().Associations; n != 1 {
				t.Errorf("%d associations, want 1", n)
			}
		})
	})
	t.Run("a thousand INITs cost no association", func(t *testing.T) {
		withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
			for i := range uint32(1000) {
				shake(p, i+1)
			}
			if n := st.Stats().Associations; n != 0 {
				t.Errorf("%d associations, want none", n)
			}
		})
	})
}

// RFC 9260 clause 5.2.4 action A: the peer lost its memory and calls again from
// the same port.
func TestPeerRestart(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		first := p.connect(7, 100)
		old := mustAccept(t, l)
		p.send(first.theirs, dataChunk(100, 0, 0, "first life"))
		p.want("DATA", ctSack)
		wantRecv(t, old, 0, "first life")

		p.send(0, initOf(peerInit(8, 500)))
		ack := p.want("second INIT", ctInitAck)
		mustStayAlive := func() { // the INIT alone must not harm
			p.send(first.theirs, dataChunk(101, 0, 1, "still the first"))
			p.want("DATA", ctSack)
			wantRecv(t, old, 0, "still the first")
		}
		mustStayAlive()
		in, params, _ := parseInit(ack.chunks[0].value)
		p.send(in.tag, chunk{ctCookieEcho, 0, params.cookie})
		if got := p.want("COOKIE ECHO", ctCookieAck); got.tag != 8 {
			t.Fatalf("COOKIE ACK with tag %d, want the new one", got.tag)
		}
		var abort *AbortError
		if err := recvErr(t, old); !errors.As(err, &abort) || abort.Reason != AbortRestart || !errors.Is(err, ErrAborted) {
			t.Fatalf("old association: %v, want ErrAborted because of a restart", err)
		}
		fresh := mustAccept(t, l)
		p.send(in.tag, dataChunk(500, 0, 0, "second life"))
		p.want("DATA", ctSack)
		wantRecv(t, fresh, 0, "second life")
		old.Abort()
		p.wantIdle("Abort of the old one must not reach the new one")
		mustSend(t, fresh, 0, "hello")
		if got := p.want("Send", ctData); got.tag != 8 {
			t.Fatalf("tag %d, want 8", got.tag)
		}
		if got := st.Stats(); got.Restarts != 1 || got.Associations != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// Both sides call each other from and to the same ports: RFC 9260 clause 5.2.1.
func TestSimultaneousDial(t *testing.T) {
	for _, after := range []time.Duration{0, 3 * time.Millisecond, 9 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New(memnet.Config{Delay: 10 * time.Millisecond})
				a, b := memStack(t, n, clientIP, StackConfig{}), memStack(t, n, serverIP, StackConfig{})
				defer func() { _ = a.Close(); _ = b.Close(); _ = n.Close() }()
				var ca, cb Conn
				var wg sync.WaitGroup
				wg.Go(func() {
					c, err := a.dial(context.Background(), addrPortAt(serverIP, 5001), 0, 5001)
					if err != nil {
						t.Errorf("a: %v", err)
						return
					}
					ca = c
				})
				wg.Go(func() {
					<-time.After(after)
					c, err := b.dial(context.Background(), addrPortAt(clientIP, 5001), 0, 5001)
					if err != nil {
						t.Errorf("b: %v", err)
						return
					}
					cb = c
				})
				wg.Wait()
				if ca == nil || cb == nil {
					return
				}
				mustSend(t, ca, 0, "one association")
				wantRecv(t, cb, 0, "one association")
				mustSend(t, cb, 0, "and back")
				wantRecv(t, ca, 0, "and back")
			})
		})
	}
}

func TestDialFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newLink(t, memnet.Config{}, StackConfig{})
		defer k.close()
		var abort *AbortError
		start := time.Now()
		if _, err := k.client.Dial(context.Background(), addrPortAt(serverIP, 9), 0); !errors.As(err, &abort) || abort.Reason != AbortByPeer {
			t.Errorf("closed port: %v, want AbortByPeer", err)
		}
		if time.Since(start) != 0 {
			t.Errorf("a closed port took %v, want the answer at once", time.Since(start))
		}
		k.net.SetImpairments(memnet.Config{Loss: 1})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := k.client.Dial(ctx, k.l.Addr(), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer, context over: %v", err)
		}
		start = time.Now()
		if _, err := k.client.Dial(context.Background(), k.l.Addr(), 0); !errors.As(err, &abort) || abort.Reason != AbortTimeout {
			t.Errorf("no answer: %v, want AbortTimeout", err)
		}
		// T1: 1 s, doubled up to 60 s, with eight retransmissions.
		if d := time.Since(start); d != (1+2+4+8+16+32+60+60+60)*time.Second {
			t.Errorf("gave up after %v", d)
		}
		if n := len(k.client.dials) + len(k.client.assocs) + len(k.client.used); n != 0 {
			t.Errorf("%d entries left behind", n)
		}
		k.net.SetImpairments(memnet.Config{})
		c, s := k.connect(t)
		closeConn(t, c)
		closeConn(t, s)
	})
}

// The third and fourth packet of a handshake are repeated until they arrive.
func TestHandshakeSurvivesLoss(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			k := newLink(t, memnet.Config{Loss: 0.3, Delay: time.Millisecond, Seed: seed}, StackConfig{})
			defer k.close()
			c := mustDialLong(t, k.client, k)
			mustSend(t, c, 0, "x")
			wantRecv(t, mustAccept(t, k.l), 0, "x")
		})
	}
}
