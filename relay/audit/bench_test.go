package audit

import (
	"context"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// BenchmarkSpool is the cost of one record from Record to a sink that takes everything,
// on disk in between.
func BenchmarkSpool(b *testing.B) {
	s, err := New(Config{Dir: b.TempDir(), MaxBytes: 1 << 30, DrainTimeout: time.Minute}, Deps{Sink: SinkFunc(func(context.Context, []manager.AuditRecord) error { return nil })})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	conns := make([]string, 1000)
	for i := range conns {
		conns[i] = connection()
	}
	kinds := []manager.AuditType{manager.AuditAccess, manager.AuditConnected, manager.AuditClosed}
	r := record("", "")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Type, r.ConnectionID = kinds[n%3], conns[n/3%1000]
		s.Record(r)
		n++
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if s.Lost() > 0 || s.Status().Waiting > 0 {
		b.Errorf("%+v", s.Status())
	}
}

func BenchmarkRecord(b *testing.B) {
	s, err := New(Config{Dir: b.TempDir()}, Deps{Sink: SinkFunc(func(context.Context, []manager.AuditRecord) error { return nil })})
	if err != nil {
		b.Fatal(err)
	}
	r := full()
	b.ReportAllocs()
	for b.Loop() {
		s.Record(r)
		if len(s.data) > 1<<20 {
			s.data, s.ends, s.notes = s.data[:0], s.ends[:0], s.notes[:0]
			s.pending.Store(0)
		}
	}
}
