package smf

import (
	"context"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// sessionKey names a PDU session of a UE.
type sessionKey struct {
	supi ident.SUPI
	id   ident.PDUSessionID
}

// directory is the list of sessions that can be reached, and who wants to know of
// changes (TS 29.508 clause 4.2). A session keeps its address for life, so PDU_SES_EST
// and PDU_SES_REL tell everything; UE_IP_CH comes only where several changes are told
// as one, to a subscriber that had fallen behind. Publishing never blocks: each subscriber has a
// bounded queue, and one that overflows is brought up to date later with the
// difference between what it was told and what is true then.
type directory struct {
	limit int
	now   func() time.Time

	mu      sync.Mutex // guards what follows
	entries map[sessionKey]entry
	subs    map[*subscriber]struct{}
	resyncs uint64
}

// entry is a session with the owner that may take it off the list: a successor
// under the same key is not the owner's to remove.
type entry struct {
	owner any
	event sbi.SessionEvent
}

type subscriber struct {
	inbox chan struct{} // a token while there is something to deliver

	// guarded by directory.mu
	queue    []sbi.SessionEvent
	overflow bool

	told map[sessionKey]sbi.SessionEvent // owned by the delivering goroutine
}

func newDirectory(limit int, now func() time.Time) *directory {
	return &directory{limit: limit, now: now, entries: map[sessionKey]entry{}, subs: map[*subscriber]struct{}{}}
}

func keyOf(e sbi.SessionEvent) sessionKey { return sessionKey{e.SUPI, e.Session} }

// established puts a session on the list.
func (d *directory) established(owner any, e sbi.SessionEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.Type, e.At = sbi.SessionEstablished, d.now()
	old, known := d.entries[keyOf(e)]
	d.entries[keyOf(e)] = entry{owner, e}
	if !known {
		d.publish(e)
		return
	}
	for _, ev := range difference(old.event, e) {
		d.publish(ev)
	}
}

// difference is what to tell somebody who believes in old when now is true.
func difference(old, now sbi.SessionEvent) []sbi.SessionEvent {
	same := old
	same.Type, same.At = now.Type, now.At
	if same == now {
		return nil
	}
	same.Address = now.Address
	if same == now {
		now.Type = sbi.AddressChanged
		return []sbi.SessionEvent{now}
	}
	old.Type, old.At = sbi.SessionReleased, now.At
	now.Type = sbi.SessionEstablished
	return []sbi.SessionEvent{old, now}
}

// released takes a session of owner off the list.
func (d *directory) released(owner any, key sessionKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.entries[key]
	if !ok || e.owner != owner {
		return
	}
	delete(d.entries, key)
	e.event.Type, e.event.At = sbi.SessionReleased, d.now()
	d.publish(e.event)
}

// publish needs mu.
func (d *directory) publish(e sbi.SessionEvent) {
	for s := range d.subs {
		if s.overflow {
			continue
		}
		if len(s.queue) >= d.limit {
			s.queue, s.overflow = nil, true
			d.resyncs++
		} else {
			s.queue = append(s.queue, e)
		}
		s.wake()
	}
}

func (s *subscriber) wake() {
	select {
	case s.inbox <- struct{}{}:
	default:
	}
}

// subscribe registers a subscriber. Without immediate it believes that it knows
// the present sessions.
func (d *directory) subscribe(immediate bool) *subscriber {
	s := &subscriber{inbox: make(chan struct{}, 1), told: map[sessionKey]sbi.SessionEvent{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, e := range d.entries {
		if immediate {
			s.queue = append(s.queue, e.event)
		} else {
			s.told[k] = e.event
		}
	}
	d.subs[s] = struct{}{}
	s.wake()
	return s
}

func (d *directory) unsubscribe(s *subscriber) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.subs, s)
	s.queue = nil
}

// take empties the queue of s, or replaces it after an overflow.
func (d *directory) take(s *subscriber) []sbi.SessionEvent {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.overflow {
		q := s.queue
		s.queue = nil
		return q
	}
	s.overflow = false
	var out []sbi.SessionEvent
	for k, told := range s.told {
		if _, ok := d.entries[k]; !ok {
			told.Type, told.At = sbi.SessionReleased, d.now()
			out = append(out, told)
		}
	}
	for k, e := range d.entries {
		if told, ok := s.told[k]; ok {
			out = append(out, difference(told, e.event)...)
		} else {
			out = append(out, e.event)
		}
	}
	return out
}

// deliver calls notify until ctx ends or cancelled is closed, and reported after
// what there was to tell at first.
func (d *directory) deliver(ctx context.Context, s *subscriber, cancelled <-chan struct{}, notify func(sbi.SessionEvent), reported func()) {
	defer d.unsubscribe(s)
	for {
		select {
		case <-ctx.Done():
			return
		case <-cancelled:
			return
		case <-s.inbox:
		}
		for _, e := range d.take(s) {
			select {
			case <-cancelled:
				return
			default:
			}
			if e.Type == sbi.SessionReleased {
				delete(s.told, keyOf(e))
			} else {
				told := e
				told.Type = sbi.SessionEstablished
				s.told[keyOf(e)] = told
			}
			notify(e)
		}
		if reported != nil {
			reported()
			reported = nil
		}
	}
}

// Subscribe implements sbi.SessionEvents. A subscriber that falls more than
// Config.EventQueue events behind gets, instead of those events, the difference
// between the last event it was given and the present sessions: it may miss a
// session that came and went, but never ends up wrong. It fails with ErrStopped
// after Run has ended, and waits for Run to begin.
func (a *SMF) Subscribe(ctx context.Context, sub sbi.EventSubscription, notify func(sbi.SessionEvent)) (func(), error) {
	s := a.directory.subscribe(sub.ImmediateReport)
	cancelled := make(chan struct{})
	reported := sub.Reported
	if !sub.ImmediateReport {
		reported = nil
	}
	err := a.spawn(ctx, func(ctx context.Context) { a.directory.deliver(ctx, s, cancelled, notify, reported) })
	if err != nil {
		a.directory.unsubscribe(s)
		return nil, err
	}
	return sync.OnceFunc(func() { close(cancelled) }), nil
}
