package rpc

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager/rpc/relayv1/relayv1connect"
)

// dialTimeout bounds connecting to a manager, TLS included: another may be there.
const dialTimeout = 2 * time.Second

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// endpoint is one manager as a client reaches it: a connection for commands, reports
// and calls. Questions have others (line), so that a snapshot or a batch of audit records
// holds up none.
type endpoint struct {
	address string
	secret  string
	dial    dialFunc
	tls     *pki.Source // nil: in the clear
	control *peer
}

// peer is one HTTP/2 connection.
type peer struct {
	transport *http.Transport
	rpc       relayv1connect.RelayControlClient
}

func newEndpoint(address string, c ClientConfig, dial dialFunc, source *pki.Source) *endpoint {
	bounded := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dial(ctx, network, address)
	}
	return &endpoint{address: address, secret: c.Secret, dial: bounded, tls: source, control: newPeer(address, c.Secret, bounded, source)}
}

func newPeer(address, secret string, dial dialFunc, source *pki.Source) *peer {
	var protocols http.Protocols
	t := &http.Transport{
		Protocols: &protocols, DisableCompression: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	var round http.RoundTripper = whole{t}
	url := "http://" + address
	if source == nil {
		protocols.SetUnencryptedHTTP2(true)
		t.DialContext = dial
		round = authorize{round, "Bearer " + secret}
	} else {
		protocols.SetHTTP2(true)
		t.DialTLSContext = dialTLS(dial, source, "h2")
		url = "https://" + address
	}
	return &peer{t, relayv1connect.NewRelayControlClient(&http.Client{Transport: round}, url,
		connect.WithReadMaxBytes(maxAnswer), connect.WithAcceptCompression("gzip", nil, nil))} // it costs more than the whole answer
}

// dialTLS connects with the certificate that is in force now, for a protocol.
func dialTLS(dial dialFunc, source *pki.Source, protocol string) dialFunc {
	base := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, source.Dial(base, host))
		if err := c.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("TLS with %s: %w", address, err), raw.Close())
		}
		return c, nil
	}
}

// whole has every message of a stream leave as one: connect writes the prefix and the
// message one after the other, and each would be a frame, a packet and two wake-ups.
type whole struct{ next http.RoundTripper }

func (w whole) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength >= 0 { // a unary call
		return w.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.Body = &messages{ReadCloser: r.Body}
	return w.next.RoundTrip(r)
}

// prefixSize is that of a message's prefix: flags, and a length of four bytes.
const prefixSize = 5

// messages reads a stream's messages with their prefixes, a whole one at a time where
// the buffer has room for it.
type messages struct {
	io.ReadCloser
	prefix [prefixSize]byte
	got    int // of the prefix
	left   int // of a message whose prefix was read
}

// Read implements io.Reader.
func (m *messages) Read(p []byte) (int, error) {
	if m.left > 0 {
		return m.rest(p)
	}
	n, err := readFull(m.ReadCloser, p[:min(len(p), prefixSize-m.got)])
	m.got += copy(m.prefix[m.got:], p[:n])
	if err != nil || m.got < prefixSize {
		return n, err
	}
	m.got, m.left = 0, int(binary.BigEndian.Uint32(m.prefix[1:]))
	more, err := m.rest(p[n:])
	return n + more, err
}

// rest reads what fits of the message that was begun.
func (m *messages) rest(p []byte) (int, error) {
	n, err := readFull(m.ReadCloser, p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// readFull is io.ReadFull, but that an end in the middle is io.EOF: the peer judges it.
func readFull(r io.Reader, p []byte) (int, error) {
	n, err := io.ReadFull(r, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// authorize adds the shared secret to every request.
type authorize struct {
	next   http.RoundTripper
	header string
}

func (a authorize) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", a.header)
	return a.next.RoundTrip(r)
}
