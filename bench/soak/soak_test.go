package soak

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A short soak passes. The long one is `simreach bench soak`.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and runs it as processes")
	}
	program := filepath.Join(t.TempDir(), "simreach")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/simreach/simreach/cmd/simreach").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	r, err := Run(t.Context(), Options{For: 8 * time.Second, Load: 0.8, Program: program})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	t.Log(b.String())
	for _, p := range r.Problems() {
		t.Error(p)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{For: time.Second, Load: 0.8}, {For: time.Minute}, {For: time.Minute, Load: 1.1}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// Everything that a soak looks for is a problem.
func TestProblems(t *testing.T) {
	good := func() Report {
		return Report{
			Kinds: []KindReport{{Name: "short", Done: 1}, {Name: resumedKind, Done: 10, Resumed: 9}}, Created: 2,
			Cuts:        []CutReport{{Name: "entry expired", Times: 2, Within: 100 * time.Millisecond, P50: 10 * time.Millisecond, Max: time.Second, Late: 1}},
			Connections: 4, TurnedAway: 1, Audited: 4, Complete: 3, Denied: 1,
			Roles: []RoleReport{{Name: "outer", FilesBefore: 10, FilesAfter: 10, GoroutinesBefore: 20, GoroutineAfter: 20, RSSBefore: 50 << 20, RSSGrowth: 1 << 20}},
		}
	}
	if p := good().Problems(); len(p) != 0 {
		t.Errorf("a good report: %q", p)
	}
	for name, spoil := range map[string]func(*Report){
		"a fault":                     func(r *Report) { r.Faults = map[string]int{"short: reset": 1} },
		"a kind that never came":      func(r *Report) { r.Kinds[0].Done = 0 },
		"no session resumed":          func(r *Report) { r.Kinds[1].Resumed = 0 },
		"no expiry":                   func(r *Report) { r.Cuts[0].Times = 0 },
		"cuts that are late":          func(r *Report) { r.Cuts[0].P50 = 101 * time.Millisecond },
		"a connection not audited":    func(r *Report) { r.Audited, r.Complete = 3, 2 },
		"a record missing":            func(r *Report) { r.Complete = 2 },
		"a stranger let in":           func(r *Report) { r.Complete, r.Denied = 4, 0 },
		"a connection nobody made":    func(r *Report) { r.Audited, r.Complete = 5, 4 },
		"descriptors left":            func(r *Report) { r.Roles[0].FilesAfter = 100 },
		"goroutines left":             func(r *Report) { r.Roles[0].GoroutineAfter = 100 },
		"memory that grows and grows": func(r *Report) { r.Roles[0].RSSGrowth = 60 << 20 },
	} {
		r := good()
		spoil(&r)
		var b strings.Builder
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		if len(r.Problems()) != 1 || !strings.Contains(b.String(), "FAILED: 1 problems") {
			t.Errorf("%s: %q", name, r.Problems())
		}
	}
}

func TestGrowth(t *testing.T) {
	var s []sample
	at := time.Now()
	for i := range 100 {
		s = append(s, sample{at: at.Add(time.Duration(i) * time.Second), rss: float64(1000 + i + i%2*10)}) // a line and a saw
	}
	if g := growth(s); g < 48 || g > 50 {
		t.Errorf("growth over the second half is %g; want about 49", g)
	}
	if g := growth(s[:4]); g != 0 {
		t.Errorf("growth of two samples is %g; want 0", g)
	}
}
