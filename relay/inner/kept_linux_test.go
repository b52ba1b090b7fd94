package inner

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/relay"
)

// What goes over a connection that serves one client after the other.
const (
	grantsFrames = "HTTP/1.1 200 Connection established\r\nX-Simreach-Frames: 1\r\n\r\n"
	pingFrame    = "\x00\x04ping"
	finFrame     = "\x80\x00"
	freeFrame    = "\x80\x02"
	byeFrame     = "\x80\x03"
)

// inFrames is a request that wants frames, with the client's first ones behind it.
func inFrames(request, frames string) string {
	return strings.TrimSuffix(request, "\r\n") + "X-Simreach-Frames: 0\r\n\r\n" + frames
}

// read reads so much that it can be compared with want.
func read(t *testing.T, c net.Conn, want, what string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("%s: read %q, %v; want %q", what, b[:n], err, want)
	}
}

// ends reads to the end of a connection.
func ends(t *testing.T, c net.Conn, want, what string) {
	t.Helper()
	if b, err := io.ReadAll(c); err != nil || string(b) != want {
		t.Fatalf("%s: read %q, %v; want %q and the end", what, b, err, want)
	}
}

// serve has a connection serve a client that ends first, after which another may come.
func serve(t *testing.T, c net.Conn, request string) {
	t.Helper()
	io.WriteString(c, inFrames(request, pingFrame+finFrame))
	read(t, c, grantsFrames+pingFrame+finFrame+freeFrame, "one client")
}

// waits waits until so many connections wait for a request, and there are no others.
func (g *rig) waits(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, fmt.Sprintf("%d connections wait", n), func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.waiting) == n && g.all.Load() == int64(n)
	})
}

// A connection without a client keeps nothing from ending, and its outer relay hears that
// no request is read any more. One with a client goes on, and is not used again.
func TestWaitingConnectionsDrain(t *testing.T) {
	device := echoing(t, "127.0.0.1:0")
	for name, c := range map[string]struct {
		drainTime time.Duration
		end       func(*rig)
	}{
		"Drain":                       {0, func(g *rig) { g.Drain() }},
		"Run":                         {0, func(g *rig) { g.stop() }},
		"Run with time for the drain": {time.Hour, func(g *rig) { g.stop() }},
	} {
		t.Run(name, func(t *testing.T) {
			g := ways[0].start(t, Config{DrainTimeout: c.drainTime})
			outer := g.dialRelay(t, "")
			serve(t, outer, asks(t, device))
			g.waits(t, 1)
			c.end(g)
			ends(t, outer, byeFrame, "the farewell")
			testenv.Eventually(t, "it is forgotten", func() bool { return g.all.Load() == 0 })
			if s := g.Status(); s.Relayed != 1 || len(s.Refused) != 0 {
				t.Errorf("status %+v; want nothing refused", s)
			}
		})
	}
	t.Run("with a client", func(t *testing.T) {
		g := ways[0].start(t, Config{})
		outer := g.dialRelay(t, "")
		serve(t, outer, asks(t, device))
		g.waits(t, 1)
		io.WriteString(outer, inFrames(asks(t, device), pingFrame))
		read(t, outer, grantsFrames+pingFrame, "another client")
		g.Drain()
		io.WriteString(outer, pingFrame)
		read(t, outer, pingFrame, "the client after the drain has begun")
		io.WriteString(outer, finFrame)
		ends(t, outer, finFrame+freeFrame+byeFrame, "the client's end and the farewell")
	})
}

// A connection that waits has no slot of those that are set up, and needs one for its next
// request.
func TestWaitingConnectionsHoldNoSlot(t *testing.T) {
	device := echoing(t, "127.0.0.1:0")
	g := ways[0].start(t, Config{MaxHandshakes: 1})
	outer := g.dialRelay(t, "")
	serve(t, outer, asks(t, device))
	g.waits(t, 1)
	c, err := g.reach(t, device, nil)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	serve(t, outer, asks(t, device)) // that is live, and has no slot either
	c.Close()
	g.waits(t, 1)
	begun := g.dialRelay(t, "")
	testenv.Eventually(t, "the slot is taken", func() bool { return len(g.slots) == 1 })
	io.WriteString(outer, inFrames(asks(t, device), ""))
	if b, err := io.ReadAll(outer); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 503 ") || !strings.Contains(string(b), "X-Simreach-Error: overloaded\r\n") {
		t.Errorf("without a slot: answered %q, %v; want 503 overloaded", b, err)
	}
	testenv.Eventually(t, "the refused one is forgotten", func() bool { return g.all.Load() == 1 })
	serve(t, begun, asks(t, device)) // the slot is its own still
	if s := g.Status(); s.Relayed != 4 || !maps.Equal(s.Refused, map[string]uint64{"overloaded": 1}) {
		t.Errorf("status %+v; want 4 relayed and 1 overloaded", s)
	}
}

// Each request needs a ticket of its own; one that is refused is the connection's last.
func TestEachRequestNeedsItsTicket(t *testing.T) {
	device := echoing(t, "127.0.0.1:0")
	good := func(changes map[string]any) string {
		all := map[string]any{"dev": device.String()}
		maps.Copy(all, changes)
		return fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Bearer %s\r\n\r\n", device, device, sign(t, all))
	}
	for name, bad := range map[string]func(first string) string{
		"the same again":     func(first string) string { return first },
		"none":               func(string) string { return fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", device, device) },
		"for another device": func(string) string { return good(map[string]any{"dev": "127.0.0.1:1"}) },
		"for a predecessor":  func(string) string { return good(map[string]any{"inst": "before"}) },
	} {
		t.Run(name, func(t *testing.T) {
			g := ways[0].start(t, Config{})
			outer := g.dialRelay(t, "")
			first := good(nil)
			serve(t, outer, first)
			serve(t, outer, good(nil))
			io.WriteString(outer, inFrames(bad(first), ""))
			if b, err := io.ReadAll(outer); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 407 ") || !strings.Contains(string(b), "X-Simreach-Error: ticket-invalid\r\n") {
				t.Errorf("answered %q, %v; want 407 ticket-invalid", b, err)
			}
			testenv.Eventually(t, "it is forgotten", func() bool { return g.all.Load() == 0 })
			if s := g.Status(); s.Relayed != 2 || !maps.Equal(s.Refused, map[string]uint64{"ticket-invalid": 1}) {
				t.Errorf("status %+v; want 2 relayed and 1 refused", s)
			}
		})
	}
}

// counted returns the metrics of a registry that count connections, and are not 0.
func counted(t *testing.T, from *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "simreach_inner_relay_")
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				if l.GetName() != "relay" {
					key += " " + l.GetValue()
				}
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()); v != 0 {
				got[key] = v
			}
		}
	}
	return got
}

// Several clients of one connection are counted as several, each once.
func TestEachClientCountsOnce(t *testing.T) {
	device, closed := echoing(t, "127.0.0.1:0"), testenv.FreePort(t)
	registry := prometheus.NewRegistry()
	g := startWith(t, Config{}, Deps{Metrics: registry})
	outer := g.dialRelay(t, "")
	for n := range uint64(3) {
		io.WriteString(outer, inFrames(asks(t, device), pingFrame))
		read(t, outer, grantsFrames+pingFrame, "a client")
		if s := g.Status(); s.Live != 1 || s.Relayed != n+1 || s.Ended["closed"] != n {
			t.Errorf("with client %d: status %+v", n, s)
		}
		io.WriteString(outer, finFrame)
		read(t, outer, finFrame+freeFrame, "its end")
		g.waits(t, 1)
		if s := g.Status(); s.Live != 0 || s.Relayed != n+1 || s.Ended["closed"] != n+1 || s.Up != 4*(n+1) || s.Down != 4*(n+1) || len(s.Refused) != 0 {
			t.Errorf("after client %d: status %+v", n, s)
		}
	}
	want := map[string]float64{"connected_total": 3, "ended_total closed": 3, "device_connect_seconds": 3, "connections": 1, "waiting_connections": 1, "up_bytes_total": 12, "down_bytes_total": 12}
	if got := counted(t, registry); !maps.Equal(got, want) {
		t.Errorf("metrics %v; want %v", got, want)
	}
	io.WriteString(outer, inFrames(asks(t, closed), ""))
	if b, err := io.ReadAll(outer); err != nil || !strings.Contains(string(b), "X-Simreach-Error: device-refused\r\n") {
		t.Errorf("a device that refuses: answered %q, %v; want device-refused", b, err)
	}
	again := g.dialRelay(t, "")
	serve(t, again, asks(t, device))
	io.WriteString(again, inFrames(asks(t, device), pingFrame))
	read(t, again, grantsFrames+pingFrame, "a client")
	relay.Abort(again)
	testenv.Eventually(t, "all is over", func() bool { return g.all.Load() == 0 })
	want = map[string]float64{
		"connected_total": 5, "ended_total closed": 4, "ended_total reset-a": 1, "refused_total device-refused": 1, "device_connect_seconds": 5,
		"up_bytes_total": 20, "down_bytes_total": 20,
	}
	if got := counted(t, registry); !maps.Equal(got, want) {
		t.Errorf("metrics %v; want %v", got, want)
	}
	s := g.Status()
	if s.Live != 0 || s.Relayed != 5 || !maps.Equal(s.Ended, map[string]uint64{"closed": 4, "reset-a": 1}) || !maps.Equal(s.Refused, map[string]uint64{"device-refused": 1}) {
		t.Errorf("status %+v", s)
	}
}

// A connection that waits gives way to a new one where there is room for no more.
func TestWaitingConnectionsMakeRoom(t *testing.T) {
	device := echoing(t, "127.0.0.1:0")
	g := ways[0].start(t, Config{MaxConnections: 2})
	waiting := [...]*net.TCPConn{g.dialRelay(t, ""), g.dialRelay(t, "")}
	for _, c := range waiting {
		serve(t, c, asks(t, device))
	}
	g.waits(t, 2)
	for n := range waiting {
		c, err := g.reach(t, device, nil)
		if err != nil {
			t.Fatalf("a new client while %d connections wait: %v", len(waiting)-n, err)
		}
		roundTrip(t, c)
	}
	for _, c := range waiting {
		ends(t, c, byeFrame, "the farewell")
	}
	testenv.Eventually(t, "those that waited are forgotten", func() bool { return g.all.Load() == 2 })
	if err := g.turnedAway(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("with two clients: %v; want a reset", err)
	}
	if s := g.Status(); s.Live != 2 || s.Relayed != 4 || !maps.Equal(s.Refused, map[string]uint64{"overloaded": 1}) {
		t.Errorf("status %+v; want 2 of 4 live and 1 overloaded", s)
	}
}
