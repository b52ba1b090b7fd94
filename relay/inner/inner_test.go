package inner

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	device = netip.MustParseAddrPort("10.60.0.7:22")
	key    = []byte(strings.Repeat("k", sha256.Size))
)

// control is an attachment with one key.
type control struct{}

func (control) Instance() string { return "this process" }
func (control) TicketKey(id string) ([]byte, bool) {
	return key, id == "k1"
}

// sign makes a ticket as the manager does, with changes.
func sign(t testing.TB, changes map[string]any) string {
	t.Helper()
	now := time.Now()
	c := jwt.MapClaims{
		"iss": "simreach-manager", "sub": "entry", "aud": []string{"inner1"}, "jti": fmt.Sprint(now.UnixNano()),
		"iat": now.Unix(), "exp": now.Add(15 * time.Second).Unix(), "cid": "conn", "dev": device.String(), "inst": "this process",
	}
	header := map[string]any{"kid": "k1", "typ": "simreach-ticket+jwt", "alg": "HS256"}
	for k, v := range changes {
		target := map[string]any(c)
		if _, ok := header[k]; ok {
			target = header
		}
		if target[k] = v; v == nil {
			delete(target, k)
		}
	}
	tok := &jwt.Token{Header: header, Claims: c, Method: jwt.SigningMethodHS256}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTicket(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name    string
		changes map[string]any
		ok      bool
	}{
		{"as the manager makes it", nil, true},
		{"the longest life", map[string]any{"exp": now.Unix() + 30}, true},
		{"for another relay", map[string]any{"aud": "inner2"}, false},
		{"for another process of this relay", map[string]any{"inst": "before the restart"}, false},
		{"for another device", map[string]any{"dev": "10.60.0.8:22"}, false},
		{"for another port", map[string]any{"dev": "10.60.0.7:23"}, false},
		{"without a device", map[string]any{"dev": nil}, false},
		{"by another issuer", map[string]any{"iss": "simreach-manager/api"}, false},
		{"a token, not a ticket", map[string]any{"typ": "JWT"}, false},
		{"by an unknown key", map[string]any{"kid": "k2"}, false},
		{"without a key", map[string]any{"kid": nil}, false},
		{"expired", map[string]any{"iat": now.Unix() - 60, "exp": now.Unix() - 45}, false},
		{"from the future", map[string]any{"iat": now.Unix() + 60, "exp": now.Unix() + 75}, false},
		{"too long a life", map[string]any{"exp": now.Unix() + 40}, false},
		{"without an end", map[string]any{"exp": nil}, false},
		{"without a beginning", map[string]any{"iat": nil}, false},
		{"without an ID", map[string]any{"jti": nil}, false},
	} {
		v := newVerifier("inner1", control{}, 1000)
		got, err := v.verify(relay.Request{Target: device, Ticket: sign(t, c.changes)}, time.Now())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v; want accepted %v", c.name, err, c.ok)
		}
		if err != nil && !errors.Is(err, errTicket) {
			t.Errorf("%s: %v; want errTicket", c.name, err)
		}
		if c.ok && (got != ticket{Entry: "entry", Connection: "conn", Device: device}) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	v := newVerifier("inner1", control{}, 1000)
	for name, bad := range map[string]string{
		"none": "", "garbage": "a.b.c",
		"unsigned":                        "eyJhbGciOiJub25lIn0.e30.",
		"with the key of another process": forged(t, []byte("another's")),
		"with an empty key":               forged(t, nil),
	} {
		if _, err := v.verify(relay.Request{Target: device, Ticket: bad}, time.Now()); !errors.Is(err, errTicket) {
			t.Errorf("%s: %v; want errTicket", name, err)
		}
	}
}

// forged is a good ticket but for its key.
func forged(t *testing.T, with []byte) string {
	t.Helper()
	good := sign(t, nil)
	claims := good[:strings.LastIndexByte(good, '.')]
	mac, err := jwt.SigningMethodHS256.Sign(claims, with)
	if err != nil {
		t.Fatal(err)
	}
	return claims + "." + base64.RawURLEncoding.EncodeToString(mac)
}

func TestTicketIsValidOnce(t *testing.T) {
	v := newVerifier("inner1", control{}, 1000)
	req := relay.Request{Target: device, Ticket: sign(t, nil)}
	var ok, used int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := v.verify(req, time.Now())
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ok++
			case errors.Is(err, errUsed):
				used++
			}
		})
	}
	wg.Wait()
	if ok != 1 || used != 7 {
		t.Errorf("accepted %d times and %d times known as used; want 1 and 7", ok, used)
	}
}

func TestUsedTicketsAreBounded(t *testing.T) {
	v := newVerifier("inner1", control{}, 10)
	limit := 10 * int(rememberedFor/time.Second)
	now := time.Now()
	for i := range limit {
		if err := v.use(fmt.Sprint(i), now.Add(time.Duration(i%3)*time.Second), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.use("one more", now.Add(time.Second), now); err != errTooMany {
		t.Errorf("with a full memory: %v; want errTooMany", err)
	}
	if err := v.use("0", now, now); err != errUsed {
		t.Errorf("a used ticket with a full memory: %v; want errUsed", err)
	}
	later := now.Add(2 * time.Second)
	if err := v.use("later", now.Add(3*time.Second), later); err != nil {
		t.Errorf("after others expired: %v", err)
	}
	if want := limit/3 + 1; v.count != want || len(v.used) != 2 {
		t.Errorf("%d remembered in %d sets; want %d, those that may be valid, in 2", v.count, len(v.used), want)
	}
	if err := v.use("2", now.Add(2*time.Second), later); err != errUsed {
		t.Errorf("a used ticket in its last second: %v; want errUsed", err)
	}
}

// Ten thousand connections a second for longer than the longest lifetime: every ticket
// is accepted once, and the memory stays bounded.
func TestTicketRate(t *testing.T) {
	const rate = 10_000
	v := newVerifier("inner1", control{}, rate)
	start := time.Now()
	seconds := 2 * int(rememberedFor/time.Second)
	for s := range seconds {
		now := start.Add(time.Duration(s) * time.Second)
		until := now.Add(ticketLifetime + clockLeeway)
		for i := range rate {
			if err := v.use(fmt.Sprint(s, i), until, now); err != nil {
				t.Fatalf("second %d, ticket %d: %v", s, i, err)
			}
		}
		if err := v.use(fmt.Sprint(s, 7), until, now); err != errUsed {
			t.Fatalf("again: %v; want errUsed", err)
		}
		if old := s - int(ticketLifetime/time.Second); old >= 0 { // the oldest that is valid
			if err := v.use(fmt.Sprint(old, 7), until.Add(-ticketLifetime), now); err != errUsed {
				t.Fatalf("again after its whole life: %v; want errUsed", err)
			}
		}
	}
	if v.count > v.limit || len(v.used) > int(rememberedFor/time.Second)+1 {
		t.Errorf("%d tickets in %d sets", v.count, len(v.used))
	}
}

// rig is a running inner relay with a device that echoes.
type rig struct {
	*Relay
	addr string
	stop func()
}

func start(t testing.TB, cfg Config, dial func(context.Context, netip.AddrPort) (net.Conn, error)) *rig {
	t.Helper()
	return startWith(t, cfg, Deps{Dial: dial})
}

func startWith(t testing.TB, cfg Config, d Deps) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.ID = "inner1"
	d.Listener, d.Control = l, control{}
	r, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	<-r.Ready()
	g := &rig{Relay: r, addr: l.Addr().String(), stop: sync.OnceFunc(func() { cancel(); wg.Wait() })}
	t.Cleanup(g.stop)
	return g
}

func echo(t testing.TB) func(context.Context, netip.AddrPort) (net.Conn, error) {
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
			wg.Go(func() { io.Copy(c, c); c.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		if a != device {
			t.Errorf("dial %v; want %v", a, device)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// ask connects as an outer relay does.
func (g *rig) ask(t *testing.T, ticket string) (net.Conn, error) {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err = relay.Connect(ctx, c, relay.Request{Target: device, Ticket: ticket})
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, err
}

func roundTrip(t testing.TB, c net.Conn) {
	t.Helper()
	io.WriteString(c, "ping")
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
		t.Fatalf("read %q, %v; want ping", b, err)
	}
}

func TestRelays(t *testing.T) {
	g := start(t, Config{}, echo(t))
	tk := sign(t, nil)
	c, err := g.ask(t, tk)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	if _, err := g.ask(t, tk); !errors.Is(err, relay.TicketInvalid) {
		t.Errorf("the same ticket again: %v; want ticket-invalid", err)
	}
	roundTrip(t, c)
	c.(*net.TCPConn).CloseWrite()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after both ended: %v; want EOF", err)
	}
	for tick := time.Tick(time.Millisecond); g.Status().Live != 0; {
		<-tick
	}
	g.stop()
	if s := g.Status(); s.Live != 0 || s.Relayed != 1 || s.Up != 8 || s.Down != 8 || s.Refused["ticket-invalid"] != 1 || s.Ended["closed"] != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		dial func(context.Context, netip.AddrPort) (net.Conn, error)
		want relay.Refusal
	}{
		{"the device refuses", func(context.Context, netip.AddrPort) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}, relay.DeviceRefused},
		{"no way to the device", func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, syscall.EHOSTUNREACH }, relay.DeviceUnreachable},
		{"the device does not answer", func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			<-ctx.Done()
			return nil, errors.New("a stack with errors of its own")
		}, relay.DeviceTimeout},
		{"a connection that cannot be half-closed", func(context.Context, netip.AddrPort) (net.Conn, error) {
			a, b := net.Pipe()
			b.Close()
			return a, nil
		}, relay.DeviceUnreachable},
	} {
		g := start(t, Config{DialTimeout: 50 * time.Millisecond}, c.dial)
		if _, err := g.ask(t, sign(t, nil)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %s", c.name, err, c.want)
		}
		g.stop()
		if got := g.Status().Refused; !maps.Equal(got, map[string]uint64{string(c.want): 1}) {
			t.Errorf("%s: counted %v", c.name, got)
		}
	}
}

func TestStrangers(t *testing.T) {
	g := start(t, Config{HandshakeTimeout: 100 * time.Millisecond}, echo(t))
	for name, head := range map[string]string{
		"a browser": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"silence":   "",
		"half":      "CONNECT 10.60.0.7:22 HT",
	} {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, head)
		b, err := io.ReadAll(c)
		if err != nil || len(b) < 12 || string(b[:12]) != "HTTP/1.1 400" {
			t.Errorf("%s: answered %q, %v; want 400", name, b, err)
		}
		c.Close()
	}
}

func TestLimits(t *testing.T) {
	release := make(chan struct{})
	dial := echo(t)
	g := start(t, Config{MaxHandshakes: 1, MaxConnections: 2}, func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		<-release
		return dial(ctx, a)
	})
	first := make(chan net.Conn, 1)
	tk := sign(t, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := g.ask(t, tk)
		if err != nil {
			t.Error(err)
		}
		first <- c
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(g.slots) == 0 { // the first one is being set up
		<-tick.C
	}
	if _, err := g.ask(t, sign(t, nil)); !errors.Is(err, relay.Overloaded) {
		t.Errorf("a second handshake: %v; want overloaded", err)
	}
	close(release)
	wg.Wait()
	roundTrip(t, <-first)
}

func TestDrain(t *testing.T) {
	for _, c := range []struct {
		name  string
		drain time.Duration
	}{{"cut at once", 0}, {"cut after the drain time", 100 * time.Millisecond}, {"ends within the drain time", 10 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, Config{DrainTimeout: c.drain}, echo(t))
			conn, err := g.ask(t, sign(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, conn)
			begin := time.Now()
			var wg sync.WaitGroup
			wg.Go(g.stop)
			if c.drain > time.Second {
				roundTrip(t, conn)
				conn.(*net.TCPConn).CloseWrite()
			}
			_, err = io.Copy(io.Discard, conn)
			if cut := errors.Is(err, syscall.ECONNRESET); cut != (c.drain < time.Second) {
				t.Errorf("the connection ended with %v", err)
			}
			wg.Wait()
			if took := time.Since(begin); took > 5*time.Second || (c.drain < time.Second && took < c.drain) {
				t.Errorf("stopped after %s; drain time %s", took, c.drain)
			}
		})
	}
}
