package scenariotest

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/simreach/simreach/scenarios/plan/relaying"
	"github.com/simreach/simreach/scenarios/spec"
)

// Span is what a test looks at of a line of a trace file.
type Span struct {
	Name   string `json:"name"`
	Trace  string `json:"trace"`
	ID     string `json:"span"`
	Parent string `json:"parent"` // empty: it begins the trace
}

// Spans reads what the manager and the relays of s have written of their work into a
// directory of results: by trace, and then by the span's ID.
func Spans(t testing.TB, s *spec.Spec, results string) map[string]map[string]Span {
	t.Helper()
	out := map[string]map[string]Span{}
	for _, f := range (relaying.Plan{Spec: s, Results: results}).TraceFiles() {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var x Span
			if err := json.Unmarshal(line, &x); err != nil {
				t.Fatalf("%s: %v: %s", f, err, line)
			}
			if out[x.Trace] == nil {
				out[x.Trace] = map[string]Span{}
			}
			out[x.Trace][x.ID] = x
		}
	}
	return out
}

// Paths returns the spans of a trace with those above them, as "outer.access >
// outer.resolve > manager.resolve". A span whose parent is missing begins with "? > ".
func Paths(trace map[string]Span) []string {
	var out []string
	for _, x := range trace {
		path := []string{x.Name}
		for x.Parent != "" {
			up, ok := trace[x.Parent]
			if !ok {
				path = append([]string{"?"}, path...)
				break
			}
			x, path = up, append([]string{up.Name}, path...)
		}
		out = append(out, strings.Join(path, " > "))
	}
	return out
}

// TracesOfAccess fails t unless the results of a run of s have, in traces of their own,
// how an entry was made and how a connection was set up, each across its processes.
func TracesOfAccess(t testing.TB, s *spec.Spec, results string) {
	t.Helper()
	seen := map[string]bool{}
	for id, trace := range Spans(t, s, results) {
		for _, p := range Paths(trace) {
			seen[p] = true
			if strings.HasPrefix(p, "? > ") {
				t.Errorf("trace %s: the parent of %s is nowhere", id, p)
			}
		}
	}
	for _, want := range []string{
		"POST /v1/port_mappings > manager.create_entry > manager.open > outer.open",
		"outer.access > outer.resolve > manager.resolve",
		"outer.access > outer.inner_connect > inner.connect > inner.dial",
	} {
		if !seen[want] {
			t.Errorf("no trace has %s; there are %v", want, slices.Sorted(maps.Keys(seen)))
		}
	}
}
