package manager_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
)

// answering attaches an outer relay that does whatever it is told, until b ends.
func answering(b *testing.B, m *manager.Service, r manager.Relay) *manager.RelaySession {
	b.Helper()
	session, err := m.AttachRelay(r)
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := session.Next(b.Context())
			if err != nil {
				return
			}
			session.Acknowledge(manager.Acknowledgement{Session: c.Session, ID: c.ID})
		}
	})
	b.Cleanup(func() { session.End(); wg.Wait() })
	return session
}

// BenchmarkResolve asks about connections at 50,000 entries for 100,000 SIMs, from as
// many goroutines as there are processors.
func BenchmarkResolve(b *testing.B) {
	const sims, entries, relays = 100_000, 50_000, 4
	cfg := config()
	cfg.Subscribers = nil
	imsi := func(i int) string { return fmt.Sprintf("00101%010d", i) }
	for i := range sims {
		cfg.Subscribers = append(cfg.Subscribers, manager.SubscriberConfig{IMSI: imsi(i), OperatorID: op1})
	}
	st, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "manager.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	m := startOn(b, cfg, st)
	m.dir.m = map[ident.IMSI]manager.Attachment{}
	for i := range sims {
		m.dir.m[ident.IMSI(imsi(i))] = manager.Attachment{UPF: "upf1", Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
	}
	sessions := map[manager.RelayID]*manager.RelaySession{}
	for i := range relays {
		r := outerRelay("outer"+strconv.Itoa(i), manager.DefaultPorts())
		r.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 0)
		sessions[r.ID] = answering(b, m.Service, r)
	}
	if _, err := m.AttachRelay(innerRelay("inner1", "192.0.2.101:9000")); err != nil {
		b.Fatal(err)
	}
	es := make([]manager.Entry, entries)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < entries; i += 8 {
				e, err := m.CreateEntry(b.Context(), op1, manager.CreateRequest{IMSI: imsi(2 * i), Port: 22, Caller: client})
				if err != nil {
					b.Error(err)
					return
				}
				es[i] = e
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		return
	}
	var mu sync.Mutex
	var took []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for i := 0; pb.Next(); i++ {
			e := es[(i*7919)%entries]
			begin := time.Now()
			if _, err := sessions[e.RelayID].Resolve(b.Context(), manager.ResolveRequest{ConnectionID: "c", Hit: e.Address}); err != nil {
				b.Error(err)
				return
			}
			mine = append(mine, time.Since(begin))
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, mine...)
	})
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "resolves/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(residentMB(b), "RSS-MB") // of the test, with what it holds itself
}

func residentMB(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
