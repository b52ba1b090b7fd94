package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/simreach/simreach/bench/result"
	"github.com/simreach/simreach/netns/netnstest"
)

// TestRootBenchRelay: the bench builds its namespaces, starts every variant that is
// installed, measures each and leaves nothing. What it measures in so short a time
// compares nothing.
func TestRootBenchRelay(t *testing.T) {
	netnstest.Require(t)
	var out, progress bytes.Buffer
	plot := filepath.Join(t.TempDir(), "plot.svg")
	cmd := command(t, "bench", "relay", "--quick", "--rounds", "1", "--only", "connect,pingpong,tls-handshake", "--json", "--plot", plot)
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, progress.String())
	}
	var r result.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	measured := map[string]bool{}
	for _, row := range r.Rows {
		if row.Median <= 0 {
			t.Errorf("%s of %s in %s is %v", row.Metric, row.Variant, row.Case, row.Median)
		}
		measured[row.Case+" "+row.Variant] = true
	}
	for _, want := range []string{"connect routed", "connect ours", "pingpong ours", "tls-handshake ours"} {
		if !measured[want] {
			t.Errorf("%s was not measured: %s", want, out.String())
		}
	}
}
