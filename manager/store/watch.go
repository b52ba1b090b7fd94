package store

import (
	"context"
	"sync"

	"github.com/simreach/simreach/manager"
)

// watchQueue is how many changes may wait for one who watches. Who falls further
// behind is told to read everything again.
const watchQueue = 8192

// watchers hands changes to those who watch in this process.
type watchers struct {
	mu  sync.Mutex // guards all and what is in them
	all map[*watcher]struct{}
}

type watcher struct {
	waiting []manager.Change
	lost    bool
	wake    chan struct{} // capacity 1
}

// deliver hands changes to all, and never waits.
func (w *watchers) deliver(changes []manager.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		if len(one.waiting)+len(changes) > watchQueue {
			one.waiting, one.lost = nil, true
		} else {
			one.waiting = append(one.waiting, changes...)
		}
		select {
		case one.wake <- struct{}{}:
		default:
		}
	}
}

// watch calls f with changes until ctx ends.
func (w *watchers) watch(ctx context.Context, f func(manager.Change)) error {
	one := &watcher{wake: make(chan struct{}, 1)}
	w.mu.Lock()
	if w.all == nil {
		w.all = map[*watcher]struct{}{}
	}
	w.all[one] = struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.all, one)
		w.mu.Unlock()
	}()
	f(manager.Change{Kind: manager.ChangeResync})
	for {
		select {
		case <-one.wake:
		case <-ctx.Done():
			return nil
		}
		w.mu.Lock()
		changes, lost := one.waiting, one.lost
		one.waiting, one.lost = nil, false
		w.mu.Unlock()
		if lost {
			f(manager.Change{Kind: manager.ChangeResync})
		}
		for _, c := range changes {
			f(c)
		}
	}
}
