// Package netns makes and removes the network namespaces, links, addresses and
// routes of a topology. Everything it makes in the host's own namespace carries
// Prefix in its name, and it removes nothing else. Operations are idempotent:
// making what exists with the same name replaces it, removing what is gone
// succeeds. The package starts no goroutine that outlives a call. It needs
// CAP_NET_ADMIN and CAP_SYS_ADMIN; see Available.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Prefix starts the name of every namespace we make. The name goes on with a run
// ID and the node: "simreach-a1b2-upf1".
const Prefix = "simreach-"

// runDir is where named namespaces are mounted, as iproute2 does it.
const runDir = "/var/run/netns"

// ErrName refuses names that are not ours.
var ErrName = errors.New("netns: name does not start with " + Prefix)

// Available reports whether this process may make namespaces, with the reason if
// not. It makes one that has no name and drops it.
func Available() error {
	return inFreshThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return nil
	})
}

// inFreshThread runs f on a thread that is thrown away afterwards, so that f may
// change the thread's namespace. The runtime ends a thread whose goroutine
// returns while still locked to it.
func inFreshThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked again: see above
		if unix.Gettid() == unix.Getpid() {
			// The main thread does not end: it would stay in the namespace, keep that
			// alive and be what /proc/PID/ns/net shows. Held here until f is done, it
			// cannot be the one that f gets.
			defer runtime.UnlockOSThread()
			done <- inFreshThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

// NS is a named network namespace. Its methods may be called from any goroutine.
type NS struct {
	name string
	fd   vns.NsHandle
}

// Create makes a namespace called name, with loopback up and IPv6 off until it is
// asked for. One that exists under the name is removed first. Close frees the
// handle, Remove the namespace.
func Create(name string) (*NS, error) {
	if !strings.HasPrefix(name, Prefix) {
		return nil, fmt.Errorf("create %q: %w", name, ErrName)
	}
	if err := Remove(name); err != nil {
		return nil, err
	}
	err := inFreshThread(func() error {
		h, err := vns.NewNamed(name)
		if err != nil {
			return err
		}
		return h.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("create namespace %s: %w", name, err)
	}
	n, err := Open(name)
	if err != nil {
		return nil, err
	}
	err = n.Do(func() error {
		for _, scope := range []string{"all", "default"} {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0o644)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up namespace %s: %w", name, err), n.Close(), Remove(name))
	}
	return n, nil
}

// Open returns an existing namespace of any name.
func Open(name string) (*NS, error) {
	h, err := vns.GetFromName(name)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", name, err)
	}
	return &NS{name: name, fd: h}, nil
}

// Self returns the namespace that the process was started in. Its name is empty.
func Self() (*NS, error) {
	h, err := vns.GetFromPid(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("open the process's own namespace: %w", err)
	}
	return &NS{fd: h}, nil
}

// Name returns the namespace's name.
func (n *NS) Name() string { return n.name }

// Close frees the handle; the namespace stays until Remove.
func (n *NS) Close() error { return n.fd.Close() }

// Do runs f inside the namespace, on a thread of its own. Sockets and TUN devices
// that f opens stay in the namespace. f must not start goroutines that rely on
// being inside it: they run wherever the scheduler puts them.
func (n *NS) Do(f func() error) error {
	return inFreshThread(func() error {
		if err := vns.Set(n.fd); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.name, err)
		}
		return f()
	})
}

// Remove deletes a namespace that Create made. A missing one is no error.
func Remove(name string) error {
	if !strings.HasPrefix(name, Prefix) {
		return fmt.Errorf("remove %q: %w", name, ErrName)
	}
	path := filepath.Join(runDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// List returns the names of all namespaces whose name starts with prefix, which
// must itself start with Prefix.
func List(prefix string) ([]string, error) {
	if !strings.HasPrefix(prefix, Prefix) {
		return nil, fmt.Errorf("list %q: %w", prefix, ErrName)
	}
	entries, err := os.ReadDir(runDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Processes returns the IDs of the processes that are in the namespace.
func (n *NS) Processes() ([]int, error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(n.fd), &want); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", n.name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &st); err != nil {
			continue // it ended meanwhile
		}
		if st.Ino == want.Ino && st.Dev == want.Dev {
			out = append(out, pid)
		}
	}
	return out, nil
}

// Interfaces returns the names of the interfaces in the namespace.
func (n *NS) Interfaces() (names []string, err error) {
	err = n.Do(func() error {
		list, err := net.Interfaces()
		for _, i := range list {
			names = append(names, i.Name)
		}
		return err
	})
	return names, err
}
