package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestHandshake(t *testing.T) {
	device := netip.MustParseAddrPort("10.60.0.7:22")
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	near, far := tcpPair(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		r, err := ReadRequest(t.Context(), near)
		if err != nil || r.Target != device || r.Ticket != "the.ticket" || r.Trace != trace {
			t.Errorf("ReadRequest = %+v, %v", r, err)
		}
		// The answer and the device's first bytes in one segment.
		io.WriteString(near, "HTTP/1.1 200 OK\r\nVia: x\r\n\r\nSSH-2.0-device\r\n")
		near.Close()
	})
	if err := Connect(t.Context(), far, Request{Target: device, Ticket: "the.ticket", Trace: trace}); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(far)
	if err != nil || string(rest) != "SSH-2.0-device\r\n" {
		t.Errorf("after the handshake: %q, %v; want the device's first bytes, all of them", rest, err)
	}
}

// A head that comes in pieces, cut at every place, is read to its end and no further.
func TestHeadInPieces(t *testing.T) {
	const text = "HTTP/1.1 200 OK\r\nVia: x\r\r\n\r\n"
	const rest = "\r\n\r\nthe device"
	for cut := 1; cut <= len(text); cut++ {
		near, far := tcpPair(t)
		near.SetReadDeadline(time.Now().Add(10 * time.Second))
		send(t, far, text[:cut])
		var head []byte
		var err error
		var wg sync.WaitGroup
		if cut == len(text) {
			send(t, far, rest)
		}
		wg.Go(func() { head, err = readHead(near) })
		if cut < len(text) {
			waitDrained(t, near) // the first piece has been taken
			send(t, far, text[cut:]+rest)
		}
		wg.Wait()
		if err != nil || string(head) != text {
			t.Fatalf("cut at %d: head %q, %v; want %q", cut, head, err, text)
		}
		expect(t, near, rest, "what follows the head")
	}
}

func TestRefusalsTravel(t *testing.T) {
	for why := range refusals {
		near, far := tcpPair(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			ReadRequest(t.Context(), near)
			if err := Refuse(t.Context(), near, why); err != nil {
				t.Error(err)
			}
		})
		err := Connect(t.Context(), far, Request{Target: netip.MustParseAddrPort("10.0.0.1:1")})
		if got, ok := errors.AsType[Refusal](err); !ok || got != why {
			t.Errorf("refused with %q, got %v", why, err)
		}
		wg.Wait()
	}
}

func TestConnectFails(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         error
	}{
		{"no reason given", "HTTP/1.1 502 Bad Gateway\r\n\r\n", UnknownRefusal},
		{"a reason that we do not know", "HTTP/1.1 502 Bad\r\nX-Simreach-Error: <script>\r\n\r\n", UnknownRefusal},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", ErrMalformed},
		{"an endless head", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", MaxHead), ErrHeadTooLarge},
		{"the end in the head", "HTTP/1.1 200 OK\r\n", io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := tcpPair(t)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				ReadRequest(t.Context(), near)
				io.WriteString(near, c.answer)
				near.CloseWrite()
			})
			err := Connect(t.Context(), far, Request{Target: netip.MustParseAddrPort("10.0.0.1:1"), Ticket: "t"})
			if !errors.Is(err, c.want) {
				t.Errorf("Connect: %v; want %v", err, c.want)
			}
		})
	}
}

func TestHandshakeEndsWithContext(t *testing.T) {
	_, far := tcpPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := Connect(ctx, far, Request{Target: netip.MustParseAddrPort("10.0.0.1:1")})
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		t.Errorf("a silent peer: %v; want a timeout", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := ReadRequest(ctx, far); err == nil {
		t.Error("ReadRequest with a cancelled context succeeded")
	}
	near, far := tcpPair(t)
	io.WriteString(near, "x")
	if _, err := far.Read(make([]byte, 1)); err != nil {
		t.Errorf("a handshake that ended leaves no deadline behind: %v", err)
	}
}

func TestParseRequest(t *testing.T) {
	const ok = "CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1:22\r\n"
	for _, c := range []struct{ name, head, ticket string }{
		{"as we send it", ok + "Proxy-Authorization: Bearer a.b.c\r\n\r\n", "a.b.c"},
		{"as curl sends it", ok + "User-Agent: curl\r\nproxy-authorization: bearer a.b.c\r\nProxy-Connection: Keep-Alive\r\n\r\n", "a.b.c"},
		{"without a ticket", ok + "\r\n", ""},
		{"IPv6", "CONNECT [2001:db8::1]:22 HTTP/1.1\r\nHost: [2001:db8::1]:22\r\n\r\n", ""},
	} {
		r, err := parseRequest([]byte(c.head))
		if err != nil || r.Ticket != c.ticket {
			t.Errorf("%s: %+v, %v; want ticket %q", c.name, r, err, c.ticket)
		}
	}
	for _, c := range []struct{ name, head string }{
		{"another method", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"a name", "CONNECT localhost:22 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"port 0", "CONNECT 10.0.0.1:0 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"a zone", "CONNECT [fe80::1%25eth0]:1 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"HTTP/1.0", "CONNECT 10.0.0.1:22 HTTP/1.0\r\nHost: x\r\n\r\n"},
		{"a body", ok + "Content-Length: 5\r\n\r\n"},
		{"a chunked body", ok + "Transfer-Encoding: chunked\r\n\r\n"},
		{"basic credentials", ok + "Proxy-Authorization: Basic abc\r\n\r\n"},
		{"two tickets", ok + "Proxy-Authorization: Bearer a\r\nProxy-Authorization: Bearer b\r\n\r\n"},
		{"nothing", "\r\n\r\n"},
	} {
		if r, err := parseRequest([]byte(c.head)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v; want ErrMalformed", c.name, r, err)
		}
	}
}

func TestClassifyDial(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Refusal
	}{
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, DeviceRefused},
		{fmt.Errorf("dial: %w", context.DeadlineExceeded), DeviceTimeout},
		{&net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, DeviceTimeout},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, DeviceUnreachable},
		{errors.New("anything else"), DeviceUnreachable},
	} {
		if got := ClassifyDial(c.err); got != c.want {
			t.Errorf("ClassifyDial(%v) = %q; want %q", c.err, got, c.want)
		}
	}
}

// trickle returns what the fuzzer says, in pieces, and never more than is asked.
type trickle struct {
	r    io.Reader
	size int
}

func (t *trickle) Read(b []byte) (int, error) { return t.r.Read(b[:min(len(b), t.size)]) }

func FuzzReadHead(f *testing.F) {
	f.Add(Request{Target: netip.MustParseAddrPort("10.0.0.1:22"), Ticket: "a.b.c", Early: []byte("SSH-2.0")}.head(), uint8(3))
	f.Add([]byte("CONNECT x HTTP/1.1\r\n\r\r\n\r\n\r\n"), uint8(1))
	f.Add([]byte("HTTP/1.1 407 Proxy Authentication Required\r\nX-Simreach-Error: ticket-invalid\r\n\r\n"), uint8(200))
	f.Add(bytes.Repeat([]byte("a"), MaxHead+1), uint8(9))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		src := bytes.NewReader(in)
		head, err := stepHead(&trickle{src, int(size) + 1})
		end := bytes.Index(in, []byte(headEnd))
		if err != nil {
			if end >= 0 && end+len(headEnd) <= MaxHead {
				t.Fatalf("a complete head was refused: %v", err)
			}
			return
		}
		if !bytes.Equal(head, in[:end+len(headEnd)]) {
			t.Fatalf("head %q is not what comes before the empty line of %q", head, in)
		}
		if src.Len() != len(in)-len(head) {
			t.Fatalf("%d bytes behind the head were read", len(in)-len(head)-src.Len())
		}
		_, _ = parseResponse(head)
		r, err := parseRequest(head)
		if err != nil {
			return
		}
		again, err := parseRequest(r.head())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v written and read again is %+v, %v", r, again, err)
		}
		if slow, err := parseHTTP(head); err != nil || !reflect.DeepEqual(slow, r) {
			t.Fatalf("%q is %+v, and to net/http %+v, %v", head, r, slow, err)
		}
	})
}
