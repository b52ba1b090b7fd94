package audit

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/simreach/simreach/manager"
)

// maxBatchBytes bounds a batch whatever its number of records.
const maxBatchBytes = 1 << 20

// handOver gives records to the sink, in order, until ctx ends. It signals drained
// whenever nothing waits.
func (w *writer) handOver(ctx context.Context, drained chan<- struct{}) {
	next := uint64(0)
	pause := minPause
	timer := time.NewTimer(0)
	defer timer.Stop()
	warned := false
	for {
		begin := time.Now()
		batch, last, size, recorded, damaged, err := w.batch(next)
		if err == nil && len(batch) > 0 {
			err = w.give(ctx, batch)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if !warned {
				w.Spool.log.Warn("audit records wait; trying again", "records", w.waiting.Load(), "error", err)
				warned = true
			}
			timer.Reset(pause/2 + rand.N(pause/2+1))
			pause = min(2*pause, maxPause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			continue
		}
		if last >= next && last > 0 {
			warned, pause = false, minPause
			next = last + 1
			w.handed.Add(uint64(len(batch)))
			w.damaged.Add(damaged)
			w.pending.Add(-recorded)
			w.waiting.Add(-int64(len(batch)))
			w.acked.Store(last) // before ackBytes: see compact
			w.ackBytes.Add(size)
			signal(w.wake) // there may be something to remove
			if wait := givePause - time.Since(begin); wait > 0 && len(batch) < w.cfg.Batch && w.waiting.Load() > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
			}
			continue
		}
		if w.waiting.Load() == 0 {
			select {
			case drained <- struct{}{}:
			default:
			}
		}
		select {
		case <-w.more:
		case <-ctx.Done():
			return
		}
	}
}

// batch reads records from an index on. last is the index of the last entry that was
// looked at, 0 if there is none; size is theirs, recorded that of records,
// damaged the number of those that could not be read.
func (w *writer) batch(from uint64) (batch []manager.AuditRecord, last uint64, size, recorded int64, damaged uint64, err error) {
	err = w.current().read(from, func(index uint64, b []byte) bool {
		t, r, err := parseEntry(b)
		switch {
		case err != nil:
			damaged++
		case t == tagRecord:
			batch = append(batch, r)
			recorded += int64(len(b))
		}
		size += int64(len(b))
		last = index
		return len(batch) < w.cfg.Batch && size < maxBatchBytes
	})
	return batch, last, size, recorded, damaged, err
}

func (w *writer) give(ctx context.Context, batch []manager.AuditRecord) error {
	ctx, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	return w.sink.AddAudit(ctx, batch)
}
