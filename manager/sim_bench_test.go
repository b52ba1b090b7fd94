package manager_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

const manySIMs = 100_000

func benchIMSI(i int) ident.IMSI { return ident.IMSI(fmt.Sprintf("00101%010d", i)) }

// Finding out whose a SIM is, listing and searching among 100,000 SIMs, and charging.
func BenchmarkSIMs(b *testing.B) {
	st, err := store.Open(b.Context(), store.Config{Path: filepath.Join(b.TempDir(), "manager.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	at := time.Now().UTC().Truncate(time.Millisecond)
	sims := make([]manager.SIM, manySIMs)
	for i := range sims {
		sims[i] = manager.SIM{
			IMSI: benchIMSI(i), SIMID: fmt.Sprintf("894%016d", i), OperatorID: op1, Status: manager.SIMReady, SpeedClass: manager.DefaultSpeedClass,
			Tags: map[string]string{"name": fmt.Sprintf("device %d", i)}, Created: at, Modified: at,
		}
	}
	start := time.Now()
	if n, err := st.SeedSIMs(b.Context(), sims); err != nil || n != manySIMs {
		b.Fatalf("SeedSIMs = %d, %v", n, err)
	}
	seeded := time.Since(start)
	sims = nil
	r := startOn(b, config(), st)
	for i := range manySIMs { // what is in use is in the cache
		if _, _, err := r.AwaitAttachment(b.Context(), op1, benchIMSI(i), false); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.Run("owner", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if _, _, err := r.AwaitAttachment(b.Context(), op1, benchIMSI(i%manySIMs), false); err != nil {
				b.Fatal(err)
			}
			i += 7919
		}
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MB")
		b.ReportMetric(seeded.Seconds(), "seed-s")
	})
	list := func(name string, q manager.SIMQuery) {
		b.Run(name, func(b *testing.B) {
			q.OperatorID = op1
			for b.Loop() {
				if _, err := r.SIMs(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	list("page", manager.SIMQuery{After: string(benchIMSI(manySIMs / 2)), Limit: 101})
	list("search", manager.SIMQuery{BySIMID: true, Limit: 11, Terms: []manager.SearchTerm{{Field: manager.SearchName, Values: []string{"ce 99999"}}}})
	b.Run("charge", func(b *testing.B) {
		ctx := context.WithoutCancel(b.Context())
		d := sbi.ChargingData{SMF: "smf1", Sequence: 1, Session: 1, DNN: "internet", Started: at}
		refs := make([]sbi.ChargingRef, 64)
		for i := range refs {
			d.SUPI, d.ChargingID = benchIMSI(i).SUPI(), fmt.Sprint("c", i)
			if refs[i], err = r.CreateCharging(ctx, d); err != nil {
				b.Fatal(err)
			}
		}
		var sent atomic.Int64
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				i := int(sent.Add(1) - 1)
				u := sbi.ChargingData{SMF: "smf1", Session: 1, DNN: "internet", Started: at, SUPI: benchIMSI(i % 64).SUPI(), ChargingID: fmt.Sprint("c", i%64), Sequence: uint32(2 + i/64)}
				u.Used = &sbi.UsedUnits{UplinkOctets: 1000, DownlinkOctets: 1000, To: time.Now()}
				if err := r.UpdateCharging(ctx, refs[i%64], u); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
