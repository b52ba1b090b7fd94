package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/scenarios/lab"
)

// ManagerClient reaches a topology's manager over its REST interface, as a client with
// the operator's credentials. It implements lab.Manager.
type ManagerClient struct {
	at      netip.AddrPort
	secrets Secrets

	mu    sync.Mutex // guards login and kept
	login *api.Client
	kept  map[string]api.AuthResponse
	from  lab.Client // who waits for the directory
}

var _ lab.Manager = (*ManagerClient)(nil)

// NewManagerClient returns a client for the REST interface at an address; from is the
// host that calls when no client of the scenario does.
func NewManagerClient(at netip.AddrPort, k Secrets, from lab.Client) *ManagerClient {
	return &ManagerClient{at: at, secrets: k, from: from, kept: map[string]api.AuthResponse{}}
}

// client returns an authenticated client that connects from a host.
func (m *ManagerClient) client(ctx context.Context, from lab.Client) (*api.Client, func(), error) {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return from.Dial(ctx, m.at) }}
	c := api.Client{URL: "http://" + m.at.String(), HTTP: &http.Client{Transport: t}}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.login == nil {
		in, err := c.Login(ctx, api.AuthRequest{AuthKeyID: m.secrets.AuthKeyID, AuthKey: m.secrets.AuthKey})
		if err != nil {
			t.CloseIdleConnections()
			return nil, nil, fmt.Errorf("log in at the manager: %w", err)
		}
		m.login = in
	}
	c.Credentials = m.login.Credentials
	return &c, t.CloseIdleConnections, nil
}

// call runs f with an authenticated client. A manager that was restarted may not
// know the token any more: then it logs in again, once.
func (m *ManagerClient) call(ctx context.Context, from lab.Client, f func(*api.Client) error) error {
	for again := true; ; again = false {
		c, done, err := m.client(ctx, from)
		if err != nil {
			return apiError(err)
		}
		err = f(c)
		done()
		if e, ok := errors.AsType[*api.Error](err); ok && e.Status == http.StatusUnauthorized && again {
			m.mu.Lock()
			m.login = nil
			m.mu.Unlock()
			continue
		}
		return apiError(err)
	}
}

func apiError(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return &lab.APIError{Status: e.Status, Code: e.Code, Message: e.Message}
	}
	return err
}

// Create implements lab.Manager.
func (m *ManagerClient) Create(ctx context.Context, from lab.Client, r lab.AccessRequest) (lab.Access, error) {
	req := api.CreateRequest{Destination: &api.Destination{IMSI: string(r.IMSI), Port: float64(r.Port)}, TLSRequired: r.TLS}
	if r.Duration > 0 {
		s := r.Duration.Seconds()
		req.Duration = &s
	}
	if r.Ranges != nil {
		req.Source = &api.Source{}
		for _, p := range r.Ranges {
			req.Source.IPRanges = append(req.Source.IPRanges, p.String())
		}
	}
	var got api.PortMapping
	err := m.call(ctx, from, func(c *api.Client) (err error) {
		got, err = c.Create(ctx, req)
		return err
	})
	if err != nil {
		return lab.Access{}, err
	}
	return access(got)
}

func access(p api.PortMapping) (lab.Access, error) {
	at, err := netip.ParseAddrPort(p.Endpoint)
	if err != nil {
		return lab.Access{}, fmt.Errorf("the manager's answer: %w", err)
	}
	return lab.Access{Relay: at, IMSI: ident.IMSI(p.IMSI), Port: uint16(p.Destination.Port), Expires: time.UnixMilli(p.ExpiredTime), Host: p.Hostname}, nil
}

// Delete implements lab.Manager.
func (m *ManagerClient) Delete(ctx context.Context, a lab.Access) error {
	return m.call(ctx, m.from, func(c *api.Client) error { return c.Delete(ctx, a.Relay) })
}

// AwaitDirectory implements lab.Manager: the manager answers when it is so.
func (m *ManagerClient) AwaitDirectory(ctx context.Context, imsi ident.IMSI, attached bool) (lab.Attachment, error) {
	for {
		var got api.Attachment
		err := m.call(ctx, m.from, func(c *api.Client) (err error) {
			got, err = c.AwaitAttachment(ctx, string(imsi), attached)
			return err
		})
		if err != nil {
			return lab.Attachment{}, err
		}
		if got.Attached == attached {
			a, _ := netip.ParseAddr(got.Address) // empty while detached
			return lab.Attachment{UPF: got.UPF, Address: a}, nil
		}
	}
}

// Operator implements lab.Manager.
func (m *ManagerClient) Operator() string { return string(Operator) }

// KeepLogin implements lab.Manager.
func (m *ManagerClient) KeepLogin(name string, answer []byte) error {
	var a api.AuthResponse
	if err := json.Unmarshal(answer, &a); err != nil || a.APIKey == "" || a.Token == "" {
		return fmt.Errorf("login %s: the answer has no credentials", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[name] = a
	return nil
}

// Call implements lab.Manager.
func (m *ManagerClient) Call(ctx context.Context, from lab.Client, r lab.APIRequest) (lab.APIAnswer, error) {
	c, done, err := m.client(ctx, from)
	if err != nil {
		return lab.APIAnswer{}, apiError(err)
	}
	defer done()
	switch r.As {
	case "":
	case lab.Nobody:
		c.Credentials = api.AuthResponse{}
	default:
		m.mu.Lock()
		kept, ok := m.kept[r.As]
		m.mu.Unlock()
		if !ok {
			return lab.APIAnswer{}, fmt.Errorf("nobody has logged in as %q", r.As)
		}
		c.Credentials = kept
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, c.URL+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return lab.APIAnswer{}, err
	}
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.Language != "" {
		req.Header.Set(api.HeaderLang, r.Language)
	}
	if c.Credentials.Token != "" {
		req.Header.Set(api.HeaderAPIKey, c.Credentials.APIKey)
		req.Header.Set(api.HeaderToken, c.Credentials.Token)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return lab.APIAnswer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return lab.APIAnswer{}, err
	}
	return lab.APIAnswer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20
