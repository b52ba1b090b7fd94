package faulttest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/relay/audit"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

const (
	operator = "OP0000000001"
	device   = "001010000000001"
	secret   = "the relays' secret"
	noBound  = 100_000 // connections in a second
	// pause is between two attempts of a client whose manager is away.
	pause = 20 * time.Millisecond
)

// world is managers and relays as processes on 127.0.6.x, and a device that echoes.
type world struct {
	t         *testing.T
	dir       string
	device    netip.AddrPort
	transport *http.Transport
}

// site is a manager: its process and where it serves.
type site struct {
	*proc
	rest, control netip.AddrPort
	api           *api.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(w.transport.CloseIdleConnections)
	l, err := net.Listen("tcp", "127.0.6.9:0")
	if err != nil {
		t.Fatal(err)
	}
	w.device = l.Addr().(*net.TCPAddr).AddrPort()
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			echoes.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	// The relays end first, and with them the connections to the device.
	t.Cleanup(func() { l.Close(); echoes.Wait() })
	return w
}

// vacant returns an address with a port that was free a moment ago.
func vacant(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// manager starts a manager on a store.
func (w *world) manager(name, host string, st store.Config) *site {
	t := w.t
	t.Helper()
	s := &site{rest: vacant(t, host), control: vacant(t, host)}
	s.proc = start(t, w.dir, name, "manager", &node.Manager{
		Manager: manager.Config{
			Operators:   []manager.OperatorConfig{{ID: operator, AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-fault", Key: "secret-fault"}}}},
			Subscribers: []manager.SubscriberConfig{{IMSI: device, OperatorID: operator}},
			InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}},
		},
		StaticDirectory: []manager.StaticAttachment{{IMSI: device, UPF: "upf1", Address: w.device.Addr()}},
		Store:           st,
		API:             api.Config{Listen: s.rest.String()},
		RPC:             rpc.ServerConfig{Listen: s.control.String(), Secret: secret},
	})
	c := api.Client{URL: "http://" + s.rest.String(), HTTP: &http.Client{Transport: w.transport, Timeout: 20 * time.Second}}
	var err error
	if s.api, err = c.Login(t.Context(), api.AuthRequest{AuthKeyID: "keyId-fault", AuthKey: "secret-fault"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func controlOf(sites []*site) rpc.ClientConfig {
	c := rpc.ClientConfig{Manager: sites[0].control.String(), Secret: secret}
	for _, s := range sites[1:] {
		c.Alternates = append(c.Alternates, s.control.String())
	}
	return c
}

// inner starts the inner relay. sites are the managers, the first choice first.
func (w *world) inner(sites ...*site) *proc {
	w.t.Helper()
	return start(w.t, w.dir, "inner1", "relay-inner", &node.Inner{
		Relay: inner.Config{ID: "inner1", Listen: vacant(w.t, "127.0.6.3").String()}, Control: controlOf(sites),
	})
}

// outer starts an outer relay whose bounds on rates are out of the way.
func (w *world) outer(id, host string, sites ...*site) *proc {
	w.t.Helper()
	return start(w.t, w.dir, id, "relay-outer", &node.Outer{
		Relay: outer.Config{
			ID: manager.RelayID(id), Address: netip.MustParseAddr(host), EntryRate: noBound, SourceRate: noBound, MaxEntryConnections: -1, MaxHandshakes: 4096,
		},
		Control: controlOf(sites),
		Audit:   audit.Config{Dir: filepath.Join(w.dir, id+"-audit")},
	})
}

func (w *world) request() api.CreateRequest {
	return api.CreateRequest{Destination: &api.Destination{IMSI: device, Port: float64(w.device.Port())}, Source: &api.Source{IPRanges: []string{"127.0.0.0/8"}}}
}

// mustCreate makes an entry.
func (w *world) mustCreate(s *site) api.PortMapping {
	w.t.Helper()
	m, err := s.api.Create(w.t.Context(), w.request())
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// createOn makes entries until one is on the relay at an address.
func (w *world) createOn(s *site, host string) api.PortMapping {
	w.t.Helper()
	for range 200 {
		if m := w.mustCreate(s); m.IPAddress == host {
			return m
		}
	}
	w.t.Fatalf("200 entries, none on %s", host)
	return api.PortMapping{}
}

// open connects to an entry from an address (zero: any) and exchanges one word with the
// device. An error may come with a connection: then it was accepted all the same.
func (w *world) open(m api.PortMapping, from netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	c, err := d.DialContext(w.t.Context(), "tcp", m.Endpoint)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	defer c.SetDeadline(time.Time{})
	if _, err := io.WriteString(c, "hello"); err != nil {
		return c, err
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil {
		return c, err
	}
	if string(got) != "hello" {
		return c, fmt.Errorf("echo says %q", got)
	}
	return c, nil
}

// within repeats f until it returns nil, and returns how long that took. It fails the
// test when that is longer than limit.
func (w *world) within(limit time.Duration, what string, f func() error) time.Duration {
	w.t.Helper()
	begin := time.Now()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := f()
		took := time.Since(begin)
		switch {
		case err == nil && took <= limit:
			return took
		case err == nil:
			w.t.Errorf("%s took %s; want at most %s", what, took.Round(time.Millisecond), limit)
			return took
		case took > limit+10*time.Second:
			w.t.Fatalf("%s: not after %s: %v", what, took.Round(time.Millisecond), err)
		}
		<-tick.C
	}
}

// connects is one round trip over a new connection.
func (w *world) connects(m api.PortMapping) func() error {
	return func() error {
		c, err := w.open(m, netip.AddrPort{})
		if c != nil {
			c.Close()
		}
		return err
	}
}

// each runs f for 0 to n-1 in several goroutines.
func each(n, workers int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

var errGivenUp = errors.New("given up after 40 s")

// insist repeats a call until f says that it is done.
func insist(ctx context.Context, f func(ctx context.Context) (done bool)) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !f(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errGivenUp
		}
	}
	return nil
}
