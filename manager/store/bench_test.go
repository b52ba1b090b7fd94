package store_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
)

// BenchmarkCreateEntry measures durable creations by 64 clients at one time, with their
// audit records.
func BenchmarkCreateEntry(b *testing.B) {
	for name, config := range map[string]func(*testing.B) store.Config{
		"sqlite":   func(b *testing.B) store.Config { return store.Config{Path: filepath.Join(b.TempDir(), "manager.db")} },
		"postgres": func(b *testing.B) store.Config { return store.Config{URL: pgtest.Start(b).Database(b)} },
	} {
		b.Run(name, func(b *testing.B) {
			s, err := store.Open(b.Context(), config(b))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { s.Close() })
			var n atomic.Int64
			now := time.Now().UTC().Truncate(time.Millisecond)
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					e := manager.Entry{
						ID: manager.EntryID(fmt.Sprintf("%026d", i)), OperatorID: "OP0000000001", IMSI: "001010000000001", Strategy: manager.IMSIPrioritized, DevicePort: 22, RelayID: "r",
						Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 24), byte(i >> 16), 1}), uint16(i)),
						Ranges:  []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Created: now, Expires: now.Add(time.Hour),
					}
					if err := s.CreateEntry(b.Context(), e); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
