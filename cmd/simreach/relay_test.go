package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

// relay runs a command of relay in this process, logged in.
func (b *testbed) relay(args ...string) ended {
	return command1(b.t.Context(), strings.NewReader(""), append([]string{"relay"}, b.login(args...)[1:]...)...)
}

// relays returns what is printed about the relays, until it is as it should be.
func (b *testbed) relays(what string, ok func(map[string]api.Relay) bool) map[string]api.Relay {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		r := b.relay("status", "--json")
		if r.code != 0 {
			b.t.Fatalf("code %d, %s", r.code, r.err)
		}
		var all []api.Relay
		b.decode(r.out, &all)
		byID := map[string]api.Relay{}
		for _, one := range all {
			byID[one.ID] = one
		}
		if ok(byID) {
			return byID
		}
		select {
		case <-tick.C:
		case <-late:
			b.t.Fatalf("never: %s: %s", what, r.out)
		}
	}
}

// echoed makes a connection through the relays and proves that it works.
func (b *testbed) echoed(endpoint string) net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", endpoint)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	b.wantEcho(c, "ping")
	return c
}

// relay status shows both kinds of relay as they fare, and relay drain has an outer one
// finish: what lives goes on, and it gets neither connections nor entries.
func TestRelayStatusAndDrain(t *testing.T) {
	b := newTestbed(t)
	endpoint := b.create("--imsi", ueOne+":"+portEcho)
	c := b.echoed(endpoint)
	got := b.relays("the connection is counted", func(rs map[string]api.Relay) bool {
		out, in := rs["outer1"], rs["inner1"]
		return out.Live == 1 && out.Up == 4 && out.Entries == 1 && in.Live == 1 && in.Opened == 1 && in.Down == 4
	})
	if out := got["outer1"]; out.Kind != "outer" || out.Draining || out.Accepted != 1 || out.Manager == "" || out.Manager != got["inner1"].Manager {
		t.Errorf("%+v", out)
	}
	r := b.relay("status")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], "RELAY ") ||
		strings.Join(strings.Fields(lines[1])[:4], " ") != "outer1 outer "+b.net+"2 serving" || strings.Join(strings.Fields(lines[2])[:2], " ") != "inner1 inner" {
		t.Errorf("code %d, %s\n%s", r.code, r.err, r.out)
	}

	if r := b.relay("drain", "outer1"); r.code != 0 || r.out != "outer1 drains\n" {
		t.Errorf("drain: code %d, %q, %s", r.code, r.out, r.err)
	}
	b.relays("it drains", func(rs map[string]api.Relay) bool { return rs["outer1"].Draining })
	b.wantEcho(c, "ping")
	if late, err := net.Dial("tcp", endpoint); err == nil {
		_ = late.SetDeadline(time.Now().Add(patience))
		if _, err := late.Read(make([]byte, 1)); err == nil {
			t.Error("a relay that drains serves a new connection")
		}
		late.Close()
	}
	if r := b.access("create", "--imsi", ueOne+":"+portEcho); r.code != 1 || !strings.Contains(r.err, string(manager.CodeNoOuterRelay)) {
		t.Errorf("an entry on a relay that drains: code %d, %s", r.code, r.err)
	}
	for _, id := range []string{"outer2", "inner1"} {
		if r := b.relay("drain", id); r.code != 1 || !strings.Contains(r.err, string(manager.CodeUnknownRelay)) {
			t.Errorf("drain %s: code %d, %s", id, r.code, r.err)
		}
	}
}

func TestByCause(t *testing.T) {
	if got := byCause(map[string]uint64{"b": 2, "a": 2, "c": 5}); got != "9 (c 5, a 2, b 2)" {
		t.Errorf("%q", got)
	}
	if got := byCause(nil); got != "0" {
		t.Errorf("%q", got)
	}
}

// Roles whose files say so serve metrics and health, and write their spans, of which the
// last come after the role has ended.
func TestRolesAreWatched(t *testing.T) {
	b := newTestbed(t)
	trace := filepath.Join(b.dir, "trace.jsonl")
	watched := func(n string) telemetry.Config {
		return telemetry.Config{Listen: b.net + n + ":9100", Traces: telemetry.TracesConfig{File: trace}}
	}
	control := rpc.ClientConfig{Manager: b.net + "1:8081", Secret: "relays"}
	b.stopRole["outer1"]()
	b.stopRole["inner1"]()
	b.run("watched-inner", &node.Inner{Relay: inner.Config{ID: "inner1", Listen: b.net + "3:8080"}, Control: control, Telemetry: watched("3")})
	b.run("watched-outer", &node.Outer{Relay: outer.Config{ID: "outer1", Address: netip.MustParseAddr(b.net + "2")}, Control: control, TLS: pki.Config{}, Telemetry: watched("2")})
	c := b.echoed(b.create("--imsi", ueOne+":"+portEcho))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	get := func(url string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", url, resp.Status, err)
		}
		return string(text)
	}
	for url, wants := range map[string][]string{
		b.net + "2:9100/metrics": {`simreach_outer_relay_live_connections{relay="outer1"} 1`, `simreach_audit_spool_lost_total{relay="outer1"} 0`, "go_goroutines "},
		b.net + "3:9100/metrics": {`simreach_inner_relay_live_connections{relay="inner1"} 1`, `simreach_inner_relay_up_bytes_total{relay="inner1"} 4`, "process_open_fds "},
		b.net + "2:9100/healthz": {"ok"},
	} {
		text := get("http://" + url)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s", url, want)
			}
		}
	}
	c.Close()
	b.stopRole["watched-outer"]()
	b.stopRole["watched-inner"]()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"outer.access"`, `"name":"inner.dial"`, `"service":"relay-inner","instance":"inner1"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
