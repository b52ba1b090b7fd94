package inner

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/simreach/simreach/relay"
)

// logLines is a log that tests read.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// An outer relay in wrong hands has the tickets of its own connections and no others:
// with what is left of them it reaches nobody, is counted and logged, and the log does
// not repeat the ticket.
func TestStolenOuterRelay(t *testing.T) {
	dials := 0
	log := &logLines{}
	dial := echo(t)
	g := startWith(t, Config{}, Deps{
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			dials++ // one connection at a time
			return dial(ctx, a)
		},
	})
	used := sign(t, nil)
	c, err := g.ask(t, used)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	another := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	now := time.Now()
	bad := []struct{ name, target, ticket string }{
		{"another device of the range", "10.60.0.8:22", sign(t, nil)},
		{"another port of the device", "10.60.0.7:23", sign(t, nil)},
		{"the inner relay itself", g.addr, sign(t, nil)},
		{"a replayed ticket", "", used},
		{"an expired ticket", "", sign(t, map[string]any{"iat": now.Unix() - 40, "exp": now.Unix() - 10})},
		{"a ticket by another key", "", signWith(t, another)},
		{"a ticket for another inner relay", "", sign(t, map[string]any{"aud": "inner2"})},
		{"a ticket for the process before", "", sign(t, map[string]any{"inst": "the process before"})},
		{"a ticket that was changed", "", tampered(sign(t, nil))},
		{"no ticket", "", ""},
	}
	for _, b := range bad {
		if b.target == "" {
			b.target = device.String()
		}
		raw, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		raw.SetDeadline(time.Now().Add(5 * time.Second))
		head := "CONNECT " + b.target + " HTTP/1.1\r\nHost: x\r\n"
		if b.ticket != "" {
			head += "Proxy-Authorization: Bearer " + b.ticket + "\r\n"
		}
		io.WriteString(raw, head+"\r\n")
		answer, err := io.ReadAll(raw)
		raw.Close()
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 407 ") || !strings.Contains(string(answer), "X-Simreach-Error: ticket-invalid\r\n") {
			t.Errorf("%s: answered %q, %v; want 407 ticket-invalid", b.name, answer, err)
		}
	}
	roundTrip(t, c)
	if s := g.Status(); dials != 1 || s.Relayed != 1 || s.Refused["ticket-invalid"] != uint64(len(bad)) {
		t.Errorf("%d connections to devices, status %+v; want 1, and all others counted", dials, s)
	}
	if n := log.count("ticket not accepted"); n != len(bad) {
		t.Errorf("%d refusals are logged; want %d", n, len(bad))
	}
	if log.count(used) > 0 || log.count("eyJ") > 0 {
		t.Error("the log has a ticket")
	}
}

// tampered changes one letter of what is signed.
func tampered(s string) string {
	i := strings.Index(s, ".") + 20
	return s[:i] + string(s[i]^1) + s[i+1:]
}

func signWith(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	now := time.Now()
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": ticketIssuer, "sub": "entry", "aud": "inner1", "jti": "forged", "iat": now.Unix(), "exp": now.Unix() + 10,
		"cid": "conn", "dev": device.String(), "inst": control{}.Instance(),
	})
	tok.Header["kid"], tok.Header["typ"] = "k1", ticketType
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Peers that take their time get no more of it than HandshakeTimeout, however steadily
// they send, and all that they began is counted.
func TestSlowPeers(t *testing.T) {
	ca := newAuthority(t)
	const limit = 300 * time.Millisecond
	plain := start(t, Config{HandshakeTimeout: limit}, echo(t))
	secure := startWith(t, Config{HandshakeTimeout: limit}, Deps{
		Dial: echo(t), TLS: &tls.Config{Certificates: []tls.Certificate{ca.certificate(t, "inner1")}, ClientCAs: ca.pool},
	})
	drip := "CONNECT 10.60.0.7:22 HTTP/1.1\r\nX: " + strings.Repeat("a", relay.MaxHead)
	hello := string([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}) + strings.Repeat("\x00", 600) // the beginning of a long ClientHello
	var wg sync.WaitGroup
	for _, c := range []struct {
		name string
		g    *rig
		text string
	}{
		{"nothing", plain, ""}, {"half a head", plain, drip}, {"nothing, TLS", secure, ""}, {"half a ClientHello", secure, hello},
	} {
		wg.Go(func() {
			began := time.Now()
			conn, err := net.Dial("tcp", c.g.addr)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			defer conn.Close()
			over := make(chan struct{})
			var writer sync.WaitGroup
			defer writer.Wait()
			writer.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for i := range len(c.text) {
					select {
					case <-tick.C:
					case <-over:
						return
					}
					if _, err := conn.Write([]byte{c.text[i]}); err != nil {
						return
					}
				}
			})
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = io.Copy(io.Discard, conn)
			close(over)
			if took := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) || took < limit/2 || took > 20*limit {
				t.Errorf("%s: held for %s, %v; want the end after about %s", c.name, took, err, limit)
			}
		})
	}
	wg.Wait()
	for _, g := range []*rig{plain, secure} {
		settled(t, g)
		if s := g.Status(); s.Refused["bad-request"] != 2 || s.Live != 0 {
			t.Errorf("status %+v; want 2 bad requests", s)
		}
	}
}

// settled waits until a relay has no connection in any state.
func settled(t *testing.T, g *rig) {
	t.Helper()
	late := time.After(10 * time.Second)
	for tick := time.Tick(time.Millisecond); g.all.Load() != 0; {
		select {
		case <-tick:
		case <-late:
			t.Fatalf("%d connections after 10 s", g.all.Load())
		}
	}
}

// Thousands of connections that say nothing of use leave nothing behind.
func TestGarbage(t *testing.T) {
	g := start(t, Config{HandshakeTimeout: 2 * time.Second}, echo(t))
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	garbage(t, g.addr, 500) // what is kept for reuse is there after these
	settled(t, g)
	before := resources(t)
	garbage(t, g.addr, n)
	settled(t, g)
	late := time.After(10 * time.Second)
	for tick := time.Tick(10 * time.Millisecond); ; {
		after := resources(t)
		if after.goroutines <= before.goroutines+5 && after.files <= before.files+5 && after.heap <= before.heap+2<<20 {
			break
		}
		select {
		case <-tick:
		case <-late:
			t.Fatalf("before %+v, after %d connections %+v; want no growth", before, n, after)
		}
	}
	c, err := g.ask(t, sign(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
}

type use struct {
	goroutines, files int
	heap              uint64
}

func resources(t *testing.T) use {
	t.Helper()
	runtime.GC()
	runtime.GC() // the first moves what pools keep aside
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return use{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}

// garbage makes n connections of all kinds of nonsense.
func garbage(t *testing.T, addr string, n int) {
	t.Helper()
	kinds := []string{"", "\x00", "\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "CONNECT x HTTP/1.1\r\n\r\n", strings.Repeat("x", 2*relay.MaxHead),
		"CONNECT 10.60.0.7:22 HTTP/1.1\r\nProxy-Authorization: Bearer a.b.c\r\n\r\n", "SSH-2.0-OpenSSH\r\n"}
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := nonsense(addr, kinds[i%len(kinds)]); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func nonsense(addr, text string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetLinger(0) // ten thousand local ports are not to be had for a minute
	io.WriteString(c, text)       // it may be refused by now
	c.(*net.TCPConn).CloseWrite()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("end: %w", err)
	}
	return nil
}

// A connection waits until the manager knows the relay, because no ticket can be checked
// before.
func TestWaitsUntilAttached(t *testing.T) {
	attached := make(chan struct{})
	g := startWith(t, Config{}, Deps{Dial: echo(t), Attached: attached})
	done := make(chan error, 1)
	go func() {
		_, err := g.ask(t, sign(t, nil))
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("served before: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(attached)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Drain takes nothing new and cuts nothing.
func TestDrainByCommand(t *testing.T) {
	g := start(t, Config{DrainTimeout: time.Minute}, echo(t))
	c, err := g.ask(t, sign(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	g.Drain()
	g.Drain()
	for tick := time.Tick(time.Millisecond); ; <-tick {
		late, err := net.Dial("tcp", g.addr)
		if err != nil {
			break
		}
		late.Close()
	}
	roundTrip(t, c)
	if s := g.Status(); !s.Draining || s.Live != 1 {
		t.Errorf("status %+v; want one connection, draining", s)
	}
	c.(*net.TCPConn).CloseWrite()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the end: %v; want EOF", err)
	}
	g.stop() // at once: nothing is left
}
