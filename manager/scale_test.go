//go:build !race

package manager_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/simreach/simreach/manager"
)

// (Without the race detector, which takes half a minute for it.) One relay takes 20,000 entries, no port twice; when its range is full, that is what
// the request is told, and a port that is deleted rests.
func TestTwentyThousandEntries(t *testing.T) {
	const n = 20000
	m := start(t, config())
	relay := attach(t, m.Service, outerRelay("outer1", manager.PortRange{First: 40000, Last: 40000 + n - 1}))
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range n / 8 {
				if _, err := m.CreateEntry(t.Context(), op1, request()); err != nil && failed.Add(1) == 1 {
					t.Errorf("CreateEntry: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(relay.openPorts()); got != n {
		t.Fatalf("%d ports open; want all %d", got, n)
	}
	_, err := m.CreateEntry(t.Context(), op1, request())
	wantCode(t, err, manager.CodeNoFreePort, "the range is full")
	es, err := m.Entries(t.Context(), manager.EntryQuery{OperatorID: op1, Limit: 1})
	if err != nil || len(es) != 1 {
		t.Fatal(es, err)
	}
	if err := m.DeleteEntry(t.Context(), op1, es[0].Address); err != nil {
		t.Fatal(err)
	}
	_, err = m.CreateEntry(t.Context(), op1, request())
	wantCode(t, err, manager.CodeNoFreePort, "the only free port rests")
}
