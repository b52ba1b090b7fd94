package sctp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/memnet"
)

func addrPortAt(ip netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(ip, port) }

func mustDialLong(t *testing.T, st *Stack, k *link) Conn {
	t.Helper()
	c, err := st.Dial(context.Background(), k.l.Addr(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A peer that runs Nagle's algorithm holds its next small message until the one
// before is acknowledged. pion alone would let it wait 200 ms.
func TestSackAtOnce(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		as := p.connect(7, 100)
		c := mustAccept(t, l)
		start := time.Now()
		for i := range uint32(100) { // the next only after the SACK
			p.send(as.theirs, dataChunk(100+i, 0, uint16(i), "small"))
			sack := p.want("DATA", ctSack)
			if got := binary.BigEndian.Uint32(sack.chunks[0].value); got != 100+i {
				t.Fatalf("SACK of %d, want %d", got, 100+i)
			}
			wantRecv(t, c, 0, "small")
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("100 messages took %v of fake time, want none: no SACK may be delayed", d)
		}
	})
}

// The same whatever DATA comes with and however often: the receiver has 0 ms to
// acknowledge it, so that no timer of either side is ever what carries on.
func TestSackAtOnceInEveryCompany(t *testing.T) {
	for name, tt := range map[string]struct {
		packets func(ours uint32) [][]chunk // to send one by one; ours is the TSN of our DATA that waits for a SACK
		want    []uint32                    // cumulative TSN of the SACK to each
	}{
		"with the SACK of our DATA": {func(ours uint32) [][]chunk {
			return [][]chunk{{sackChunk(ours), dataChunk(100, 0, 0, "a")}}
		}, []uint32{100}},
		"with an old SACK": {func(ours uint32) [][]chunk {
			return [][]chunk{{sackChunk(ours), dataChunk(100, 0, 0, "a")}, {sackChunk(ours - 1), dataChunk(101, 0, 1, "b")}}
		}, []uint32{100, 101}},
		"two in one packet, on two streams": {func(uint32) [][]chunk {
			return [][]chunk{{dataChunk(100, 0, 0, "a"), dataChunk(101, 1, 0, "b")}}
		}, []uint32{101}},
		"again, since its SACK was lost": {func(uint32) [][]chunk {
			return [][]chunk{{dataChunk(100, 0, 0, "a")}, {dataChunk(100, 0, 0, "a")}, {dataChunk(100, 0, 0, "a"), dataChunk(101, 0, 1, "b")}}
		}, []uint32{100, 100, 101}},
		"with a gap that is filled later": {func(uint32) [][]chunk {
			return [][]chunk{{dataChunk(101, 0, 1, "b")}, {dataChunk(100, 0, 0, "a")}, {dataChunk(102, 0, 2, "c")}}
		}, []uint32{99, 101, 102}},
	} {
		t.Run(name, func(t *testing.T) {
			withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
				as := p.connect(7, 100)
				c := mustAccept(t, l)
				mustSend(t, c, 0, "ours")
				p.want("Send", ctData)
				start := time.Now()
				for i, chunks := range tt.packets(as.theirTSN) {
					p.send(as.theirs, chunks...)
					if got := binary.BigEndian.Uint32(p.want("DATA", ctSack).chunks[0].value); got != tt.want[i] {
						t.Errorf("packet %d: SACK of %d, want %d", i, got, tt.want[i])
					}
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("took %v of fake time, want none", d)
				}
			})
		})
	}
	t.Run("with the COOKIE ECHO", func(t *testing.T) {
		withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
			start := time.Now()
			p.send(0, initOf(peerInit(7, 100)))
			in, params, no := parseInit(p.want("INIT", ctInitAck).chunks[0].value)
			if no != nil {
				t.Fatalf("INIT ACK not acceptable: %+v", no)
			}
			p.send(in.tag, chunk{ctCookieEcho, 0, params.cookie}, dataChunk(100, 0, 0, "early"))
			p.want("COOKIE ECHO", ctCookieAck)
			p.want("DATA", ctSack)
			wantRecv(t, mustAccept(t, l), 0, "early")
			if d := time.Since(start); d != 0 {
				t.Errorf("took %v of fake time, want none", d)
			}
		})
	})
}

// Chunks that pion does not know must not cost the packet around them.
func TestChunksAroundData(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		as := p.connect(7, 100)
		c := mustAccept(t, l)
		info := []byte{0, 1, 0, 8, 1, 2, 3, 4}

		p.send(as.theirs, chunk{ctHeartbeatAck, 0, info}, dataChunk(100, 0, 0, "behind a HEARTBEAT ACK"))
		p.want("DATA", ctSack)
		wantRecv(t, c, 0, "behind a HEARTBEAT ACK")

		p.send(as.theirs, chunk{ctHeartbeat, 0, info}, dataChunk(101, 0, 1, "behind a HEARTBEAT"))
		if ack := p.want("HEARTBEAT", ctHeartbeatAck); string(ack.chunks[0].value) != string(info) || ack.tag != 7 {
			t.Errorf("HEARTBEAT ACK %x, want the same information", ack.chunks[0].value)
		}
		p.want("DATA", ctSack)
		wantRecv(t, c, 0, "behind a HEARTBEAT")

		p.send(as.theirs, chunk{0xbf, 0, []byte("skip")}, dataChunk(102, 0, 2, "behind one to skip"))
		p.want("DATA", ctSack)
		wantRecv(t, c, 0, "behind one to skip")

		p.send(as.theirs, chunk{0xff, 0, []byte("report")}, dataChunk(103, 0, 3, "behind one to report"))
		if e := p.want("unknown chunk", ctError); firstCause(e.chunks[0].value) != causeUnrecognizedChunk {
			t.Errorf("ERROR %x", e.chunks[0].value)
		}
		p.want("DATA", ctSack)
		wantRecv(t, c, 0, "behind one to report")

		p.send(as.theirs, dataChunk(104, 0, 4, "before one that stops"), chunk{0x7f, 0, nil}, dataChunk(105, 0, 5, "never seen"))
		p.want("unknown chunk", ctError)
		p.want("DATA", ctSack)
		wantRecv(t, c, 0, "before one that stops")
		p.wantIdle("what follows a chunk that stops")

		p.send(as.theirs, dataChunk(105, maxInStreams, 0, "no such stream"), dataChunk(106, 1, 0, "but this"))
		if e := p.want("DATA on a stream that does not exist", ctError); firstCause(e.chunks[0].value) != causeInvalidStream {
			t.Errorf("ERROR %x", e.chunks[0].value)
		}
		if s := p.want("both are acknowledged", ctSack); binary.BigEndian.Uint32(s.chunks[0].value) != 106 {
			t.Errorf("SACK of %d", binary.BigEndian.Uint32(s.chunks[0].value))
		}
		wantRecv(t, c, 1, "but this")

		// Padding that is not zero must be ignored.
		b := newPacket(p.local, p.port, as.theirs, 0)
		d := dataChunk(107, 0, 5, "odd")
		b = appendChunk(b, d.typ, d.flags, d.value)
		b[len(b)-1] = 0xaa
		p.sendBytes(seal(b))
		p.want("DATA with dirty padding", ctSack)
		wantRecv(t, c, 0, "odd")

		p.send(as.theirs, dataChunk(108, 0, 6, ""))
		if a := p.want("DATA without data", ctAbort); firstCause(a.chunks[0].value) != causeNoUserData {
			t.Errorf("ABORT %x, want cause No User Data", a.chunks[0].value)
		}
		var abort *AbortError
		if err := recvErr(t, c); !errors.As(err, &abort) || abort.Reason != AbortLocal {
			t.Errorf("%v, want AbortLocal", err)
		}
	})
}

func TestVerificationTag(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		as := p.connect(7, 100)
		c := mustAccept(t, l)
		for _, bad := range []chunk{
			dataChunk(100, 0, 0, "forged"), {ctAbort, 0, nil}, {ctShutdown, 0, make([]byte, 4)},
			{ctHeartbeat, 0, []byte{0, 1, 0, 4}}, {ctAbort, flagT, nil},
		} {
			p.send(as.theirs+1, bad)
		}
		p.wantIdle("packets with a wrong tag")
		if got := st.Stats().BadTag; got != 5 {
			t.Errorf("BadTag = %d, want 5", got)
		}
		p.send(as.mine, chunk{ctAbort, flagT, nil}) // reflected: legal
		if err := recvErr(t, c); !errors.Is(err, ErrAborted) {
			t.Errorf("%v, want ErrAborted", err)
		}
	})
}

func TestAbortTellsItsCause(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		as := p.connect(7, 100)
		c := mustAccept(t, l)
		p.send(as.theirs, dataChunk(100, 0, 0, "last words"))
		// Two causes, the first of odd length: pion alone would not understand it.
		p.send(as.theirs, chunk{ctAbort, 0, append(pad(appendTLV(nil, causeUserAbort, []byte("x")), 5), appendTLV(nil, 1, nil)...)})
		wantRecv(t, c, 0, "last words")
		var abort *AbortError
		if err := recvErr(t, c); !errors.As(err, &abort) || abort.Cause != causeUserAbort || abort.Reason != AbortByPeer {
			t.Errorf("%v, want user initiated abort", err)
		}
		synctest.Wait()
		if n := st.Stats().Associations; n != 0 {
			t.Errorf("%d associations left", n)
		}
	})
}

// pion probes a path that has gone quiet with a HEARTBEAT without the mandatory
// parameter, for which Linux aborts the association.
func TestNoEmptyHeartbeat(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		p.connect(7, 100)
		c, ok := mustAccept(t, l).(*assoc)
		if !ok {
			t.Fatal("not an association of ours")
		}
		c.pion.ActiveHeartbeat()
		p.wantIdle("pion's probe")
		mustSend(t, c, 0, "alive")
		p.want("Send", ctData)
	})
}

// RFC 9260 clauses 8.1 and 8.3: an idle association is asked every HB.interval;
// after Association.Max.Retrans silent tries it is lost.
func TestLossOfIdlePeer(t *testing.T) {
	withPeer(t, StackConfig{Heartbeat: 30 * time.Second, MaxRetrans: 3}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		as := p.connect(7, 100)
		c := mustAccept(t, l)
		start := time.Now()
		for i := range 3 {
			hb := p.want("idle", ctHeartbeat)
			if d := time.Since(start); d != 30*time.Second {
				t.Fatalf("HEARTBEAT %d after %v, want 30 s", i, d)
			}
			p.send(as.theirs, chunk{ctHeartbeatAck, 0, hb.chunks[0].value})
			<-time.After(time.Second) // RTO: the supervisor sees the answer
			start = time.Now()
		}
		start = start.Add(30 * time.Second)
		for i, want := range []time.Duration{0, 1, 3, 7} { // nobody answers now
			p.want("silence", ctHeartbeat)
			if d := time.Since(start); d != want*time.Second {
				t.Fatalf("HEARTBEAT %d after %v, want %v s", i, d, want)
			}
		}
		var abort *AbortError
		if err := recvErr(t, c); !errors.As(err, &abort) || abort.Reason != AbortLost {
			t.Fatalf("%v, want AbortLost", err)
		}
		if d := time.Since(start); d != 15*time.Second {
			t.Errorf("lost %v after the first unanswered HEARTBEAT, want 1+2+4+8 s", d)
		}
	})
}

func TestLossWithDataOutstanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newLink(t, memnet.Config{Delay: time.Millisecond}, StackConfig{MaxRetrans: 4, RTOMax: 2 * time.Second})
		defer k.close()
		c, s := k.connect(t)
		mustSend(t, c, 0, "arrives")
		wantRecv(t, s, 0, "arrives")
		k.net.SetImpairments(memnet.Config{Loss: 1})
		start := time.Now()
		mustSend(t, c, 0, "does not")
		var abort *AbortError
		if err := recvErr(t, c); !errors.As(err, &abort) || abort.Reason != AbortLost {
			t.Fatalf("%v, want AbortLost", err)
		}
		if d := time.Since(start); d < 4*time.Second || d > 20*time.Second {
			t.Errorf("lost after %v", d)
		}
		if err := c.Send(context.Background(), Message{Data: []byte("x")}); !errors.Is(err, ErrAborted) {
			t.Errorf("Send: %v, want ErrAborted", err)
		}
	})
}

// A network that comes back in time costs nothing but time.
func TestOutageIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newLink(t, memnet.Config{Delay: time.Millisecond}, StackConfig{})
		defer k.close()
		c, s := k.connect(t)
		k.net.SetImpairments(memnet.Config{Loss: 1})
		for range 30 {
			mustSend(t, c, 0, "late")
			mustSend(t, s, 0, "late too")
		}
		<-time.After(20 * time.Second)
		k.net.SetImpairments(memnet.Config{Delay: time.Millisecond})
		for range 30 {
			wantRecv(t, s, 0, "late")
			wantRecv(t, c, 0, "late too")
		}
	})
}

// Close waits for the peer's answer, and aborts when its context ends first.
func TestCloseOfSilentPeer(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		p.connect(7, 100)
		c := mustAccept(t, l)
		ctx, cancel := context.WithTimeout(context.Background(), 3500*time.Millisecond)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v, want DeadlineExceeded", err)
		}
		p.want("Close", ctShutdown)
		p.want("after T2", ctShutdown)
		p.want("after twice T2", ctShutdown)
		p.want("context over", ctAbort)
		p.wantIdle("nothing more")
		if err := c.Close(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("second Close: %v, want ErrClosed", err)
		}
	})
}

func TestPeerShutdown(t *testing.T) {
	withPeer(t, StackConfig{}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		as := p.connect(7, 100)
		c := mustAccept(t, l)
		p.send(as.theirs, dataChunk(100, 0, 0, "bye"))
		p.want("DATA", ctSack)
		mustSend(t, c, 0, "you too")
		p.want("Send", ctData)
		var cum [4]byte
		binary.BigEndian.PutUint32(cum[:], as.theirTSN) // acknowledges "you too"
		p.send(as.theirs, chunk{ctShutdown, 0, cum[:]})
		p.want("SHUTDOWN", ctShutdownAck)
		wantRecv(t, c, 0, "bye")
		if err := recvErr(t, c); err != io.EOF {
			t.Errorf("%v, want io.EOF", err)
		}
		p.send(as.theirs, chunk{ctShutdownComplete, 0, nil})
		synctest.Wait()
		if n := st.Stats().Associations; n != 0 {
			t.Errorf("%d associations left", n)
		}
		closeConn(t, c)
	})
}

// A reader that stops must close the window, and opening it again must not wait
// for the peer's probe.
func TestWindowUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newLink(t, memnet.Config{}, StackConfig{Window: 64 << 10})
		defer k.close()
		c, s := k.connect(t)
		sent := make(chan int, 1)
		go func() {
			n := 0
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			defer cancel()
			for c.Send(ctx, Message{Data: make([]byte, 1000)}) == nil {
				n++
			}
			sent <- n
		}()
		n := <-sent
		if n > 3*64 {
			t.Fatalf("%d kB fitted into a window and a buffer of 64 kB each", n)
		}
		start := time.Now()
		for range n {
			mustRecv(t, s)
		}
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("reading on took %v, want no wait for a probe", d)
		}
	})
}

// Nobody reads and the peer ignores the window: memory stays bounded.
func TestWindowIsEnforced(t *testing.T) {
	withPeer(t, StackConfig{Window: 10000}, func(t *testing.T, p *rawPeer, st *Stack, l Listener) {
		as := p.connect(7, 0)
		mustAccept(t, l)
		block := string(make([]byte, 1000))
		for i := range uint32(100) {
			p.send(as.theirs, dataChunk(i, 0, uint16(i), block))
			synctest.Wait()
		}
		if got := st.Stats().Overrun; got < 70 {
			t.Errorf("Overrun = %d, want most of 100", got)
		}
	})
}

func TestExclusive(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
	line := func(addr, inode string) string {
		return "  132: " + addr + " 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 " + inode + " 2 0000000000000000 0\n"
	}
	for _, tc := range []struct {
		name, list string
		want       bool
	}{
		{"alone", line("0100007F:0084", "77"), true},
		{"not in the list: another namespace", line("0100007F:0084", "78"), false},
		{"another address", line("0100007F:0084", "77") + line("0200007F:0084", "78"), true},
		{"another protocol", line("0100007F:0084", "77") + line("0100007F:0001", "78"), true},
		{"same address", line("0100007F:0084", "77") + line("0100007F:0084", "78"), false},
		{"somebody has all", line("0100007F:0084", "77") + line("00000000:0084", "78"), false},
		{"we have all", line("00000000:0084", "77") + line("0100007F:0084", "78"), false},
	} {
		if got := exclusive([]byte(head+tc.list), "77"); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
