package relay

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/bench/process"
	"github.com/simreach/simreach/bench/result"
)

// anywhere makes a variant one that has TLS.
var anywhere = map[uint16]netip.AddrPort{}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestOptionsAreChecked before anything is made.
func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "0 rounds"},
		{Options{Rounds: -1}, "-1 rounds"},
		{Options{Rounds: 1, Only: []string{"bulk-1", "bulk-2"}}, `unknown case "bulk-2"`},
		{Options{Rounds: 1, Variants: []string{"ours", "envoy"}}, `unknown variant "envoy"`},
	} {
		if err := c.o.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v; want %s", c.o, err, c.want)
		}
		if _, err := Run(t.Context(), c.o); err == nil {
			t.Errorf("%+v: it ran", c.o)
		}
	}
	if err := (Options{Rounds: 1, Only: []string{"tls-resumed"}, Variants: []string{"routed", "io.Copy", "nginx"}}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestTurnsAndRatios: every case is measured in every round with every variant that can,
// and who begins changes.
func TestTurnsAndRatios(t *testing.T) {
	variants := []*variant{{name: "routed"}, {name: "haproxy", secure: anywhere}, {name: "ours", secure: anywhere}}
	var begins []string
	r := &run{Options: Options{Rounds: 3, Only: []string{"connect", "tls-up"}}, variants: variants, report: &result.Report{}}
	counts := map[string]int{}
	err := r.eachTurn(func(round int, m measure, v *variant) error {
		counts[m.name+" "+v.name]++
		if m.name == "connect" && len(begins) == round {
			begins = append(begins, v.name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]int{
		"connect routed": 3, "connect haproxy": 3, "connect ours": 3,
		"tls-up routed": 0, "tls-up haproxy": 3, "tls-up ours": 3, "idle ours": 0,
	} {
		if counts[what] != want {
			t.Errorf("%s: measured %d times; want %d", what, counts[what], want)
		}
	}
	if got := strings.Join(begins, " "); got != "routed haproxy ours" {
		t.Errorf("%s begin; want each once", got)
	}
}

// TestCollect: what is measured becomes the metrics of a case, in their units.
func TestCollect(t *testing.T) {
	collected := func(name string, f Figures, used, idle process.Cost) map[string]float64 {
		t.Helper()
		for _, m := range measures {
			if m.name == name {
				out := map[string]float64{}
				m.collect(f, used, idle, func(x result.Metric, v float64) { out[x.Name+" "+x.Unit] = v })
				return out
			}
		}
		t.Fatalf("no case %s", name)
		return nil
	}
	for _, c := range []struct {
		name       string
		f          Figures
		used, idle process.Cost
		want       map[string]float64
	}{
		{"bulk-1", Figures{Bytes: 2e9, BitsPerSecond: 3e9}, process.Cost{CPU: time.Second}, process.Cost{}, map[string]float64{"rate Gbit/s": 3, "relay CPU s/GB": 0.5}},
		{"bulk-16", Figures{Bytes: 2e9, BitsPerSecond: 3e9}, process.Cost{}, process.Cost{}, map[string]float64{"rate Gbit/s": 3}},
		{"connect", Figures{Done: 1000, PerSecond: 500}, process.Cost{CPU: time.Second}, process.Cost{}, map[string]float64{"connections /s": 500, "CPU us each": 1000}},
		{"pingpong", Figures{P50: 80 * time.Microsecond, P99: 2 * time.Millisecond}, process.Cost{}, process.Cost{}, map[string]float64{"p50 us": 80, "p99 us": 2000}},
		{"idle", Figures{}, process.Cost{}, process.Cost{RSS: 2 * 1024 * 2 * idleConnections, Files: 4 * idleConnections}, map[string]float64{
			"RSS per connection and tier KB": 2, "descriptors per connection and tier ": 2,
		}},
		{"tls-handshake", Figures{Done: 10, PerSecond: 5}, process.Cost{}, process.Cost{}, map[string]float64{"handshakes /s": 5}},
	} {
		got := collected(c.name, c.f, c.used, c.idle)
		if len(got) != len(c.want) {
			t.Errorf("%s: %v; want %v", c.name, got, c.want)
		}
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%s: %s is %v; want %v", c.name, k, got[k], v)
			}
		}
	}
}
