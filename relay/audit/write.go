package audit

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/simreach/simreach/manager"
)

// writer owns the log of the process's slot.
type writer struct {
	*Spool
	dir  string // of all slots
	slot *slot
	live connections

	mu  sync.Mutex // guards log against its replacement
	log *entryLog
}

func (w *writer) current() *entryLog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log
}

func (w *writer) open() error {
	l, aside, err := openLog(w.slot.dir)
	if aside != "" {
		w.Spool.log.Error("what cannot be read of the audit log was put aside", "path", aside)
	}
	if err != nil {
		return err
	}
	reserve(w.slot.dir)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = l
	return nil
}

// mend makes a log readable that an earlier process left.
func (w *writer) mend(dir string) error {
	aside, err := mend(dir)
	for _, path := range aside {
		w.Spool.log.Error("what cannot be read of the audit log was put aside", "path", path)
	}
	return err
}

// recover reads what an earlier process left in this slot and ends its connections.
func (w *writer) recover() error {
	if err := w.mend(w.slot.dir); err != nil {
		return err
	}
	open, _, err := w.survey(w.log, func(n int64, count int64) { // handing over counts what is damaged
		w.pending.Add(n)
		w.waiting.Add(count)
	})
	if err != nil {
		return err
	}
	return w.end(w.log, open)
}

// survey follows the records of a log and counts those that are to be handed over; damaged
// entries are not.
func (w *writer) survey(l *entryLog, count func(bytes, records int64)) (open connections, damaged uint64, err error) {
	open = connections{}
	err = l.read(0, func(index uint64, b []byte) bool {
		t, r, err := parseEntry(b)
		if err != nil {
			damaged++
			return true
		}
		if t == tagRecord {
			count(int64(len(b)), 1)
		}
		if r.ConnectionID != "" {
			open.note(t, r.Type, keyOf(r.ConnectionID), index)
		}
		return true
	})
	return open, damaged, err
}

// end writes the records that end the connections of a process that is gone. They are
// read from its log and go to ours.
func (w *writer) end(from *entryLog, open connections) error {
	if len(open) == 0 {
		return nil
	}
	now := time.Now()
	var out []manager.AuditRecord
	for _, l := range open.upTo(^uint64(0)) {
		err := from.read(l.index, func(_ uint64, b []byte) bool {
			if _, r, err := parseEntry(b); err == nil {
				out = append(out, endings(r, l.decided, now)...)
			}
			return false
		})
		if err != nil {
			return err
		}
	}
	w.Spool.log.Info("connections of a relay process that is gone were ended in the audit log", "connections", len(open))
	return w.add(out)
}

// add writes records of which Record knows nothing.
func (w *writer) add(rs []manager.AuditRecord) error {
	var data []byte
	var ends []int
	for i := range rs {
		data = appendEntry(data, tagRecord, &rs[i])
		ends = append(ends, len(data))
	}
	if len(ends) == 0 {
		return nil
	}
	if _, err := w.log.append(data, ends); err != nil {
		return err
	}
	w.pending.Add(int64(len(data)))
	w.waiting.Add(int64(len(rs)))
	w.dirty.Store(true)
	signal(w.more)
	return nil
}

// takeOver moves what is in the slots of processes that are gone into our log.
func (w *writer) takeOver() error {
	left, err := leftSlots(w.dir, w.slot.n)
	for _, other := range left {
		if err == nil {
			err = w.takeOverSlot(other)
		}
		err = errors.Join(err, other.release())
	}
	return err
}

func (w *writer) takeOverSlot(other *slot) error {
	l, aside, err := openLog(other.dir)
	if aside != "" {
		w.Spool.log.Error("what cannot be read of the audit log was put aside", "path", aside)
	}
	if err != nil {
		return err
	}
	if err := w.mend(other.dir); err != nil {
		return errors.Join(err, l.close())
	}
	var batch []manager.AuditRecord
	var full error
	err = l.read(0, func(_ uint64, b []byte) bool {
		if t, r, err := parseEntry(b); err == nil && t == tagRecord {
			batch = append(batch, r)
		}
		if len(batch) == w.cfg.Batch {
			full = w.add(batch)
			batch = batch[:0]
		}
		return full == nil
	})
	if err = errors.Join(err, full); err == nil {
		err = w.add(batch)
	}
	var open connections
	var damaged uint64
	if err == nil {
		open, damaged, err = w.survey(l, func(int64, int64) {})
	}
	if err == nil {
		err = w.end(l, open)
	}
	if err == nil {
		err = w.log.sync() // before the only other copy goes
	}
	err = errors.Join(err, l.close())
	if err == nil {
		w.damaged.Add(damaged)
		err = os.RemoveAll(other.dir)
	}
	return err
}

// run writes, syncs and hands over until ctx ends and what there is has been done, or
// DrainTimeout is over.
func (w *writer) run(ctx context.Context) {
	drain, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(w.cfg.DrainTimeout, cancel)
		context.AfterFunc(drain, func() { timer.Stop() })
	})
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	drained := make(chan struct{}, 1) // everything has been handed over
	wg.Go(func() { w.handOver(drain, drained) })
	wg.Go(func() { w.syncLoop(drain) })
	look := time.NewTicker(w.look)
	defer look.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	soon := time.NewTimer(time.Hour)
	defer soon.Stop()
	var last time.Time // of the last write that a record asked for
	ended := ctx.Done()
	for {
		select {
		case <-w.wake:
			if wait := writePause - time.Since(last); wait > 0 && ctx.Err() == nil {
				soon.Reset(wait)
				continue
			}
			last = time.Now()
		case <-soon.C:
			last = time.Now()
		case <-retry.C:
		case <-look.C:
			if err := w.takeOver(); err != nil {
				w.Spool.log.Error("the audit log of a process that is gone was not taken over", "error", err)
			}
		case <-drained:
		case <-ended:
			ended = nil
		case <-drain.Done():
			w.write() // what came last; it stays for the next process
			return
		}
		written := w.write()
		w.compact(ctx.Err() != nil) // a full disk has room then
		if !written {
			retry.Reset(diskPause)
			continue
		}
		if ctx.Err() != nil && w.waiting.Load() == 0 {
			return
		}
	}
}

// write writes what Record took; false if the disk fails.
func (w *writer) write() bool {
	w.Spool.mu.Lock()
	data, ends, notes := w.data, w.ends, w.notes
	w.Spool.mu.Unlock()
	if len(ends) == 0 {
		return true
	}
	l := w.current()
	first, err := l.append(data, ends)
	if err != nil {
		w.diskFailed(l, err)
		return false
	}
	if w.failing.Swap(false) {
		w.Spool.log.Info("audit records are written again")
	}
	for i, n := range notes {
		if n.key != (connKey{}) {
			w.live.note(tagRecord, n.kind, n.key, first+uint64(i))
		}
	}
	w.Spool.live.Store(int64(len(w.live)))
	w.Spool.mu.Lock()
	if len(w.ends) == len(ends) {
		w.data, w.ends, w.notes = keep(data), ends[:0], notes[:0]
	} else { // records came meanwhile
		at := ends[len(ends)-1]
		rest := append([]int(nil), w.ends[len(ends):]...)
		for i := range rest {
			rest[i] -= at
		}
		w.data, w.ends, w.notes = append([]byte(nil), w.data[at:]...), rest, append([]note(nil), w.notes[len(notes):]...)
		signal(w.wake)
	}
	w.Spool.mu.Unlock()
	w.dirty.Store(true)
	signal(w.more)
	return true
}

// keep returns b's memory for reuse, unless a burst has made it large.
func keep(b []byte) []byte {
	if cap(b) > 1<<20 {
		return nil
	}
	return b[:0]
}

// diskFailed opens the log again: after an error the library's view and the file differ.
// Entries that were written before the error are then read as such, and those that
// follow are written again: the manager keeps one of each.
func (w *writer) diskFailed(l *entryLog, err error) {
	if !w.failing.Swap(true) {
		w.Spool.log.Error("audit records cannot be written; trying again", "error", err)
	}
	before := l.last
	_ = l.close() // it has failed already
	err = w.open()
	if err == nil { // of what will be written again, a part may be there
		err = w.current().read(before+1, func(_ uint64, b []byte) bool {
			if t, _, err := parseEntry(b); err == nil && t == tagRecord {
				w.pending.Add(int64(len(b)))
				w.waiting.Add(1)
			}
			return true
		})
	}
	if err != nil {
		w.Spool.log.Debug("audit log not opened again", "error", err)
	}
}

// compact removes what has been handed over, if that is much, the disk takes no more or the
// process ends. Connections that live on are written again first.
func (w *writer) compact(ending bool) {
	least := int64(compactBytes) + 512*int64(len(w.live))
	failing := w.failing.Load() // the disk may be full: there is room for no more than the living
	if failing && w.acked.Load() < w.current().last {
		return
	}
	if failing || ending && w.waiting.Load() == 0 {
		least = 1
	}
	if w.ackBytes.Load() < least {
		return
	}
	// More may be handed over between these two: then a little is counted that has been
	// removed, which the next time corrects.
	size := w.ackBytes.Load()
	acked := w.acked.Load()
	l := w.current()
	keep := w.live.upTo(acked)
	var data []byte
	var ends []int
	var keys []connKey
	for _, c := range keep {
		err := l.read(c.index, func(_ uint64, b []byte) bool {
			_, r, err := parseEntry(b)
			if err != nil {
				w.damaged.Add(1)
				return false
			}
			t := tagBegun
			if c.decided {
				t = tagDecided
			}
			data = appendEntry(data, t, &r)
			ends, keys = append(ends, len(data)), append(keys, keyOf(r.ConnectionID))
			return false
		})
		if err != nil {
			w.diskFailed(l, err)
			return
		}
	}
	if failing {
		_ = os.Remove(reserved(w.slot.dir)) // it may be gone
		defer reserve(w.slot.dir)
	}
	if len(ends) > 0 {
		first, err := l.append(data, ends)
		if err == nil {
			err = l.sync()
		}
		if err != nil {
			w.diskFailed(l, err)
			return
		}
		for i, k := range keys {
			c := w.live[k]
			c.index = first + uint64(i)
			w.live[k] = c
		}
		signal(w.more) // so that they are passed over
	}
	if err := l.dropTo(acked); err != nil {
		w.diskFailed(l, err)
		return
	}
	w.ackBytes.Add(-size)
}

func (w *writer) syncLoop(ctx context.Context) {
	tick := time.NewTicker(w.cfg.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if w.dirty.Swap(false) {
			if err := w.current().sync(); err != nil {
				w.dirty.Store(true)
				w.Spool.log.Debug("audit log not synced", "error", err)
			}
		}
	}
}
