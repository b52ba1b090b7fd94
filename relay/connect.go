package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// The handshake between the relays is HTTP/1.1 CONNECT (RFC 9110 clause 9.3.6)
// with the manager's ticket as bearer credential (RFC 6750) for the proxy:
//
//	CONNECT 10.60.0.7:22 HTTP/1.1
//	Host: 10.60.0.7:22
//	Proxy-Authorization: Bearer <ticket>
//
// and a Traceparent (W3C Trace Context) where the access is traced.
//
// After the empty line of a 200 answer the connection carries the device's bytes.
// Any other answer has the reason in X-Simreach-Error, and the connection ends.
//
// An outer relay that wants to use the connection again says so with X-Simreach-Frames,
// whose value is how many bytes of the client come right behind the request. If the answer
// has that header, too, with the value 1, frames follow: after those bytes in the one
// direction, at once in the other.

// MaxHead is the largest head of a request or an answer, in bytes.
const MaxHead = 8 << 10

const (
	// HeaderError is the response header that carries a Refusal.
	HeaderError = "X-Simreach-Error"
	// HeaderFrames asks for frames, or grants them.
	HeaderFrames = "X-Simreach-Frames"
)

var (
	// ErrHeadTooLarge is a head that does not end within MaxHead bytes.
	ErrHeadTooLarge = errors.New("head larger than 8 KiB")
	// ErrMalformed is a head that is not HTTP, or not what the handshake allows.
	ErrMalformed = errors.New("malformed head")
)

// Request is what an outer relay asks of an inner one.
type Request struct {
	Target netip.AddrPort // the device
	Ticket string
	// Trace is a W3C traceparent, which Connect sends as it is. ReadRequest does not
	// check it. Empty: the access is not traced.
	Trace string
	// Early is what the client has sent so far. Connect sends it right behind the head,
	// so that a device which is reached has it without another round trip; otherwise it
	// is lost. ReadRequest leaves it unread.
	Early []byte

	frames bool   // are asked for
	ahead  uint16 // how many bytes of Early come before the first one
}

// Connect asks the inner relay behind c for a connection (R15). When it returns
// nil, c carries the device's bytes and not one of them has been read. A Refusal
// is the inner relay's answer; other errors are of the connection. When ctx ends
// Connect fails; it does not close c.
func Connect(ctx context.Context, c net.Conn, r Request) error {
	defer bound(ctx, c)()
	if _, err := c.Write(r.head()); err != nil {
		return fmt.Errorf("connect %s: %w", r.Target, err)
	}
	head, err := readHead(c)
	if err != nil {
		return fmt.Errorf("connect %s: %w", r.Target, err)
	}
	framed, err := parseResponse(head)
	if err == nil && framed {
		err = errNotAsked
	}
	if err != nil {
		return fmt.Errorf("connect %s: %w", r.Target, err)
	}
	return nil
}

var errNotAsked = fmt.Errorf("%w: frames, which nobody asked for", ErrMalformed)

// The lines of a head as Connect writes them.
const (
	lineConnect = "CONNECT "
	lineHost    = " HTTP/1.1\r\nHost: "
	lineTicket  = "\r\nProxy-Authorization: Bearer "
	lineTrace   = "\r\nTraceparent: "
	lineFrames  = "\r\n" + HeaderFrames + ": "
	established = "HTTP/1.1 200 Connection established"
	accepted    = established + headEnd
	// acceptedFramed goes on in frames.
	acceptedFramed = established + lineFrames + "1" + headEnd
)

// head returns the request as it is sent, Early included.
func (r Request) head() []byte {
	head := make([]byte, 0, 256+len(r.Ticket)+len(r.Early))
	head = append(r.Target.AppendTo(append(head, lineConnect...)), lineHost...)
	head = r.Target.AppendTo(head)
	if r.Ticket != "" {
		head = append(append(head, lineTicket...), r.Ticket...)
	}
	if r.Trace != "" {
		head = append(append(head, lineTrace...), r.Trace...)
	}
	if r.frames {
		head = strconv.AppendInt(append(head, lineFrames...), int64(r.ahead), 10)
	}
	return append(append(head, headEnd...), r.Early...)
}

// parseResponse returns whether frames follow, or why there is no connection.
func parseResponse(head []byte) (framed bool, err error) {
	switch string(head) {
	case accepted:
		return false, nil
	case acceptedFramed:
		return true, nil
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(head), 256), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return resp.Header.Get(HeaderFrames) != "", nil
	}
	if reason := Refusal(resp.Header.Get(HeaderError)); refusals[reason] != 0 {
		return false, reason
	}
	return false, UnknownRefusal
}

// ReadRequest reads an outer relay's request from c, and not one byte more. It
// returns ErrMalformed, ErrHeadTooLarge or the connection's error. When ctx ends it
// fails; it does not close c.
func ReadRequest(ctx context.Context, c net.Conn) (Request, error) {
	defer bound(ctx, c)()
	head, err := readHead(c)
	if err != nil {
		return Request{}, fmt.Errorf("read request: %w", err)
	}
	return parseRequest(head)
}

func parseRequest(head []byte) (Request, error) {
	if r, ok := parseOwn(string(head)); ok {
		return r, nil
	}
	return parseHTTP(head)
}

func parseHTTP(head []byte) (Request, error) {
	bad := func(why any) (Request, error) { return Request{}, fmt.Errorf("%w: %v", ErrMalformed, why) }
	h, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), 1024))
	if err != nil {
		return bad(err)
	}
	switch {
	case h.Method != http.MethodConnect:
		return bad("method is not CONNECT")
	case h.ProtoMajor != 1 || h.ProtoMinor != 1:
		return bad("not HTTP/1.1")
	case h.ContentLength != 0 || len(h.TransferEncoding) != 0:
		return bad("CONNECT with a body")
	}
	target, err := netip.ParseAddrPort(h.RequestURI)
	if err != nil || target.Port() == 0 || target.Addr().Zone() != "" {
		return bad("target is not address:port")
	}
	auth := h.Header.Values("Proxy-Authorization")
	if len(auth) > 1 {
		return bad("several Proxy-Authorization headers")
	}
	r := Request{Target: target, Trace: h.Header.Get("Traceparent")}
	if ahead := h.Header.Get(HeaderFrames); ahead != "" {
		if r.ahead, err = parseAhead(ahead); err != nil {
			return bad(HeaderFrames + " is not a number of bytes")
		}
		r.frames = true
	}
	if len(auth) == 1 {
		scheme, ticket, ok := strings.Cut(auth[0], " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return bad("Proxy-Authorization is not Bearer")
		}
		r.Ticket = strings.TrimSpace(ticket)
	}
	return r, nil
}

func parseAhead(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err
}

// parseOwn parses a head that looks exactly as Connect writes it, which costs a tenth of
// what net/http needs for it. What it takes, net/http would take, and find the same in.
func parseOwn(head string) (r Request, ok bool) {
	rest, ok := strings.CutPrefix(head, lineConnect)
	if !ok {
		return r, false
	}
	target, rest, ok := strings.Cut(rest, lineHost)
	if !ok {
		return r, false
	}
	if rest, ok = strings.CutPrefix(rest, target); !ok {
		return r, false
	}
	if rest, ok = strings.CutSuffix(rest, headEnd); !ok {
		return r, false
	}
	if rest, ok = strings.CutPrefix(rest, lineTicket); ok {
		var more bool
		if r.Ticket, rest, more = strings.Cut(rest, "\r\n"); more {
			rest = "\r\n" + rest
		}
		if !isToken68(r.Ticket) {
			return r, false
		}
	}
	if ahead, found := strings.CutPrefix(rest, lineFrames); found {
		var err error
		if r.ahead, err = parseAhead(ahead); err != nil {
			return r, false
		}
		r.frames, rest = true, ""
	}
	if rest != "" { // a trace, or something that net/http shall judge
		return r, false
	}
	var err error
	r.Target, err = netip.ParseAddrPort(target)
	return r, err == nil && r.Target.Port() != 0 && r.Target.Addr().Zone() == "" && r.Target.String() == target
}

// isToken68 reports whether s can be a bearer credential (RFC 6750 clause 2.1).
func isToken68(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '+', c == '/':
		default:
			return false
		}
	}
	return s != ""
}

// Accept tells the outer relay that the device is reached: raw bytes follow.
func Accept(ctx context.Context, c net.Conn) error {
	defer bound(ctx, c)()
	_, err := io.WriteString(c, accepted)
	return err
}

// Refuse tells the outer relay why not. The caller closes c.
func Refuse(ctx context.Context, c net.Conn, why Refusal) error {
	defer bound(ctx, c)()
	_, err := c.Write(why.head())
	return err
}

// head returns the answer that says why not.
func (r Refusal) head() []byte {
	status := refusals[r]
	if status == 0 {
		status = http.StatusBadGateway
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%s: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		status, http.StatusText(status), HeaderError, string(r))
}

const headEnd = "\r\n\r\n"

// readHead reads up to and including the first empty line. What follows it stays
// in r, which saves every connection a wrapper around bytes that came too early: the
// kernel's sockets are looked into before they are read.
func readHead(r io.Reader) ([]byte, error) {
	if c, ok := r.(*net.TCPConn); ok {
		return peekHead(c)
	}
	return stepHead(r)
}

// stepHead is readHead for what cannot be looked into. A read never asks for more
// bytes than are missing from the empty line at least. That costs some hundred small
// reads for a handshake, which are cheap where they are no system calls: of a TLS
// connection or a userspace stack.
func stepHead(r io.Reader) ([]byte, error) {
	head := make([]byte, 0, 1024)
	var step [len(headEnd)]byte
	for {
		missing := len(headEnd) - overlap(head)
		if missing == 0 {
			return head, nil
		}
		if len(head)+missing > MaxHead {
			return nil, ErrHeadTooLarge
		}
		n, err := r.Read(step[:missing])
		head = append(head, step[:n]...)
		if err != nil && overlap(head) < len(headEnd) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// overlap returns how many bytes of an empty line head ends with.
func overlap(head []byte) int {
	for n := min(len(headEnd), len(head)); n > 0; n-- {
		if string(head[len(head)-n:]) == headEnd[:n] {
			return n
		}
	}
	return 0
}
