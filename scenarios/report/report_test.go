package report_test

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/scenarios/report"
)

// results are a run of each kind, by the name of their golden files.
func results() map[string]*report.Result {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600))
	step := func(name string, d time.Duration, err string, notRun bool) report.Step {
		return report.Step{Name: name, Verb: "http", Line: 12, Duration: d, Error: err, NotRun: notRun}
	}
	return map[string]*report.Result{
		"passed": {Scenario: "demo", File: "demo.yaml", Backend: "netns", Covers: []string{"R6"}, Started: at, Duration: 1234567 * time.Microsecond, Passed: true,
			Steps: []report.Step{step("the UE registers", 999*time.Microsecond, "", false)}},
		"failed": {Scenario: "demo", File: "demo.yaml", Backend: "inproc", Started: at, Duration: 2 * time.Second, Error: "tear down: link busy",
			Steps: []report.Step{step("a", time.Second, "", false), step("b <&>", 2*time.Second, "want \"x\",\ngot <nothing> \x01", false), step("c", 0, "", true)}},
		"skipped": {Scenario: "demo", File: "demo.yaml", Backend: "netns", Started: at, Skipped: "curl is not installed"},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs from testdata/%s: %s", t.Name(), name, diff)
	}
}

// TestProgress compares what people see: on a terminal the running step is shown
// and overwritten, elsewhere there are plain lines only.
func TestProgress(t *testing.T) {
	for name, r := range results() {
		for kind, terminal := range map[string]bool{"terminal": true, "plain": false} {
			var b bytes.Buffer
			p := report.Progress{W: &b, Terminal: terminal}
			p.Start(r, len(r.Steps))
			p.Running("starting the topology")
			for _, s := range r.Steps {
				if !s.NotRun {
					p.Running(s.Name)
					p.Step(s)
				}
			}
			p.Running("tearing down")
			p.End(r)
			golden(t, name+"."+kind+".txt", b.Bytes())
		}
	}
}

func TestFiles(t *testing.T) {
	for name, r := range results() {
		dir := t.TempDir()
		if err := report.Write(dir, r); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"results.json", "junit.xml"} {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+"."+f, b)
			if f == "junit.xml" {
				if err := xml.Unmarshal(b, new(struct{})); err != nil {
					t.Errorf("%s is not XML: %v", f, err)
				}
			}
		}
	}
	if err := report.Write(filepath.Join(t.TempDir(), "none"), results()["passed"]); err == nil {
		t.Error("written into a directory that is not there")
	}
}
