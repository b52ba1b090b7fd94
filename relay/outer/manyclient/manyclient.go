package manyclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// headerError has the code of a refusal.
const headerError = "X-Simreach-Error"

// maxReason bounds what is read of a refusal's body, in bytes.
const maxReason = 256

// Config configures a Client.
type Config struct {
	// Endpoint is the entry's "address:port", or "host:port". Required.
	Endpoint string
	// TLS has the roots and the client's certificate. Its ServerName may be empty:
	// the host of Endpoint. nil: the system's roots, no certificate.
	TLS *tls.Config
	// Dial connects to the relay. nil: the operating system's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// RefusedError is a relay's answer that a device is not reached.
type RefusedError struct {
	Target string
	Status int    // of HTTP
	Code   string // as in the error log; may be empty
	Cause  string // a stable word; may be empty
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("connect to %s: refused with %d: %s %s", e.Target, e.Status, e.Code, e.Cause)
}

// ErrProtocol says that the relay does not speak HTTP/2 at the endpoint: the entry is
// not for several devices.
var ErrProtocol = errors.New("not an entry for several devices")

// Client is one connection to an outer relay. Its methods may be called from any
// goroutine.
type Client struct {
	transport *http.Transport
	conn      *http.ClientConn
}

// Dial connects to a relay and does the TLS handshake; ctx bounds that only. In TLS
// 1.3 a client certificate that is not accepted may show in the first Connect.
func Dial(ctx context.Context, c Config) (*Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS != nil {
		config = c.TLS.Clone()
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	t := &http.Transport{TLSClientConfig: config, Protocols: &protocols, DialContext: c.Dial, DisableCompression: true}
	conn, err := t.NewClientConn(ctx, "https", c.Endpoint)
	if err != nil {
		t.CloseIdleConnections()
		if strings.Contains(err.Error(), "unsupported protocol") { // net/http has no type for it
			err = fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		return nil, fmt.Errorf("connect to %s: %w", c.Endpoint, err)
	}
	return &Client{transport: t, conn: conn}, nil
}

// Close closes the connection and all its streams.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.transport.CloseIdleConnections()
	return err
}

// Err is why the connection can take no more streams; nil if it can.
func (c *Client) Err() error { return c.conn.Err() }

// ByIMSI names a port of the device with an IMSI of 14 or 15 digits.
func ByIMSI(imsi string, port uint16) string { return "imsi-" + imsi + ":" + portText(port) }

// BySIM names a port of the device with a SIM ID.
func BySIM(id string, port uint16) string { return id + ":" + portText(port) }

func portText(p uint16) string { return strconv.Itoa(int(p)) }

// Connect reaches a device, which ByIMSI or BySIM names. ctx bounds that only, not the
// stream's life. A refusal is a *RefusedError.
func (c *Client) Connect(ctx context.Context, target string) (*Stream, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	read, write := io.Pipe()
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: target}, Host: target,
		Header: http.Header{}, Body: read, ContentLength: -1,
	}
	resp, err := c.conn.RoundTrip(req.WithContext(life))
	if err == nil && !stop() {
		resp.Body.Close()
		err = ctx.Err()
	}
	if err != nil {
		stop()
		cancel()
		write.Close()
		if strings.Contains(err.Error(), "could not be established") { // net/http has no type for it
			err = fmt.Errorf("%w: the relay ended the connection: %w", io.ErrUnexpectedEOF, err)
		}
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	if resp.StatusCode/100 != 2 {
		defer cancel()
		defer resp.Body.Close()
		write.Close()
		why, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason)) // without it the code must do
		return nil, &RefusedError{target, resp.StatusCode, resp.Header.Get(headerError), strings.TrimSpace(string(why))}
	}
	return &Stream{body: resp.Body, write: write, cancel: cancel, target: target}, nil
}

// Stream is a connection to a device. It is not a net.Conn: it has no deadlines.
type Stream struct {
	body   io.ReadCloser
	write  *io.PipeWriter
	cancel context.CancelFunc
	target string
	close  sync.Once
}

// Target returns the device's name as it was given to Connect.
func (s *Stream) Target() string { return s.target }

// Read implements io.Reader. It ends with io.EOF when the device has ended the
// connection, and with another error when it was cut.
func (s *Stream) Read(b []byte) (int, error) { return s.body.Read(b) }

// Write implements io.Writer.
func (s *Stream) Write(b []byte) (int, error) { return s.write.Write(b) }

// CloseWrite tells the device that no more will come; what it says is still read.
func (s *Stream) CloseWrite() error { return s.write.Close() }

// Close ends the stream at once, in both directions.
func (s *Stream) Close() error {
	s.close.Do(func() {
		s.write.CloseWithError(net.ErrClosed)
		s.cancel()
		s.body.Close()
	})
	return nil
}

// CloseAfter closes the stream when d has passed, unless the function it returns is
// called before.
func (s *Stream) CloseAfter(d time.Duration) (stop func() bool) {
	return time.AfterFunc(d, func() { s.Close() }).Stop
}
