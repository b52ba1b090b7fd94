package netnsrun

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/simreach/simreach/netns/netnstest"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/plan/relaying"
	"github.com/simreach/simreach/scenarios/scenariotest"
)

// TestRootTracesOfAnAccess: with results goes what each access did, across the
// processes, and nothing of an earlier run.
func TestRootTracesOfAnAccess(t *testing.T) {
	netnstest.Require(t)
	s, dir := scenariotest.Library(t, "half-close", ""), t.TempDir()
	if err := os.WriteFile(relaying.TraceFile(dir, "manager"), []byte("an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	scenariotest.Run(t, s, New(scenariotest.Binary(t)), dir)
	scenariotest.TracesOfAccess(t, s, dir)
}

// TestRootCaptured: every network of a topology is captured where that is asked for,
// what has crossed one is found in it alone, and nothing is kept after that.
func TestRootCaptured(t *testing.T) {
	netnstest.Require(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s, binary := scenariotest.Library(t, "half-close", ""), scenariotest.Binary(t)
	l, err := New(binary).Start(t.Context(), s, lab.Options{Capture: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "simreach-") }) {
			t.Errorf("left: %v, %v", left, err)
		}
	}()
	c, ok := l.Client("client1")
	if !ok {
		t.Fatal("no client1")
	}
	got, err := l.Manager().Call(t.Context(), c, lab.APIRequest{Method: "GET", Path: "/v1/needle-in-the-clear"})
	if err != nil || got.Status != 404 {
		t.Fatalf("%d, %v; want an answer, that there is no such thing", got.Status, err)
	}
	needles := [][]byte{[]byte("needle-in-the-clear"), []byte("never-sent")}
	for _, n := range plan.Networks(s) {
		found, err := l.Captured(t.Context(), n, needles)
		if err != nil {
			t.Errorf("%s: %v", n, err)
			continue
		}
		if found[0] && n != plan.Public || found[1] {
			t.Errorf("%s has %v of %q", n, found, needles)
		}
	}
	scenariotest.Settle(t, func() []string { // a packet is written a moment after it was sent
		found, err := l.Captured(t.Context(), plan.Public, needles)
		if err != nil {
			t.Fatal(err)
		}
		if !found[0] {
			return []string{"the request is not in the capture"}
		}
		return nil
	})
	if _, err := l.Captured(t.Context(), "n7", needles); err == nil || !strings.Contains(err.Error(), "want one of public, sbi") {
		t.Errorf("a network that is not there: %v", err)
	}
	plainLab, err := New(binary).Start(t.Context(), s, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = plainLab.Captured(t.Context(), plan.Public, needles)
	if cerr := plainLab.Close(t.Context()); cerr != nil {
		t.Error(cerr)
	}
	if err == nil {
		t.Error("networks are captured that nobody asked for")
	}
}
