package steps

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/simreach/simreach/scenarios/spec"
)

// httpArgs: a client sends one HTTP request through each access of a name.
type httpArgs struct {
	Access      string `yaml:"access"`
	Client      string `yaml:"client"`
	Path        string `yaml:"path"`        // empty: "/"
	Status      int    `yaml:"status"`      // 0: 200
	Body        string `yaml:"body"`        // the answer must contain it; "${ue.imsi}" is the IMSI of the access's UE
	Retries     bool   `yaml:"retries"`     // true: try again until the step's deadline (after a restart)
	TLS         bool   `yaml:"tls"`         // TLS is spoken to the outer relay
	Certificate string `yaml:"certificate"` // shown to it: one of a certificate step; empty: none
}

// maxBody bounds what is read of an answer.
const maxBody = 1 << 20

func compileHTTP(s *spec.Spec, st spec.Step) (Action, error) {
	var a httpArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	a.Path, a.Status = cmp.Or(a.Path, "/"), cmp.Or(a.Status, http.StatusOK)
	if u, err := url.ParseRequestURI(a.Path); err != nil || u.Host != "" || !strings.HasPrefix(a.Path, "/") {
		return nil, st.Errorf("a path such as /index.html", "path %q is not usable", a.Path)
	}
	who, err := client(s, st, a.Client)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e *Env) error {
		c, err := e.client(who)
		if err != nil {
			return err
		}
		gs, err := e.grants(a.Access)
		if err != nil {
			return err
		}
		return each(ctx, gs, func(ctx context.Context, g grant) error {
			try := func(ctx context.Context) error { return a.get(ctx, e, c.Dial, g) }
			if a.Retries {
				once := try
				try = func(ctx context.Context) error { return retry(ctx, once) }
			}
			if err := try(ctx); err != nil {
				return fmt.Errorf("http to %s: %w", g.ue, err)
			}
			return nil
		})
	}, nil
}

func (a httpArgs) get(ctx context.Context, e *Env, dial func(context.Context, netip.AddrPort) (net.Conn, error), g grant) error {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := dial(ctx, g.Relay)
		if err != nil || !a.TLS {
			return c, err
		}
		return e.secure(ctx, c, g, a.Certificate)
	}}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Relay.String()+a.Path, nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return err
	}
	if resp.StatusCode != a.Status {
		return fmt.Errorf("want status %d, got %d", a.Status, resp.StatusCode)
	}
	if want := strings.ReplaceAll(a.Body, "${ue.imsi}", string(g.IMSI)); !strings.Contains(string(body), want) {
		return fmt.Errorf("want a body with %q, got %q", want, tail(string(body)))
	}
	return nil
}

// retry calls f until it succeeds or ctx ends, with a pause that grows from 20 to
// 200 ms, and returns f's last error.
func retry(ctx context.Context, f func(context.Context) error) error {
	pause := 20 * time.Millisecond
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := f(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause = min(2*pause, 200*time.Millisecond)
		}
	}
}
