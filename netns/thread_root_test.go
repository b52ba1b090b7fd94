package netns_test

import (
	"os"
	"sync"
	"testing"

	"github.com/simreach/simreach/netns/netnstest"
)

// TestRootProcessStaysWhereItIs: whatever threads Do uses, the process's own
// namespace, which is its main thread's, does not change.
func TestRootProcessStaysWhereItIs(t *testing.T) {
	netnstest.Require(t)
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n := newNS(t, "stays")
	for range 50 {
		var wg sync.WaitGroup
		for range 8 { // enough to want every idle thread
			wg.Go(func() {
				inside := ""
				err := n.Do(func() (err error) {
					inside, err = os.Readlink("/proc/thread-self/ns/net")
					return err
				})
				if err != nil || inside == before {
					t.Errorf("want f inside the namespace, got %s, %v", inside, err)
				}
			})
		}
		wg.Wait()
	}
	if after, err := os.Readlink("/proc/self/ns/net"); err != nil || after != before {
		t.Errorf("the process moved from %s to %s, %v", before, after, err)
	}
	if pids, err := n.Processes(); err != nil || len(pids) > 0 {
		t.Errorf("want no process in the namespace, got %v, %v", pids, err)
	}
}
