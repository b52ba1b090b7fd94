package netnsrun

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/scenarios/lab"
)

// device controls a UE in the ue process through its Unix socket; see
// internal/node for the requests.
type device struct {
	name   string
	client *http.Client
}

var _ lab.UE = device{}

func controlClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 16,
	}}
}

// Register implements lab.UE.
func (d device) Register(ctx context.Context, gnb string) error {
	return d.call(ctx, http.MethodPost, "register?gnb="+url.QueryEscape(gnb), nil, nil)
}

// Deregister implements lab.UE.
func (d device) Deregister(ctx context.Context, switchOff bool) error {
	q := ""
	if switchOff {
		q = "?switch_off=1"
	}
	return d.call(ctx, http.MethodPost, "deregister"+q, nil, nil)
}

// Status implements lab.UE.
func (d device) Status(ctx context.Context) (s lab.UEStatus, err error) {
	err = d.call(ctx, http.MethodGet, "status", nil, &s)
	return s, err
}

// Await implements lab.UE: the ue process answers when the status changes.
func (d device) Await(ctx context.Context, ok func(lab.UEStatus) bool) (lab.UEStatus, error) {
	s, err := d.Status(ctx)
	for err == nil && !ok(s) {
		last := s
		s = lab.UEStatus{}
		if err = d.call(ctx, http.MethodPost, "status", last, &s); err != nil {
			s = last
		}
	}
	return s, err
}

func (d device) call(ctx context.Context, method, what string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://ue/ue/"+url.PathEscape(d.name)+"/"+what, body)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("ue process: %w", err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusOK:
		return dec.Decode(out)
	case http.StatusConflict:
		r := new(lab.Rejected)
		if err := dec.Decode(r); err != nil {
			return fmt.Errorf("ue process: %w", err)
		}
		return r
	}
	var e node.ControlError
	if err := dec.Decode(&e); err != nil {
		return fmt.Errorf("ue process: status %d", resp.StatusCode)
	}
	return fmt.Errorf("ue process: %s", e.Error)
}
