package outer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
	"github.com/simreach/simreach/relay/outer/manyclient"
)

// alerts are the names in CAUSES.md (RFC 8446 clause 6.2).
var alerts = map[string]uint8{
	"access_denied": 49, "internal_error": 80, "protocol_version": 70, "certificate_required": 116,
	"certificate_expired": 45, "unknown_ca": 48, "certificate_revoked": 44,
}

// provocation brings about a cause. What is nil does nothing.
type provocation struct {
	config  func(*Config)
	opening func(*manager.Opening)
	before  func(*secure)
	client  func(*secure, *tls.Config) // changes what a TLS client does
	after   func(*secure, net.Conn)    // of a connection that works: what ends it
	first   int                        // connections before that are let in
	silent  bool                       // the client says nothing
}

func resolveError(c manager.Code) provocation {
	return provocation{before: func(s *secure) { s.ctl.err = manager.NewError(c, "x") }}
}

func innerSays(why relay.Refusal) provocation {
	return provocation{before: func(s *secure) {
		s.ctl.route.Inner = fakeListener(s.t, func(c net.Conn) {
			defer c.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if _, err := relay.ReadRequest(ctx, c); err == nil {
				relay.Refuse(ctx, c, why)
			}
		})
	}}
}

// serveRequest is an inner relay's handshake.
func serveRequest(c net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := relay.ReadRequest(ctx, c); err == nil {
		relay.Accept(ctx, c)
	}
}

// fakeListener serves connections until the test ends.
func fakeListener(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func certificate(issue func(*secure) tls.Certificate) func(*secure, *tls.Config) {
	return func(s *secure, c *tls.Config) { // whatever the server says that it accepts
		cert := issue(s)
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
}

var provocations = map[manager.Cause]provocation{
	manager.CauseClosed: {after: func(_ *secure, c net.Conn) { c.(interface{ CloseWrite() error }).CloseWrite() }},
	manager.CauseDeviceReset: {before: func(s *secure) {
		s.ctl.route.Inner = fakeListener(s.t, func(c net.Conn) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			relay.ReadRequest(ctx, c)
			relay.Accept(ctx, c)
			b := make([]byte, 4)
			io.ReadFull(c, b[:2])
			c.Write(b[:2])
			io.ReadFull(c, b[:1]) // as after says
			relay.Abort(c)
		})
	}, after: func(_ *secure, c net.Conn) { c.Write([]byte{1}) }},
	manager.CauseExpired: {after: func(s *secure, _ net.Conn) {
		s.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonExpired})
	}},
	manager.CauseRevoked: {after: func(s *secure, _ net.Conn) {
		s.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	}},
	manager.CauseDeviceLeft: {before: func(s *secure) { s.ctl.route.IMSI = "001010000000001" }, after: func(s *secure, _ net.Conn) {
		s.command(manager.Command{Kind: manager.CommandCut, IMSI: "001010000000001", Device: s.ctl.route.Device.Addr()})
	}},
	manager.CauseIdle:    {config: func(c *Config) { c.IdleTimeout = 100 * time.Millisecond }, after: func(*secure, net.Conn) {}},
	manager.CauseStopped: {after: func(s *secure, _ net.Conn) { s.stop() }},

	manager.CauseSourceDenied:       {before: func(s *secure) { s.ctl.route.Ranges = nil }},
	manager.CauseRateLimited:        {config: func(c *Config) { c.EntryRate, c.EntryBurst = 0.001, 1 }, first: 1},
	manager.CauseTooManyConnections: {config: func(c *Config) { c.MaxEntryConnections = 1 }, first: 1},
	manager.CauseOverloaded:         {config: func(c *Config) { c.MaxConnections = 1 }, first: 1},
	manager.CauseAuditUnavailable:   {before: func(s *secure) { s.ctl.full = true }},
	manager.CauseTLSHandshake:       {client: func(_ *secure, c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }},
	manager.CauseTLSTimeout:         {config: func(c *Config) { c.HandshakeTimeout = 100 * time.Millisecond }, silent: true},

	manager.CauseCertificateMissing: {opening: withCredential},
	manager.CauseCertificateExpired: {opening: withCredential, client: certificate(func(s *secure) tls.Certificate {
		return s.clients.issue("ecdsa", 9, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	})},
	manager.CauseCertificateUntrusted: {opening: withCredential, client: certificate(func(s *secure) tls.Certificate {
		return newAuthority(s.t, "others").issue("ecdsa", 9, nil)
	})},
	manager.CauseCertificateKey: {opening: withCredential, client: certificate(func(s *secure) tls.Certificate {
		return newAuthority(s.t, "clients").issue("ecdsa", 9, nil)
	})},
	manager.CauseCertificateRevoked: {opening: withCredential, before: func(s *secure) {
		cred := s.ctl.credentials["cr1"]
		cred.RevokedSerials = []string{"9"}
		s.ctl.credentials["cr1"] = cred
	}, client: certificate(func(s *secure) tls.Certificate { return s.clients.issue("ecdsa", 9, nil) })},
	manager.CauseCredentialRevoked: resolveError(manager.CodeCredentialRevoked),

	manager.CauseUnknownEntry:  resolveError(manager.CodeUnknownEntry),
	manager.CauseUnknownTarget: resolveError(manager.CodeConnUnknownTarget),
	manager.CauseBadRequest:    {},
	manager.CauseDeviceOffline: resolveError(manager.CodeDeviceOffline),
	manager.CauseNoInnerRelay:  resolveError(manager.CodeNoInnerRelay),
	manager.CauseManagerAway:   resolveError(manager.CodeManagerAway),
	manager.CauseFailed:        {before: func(s *secure) { s.ctl.err = errors.New("x") }},
	manager.CauseTimeout: {config: func(c *Config) { c.ResolveTimeout = 100 * time.Millisecond },
		before: func(s *secure) { s.ctl.hold = make(chan struct{}) }},

	manager.CauseDeviceRefused:     innerSays(relay.DeviceRefused),
	manager.CauseDeviceUnreachable: innerSays(relay.DeviceUnreachable),
	manager.CauseInnerRefused:      innerSays(relay.BadRequest),
	manager.CauseTicketInvalid:     innerSays(relay.TicketInvalid),
	manager.CauseDraining:          innerSays(relay.Draining),
	manager.CauseDeviceTimeout: {config: func(c *Config) { c.DeviceTimeout = 100 * time.Millisecond }, before: func(s *secure) {
		s.ctl.route.Inner = fakeListener(s.t, func(c net.Conn) { io.Copy(io.Discard, c); c.Close() })
	}},
	manager.CauseInnerUnreachable: {before: func(s *secure) { s.ctl.route.Inner = netip.MustParseAddrPort("127.0.0.1:1") }},
}

// seen says how a client was told, in the words of CAUSES.md.
func seen(err error) string {
	for name, alert := range alerts {
		if alertOf(err) == alertText(alert) {
			return name
		}
	}
	refused, ok := errors.AsType[*manyclient.RefusedError](err)
	switch {
	case ok:
		return strconv.Itoa(refused.Status)
	case err == io.EOF:
		return "FIN"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case err == nil:
		return "let in"
	}
	return err.Error()
}

// Every refusal that RelaySession.Resolve names has a cause of its own.
func TestResolveCauses(t *testing.T) {
	for code, want := range map[manager.Code]manager.Cause{
		manager.CodeRelayNotAttached: manager.CauseManagerAway, manager.CodeUnknownEntry: manager.CauseUnknownEntry, manager.CodeEntryExpired: manager.CauseExpired,
		manager.CodeConnUnknownTarget: manager.CauseUnknownTarget, manager.CodeCredentialRevoked: manager.CauseCredentialRevoked,
		manager.CodeUnknownCredential: manager.CauseCredentialRevoked, manager.CodeDeviceOffline: manager.CauseDeviceOffline,
		manager.CodeNoInnerRelay: manager.CauseNoInnerRelay, manager.CodeInternal: manager.CauseFailed,
	} {
		if got := resolveCause(manager.NewError(code)); got != want {
			t.Errorf("%s: %s; want %s", code, got, want)
		}
	}
}

// The table in CAUSES.md is what happens.
func TestCauses(t *testing.T) {
	text, err := os.ReadFile("CAUSES.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), " | ")
		if len(f) != 7 || f[0] == "| cause" {
			continue
		}
		rows++
		cause := manager.Cause(strings.TrimPrefix(f[0], "| "))
		code := string(cause.Code())
		if code == "" {
			code = "-"
		}
		if code != f[2] {
			t.Errorf("%s: code %s in CAUSES.md; want %s", cause, f[2], code)
		}
		for i, mode := range []string{"plain", "TLS", "stream"} {
			if want := f[3+i]; want != "-" {
				t.Run(string(cause)+" "+mode, func(t *testing.T) {
					p, ok := provocations[cause]
					if !ok {
						t.Fatal("nothing provokes it")
					}
					for again := 2; !provoke(t, p, mode, cause, manager.AuditType(f[1]), want, again > 0); again-- {
					}
				})
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d rows understood", rows)
	}
}

// provoke brings a cause about and checks what follows. It reports false if a TLS client
// saw just a reset at the end of a connection and may try again: an alert does not wait for
// a write that is not quite over, on a busy machine.
func provoke(t *testing.T, p provocation, mode string, cause manager.Cause, audit manager.AuditType, want string, again bool) bool {
	s := startTLS(t, func(c *Config, _ *Deps) {
		if p.config != nil {
			p.config(c)
		}
		if mode == "stream" { // the connection that carries it counts as well
			c.EntryBurst *= 2
			if c.MaxEntryConnections == 1 {
				c.MaxEntryConnections = 2
			}
			if c.MaxConnections == 1 {
				c.MaxConnections = 2
			}
		}
	})
	a := s.open(func(o *manager.Opening) {
		o.TLS, o.Many = mode != "plain", mode == "stream"
		if p.opening != nil {
			p.opening(o)
		}
	})
	var many *manyclient.Client
	if mode == "stream" {
		many = s.dialMany(a)
	}
	if p.before != nil {
		s.ctl.change(func(*control) { p.before(s) })
	}
	attempt := func() (net.Conn, error) {
		switch mode {
		case "stream":
			return streamTo(t, many, cause)
		case "TLS":
			if p.silent {
				return nil, turnedAway(a)
			}
			config := s.config()
			if p.client != nil {
				p.client(s, config)
			}
			c, err := dialTLS(t, a, config)
			if err != nil {
				return nil, err
			}
			return c, nil
		}
		c, err := net.Dial("tcp", a.String())
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		return c, hi(c)
	}
	for range p.first {
		if _, err := attempt(); err != nil {
			t.Fatalf("a connection before: %v", err)
		}
		s.audited(2)
	}
	c, err := attempt()
	if p.after != nil {
		if err != nil {
			t.Fatal(err)
		}
		p.after(s, c)
		_, err = c.Read(make([]byte, 1))
		if mode == "stream" && err != nil && err != io.EOF {
			err = syscall.ECONNRESET // HTTP/2 has another word for it
		}
	}
	got := seen(err)
	if again && got == "reset" && got != want && mode == "TLS" && p.after != nil {
		return false
	}
	if got != want {
		t.Errorf("the client saw %s; want %s", got, want)
	}
	types := []manager.AuditType{manager.AuditAccess, audit, manager.AuditClosed}
	if audit == manager.AuditClosed {
		types[1] = manager.AuditConnected
	}
	s.expectAudit(cause, types...)
	return true
}

// streamTo is a stream as a net.Conn.
func streamTo(t *testing.T, many *manyclient.Client, cause manager.Cause) (net.Conn, error) {
	target := "sim:22"
	if cause == manager.CauseBadRequest {
		target = "sim"
	}
	st, err := many.Connect(t.Context(), target)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { st.Close() })
	c := streamConn{Stream: st}
	return c, hi(c)
}

type streamConn struct {
	net.Conn
	*manyclient.Stream
}

func (s streamConn) Read(b []byte) (int, error)  { return s.Stream.Read(b) }
func (s streamConn) Write(b []byte) (int, error) { return s.Stream.Write(b) }
func (s streamConn) Close() error                { return s.Stream.Close() }

// hi proves that a connection works.
func hi(c net.Conn) error {
	if _, err := c.Write([]byte("hi")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 2))
	return err
}
