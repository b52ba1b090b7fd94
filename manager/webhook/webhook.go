package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/simreach/simreach/manager"
)

// maxAnswer is how much of an answer is read, so that the connection can be used again.
const maxAnswer = 64 << 10

// Client is a manager.WebRequester. Its methods may be called from any goroutine.
type Client struct {
	ready     chan struct{}
	http      http.Client
	transport *http.Transport
}

// ErrForbidden refuses an address that operators must not reach through the manager.
var ErrForbidden = errors.New("webhook: the address is not for web requests")

// allowed is asked about every address before it is connected to, after names were looked
// up: a name may mean another address from one time to the next. Link-local addresses have
// what a host's owner alone shall see (cloud metadata at 169.254.169.254), and an
// unspecified one means this host. Loopback is let through, because the testbed in one
// process has its hosts there.
func allowed(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	if ip := a.Addr().Unmap(); ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsInterfaceLocalMulticast() {
		return fmt.Errorf("%w: %s", ErrForbidden, ip)
	}
	return nil
}

// New returns a Client. It follows no redirections, uses no proxy and refuses addresses
// with ErrForbidden. Connections that idle for 30 s are closed; the others when Run ends.
func New() *Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: allowed}
	t := &http.Transport{
		DialContext:     dialer.DialContext,
		MaxConnsPerHost: 16, MaxIdleConns: 32, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 32 << 10, ForceAttemptHTTP2: true,
	}
	ready := make(chan struct{})
	close(ready)
	return &Client{ready: ready, transport: t, http: http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Run waits for ctx to end and closes idle connections. It always returns nil.
func (c *Client) Run(ctx context.Context) error {
	<-ctx.Done()
	c.transport.CloseIdleConnections()
	return nil
}

// Ready is closed: there is nothing to wait for.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// Do implements manager.WebRequester.
func (c *Client) Do(ctx context.Context, r manager.WebRequest) (int, error) {
	var body io.Reader
	if r.Body != "" && r.Method != http.MethodGet {
		body = strings.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, body)
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", err)
	}
	for k, v := range r.Headers {
		req.Header.Set(k, v)
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	req.Header.Set("User-Agent", "simreach")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("webhook: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // what it says does not matter
	return resp.StatusCode, nil
}
