package store_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
)

// BenchmarkAddAudit adds batches of 1000 to a SQLite file, each durable when it returns.
func BenchmarkAddAudit(b *testing.B) {
	s, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "m.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	n := 0
	for b.Loop() {
		batch := make([]manager.AuditRecord, 1000)
		for i := range batch {
			n++
			batch[i] = manager.AuditRecord{
				ID: fmt.Sprintf("01M%023d", n), Type: manager.AuditClosed, At: time.Now(), OperatorID: "OP0000000001", EntryID: "01J0000000000000000000000A",
				ConnectionID: fmt.Sprintf("01C%023d", n), IMSI: "001010000000001", RelayID: "outer1", Source: netip.MustParseAddrPort("198.51.100.1:5555"),
				Destination: netip.MustParseAddrPort("10.60.0.1:22"), DevicePort: 22,
			}
		}
		if err := s.AddAudit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
