package store_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
)

// BenchmarkAddAudit measures durable batches of the records of connections, as relays
// hand them in.
func BenchmarkAddAudit(b *testing.B) {
	for name, config := range configs {
		b.Run(name, func(b *testing.B) {
			s, err := store.Open(b.Context(), config(b))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { s.Close() })
			const size = 1000
			n := 0
			batch := make([]manager.AuditRecord, size)
			types := []manager.AuditType{manager.AuditAccess, manager.AuditConnected, manager.AuditClosed}
			for b.Loop() {
				at := time.Now().UTC().Truncate(time.Millisecond)
				for i := range batch {
					batch[i] = manager.AuditRecord{
						ID: ulid.Make().String(), Type: types[n%3], At: at, OperatorID: "OP0000000001", EntryID: manager.EntryID(fmt.Sprintf("%026d", n/3*7919%50_000)),
						ConnectionID: fmt.Sprintf("%026d", n/3), IMSI: ident.IMSI(fmt.Sprintf("00101%010d", n/3*7919%50_000)), RelayID: "outer1",
						Source: netip.MustParseAddrPort("198.51.100.7:40000"), Destination: netip.MustParseAddrPort("10.0.0.1:22"), DevicePort: 22,
					}
					n++
				}
				if err := s.AddAudit(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

var configs = map[string]func(*testing.B) store.Config{
	"sqlite":   func(b *testing.B) store.Config { return store.Config{Path: filepath.Join(b.TempDir(), "manager.db")} },
	"postgres": func(b *testing.B) store.Config { return store.Config{URL: pgtest.Start(b).Database(b)} },
}

// BenchmarkCreateEntry measures durable creations by 64 clients at one time, with their
// audit records.
func BenchmarkCreateEntry(b *testing.B) {
	for name, config := range configs {
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
