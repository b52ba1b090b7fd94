package netnsrun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
)

// TestRootCleanTouchesOnlyDeadRuns: a dead run goes with the directories that it
// noted, whatever else its lock file says; a live one and namespaces that are no
// run's stay.
func TestRootCleanTouchesOnlyDeadRuns(t *testing.T) {
	netnstest.Require(t)
	dir := t.TempDir()
	mk := func(name string) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	namespace := func(name string) {
		t.Helper()
		ns, err := netns.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(ns.Close(), netns.Remove(name)); err != nil {
				t.Error(err)
			}
		})
	}
	id := fmt.Sprintf("%05x", os.Getpid()&0xfffff)
	dead, live := id+"d", id+"e"
	foreign := netns.Prefix + "test" + strconv.Itoa(os.Getpid()) + "-node"
	namespace(nsName(dead, "amf"))
	namespace(nsName(live, "amf"))
	namespace(foreign)

	ours, scratch, other := mk("simreach-"+dead+"-1"), mk("simreach-run-2"), mk("other")
	liveDir := mk("simreach-" + live + "-3")
	for _, r := range []struct {
		run  string
		dirs []string
	}{{dead, []string{ours, "", scratch, other, "/"}}, {live, []string{liveDir}}} {
		lock, err := lockRun(r.run)
		if err != nil {
			t.Fatal(err)
		}
		if err := note(lock, r.dirs...); err != nil {
			t.Fatal(err)
		}
		if r.run == dead {
			if err := lock.Close(); err != nil { // as when its holder dies
				t.Fatal(err)
			}
			continue
		}
		t.Cleanup(func() {
			if err := unlockRun(lock); err != nil {
				t.Error(err)
			}
		})
	}

	removed, alive, err := Clean()
	if err != nil {
		t.Error(err)
	}
	if !slices.Contains(removed, dead) || !slices.Contains(alive, live) {
		t.Errorf("want %s removed and %s alive, got %v and %v", dead, live, removed, alive)
	}
	for path, want := range map[string]bool{ours: false, scratch: false, other: true, liveDir: true, filepath.Join(stateDir, dead+".lock"): false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: want it there: %v, got %v", path, want, err)
		}
	}
	names, err := netns.List(netns.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{nsName(dead, "amf"): false, nsName(live, "amf"): true, foreign: true} {
		if slices.Contains(names, name) != want {
			t.Errorf("namespace %s: want it there: %v", name, want)
		}
	}
}

// TestRootEnterPassesOverDeadRuns: what a crashed run left is not a topology that is up, and
// can still be named.
func TestRootEnterPassesOverDeadRuns(t *testing.T) {
	netnstest.Require(t)
	node := fmt.Sprintf("enter%d", os.Getpid())
	id := fmt.Sprintf("%05x", os.Getpid()&0xfffff)
	dead, live := id+"b", id+"c"
	create := func(run string) {
		t.Helper()
		ns, err := netns.Create(nsName(run, node))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(ns.Close(), netns.Remove(ns.Name())); err != nil {
				t.Error(err)
			}
		})
	}
	enter := func(run string) string {
		t.Helper()
		ns, err := Enter(run, node)
		if err != nil {
			return err.Error()
		}
		defer ns.Close()
		return ns.Name()
	}
	create(dead)
	lock, err := lockRun(dead)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil { // as when its holder dies
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(lock.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) { // somebody may call clean
			t.Error(err)
		}
	})
	if got := enter(""); !strings.Contains(got, "no running topology") {
		t.Errorf("only a dead run has the node: %s", got)
	}
	if got := enter(dead); got != nsName(dead, node) {
		t.Errorf("the dead run by its name: %s", got)
	}
	create(live)
	lock2, err := lockRun(live)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unlockRun(lock2); err != nil {
			t.Error(err)
		}
	})
	if got := enter(""); got != nsName(live, node) {
		t.Errorf("a dead run and a live one: %s; want the live one", got)
	}
}
