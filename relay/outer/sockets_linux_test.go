package outer

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
)

func manyOpenings(n int, host string) []manager.Opening {
	os := make([]manager.Opening, n)
	for i := range os {
		os[i] = opening(manager.EntryID(fmt.Sprintf("entry-%d", i)), netip.AddrPortFrom(netip.MustParseAddr(host), uint16(10000+i)), time.Minute)
	}
	return os
}

// When descriptors run out, openings fail with a reason, what is open stays open, and
// the relay works again when there are some.
func TestDescriptorsRunOut(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	const host = "127.0.6.1"
	g := start(t, func(c *Config, _ *Deps) {
		c.MaxEntries = 1 << 20
		c.Listen = netip.MustParseAddr(host)
	})
	all := manyOpenings(200, host)
	all[0].EntryID = "e1" // the one that routes lead to
	if ack := g.snapshot(all[0]); len(ack.Failures) != 0 {
		t.Fatalf("snapshot: %+v", ack)
	}
	limit := was
	limit.Cur = uint64(testenv.Descriptors(t) + 59) // one of them was open for counting only
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	ack := g.command(manager.Command{Kind: manager.CommandOpen, Openings: all})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if n := len(ack.Failures); n < 100 || n > 160 {
		t.Errorf("%d of 200 openings failed with some 60 descriptors left; want those beyond", n)
	}
	for _, f := range ack.Failures {
		if !errors.Is(f.Err, syscall.EMFILE) {
			t.Fatalf("a failure is %v; want EMFILE", f.Err)
		}
	}
	ping(t, dial(t, all[0].Address))
	if ack := g.command(manager.Command{Kind: manager.CommandOpen, Openings: all}); len(ack.Failures) != 0 {
		t.Errorf("%d openings failed again, the first with %v", len(ack.Failures), ack.Failures[0].Err)
	}
}

// Thousands of entries come and go and leave nothing behind. The rest of the numbers
// is for the log: what an entry costs.
func TestManyEntries(t *testing.T) {
	const n, host = 5000, "127.0.6.2"
	g := start(t, func(c *Config, _ *Deps) {
		c.MaxEntries = n
		c.Listen = netip.MustParseAddr(host)
	})
	g.snapshot()
	fds, routines := testenv.Descriptors(t), runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	if ack := g.snapshot(manyOpenings(n, host)...); len(ack.Failures) != 0 {
		t.Fatalf("%d of %d failed, the first with %v", len(ack.Failures), n, ack.Failures[0].Err)
	}
	opened := time.Since(begin)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d entries opened in %s; each takes %d bytes of heap and %d of stack", n, opened.Round(time.Millisecond),
		(after.HeapAlloc-before.HeapAlloc)/n, (after.StackInuse-before.StackInuse)/n)
	begin = time.Now()
	g.snapshot()
	t.Logf("closed in %s", time.Since(begin).Round(time.Millisecond))
	// Acceptors end on their own after their ports are closed.
	deadline := time.After(10 * time.Second)
	for tick := time.Tick(time.Millisecond); testenv.Descriptors(t) > fds || runtime.NumGoroutine() > routines; {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("%d descriptors and %d goroutines are left; want %d and %d", testenv.Descriptors(t), runtime.NumGoroutine(), fds, routines)
		}
	}
}
