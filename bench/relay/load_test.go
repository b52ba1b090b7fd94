package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runUntilDone runs f for the life of t and returns once it is ready.
func runUntilDone(t *testing.T, f func(ctx context.Context, ready func()) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- f(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("not ready: %v", err)
	}
}

// serveLoad starts the server at a loopback address with the ports' own numbers moved
// up, since those of the bench ask for privileges.
func serveLoad(t *testing.T) (at func(port uint16) string) {
	t.Helper()
	moved := map[uint16]string{}
	handlers := map[uint16]func(*net.TCPConn){portEcho: echo, portSink: sink, portSource: source}
	listeners := map[*net.TCPListener]func(*net.TCPConn){}
	for port, h := range handlers {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			t.Fatal(err)
		}
		moved[port], listeners[l] = l.Addr().String(), h
	}
	runUntilDone(t, func(ctx context.Context, ready func()) error { return serve(ctx, listeners, ready) })
	return func(port uint16) string { return moved[port] }
}

// TestLoads: every case of the bench, against the server of the bench, measures
// something; with TLS through the plain Go relay, which is a peer of the bench.
func TestLoads(t *testing.T) {
	at := serveLoad(t)
	cert, err := certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	forwards, secure := []string{}, map[uint16]string{}
	for _, p := range loadPorts {
		secure[p] = freeAddress(t)
		forwards = append(forwards, fmt.Sprintf("%s=%s=%s", secure[p], at(p), cert))
	}
	runUntilDone(t, func(ctx context.Context, ready func()) error { return CopyRelay(ctx, forwards, ready) })
	for _, m := range measures {
		t.Run(m.name, func(t *testing.T) {
			l := m.load
			l.For, l.To, l.Streams = 50*time.Millisecond, at(m.port), min(l.Streams, 8)
			if m.tls {
				l.TLS, l.To = certificateName, secure[m.port]
			}
			hold, opened := make(chan struct{}), 0
			f, err := l.Run(t.Context(), func() { opened++; close(hold) }, hold)
			if err != nil {
				t.Fatal(err)
			}
			if (opened == 1) != (l.Kind == "idle") {
				t.Errorf("told %d times that idle connections are open", opened)
			}
			if f.Failed > 0 {
				t.Errorf("%d failed", f.Failed)
			}
			switch l.Kind {
			case "bulk-up", "bulk-down":
				if f.Bytes == 0 || f.BitsPerSecond <= 0 {
					t.Errorf("%+v; want bytes and a rate", f)
				}
			case "connect", "handshake":
				if f.Done == 0 || f.PerSecond <= 0 {
					t.Errorf("%+v; want connections", f)
				}
			case "pingpong":
				if f.P50 <= 0 || f.P99 < f.P50 {
					t.Errorf("%+v; want quantiles in order", f)
				}
			}
		})
	}
}

// freeAddress returns a loopback address that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestLoadFails: what cannot be measured is an error, and no figure.
func TestLoadFails(t *testing.T) {
	at := serveLoad(t)
	nobody := freeAddress(t)
	for _, c := range []struct {
		what string
		load Load
		want string
	}{
		{"an unknown kind", Load{Kind: "sideways", To: at(portEcho), Streams: 1}, `unknown load "sideways"`},
		{"nobody there", Load{Kind: "connect", To: nobody, Streams: 2}, "connection refused"},
		{"bulk to nobody", Load{Kind: "bulk-up", To: nobody, Streams: 2}, "connection refused"},
		{"no TLS there", Load{Kind: "handshake", To: at(portEcho), Streams: 1, TLS: certificateName}, "tls: "},
	} {
		c.load.For = 20 * time.Millisecond
		if f, err := c.load.Run(t.Context(), func() {}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want %s", c.what, f, err, c.want)
		}
	}
}

// TestResume: a load that resumes TLS sessions does, and others do not.
func TestResume(t *testing.T) {
	at := serveLoad(t)
	cert, err := certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	secure := freeAddress(t)
	runUntilDone(t, func(ctx context.Context, ready func()) error {
		return CopyRelay(ctx, []string{secure + "=" + at(portEcho) + "=" + cert}, ready)
	})
	for _, resume := range []bool{false, true} {
		d := Load{To: secure, Streams: 1, TLS: certificateName, Resume: resume}.dialer()
		for i := range 2 {
			c, err := d.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte{1}); err != nil { // the ticket comes before the echo
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if got := c.(*tls.Conn).ConnectionState().DidResume; got != (resume && i == 1) {
				t.Errorf("resume %v, connection %d: resumed is %v", resume, i+1, got)
			}
			c.Close()
		}
	}
}

// TestCopyRelayRefuses forwards that it cannot serve, and leaves no listener.
func TestCopyRelayRefuses(t *testing.T) {
	at := freeAddress(t)
	for forward, want := range map[string]string{
		"127.0.0.1:0":                  "want listen=to",
		"a=b=c=d":                      "want listen=to",
		"here=127.0.0.1:1":             "here",
		at + "=127.0.0.1:1=/not/there": "/not/there",
	} {
		err := CopyRelay(t.Context(), []string{forward}, func() { t.Error("it is ready") })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", forward, err, want)
		}
	}
	if err := CopyRelay(t.Context(), []string{at + "=127.0.0.1:1", "wrong"}, func() {}); err == nil {
		t.Error("a wrong second forward is accepted")
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatalf("a listener is left: %v", err)
	}
	l.Close()
}

// TestPeersAreConfigured: each peer's template has the ports of both hops.
func TestPeersAreConfigured(t *testing.T) {
	outer, inner := hops(10000, "/c.pem")
	if len(outer.Ports) != 2*len(loadPorts) || len(inner.Ports) != len(loadPorts) {
		t.Fatalf("%d and %d ports; want each at the inner relay, and each with and without TLS at the outer one", len(outer.Ports), len(inner.Ports))
	}
	seen := map[uint16]bool{}
	for _, f := range outer.Ports {
		if seen[f.Listen] {
			t.Errorf("port %d is there twice", f.Listen)
		}
		seen[f.Listen] = true
		if f.To.Addr() != inner.Address || (f.Listen >= 10100) != (f.Certificate != "") {
			t.Errorf("%+v; want it to lead to %s, with TLS from 10100 on", f, inner.Address)
		}
	}
	if plain, _ := hops(10000, ""); len(plain.Ports) != len(loadPorts) {
		t.Errorf("%d ports without a certificate", len(plain.Ports))
	}
	for _, p := range peers {
		outer, inner := hops(p.base, "/c.pem")
		for _, h := range []hop{outer, inner} {
			h.Dir = t.TempDir()
			args, err := p.command(h)
			if err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			text := strings.Join(args, " ")
			if p.program != "" {
				text = read(t, filepath.Join(h.Dir, "config"))
			}
			for _, f := range h.Ports {
				for _, want := range []string{netip.AddrPortFrom(h.Address, f.Listen).String(), f.To.String(), f.Certificate} {
					if !strings.Contains(text, want) {
						t.Errorf("%s: no %s in\n%s", p.name, want, text)
					}
				}
			}
		}
	}
}
