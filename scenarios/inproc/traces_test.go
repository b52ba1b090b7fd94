package inproc

import (
	"os"
	"testing"

	"github.com/simreach/simreach/scenarios/plan/relaying"
	"github.com/simreach/simreach/scenarios/scenariotest"
)

// TestTracesOfAnAccess: with results goes what each access did, from the manager to the
// device, and nothing of an earlier run.
func TestTracesOfAnAccess(t *testing.T) {
	s, dir := scenariotest.Library(t, "half-close", ""), t.TempDir()
	if err := os.WriteFile(relaying.TraceFile(dir, "manager"), []byte("an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	scenariotest.Run(t, s, New(), dir)
	scenariotest.TracesOfAccess(t, s, dir)
}
