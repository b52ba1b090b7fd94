package netnsrun

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/scenariotest"
)

// held is what one of our processes holds.
type held struct {
	pid, files int
	waiting    int // of the files, connections between relays that no client has: the next one gets them
	resident   int // KB
}

// waitingHop is a line of net/tcp in the namespace of a relay: a connection at an inner
// relay's port that nobody closes.
var waitingHop = regexp.MustCompile(fmt.Sprintf(`(?m)^ *\d+: [0-9A-F]+:([0-9A-F]{4} [0-9A-F]+:%04[1]X|%04[1]X [0-9A-F]+:[0-9A-F]{4}) 01 `, plan.PortInner))

// measure reads what every process of the run holds; no client is connected.
func (r *running) measure() (map[string]held, error) {
	out := map[string]held{}
	for name, x := range r.roles {
		x.mu.Lock()
		h := held{pid: x.cmd.Process.Pid}
		x.mu.Unlock()
		dir := fmt.Sprintf("/proc/%d/", h.pid)
		files, err := os.ReadDir(dir + "fd")
		if err != nil {
			return nil, err
		}
		h.files = len(files)
		hops, err := os.ReadFile(dir + "net/tcp")
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(name, "outer") || strings.HasPrefix(name, "inner") {
			h.waiting = len(waitingHop.FindAll(hops, -1))
		}
		status, err := os.ReadFile(dir + "status")
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(status) {
			if v, ok := strings.CutPrefix(string(line), "VmRSS:"); ok {
				if h.resident, err = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB")); err != nil {
					return nil, err
				}
			}
		}
		out[name] = h
	}
	return out, nil
}

// TestRootHundredUEsLeaveNothing has a hundred UEs register, answer one relayed
// HTTP request each and deregister, four times over. No process may hold more files
// after the last round than after the second, nor much more memory, but for the
// connections that the relays have waiting for the next client; those must all end when
// none comes. When the run is over nothing of it is left.
func TestRootHundredUEsLeaveNothing(t *testing.T) {
	netnstest.Require(t)
	const (
		limit  = 60 * time.Second // for what takes one round and the topology
		waits  = 45 * time.Second // more than a connection between relays waits for a client
		growth = 8 << 10          // KB resident; garbage that is not yet collected counts
	)
	t.Setenv("GOGC", "10") // for the processes: what is resident comes close to what is alive
	s := scenariotest.Library(t, "hundred-ues", "")
	b := New(scenariotest.Binary(t))
	start := time.Now()
	l, err := b.Start(t.Context(), s, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, ok := l.(*running)
	if !ok {
		t.Fatalf("a lab is a %T", l)
	}
	closed := false
	defer func() {
		if !closed {
			_ = l.Close(t.Context()) // the test has failed already
		}
	}()
	idle, err := r.measure()
	if err != nil {
		t.Fatal(err)
	}
	var second, last map[string]held
	more := func() (wrong []string) {
		if last, err = r.measure(); err != nil {
			return []string{err.Error()}
		}
		for name, h := range last {
			if before := second[name]; second != nil && h.files-h.waiting > before.files-before.waiting {
				wrong = append(wrong, fmt.Sprintf("%s has %d files open, %d of them waiting connections; after two rounds %d and %d", name, h.files, h.waiting, before.files, before.waiting))
			}
		}
		return wrong
	}
	for i := range 4 {
		began := time.Now()
		scenariotest.Perform(t, s, l)
		t.Logf("round of %v", time.Since(began).Round(time.Millisecond))
		if d := time.Since(start); i == 0 && d > limit {
			t.Errorf("a hundred UEs took %v, want at most %v", d, limit)
		}
		scenariotest.Settle(t, more)
		if i == 1 {
			second = last
		}
	}
	for name, h := range last {
		t.Logf("%s: files %d idle, %d, %d, of which waiting connections %d, %d; KB resident %d idle, %d, %d", name,
			idle[name].files, second[name].files, h.files, second[name].waiting, h.waiting, idle[name].resident, second[name].resident, h.resident)
		if h.resident > second[name].resident+growth {
			t.Errorf("%s has %d KB resident after four rounds, %d after two", name, h.resident, second[name].resident)
		}
	}
	scenariotest.SettleWithin(t, waits, func() []string {
		wrong := more()
		for name, h := range last {
			if h.waiting > 0 {
				wrong = append(wrong, fmt.Sprintf("%s has %d connections waiting", name, h.waiting))
			}
		}
		return wrong
	})
	dir := r.dir
	closed = true
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for name, h := range last {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", h.pid)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there as process %d: %v", name, h.pid, err)
		}
	}
	if left, err := netns.List(netns.Prefix + r.run + "-"); err != nil || len(left) != 0 {
		t.Errorf("namespaces left: %v, %v", left, err)
	}
	if left, err := netns.HostLinks(hostLink(r.run)); err != nil || len(left) != 0 {
		t.Errorf("links left: %v, %v", left, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory %s left: %v", dir, err)
	}
}
