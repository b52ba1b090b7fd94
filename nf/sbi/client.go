package sbi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Defaults and limits of the HTTP/2 side.
const (
	DefaultTimeout  = 5 * time.Second
	DefaultRetryFor = 2 * time.Second

	maxBody     = 1 << 20   // of a request, and of most answers
	maxSnapshot = 256 << 20 // of an answer with all PDU sessions

	retryFirst = 50 * time.Millisecond
	retryMost  = 500 * time.Millisecond
)

var (
	_ Authentication = (*Client)(nil)
	_ SubscriberData = (*Client)(nil)
	_ UEContext      = (*Client)(nil)
	_ Sessions       = (*Client)(nil)
	_ Communication  = (*Client)(nil)
	_ SessionControl = (*Client)(nil)
	_ Provisioning   = (*Client)(nil)
	_ Charging       = (*Client)(nil)

	_ EquipmentIdentity = (*Client)(nil)
	_ EquipmentEvents   = (*Client)(nil)
)

// ClientOptions are a client's options; the zero value is usable.
type ClientOptions struct {
	// CallbackURL is the base URL of this process's own handler, which goes into
	// the callback URIs of requests (smContextStatusUri, deregCallbackUri). Empty
	// means the peer is told "http://callback.invalid": our own NFs do not use it,
	// because they reach an AMF by its NFID.
	CallbackURL string `yaml:"callback_url"`
	// Timeout bounds one attempt. Zero means DefaultTimeout.
	Timeout time.Duration `yaml:"timeout"`
	// RetryFor is how long a request that surely was not processed (the peer
	// cannot be dialled), or that may be repeated, is tried again. The context
	// bounds it too. Zero means DefaultRetryFor, negative means never.
	RetryFor time.Duration `yaml:"retry_for"`
}

// Client reaches the services of one peer over HTTP/2 without TLS, prior knowledge
// (TS 29.500 clause 5.2). It implements every service interface of this package but
// SessionEvents, for which there is EventsClient; the peer answers what it offers
// and 404 to the rest. A peer that restarts is dialled again by the next request.
//
// An error is a *Problem or *SessionRefusal as the peer's implementation returned
// it, an *UnreachableError, or one that wraps the context's. A Client is safe for
// concurrent use.
type Client struct {
	base string
	opts ClientOptions
	http *http.Client

	mu     sync.Mutex
	guamis map[NFID]ident.GUAMI // of RegisterAMF, for DeregisterAMF; guarded by mu
}

// NewClient returns a client of the peer at baseURL, such as
// "http://127.0.0.5:7777". It dials nothing. Errors wrap ErrConfig.
func NewClient(baseURL string, o ClientOptions) (*Client, error) {
	base, err := checkURL("base URL", baseURL)
	if err != nil {
		return nil, err
	}
	if o.CallbackURL == "" {
		o.CallbackURL = "http://callback.invalid"
	}
	if o.CallbackURL, err = checkURL("callback_url", o.CallbackURL); err != nil {
		return nil, err
	}
	if o.Timeout < 0 {
		return nil, fmt.Errorf("%w: timeout: %s: want a positive duration, or 0 for the default", ErrConfig, o.Timeout)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.RetryFor == 0 {
		o.RetryFor = DefaultRetryFor
	}
	return &Client{
		base:   base,
		opts:   o,
		http:   &http.Client{Transport: newTransport(), CheckRedirect: noRedirect},
		guamis: make(map[NFID]ident.GUAMI),
	}, nil
}

// Close closes the connections that are idle. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func checkURL(field, text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf(`%w: %s: %q: want "http://host:port" and, if any, a path prefix`, ErrConfig, field, text)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// newTransport speaks HTTP/2 only. The pings find out that a peer's host is gone
// when no reset comes back, as after its namespace was deleted.
func newTransport() *http.Transport {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:       p,
		DialContext:     (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		IdleConnTimeout: 90 * time.Second,
		HTTP2:           &http.HTTP2Config{SendPingTimeout: 3 * time.Second, PingTimeout: 2 * time.Second},
	}
}

// noRedirect hands redirections to the caller: our NFs never send one.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// request is one call of the client.
type request struct {
	method, path string // path is escaped and begins with "/"
	contentType  string
	body         []byte
	// repeatable requests may be sent again although the peer may have processed
	// the first.
	repeatable bool
	limit      int64 // of the answer; 0 means maxBody
}

// response is an answer of class 2xx.
type response struct {
	status   int
	location string
	message
	attempts int
}

// jsonRequest is a request with doc as its content.
func jsonRequest(method, path string, doc any, repeatable bool) (request, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return request{}, fmt.Errorf("sbi: %s %s: %w", method, path, err)
	}
	return request{method: method, path: path, contentType: typeJSON, body: b, repeatable: repeatable}, nil
}

// call sends doc as JSON and reads the answer's JSON into out, if not nil.
func (c *Client) call(ctx context.Context, method, path string, doc, out any, repeatable bool) error {
	r := request{method: method, path: path, repeatable: repeatable}
	if doc != nil {
		var err error
		if r, err = jsonRequest(method, path, doc, repeatable); err != nil {
			return err
		}
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	return c.read(r, resp, out)
}

// read takes the JSON out of an answer. An answer that is not as specified is the
// peer's fault, hence an *UnreachableError.
func (c *Client) read(r request, resp *response, out any) error {
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(resp.json, out); err != nil {
		return c.unreadable(r, resp, err)
	}
	return nil
}

func (c *Client) unreadable(r request, resp *response, err error) error {
	return &UnreachableError{
		Operation: r.method + " " + r.path, Peer: c.base, Attempts: resp.attempts,
		Err: fmt.Errorf("unreadable answer: %w", err),
	}
}

// do sends r, again while that is of use, and returns an answer of class 2xx.
func (c *Client) do(ctx context.Context, r request) (*response, error) {
	give := time.Now().Add(c.opts.RetryFor)
	delay := retryFirst
	for attempt := 1; ; attempt++ {
		resp, err := c.once(ctx, r)
		if err == nil {
			resp.attempts = attempt
			return resp, nil
		}
		var problem *Problem
		var refusal *SessionRefusal
		if errors.As(err, &problem) || errors.As(err, &refusal) {
			return nil, err
		}
		unreachable := &UnreachableError{Operation: r.method + " " + r.path, Peer: c.base, Attempts: attempt, Err: err}
		if ctx.Err() != nil {
			unreachable.Err = fmt.Errorf("%w (%v)", context.Cause(ctx), err)
			return nil, unreachable
		}
		if !(r.repeatable || neverSent(err)) || time.Now().Add(delay).After(give) {
			return nil, unreachable
		}
		if !wait(ctx, delay) {
			unreachable.Err = fmt.Errorf("%w (%v)", context.Cause(ctx), err)
			return nil, unreachable
		}
		delay = min(2*delay, retryMost)
	}
}

// neverSent reports whether a request failed before any of it went out.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once makes one attempt.
func (c *Client) once(ctx context.Context, r request) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	req.Header.Set("Accept", typeJSON+", "+typeProblem+", "+typeRelated)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	limit := r.limit
	if limit == 0 {
		limit = maxBody
	}
	m, err := decode(resp.Header.Get("Content-Type"), http.MaxBytesReader(nil, resp.Body, limit))
	if resp.StatusCode/100 != 2 {
		if err != nil {
			m = &message{}
		}
		return nil, refused(resp.StatusCode, m)
	}
	if err != nil {
		return nil, fmt.Errorf("unreadable answer: %w", err)
	}
	return &response{status: resp.StatusCode, location: resp.Header.Get("Location"), message: *m}, nil
}

// problemJSON is TS 29.571 type ProblemDetails.
type problemJSON struct {
	Status int    `json:"status,omitempty"`
	Detail string `json:"detail,omitempty"`
	Cause  string `json:"cause,omitempty"`
}

// errorJSON is what SmContextCreateError, SmContextUpdateError and
// N1N2MessageTransferError have in common; ProblemDetails stands alone elsewhere.
type errorJSON struct {
	problemJSON
	Error *problemJSON `json:"error,omitempty"`
	N1    *refToBinary `json:"n1SmMsg,omitempty"`
}

// refused turns an answer that is not of class 2xx into its error. A peer that is
// not ours may have sent no problem details.
func refused(status int, m *message) error {
	var j errorJSON
	if m.json == nil || json.Unmarshal(m.json, &j) != nil {
		j = errorJSON{}
	}
	details := j.problemJSON
	if j.Error != nil {
		details = *j.Error
	}
	p := Problem{Status: status, Cause: details.Cause, Detail: details.Detail}
	if p.Cause == "" {
		p.Cause = CauseSystemFailure
		if p.Detail == "" {
			p.Detail = http.StatusText(status)
		}
	}
	if n1, err := m.part(j.N1); err == nil && n1 != nil {
		return &SessionRefusal{Problem: p, N1: n1}
	}
	return &p
}

// segment escapes one path segment.
func segment(s string) string { return url.PathEscape(s) }

// lastSegment returns the unescaped last segment of a Location.
func lastSegment(location string) (string, error) {
	u, err := url.Parse(location)
	if err != nil {
		return "", err
	}
	p := u.EscapedPath()
	s, err := url.PathUnescape(p[strings.LastIndexByte(p, '/')+1:])
	if err != nil || s == "" {
		return "", fmt.Errorf("location %.100q names no resource", location)
	}
	return s, nil
}
