package netnsrun

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/scenariotest"
)

// nothingLeft checks that a run has left no namespace, link, lock or directory.
// TMPDIR must be dir.
func nothingLeft(t *testing.T, run, dir string) {
	t.Helper()
	if left, err := netns.List(netns.Prefix + run + "-"); err != nil || len(left) != 0 {
		t.Errorf("namespaces left: %v, %v", left, err)
	}
	if left, err := netns.HostLinks(hostLink(run)); err != nil || len(left) != 0 {
		t.Errorf("links left: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(stateDir, run+".lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lock left: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("directories left: %v, %v", left, err)
	}
}

// temporary makes the temporary directory one of the test's own. Its path is short enough
// for sockets below it, as that of TempDir need not be.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "simreach-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", dir)
	return dir
}

// TestRootLongTemporaryDirectory: a path that is too long for a socket is named before
// anything starts.
func TestRootLongTemporaryDirectory(t *testing.T) {
	netnstest.Require(t)
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	r, err := newRunning(scenariotest.Library(t, "attach-and-connect", ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.start(t.Context(), "/not/there", lab.Options{}); err == nil || !strings.HasSuffix(err.Error(), ": set TMPDIR to a shorter one") {
		t.Errorf("got %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, r.run, dir)
}

// TestRootStartThatFailsLeavesNothing, wherever it fails.
func TestRootStartThatFailsLeavesNothing(t *testing.T) {
	netnstest.Require(t)
	s := scenariotest.Library(t, "attach-and-connect", "")
	binary := scenariotest.Binary(t)
	mute := filepath.Join(t.TempDir(), "mute") // it takes any argument, says nothing and ends with its input
	if err := os.WriteFile(mute, []byte("#!/bin/sh\nexec cat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		binary string
		after  time.Duration // 0: not cancelled
		dir    string
		want   error
	}{
		"no binary":           {binary: "/not/there", want: fs.ErrNotExist},
		"no output directory": {binary: binary, dir: "/proc/not-there", want: fs.ErrNotExist},
		"ends at once":        {binary: "/bin/false"},
		"never ready":         {binary: mute, after: 500 * time.Millisecond, want: context.DeadlineExceeded},
		"cancelled at once":   {binary: binary, after: time.Nanosecond, want: context.DeadlineExceeded},
		"cancelled early":     {binary: binary, after: 120 * time.Millisecond, want: context.DeadlineExceeded},
		"cancelled later":     {binary: binary, after: 250 * time.Millisecond, want: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			dir := temporary(t)
			ctx := t.Context()
			if c.after > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.after)
				defer cancel()
			}
			r, err := newRunning(s)
			if err != nil {
				t.Fatal(err)
			}
			err = r.start(ctx, c.binary, lab.Options{Dir: c.dir})
			if err == nil && c.after == 0 || err != nil && c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("want %v, got %v", c.want, err)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
			nothingLeft(t, r.run, dir)
		})
	}
}

// TestRootCloseEndsEveryProcess: also one that is in no program's process group.
func TestRootCloseEndsEveryProcess(t *testing.T) {
	netnstest.Require(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	l, err := New(scenariotest.Binary(t)).Start(t.Context(), scenariotest.Library(t, "half-close", ""), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, ok := l.(*running)
	if !ok {
		t.Fatalf("a lab is a %T", l)
	}
	stray := straggler(t, r.topology.nodes["client1"])
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	killed(t, stray)
	nothingLeft(t, r.run, dir)
}

func TestRootCleanEndsProcessesOfDeadRuns(t *testing.T) {
	netnstest.Require(t)
	run := fmt.Sprintf("%05xf", os.Getpid()&0xfffff)
	ns, err := netns.Create(nsName(run, "ue1"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	stray := straggler(t, ns)
	if removed, _, err := Clean(); err != nil || !slices.Contains(removed, run) {
		t.Errorf("want %s removed, got %v, %v", run, removed, err)
	}
	killed(t, stray)
	nothingLeft(t, run, t.TempDir())
}

// straggler starts a program in ns that nobody will stop.
func straggler(t *testing.T, ns *netns.NS) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// killed checks that a program ended by SIGKILL, and not by itself later.
func killed(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	e, ok := errors.AsType[*exec.ExitError](cmd.Wait())
	if !ok || e.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("want it killed, got %v", e)
	}
}
