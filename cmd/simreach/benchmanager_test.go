package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/simreach/simreach/bench/result"
)

// TestBenchManager: the bench fills its store, measures every case and leaves nothing.
// What it measures in so short a time compares nothing.
func TestBenchManager(t *testing.T) {
	var out, progress bytes.Buffer
	cmd := command(t, "bench", "manager", "--quick", "--rounds", "1", "--json")
	tmp := t.TempDir()
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
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
		if row.Median < 0 || row.Median == 0 && row.Metric != "manager CPU" {
			t.Errorf("%s in %s is %v", row.Metric, row.Case, row.Median)
		}
		measured[row.Case+" "+row.Metric] = true
		if strings.HasPrefix(row.Case, "resolve-1") && row.Metric == "p50" && row.RatioToBase == 0 {
			t.Errorf("%s of %s is compared with nothing", row.Case, row.Variant)
		}
	}
	for _, want := range []string{"resolve-1000 p99", "resolve-10000 p99", "resolve-max rate", "create rate", "login rate", "audit rate", "at rest RSS of the manager"} {
		if !measured[want] {
			t.Errorf("%s was not measured: %s", want, out.String())
		}
	}
	wantEmpty(t, tmp)
}
