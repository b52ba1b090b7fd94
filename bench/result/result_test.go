package result

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
)

// A round that is slow as a whole must not move the ratios, and ours is compared with
// the peer that is the best by the metric's own direction.
func TestRowsCompareWithinRounds(t *testing.T) {
	s := NewSamples()
	rate, delay := Metric{"rate", "/s", Higher}, Metric{"p50", "us", Lower}
	for round, slow := range []float64{1, 0.5, 1} {
		s.Add(round, "connect", rate, "routed", 100*slow)
		s.Add(round, "connect", rate, "ours", 60*slow)
		s.Add(round, "connect", rate, "good", 50*slow)
		s.Add(round, "connect", rate, "bad", 20*slow)
		s.Add(round, "connect", delay, "routed", 10/slow)
		s.Add(round, "connect", delay, "ours", 18/slow)
		s.Add(round, "connect", delay, "good", 20/slow)
		s.Add(round, "connect", delay, "bad", 40/slow)
	}
	rows := s.Rows([]string{"routed", "ours", "good", "bad"}, "routed", "ours", "good", "bad")
	if len(rows) != 8 {
		t.Fatalf("%d rows; want one for each variant and metric", len(rows))
	}
	got := map[string]Row{}
	for _, r := range rows {
		got[r.Metric+"/"+r.Variant] = r
	}
	for _, want := range []struct {
		key        string
		base, peer float64
	}{{"rate/ours", 0.6, 1.2}, {"p50/ours", 1.8, 0.9}, {"rate/bad", 0.2, 0}, {"rate/routed", 1, 0}} {
		r := got[want.key]
		if !near(r.RatioToBase, want.base) || !near(r.RatioToBestPeer, want.peer) {
			t.Errorf("%s: ratios %v and %v; want %v and %v", want.key, r.RatioToBase, r.RatioToBestPeer, want.base, want.peer)
		}
	}
	if r := got["rate/ours"]; r.Median != 60 || r.Min != 30 || r.Max != 60 {
		t.Errorf("ours: %v (%v to %v); want the median with its spread", r.Median, r.Min, r.Max)
	}
}

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }

// The JSON form has the names that readers of results rely on.
func TestReportAsJSON(t *testing.T) {
	s := NewSamples()
	s.Add(0, "bulk", Metric{"rate", "Gbit/s", Higher}, "ours", 2)
	r := Report{Bench: "relay", Machine: ThisMachine(), Rounds: 1, Absent: []string{"nginx"}, Rows: s.Rows([]string{"ours"}, "", "ours")}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"bench", "machine", "date", "rounds", "absent", "rows"} {
		if got[k] == nil {
			t.Errorf("no %q in %s", k, b.String())
		}
	}
	row := got["rows"].([]any)[0].(map[string]any)
	for _, k := range []string{"case", "variant", "metric", "unit", "median", "min", "max", "better"} {
		if row[k] == nil {
			t.Errorf("no %q in the row %v", k, row)
		}
	}
	b.Reset()
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "not installed, so not measured: nginx") {
		t.Errorf("the table does not name the absent peer:\n%s", b.String())
	}
}

// The plot shows every variant and every case that compares something, also those that the
// base has no part in.
func TestPlotShowsEveryComparison(t *testing.T) {
	s := NewSamples()
	rate, memory, alone := Metric{"rate", "Gbit/s", Higher}, Metric{"RSS", "KB", Lower}, Metric{"errors", "", Lower}
	for variant, v := range map[string]float64{"routed": 4, "haproxy": 2, "ours": 3} {
		s.Add(0, "bulk", rate, variant, v)
	}
	s.Add(0, "idle", memory, "haproxy", 6)
	s.Add(0, "idle", memory, "ours", 0.6)
	s.Add(0, "empty", memory, "haproxy", 0.03)
	s.Add(0, "empty", memory, "ours", 0.7)
	s.Add(0, "lonely", alone, "ours", 1)
	variants := []string{"routed", "haproxy", "ours"}
	r := Report{Bench: "relay", Rounds: 1, Rows: s.Rows(variants, "routed", "ours", "haproxy")}
	var b bytes.Buffer
	if err := r.WritePlot(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range append(variants, "bulk", "(1 = routed)", "idle", "(1 = haproxy)", "0.75", "0.10", "higher is better", "lower is better",
		"empty, RSS: haproxy 0.03 KB, ours 0.70 KB") {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the plot does not show %q", want)
		}
	}
	if strings.Contains(b.String(), "23.33") {
		t.Error("a bar of many times the others' height is drawn")
	}
	if strings.Contains(b.String(), "lonely") {
		t.Error("the plot shows what is compared with nothing")
	}
	if err := (Report{Rows: r.Rows[len(r.Rows)-1:]}).WritePlot(&b); err == nil {
		t.Error("a plot of nothing was drawn")
	}
}

var update = flag.Bool("update", false, "draw the recorded plot anew")

// The recorded plot is that of the recorded numbers.
func TestRecordedPlot(t *testing.T) {
	text, err := os.ReadFile("../recorded/relay.json")
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WritePlot(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("../recorded/relay.svg", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile("../recorded/relay.svg"); err != nil || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%v; the plot of relay.json is another one: go test ./bench/result -update", err)
	}
}

func TestWrap(t *testing.T) {
	for in, want := range map[string]string{
		"rate": "rate", "RSS per connection and tier": "RSS per connection\nand tier", "descriptors per connection": "descriptors per\nconnection",
		strings.Repeat("x", 30) + " y": strings.Repeat("x", 30) + "\ny",
	} {
		if got := wrap(in); got != want {
			t.Errorf("%q: %q; want %q", in, got, want)
		}
	}
}
