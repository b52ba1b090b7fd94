//go:build linux

package relay

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// resident returns a process's RSS in bytes.
func resident(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// An idle connection costs a relay no more than a kilobyte of resident memory and two
// descriptors. The memory of the first thousand connections, which a runtime that has
// done nothing yet also spends on its own start, is not counted, and neither is the
// garbage of setting connections up: it is collected before both looks. What RSS is
// without that, which is up to the collector's moment, is logged.
func TestIdleConnectionMemory(t *testing.T) {
	if raced {
		return
	}
	raw, rss, fds := idleCost(t, onLoop.name, 5000)
	t.Logf("an idle connection costs %d bytes of RSS, %d with garbage, and %.2f descriptors", rss, raw, fds)
	if rss > 1024 {
		t.Errorf("an idle connection costs %d bytes of RSS; want at most 1024", rss)
	}
	if fds > 2.01 {
		t.Errorf("an idle connection costs %.2f descriptors; want 2", fds)
	}
}

// idleCost returns what each of n idle connections costs a relay process: RSS as it is
// found, RSS after a collection, and descriptors.
func idleCost(t testing.TB, way string, n int) (raw, rss int, fds float64) {
	t.Helper()
	at, pid, collect := startProcess(t, way, device(t, func(c net.Conn) {
		b := make([]byte, 1) // and no pipe, which would cost this process descriptors
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}))
	open := func(n int) {
		for range n {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { Abort(c) })
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	// A collection that the scheduler interrupts gives back less: the least of some is what
	// the connections need.
	collected := func() int {
		least := math.MaxInt
		for range 5 {
			collect()
			least = min(least, resident(t, pid))
		}
		return least
	}
	open(1000)
	firstRaw := resident(t, pid)
	firstRSS, firstFDs := collected(), count()
	open(n)
	raw = (resident(t, pid) - firstRaw) / n
	return raw, (collected() - firstRSS) / n, float64(count()-firstFDs) / float64(n)
}

// BenchmarkIdle reports what an idle connection costs a relay process, next to HAProxy.
func BenchmarkIdle(b *testing.B) {
	for _, way := range []string{onLoop.name, onGoroutines.name, "haproxy"} {
		b.Run(way, func(b *testing.B) {
			for b.Loop() {
				raw, rss, fds := idleCost(b, way, 3000)
				b.ReportMetric(float64(raw), "RSS-bytes/conn")
				b.ReportMetric(float64(rss), "collected-RSS-bytes/conn")
				b.ReportMetric(fds, "fds/conn")
			}
		})
	}
}
