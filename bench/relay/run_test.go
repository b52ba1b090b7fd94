package relay

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestFamilyCosts: what a program's children use counts as its own.
func TestFamilyCosts(t *testing.T) {
	// A shell gives no input to what runs in its background unless it is told to.
	cmd := exec.Command("sh", "-c", "exec 3<&0; cat <&3 & echo; wait")
	feed, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		feed.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil { // the child has been forked
		t.Fatal(err)
	}
	pids, err := family(cmd.Process.Pid)
	if err != nil || len(pids) != 2 || pids[0] != cmd.Process.Pid {
		t.Fatalf("%v, %v; want %d and its child", pids, err, cmd.Process.Pid)
	}
	var one cost
	if err := one.add(pids[0]); err != nil {
		t.Fatal(err)
	}
	both, err := costOf([]*process{{name: "sh", cmd: cmd}})
	if err != nil {
		t.Fatal(err)
	}
	if one.rss == 0 || one.files == 0 || both.files <= one.files {
		t.Errorf("the shell costs %+v, with its child %+v", one, both)
	}
	if err := one.add(1 << 30); err == nil {
		t.Error("a process that is not there has costs")
	}
}

// TestCostReadsStat: names of programs may hold spaces and parentheses.
func TestCostReadsStat(t *testing.T) {
	var c cost
	rest := "S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 1 0 99 4096 12"
	if err := c.addStat("77 (a (b) c) " + rest + "\n"); err != nil {
		t.Fatal(err)
	}
	if want := (cost{cpu: 4 * time.Second, rss: 12 * uint64(os.Getpagesize())}); c != want {
		t.Errorf("%+v; want %+v", c, want)
	}
	for _, bad := range []string{"", "77", "77 (a) S 1 2", "77 (a) " + strings.Replace(rest, "250", "x", 1)} {
		if err := c.addStat(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
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
	collected := func(name string, f Figures, used, idle cost) map[string]float64 {
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
		used, idle cost
		want       map[string]float64
	}{
		{"bulk-1", Figures{Bytes: 2e9, BitsPerSecond: 3e9}, cost{cpu: time.Second}, cost{}, map[string]float64{"rate Gbit/s": 3, "relay CPU s/GB": 0.5}},
		{"bulk-16", Figures{Bytes: 2e9, BitsPerSecond: 3e9}, cost{}, cost{}, map[string]float64{"rate Gbit/s": 3}},
		{"connect", Figures{Done: 1000, PerSecond: 500}, cost{cpu: time.Second}, cost{}, map[string]float64{"connections /s": 500, "CPU us each": 1000}},
		{"pingpong", Figures{P50: 80 * time.Microsecond, P99: 2 * time.Millisecond}, cost{}, cost{}, map[string]float64{"p50 us": 80, "p99 us": 2000}},
		{"idle", Figures{}, cost{}, cost{rss: 2 * 1024 * 2 * idleConnections, files: 4 * idleConnections}, map[string]float64{
			"RSS per connection and tier KB": 2, "descriptors per connection and tier ": 2,
		}},
		{"tls-handshake", Figures{Done: 10, PerSecond: 5}, cost{}, cost{}, map[string]float64{"handshakes /s": 5}},
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

// TestTail: of a log only the end is told.
func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 2000)+"the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(file); len(got) > 1000 || !strings.HasSuffix(got, "the end") {
		t.Errorf("%d bytes", len(got))
	}
	if got := tail(file + "?"); !strings.Contains(got, "no such file") {
		t.Error(got)
	}
}
