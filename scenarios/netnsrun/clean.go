package netnsrun

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/netns"
)

// stateDir holds a lock file per run. A runner that died released its lock with
// its last breath, whatever killed it: that is how Clean tells. The file lists the
// run's directories, one per line.
const stateDir = "/run/simreach"

// runID is the form of a run's ID. Namespaces of another form are not a run's.
var runID = regexp.MustCompile(`^[0-9a-f]{6}$`)

// lockRun takes the run's lock for the life of the returned file.
func lockRun(run string) (*os.File, error) {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	for {
		f, err := os.OpenFile(filepath.Join(stateDir, run+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, fmt.Errorf("lock run %s: %w", run, err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return nil, errors.Join(fmt.Errorf("lock run %s: %w", run, err), f.Close())
		}
		if named(f) {
			return f, nil
		}
		// Between open and lock its last holder removed it: a lock that nobody sees.
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("lock run %s: %w", run, err)
		}
	}
}

// named reports whether a file still has the name that it was opened by.
func named(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.Name())
	return err == nil && os.SameFile(mine, there)
}

// note adds directories to a run's lock file, for Clean to remove after a crash.
func note(lock *os.File, dirs ...string) error {
	for _, d := range dirs {
		if d == "" {
			continue
		}
		d, err := filepath.Abs(d)
		if err == nil {
			_, err = fmt.Fprintln(lock, d)
		}
		if err != nil {
			return fmt.Errorf("note the run's directory: %w", err)
		}
	}
	return nil
}

func unlockRun(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}

// Runs returns the IDs of the runs that have namespaces on this machine.
func Runs() ([]string, error) {
	names, err := netns.List(netns.Prefix)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		id, _, ok := strings.Cut(strings.TrimPrefix(n, netns.Prefix), "-")
		if ok && runID.MatchString(id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// Clean removes what crashed runs left: their processes, namespaces, links and
// directories. It reports the runs it removed and those it left because they are alive.
func Clean() (removed, alive []string, err error) {
	runs, err := Runs()
	if err != nil {
		return nil, nil, err
	}
	locks, lerr := filepath.Glob(filepath.Join(stateDir, "*.lock"))
	for _, l := range locks { // a run may have crashed before its first namespace
		if id := strings.TrimSuffix(filepath.Base(l), ".lock"); runID.MatchString(id) && !slices.Contains(runs, id) {
			runs = append(runs, id)
		}
	}
	errs := []error{lerr}
	for _, run := range runs {
		lock, err := lockRun(run)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			alive = append(alive, run)
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := errors.Join(removeRun(run), removeDirs(lock)); err != nil {
			// What is left keeps its lock file, so that the next Clean finds it.
			errs = append(errs, fmt.Errorf("run %s: %w", run, err), lock.Close())
			continue
		}
		errs = append(errs, unlockRun(lock))
		removed = append(removed, run)
	}
	return removed, alive, errors.Join(errs...)
}

func removeRun(run string) error {
	names, err := netns.List(netns.Prefix + run + "-")
	errs := []error{err}
	for _, n := range names {
		errs = append(errs, removeNamespace(n))
	}
	links, err := netns.HostLinks(hostLink(run))
	errs = append(errs, err)
	for _, l := range links {
		errs = append(errs, netns.RemoveHostLink(l))
	}
	return errors.Join(errs...)
}

func removeNamespace(name string) error {
	ns, err := netns.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errors.Join(err, netns.Remove(name))
	}
	return errors.Join(endProcesses(ns), ns.Close(), netns.Remove(name))
}

// removeDirs removes the directories that a run noted in its lock file.
func removeDirs(lock *os.File) error {
	text, err := io.ReadAll(lock)
	errs := []error{err}
	for dir := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '\n' }) {
		// Only what os.MkdirTemp made for us, whatever a damaged file says.
		if filepath.IsAbs(dir) && strings.HasPrefix(filepath.Base(dir), netns.Prefix) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// endProcesses kills what still runs inside a namespace of ours and returns when it
// has ended: nothing else can be there. A program of a scenario may have left its
// process group, or somebody may have come in with exec.
func endProcesses(ns *netns.NS) error {
	deadline := time.Now().Add(stopTimeout)
	for {
		pids, err := ns.Processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := kill(ns, pid, deadline); err != nil {
				return fmt.Errorf("namespace %s: process %d: %w", ns.Name(), pid, err)
			}
		}
	}
}

// kill kills a process of the namespace, which need not be our child, and waits for
// its end.
func kill(ns *netns.NS, pid int, deadline time.Time) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// What fd stands for cannot change any more: is it still what was found there?
	if now, err := ns.Processes(); err != nil || !slices.Contains(now, pid) {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("it does not end")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isAlive reports whether somebody holds a run's lock.
func isAlive(run string) (bool, error) {
	f, err := os.Open(filepath.Join(stateDir, run+".lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("run %s: %w", run, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, f.Close()
	}
	return false, errors.Join(err, f.Close())
}

// Enter returns the namespace of a node of a run. With run empty there must be
// exactly one run that has the node and is alive: what a crashed one left does not count.
func Enter(run, node string) (*netns.NS, error) {
	runs := []string{run}
	if run == "" {
		all, err := Runs()
		if err != nil {
			return nil, err
		}
		runs = nil
		for _, r := range all {
			alive, err := isAlive(r)
			if err != nil {
				return nil, err
			}
			if alive {
				runs = append(runs, r)
			}
		}
	}
	var found []string
	for _, r := range runs {
		names, err := netns.List(nsName(r, node))
		if err != nil {
			return nil, err
		}
		if slices.Contains(names, nsName(r, node)) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no running topology has a node %q: start one with 'simreach up FILE'", node)
	case 1:
		return netns.Open(nsName(found[0], node))
	}
	return nil, fmt.Errorf("runs %s all have a node %q: choose one with --run", strings.Join(found, ", "), node)
}
