package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/simreach/simreach/manager"
)

// maxAnswer is how much of an answer is read, so that the connection can be used again.
const maxAnswer = 64 << 10

// Config says where web requests may go. The zero value refuses loopback and link-local
// addresses, multicast and unspecified ones, and lets all else through.
type Config struct {
	// Allow lists prefixes of loopback and link-local addresses that are let through, for
	// testbeds that have their hosts there.
	Allow []netip.Prefix `yaml:"allow"`
	// Deny lists further prefixes that are refused, such as those of the core's network
	// functions: they count more than Allow.
	Deny []netip.Prefix `yaml:"deny"`
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	for _, p := range slices.Concat(c.Allow, c.Deny) {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("webhooks: %s is no prefix of IPv4 or IPv6 addresses", p)
		}
	}
	return nil
}

// Client is a manager.WebRequester. Its methods may be called from any goroutine.
type Client struct {
	cfg       Config
	ready     chan struct{}
	http      http.Client
	transport *http.Transport

	mu      sync.RWMutex // guards refused
	refused []netip.AddrPort
}

// ErrForbidden refuses an address that operators must not reach through the manager.
var ErrForbidden = errors.New("webhook: the address is not for web requests")

// allowed is asked about every address before it is connected to, after names were looked
// up: a name may mean another address from one time to the next. Loopback addresses have
// what listens for this host alone, link-local ones what a host's owner alone shall see
// (cloud metadata at 169.254.169.254), and an unspecified one means this host.
func (c *Client) allowed(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	ip := a.Addr().Unmap().WithZone("")
	in := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	switch {
	case ip.IsUnspecified(), ip.IsMulticast(), in(c.cfg.Deny), c.refuses(netip.AddrPortFrom(ip, a.Port())):
	case (ip.IsLoopback() || ip.IsLinkLocalUnicast()) && !in(c.cfg.Allow):
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrForbidden, ip)
}

// Refuse refuses an address and port that the manager listens on, whatever Allow says; of
// the unspecified address, the port on every address of this host.
func (c *Client) Refuse(listener net.Addr) {
	if a, ok := listener.(*net.TCPAddr); ok {
		at := a.AddrPort()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = append(c.refused, netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()))
	}
}

func (c *Client) refuses(a netip.AddrPort) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.ContainsFunc(c.refused, func(own netip.AddrPort) bool {
		return a == own || own.Addr().IsUnspecified() && a.Port() == own.Port() && isLocal(a.Addr())
	})
}

// isLocal reports whether an address is this host's; also if that cannot be known.
func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(all, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip.AsSlice())
	})
}

// New returns a Client, of a Config that is valid. It follows no redirections, uses no proxy
// and refuses addresses with ErrForbidden. Connections that idle for 30 s are closed; the
// others when Run ends.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg, ready: make(chan struct{})}
	close(c.ready)
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: c.allowed}
	c.transport = &http.Transport{
		DialContext:     dialer.DialContext,
		MaxConnsPerHost: 16, MaxIdleConns: 32, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 32 << 10, ForceAttemptHTTP2: true,
	}
	c.http = http.Client{
		Transport:     c.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
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
