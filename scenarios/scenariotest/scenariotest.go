// Package scenariotest is what tests of whole topologies share: scenarios of the
// library with fields added, a run that must pass, our own binary for backends that
// start processes, Wireshark's opinion of a capture, and the traces that a run leaves.
// It owns no goroutine; a child process ends before the call that started it returns.
package scenariotest

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/scenarios"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
	"github.com/simreach/simreach/scenarios/steps"
)

// Library returns a scenario of the library with top-level fields in YAML added.
func Library(t testing.TB, name, fields string) *spec.Spec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "scenarios", "library", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Parse(name+".yaml", append(text, "\n"+fields+"\n"...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Run runs s, which must pass, and keeps captures and logs in out unless it is
// empty.
func Run(t testing.TB, s *spec.Spec, b lab.Backend, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := scenarios.Run(ctx, s, b, scenarios.Options{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range r.Steps {
		if st.Error != "" {
			t.Errorf("%s on %s, step %q: %s", s.Name, b.Name(), st.Name, st.Error)
		}
	}
	if !r.Passed {
		t.Fatalf("%s on %s did not pass: %s", s.Name, b.Name(), r.Error)
	}
}

// Perform performs the steps of s on a lab that is up, and then gives back every
// access that they were granted.
func Perform(t testing.TB, s *spec.Spec, l lab.Lab) {
	t.Helper()
	actions, err := scenarios.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	env := steps.NewEnv(s, l, t.TempDir())
	for i, act := range actions {
		ctx, cancel := context.WithTimeout(t.Context(), s.Steps[i].Timeout)
		err := act(ctx, env)
		cancel()
		if err != nil {
			t.Fatalf("step %q: %v", s.Steps[i].Name, err)
		}
	}
	if err := env.Close(); err != nil {
		t.Fatal(err)
	}
	returnAccesses(t, s, l)
}

// returnAccesses deletes every access of the scenario's operator.
func returnAccesses(t testing.TB, s *spec.Spec, l lab.Lab) {
	t.Helper()
	from, ok := l.Client(s.Clients[0].Name)
	if !ok {
		t.Fatalf("no client %s", s.Clients[0].Name)
	}
	call := func(method, path string) []byte {
		t.Helper()
		got, err := l.Manager().Call(t.Context(), from, lab.APIRequest{Method: method, Path: path})
		if err != nil || got.Status/100 != 2 {
			t.Fatalf("%s %s: %d %s, %v", method, path, got.Status, got.Body, err)
		}
		return got.Body
	}
	const path = "/v1/port_mappings"
	var list []struct{ Endpoint string }
	if err := json.Unmarshal(call(http.MethodGet, path), &list); err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		call(http.MethodDelete, path+"/"+strings.Replace(a.Endpoint, ":", "/", 1))
	}
}

// Settle calls wrong until it returns nothing, and fails t with what it returned
// last if that takes longer than ten seconds: what ends a moment after the call
// that asked for it needs that moment.
func Settle(t testing.TB, wrong func() []string) {
	t.Helper()
	SettleWithin(t, 10*time.Second, wrong)
}

// SettleWithin is Settle with another bound.
func SettleWithin(t testing.TB, bound time.Duration, wrong func() []string) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	for {
		list := wrong()
		if len(list) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("still, after %s:\n%s", bound, strings.Join(list, "\n"))
		}
	}
}

// Binary builds the program for the life of t and returns its file.
func Binary(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "simreach")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", file, "./cmd/simreach")
	cmd.Dir = root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return file
}

// root is the directory of go.mod.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("go.mod not found above the test")
		}
		dir = up
	}
}
