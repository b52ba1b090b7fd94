package outer

import (
	"context"
	"slices"
	"time"

	"github.com/simreach/simreach/manager"
)

const (
	// retryInterval is the pause before entries of a snapshot that could not be
	// opened are tried again: after a restart their ports may still belong to
	// connections that are ending, or descriptors may be short for a moment.
	retryInterval = 500 * time.Millisecond
	// retryBatch bounds how many are tried at one time, so that commands and
	// expiries do not wait for thousands of failures.
	retryBatch = 256
)

// unopened are the entries of the last snapshot that are not open yet. The loop
// owns it.
type unopened struct {
	entries []manager.Opening
	next    time.Time // when to try again
}

// keep takes the failures of a snapshot.
func (u *unopened) keep(all []manager.Opening, failures []manager.OpenFailure, now time.Time) {
	failed := make(map[manager.EntryID]bool, len(failures))
	for _, f := range failures {
		failed[f.EntryID] = true
	}
	u.entries = slices.DeleteFunc(slices.Clone(all), func(o manager.Opening) bool { return !failed[o.EntryID] || !now.Before(o.Expires) })
	u.next = now.Add(retryInterval)
}

// forget drops an entry that the manager closed.
func (u *unopened) forget(id manager.EntryID) {
	u.entries = slices.DeleteFunc(u.entries, func(o manager.Opening) bool { return o.EntryID == id })
}

// retry tries again what is due and returns how long to wait for the next try.
func (l *loop) retry(life context.Context, now time.Time) time.Duration {
	u := &l.unopened
	if len(u.entries) == 0 {
		return time.Hour
	}
	if wait := u.next.Sub(now); wait > 0 {
		return wait
	}
	batch := u.entries[:min(retryBatch, len(u.entries))]
	var still []manager.Opening
	for _, o := range batch {
		if !now.Before(o.Expires) {
			continue
		}
		if err := l.open(life, o); err != nil {
			still = append(still, o)
			continue
		}
		l.log.Info("entry opened after all", "entry", o.EntryID, "address", o.Address)
	}
	u.entries = append(slices.Clone(u.entries[len(batch):]), still...) // the others are next
	u.next = now.Add(retryInterval)
	return retryInterval
}
