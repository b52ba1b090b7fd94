package process

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell is a program that runs text.
func shell(t *testing.T, text string) Spec {
	return Spec{Name: "shell", Args: []string{"sh", "-c", text}, Log: filepath.Join(t.TempDir(), "log")}
}

func start(t *testing.T, s Spec) *Process {
	t.Helper()
	p, err := Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestReadyAndStop: a program is ready when it says so, and ends with its input.
func TestReadyAndStop(t *testing.T) {
	p := start(t, shell(t, "echo began; echo ready >&3; cat; echo over"))
	if got := p.Tail(); got != "began" {
		t.Errorf("it wrote %q before it was ready; want began", got)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if got := p.Tail(); got != "began\nover" {
		t.Errorf("it wrote %q; want it to have ended in order", got)
	}
	<-p.Done()
}

// TestFailuresAreTold with what the program wrote.
func TestFailuresAreTold(t *testing.T) {
	if _, err := Start(t.Context(), shell(t, "echo no luck; exit 3")); err == nil || !strings.Contains(err.Error(), "shell is not ready") || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("a program that ends at once: %v", err)
	}
	if _, err := Start(t.Context(), shell(t, "echo wrong >&3; cat")); err == nil || !strings.Contains(err.Error(), `it said "wrong\n"`) {
		t.Errorf("a program that says something else: %v", err)
	}
	p := start(t, shell(t, "echo ready >&3; cat; echo sorry; exit 4"))
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "exit status 4") || !strings.Contains(err.Error(), "sorry") {
		t.Errorf("a program that fails in the end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, shell(t, "cat")); err == nil {
		t.Error("a program that never is ready was started")
	}
	if _, err := Start(t.Context(), Spec{Args: []string{"/nowhere/none"}, Log: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("what is not there was started")
	}
}

// TestTail: of a log only the end is told.
func TestTail(t *testing.T) {
	p := &Process{spec: Spec{Log: filepath.Join(t.TempDir(), "log")}}
	if got := p.Tail(); !strings.Contains(got, "no such file") {
		t.Error(got)
	}
	if err := os.WriteFile(p.spec.Log, []byte(strings.Repeat("x", 2000)+"the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.Tail(); len(got) > 1000 || !strings.HasSuffix(got, "the end") {
		t.Errorf("%d bytes", len(got))
	}
}

// TestForeignProgramsEndBySignal, with their children.
func TestForeignProgramsEndBySignal(t *testing.T) {
	s := shell(t, "sleep 1000 & echo $!; wait")
	s.Foreign = true
	p := start(t, s)
	var child int
	for tick := time.Tick(5 * time.Millisecond); child == 0; <-tick {
		if pids, err := family(p.PID()); err == nil && len(pids) == 2 {
			child = pids[1]
		}
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	for tick := time.Tick(5 * time.Millisecond); syscall.Kill(child, 0) == nil; <-tick { // until it is reaped
		if stat, err := os.ReadFile(filepath.Join("/proc", strings.Split(p.Tail(), "\n")[0], "stat")); err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
	}
}

// TestFamilyCosts: what a program's children use counts as its own.
func TestFamilyCosts(t *testing.T) {
	// A shell gives no input to what runs in its background unless it is told to.
	p := start(t, shell(t, "exec 4<&0; cat <&4 & echo ready >&3; wait"))
	defer func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()
	pids, err := family(p.PID())
	if err != nil || len(pids) != 2 || pids[0] != p.PID() {
		t.Fatalf("%v, %v; want %d and its child", pids, err, p.PID())
	}
	var one Cost
	if err := one.add(pids[0]); err != nil {
		t.Fatal(err)
	}
	both, err := CostOf(p)
	if err != nil {
		t.Fatal(err)
	}
	if one.RSS == 0 || one.Files == 0 || both.Files <= one.Files {
		t.Errorf("the shell costs %+v, with its child %+v", one, both)
	}
	if err := one.add(1 << 30); err == nil {
		t.Error("a process that is not there has costs")
	}
}

// TestCostReadsStat: names of programs may hold spaces and parentheses.
func TestCostReadsStat(t *testing.T) {
	var c Cost
	rest := "S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 1 0 99 4096 12"
	if err := c.addStat("77 (a (b) c) " + rest + "\n"); err != nil {
		t.Fatal(err)
	}
	if want := (Cost{CPU: 4 * time.Second, RSS: 12 * uint64(os.Getpagesize())}); c != want {
		t.Errorf("%+v; want %+v", c, want)
	}
	for _, bad := range []string{"", "77", "77 (a) S 1 2", "77 (a) " + strings.Replace(rest, "250", "x", 1)} {
		if err := c.addStat(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
