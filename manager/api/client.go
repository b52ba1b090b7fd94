package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxAnswer bounds what a Client reads of an answer.
const maxAnswer = 16 << 20

// Client calls the REST interface. It may be used from any goroutine; a copy with
// other credentials is made by Login or by hand. Answers that are not 2xx come
// back as *Error.
type Client struct {
	// URL is "http://address:port", without /v1.
	URL string
	// HTTP makes the requests. nil: http.DefaultClient.
	HTTP *http.Client
	// Lang is "en" or "ja"; empty leaves it to the server.
	Lang string
	// Credentials are sent with every request, if set.
	Credentials AuthResponse
}

// Login authenticates and returns a client that has the credentials.
func (c Client) Login(ctx context.Context, a AuthRequest) (*Client, error) {
	c.Credentials = AuthResponse{}
	if _, err := c.do(ctx, http.MethodPost, "/v1/auth", a, &c.Credentials); err != nil {
		return nil, err
	}
	return &c, nil
}

// Create makes a port mapping.
func (c Client) Create(ctx context.Context, r CreateRequest) (PortMapping, error) {
	var m PortMapping
	_, err := c.do(ctx, http.MethodPost, "/v1/port_mappings", r, &m)
	return m, err
}

// CreateForSIM makes a port mapping to a SIM.
func (c Client) CreateForSIM(ctx context.Context, simID string, r CreateRequest) (PortMapping, error) {
	var m PortMapping
	_, err := c.do(ctx, http.MethodPost, "/v1/port_mappings/sims/"+url.PathEscape(simID), r, &m)
	return m, err
}

// Page returns one page of port mappings and the key of the next one, empty on the
// last. limit 0 leaves the size to the server.
func (c Client) Page(ctx context.Context, limit int, after string) (page []PortMapping, next string, err error) {
	q := url.Values{}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if after != "" {
		q.Set("last_evaluated_key", after)
	}
	header, err := c.do(ctx, http.MethodGet, "/v1/port_mappings?"+q.Encode(), nil, &page)
	if err != nil {
		return nil, "", err
	}
	return page, header.Get(HeaderNextKey), nil
}

// List returns all port mappings.
func (c Client) List(ctx context.Context) ([]PortMapping, error) {
	var all []PortMapping
	for after := ""; ; {
		page, next, err := c.Page(ctx, 0, after)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next == "" || next == after {
			return all, nil
		}
		after = next
	}
}

// ListForSIM returns the port mappings made by a SIM ID; a 404 if there is none.
func (c Client) ListForSIM(ctx context.Context, simID string) ([]PortMapping, error) {
	var all []PortMapping
	_, err := c.do(ctx, http.MethodGet, "/v1/port_mappings/sims/"+url.PathEscape(simID), nil, &all)
	return all, err
}

// ListForSubscriber returns the port mappings made by an IMSI; a 404 if there is none.
func (c Client) ListForSubscriber(ctx context.Context, imsi string) ([]PortMapping, error) {
	var all []PortMapping
	_, err := c.do(ctx, http.MethodGet, "/v1/port_mappings/subscribers/"+url.PathEscape(imsi), nil, &all)
	return all, err
}

// Delete removes the port mapping at an address.
func (c Client) Delete(ctx context.Context, a netip.AddrPort) error {
	_, err := c.do(ctx, http.MethodDelete, fmt.Sprintf("/v1/port_mappings/%s/%d", url.PathEscape(a.Addr().String()), a.Port()), nil, nil)
	return err
}

// Status returns the manager's state. Needs no credentials.
func (c Client) Status(ctx context.Context) (Status, error) {
	var s Status
	_, err := c.do(ctx, http.MethodGet, "/v1/simreach/status", nil, &s)
	return s, err
}

func (c Client) do(ctx context.Context, method, path string, body, into any) (http.Header, error) {
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		reader = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, reader)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	set := func(name, value string) {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if body != nil {
		set("Content-Type", "application/json")
	}
	set(HeaderAPIKey, c.Credentials.APIKey)
	set(HeaderToken, c.Credentials.Token)
	set(HeaderLang, c.Lang)
	h := c.HTTP
	if h == nil {
		h = http.DefaultClient
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err // *url.Error names method and URL
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		e := &Error{Status: resp.StatusCode}
		if json.Unmarshal(b, e) != nil || e.Code == "" {
			e.Message = fmt.Sprintf("%.200q", b)
		}
		return nil, e
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			return nil, fmt.Errorf("%s %s: answer: %w", method, path, err)
		}
	}
	return resp.Header, nil
}
