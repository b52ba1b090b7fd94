package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/netns"
)

// pause waits a moment where the kernel has no event to wait for.
func pause() { <-time.After(10 * time.Millisecond) }

// TestRootCleanAfterCrash: the runner is killed with SIGKILL, with a program in the
// background that ignores it; clean removes everything.
func TestRootCleanAfterCrash(t *testing.T) {
	host := newHost(t)
	p := startProcess(t, host.Start, "run", "--backend", "netns", "testdata/waits.yaml")
	p.await("ok   a program in the background")
	run := runOfProcess(t, p)
	p.signal(syscall.SIGKILL)
	p.wait()
	left, err := netns.List(netns.Prefix + run + "-")
	if err != nil || len(left) == 0 {
		t.Fatalf("a killed runner cannot have cleaned up, got %v, %v", left, err)
	}
	pids := processesOf(t, run, "client1")
	if len(pids) != 1 {
		t.Fatalf("want the background program to survive, got %v", pids)
	}
	code, out, stderr := output(t, host.Start, nil, "clean")
	if code != 0 || !strings.Contains(out, "removed run "+run+"\n") {
		t.Errorf("clean: code %d, %s%s", code, out, stderr)
	}
	if err := syscall.Kill(pids[0], 0); err == nil && !zombie(pids[0]) {
		t.Errorf("process %d is still there", pids[0])
	}
	wantNothing(t, host, run, p.tmp)
	if code, out, _ := output(t, host.Start, nil, "clean"); code != 0 || strings.Contains(out, run) {
		t.Errorf("a second clean must have nothing to do: code %d, %s", code, out)
	}
}

// TestRootCleanAfterUpCrashed: what a killed up leaves on the host is named by the
// next up, and clean removes it.
func TestRootCleanAfterUpCrashed(t *testing.T) {
	host := newHost(t)
	p, run, _ := up(t, host, "testdata/small.yaml")
	p.signal(syscall.SIGKILL)
	p.wait()
	code, _, stderr := output(t, host.Start, nil, "up", "--backend", "netns", "testdata/small.yaml")
	if code != 2 || !strings.Contains(stderr, "a topology (run "+run+") crashed and left its host link: run 'simreach clean'") {
		t.Errorf("want the crashed run and the remedy named: code %d, %s", code, stderr)
	}
	if code, out, stderr := output(t, host.Start, nil, "clean"); code != 0 || !strings.Contains(out, "removed run "+run+"\n") {
		t.Errorf("clean: code %d, %s%s", code, out, stderr)
	}
	wantNothing(t, host, run, p.tmp)
}

// TestRootKilledNodeIsReported: somebody kills a node's process; the run says which
// one and how it ended.
func TestRootKilledNodeIsReported(t *testing.T) {
	host := newHost(t)
	p, run, _ := up(t, host, "testdata/small.yaml")
	pids := processesOf(t, run, "upf1")
	if len(pids) != 1 {
		t.Fatalf("want the UPF's process, got %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.signal(os.Interrupt)
	code, _ := p.wait()
	if text := p.stderr.String(); code == 0 || !regexp.MustCompile(`\bupf1: signal: killed`).MatchString(text) {
		t.Errorf("want a failure that names upf1, got code %d, %s", code, text)
	}
	wantNothing(t, host, run, p.tmp)
}

// processesOf returns the processes in a node's namespace.
func processesOf(t *testing.T, run, node string) []int {
	t.Helper()
	ns, err := netns.Open(netns.Prefix + run + "-" + node)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	pids, err := ns.Processes()
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// zombie tells whether a process has ended but not been reaped: its parent, the
// runner, is dead, and who inherited it may be slow.
func zombie(pid int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(text), ") Z ")
}
