package sbi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Forwarder carries equipment events from whoever sees them to a receiver that may be
// slow or away, in order. An event goes out again until the receiver takes it or refuses
// it for good.
type Forwarder struct {
	to    EquipmentEvents
	log   *slog.Logger
	ready chan struct{}
	wake  chan struct{} // room for one

	mu    sync.Mutex // guards the rest
	queue []EquipmentEvent
	count ForwarderStatus
}

// ForwarderStatus is a copy of a Forwarder's state.
type ForwarderStatus struct {
	Waiting   int
	Delivered uint64
	Failures  uint64 // attempts that failed
	Dropped   uint64 // events for which there was no room, or that the receiver refused (4xx)
}

// Limits of a Forwarder.
const (
	maxForwarded     = 4096
	forwardRetryMost = 5 * time.Second
)

// NewForwarder returns a Forwarder to a receiver; log may be nil. Errors wrap ErrConfig.
func NewForwarder(to EquipmentEvents, log *slog.Logger) (*Forwarder, error) {
	if to == nil {
		return nil, fmt.Errorf("%w: a Forwarder needs a receiver", ErrConfig)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{to: to, log: log, ready: make(chan struct{}), wake: make(chan struct{}, 1)}, nil
}

// Forward queues an event and returns at once. With 4096 events waiting it is dropped and
// counted. What waits when Run ends is lost.
func (f *Forwarder) Forward(e EquipmentEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) >= maxForwarded {
		f.count.Dropped++
		return
	}
	f.queue = append(f.queue, e)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Ready is closed once Run runs.
func (f *Forwarder) Ready() <-chan struct{} { return f.ready }

// Status returns a copy of the state.
func (f *Forwarder) Status() ForwarderStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.count
	s.Waiting = len(f.queue)
	return s
}

// Run delivers until ctx ends, then returns nil. It may be called once.
func (f *Forwarder) Run(ctx context.Context) error {
	close(f.ready)
	delay := retryFirst
	for {
		f.mu.Lock()
		var next *EquipmentEvent
		if len(f.queue) > 0 {
			next = &f.queue[0]
		}
		f.mu.Unlock()
		if next == nil {
			select {
			case <-f.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := f.to.EquipmentEvent(ctx, *next)
		var p *Problem
		refused := errors.As(err, &p) && p.Status/100 == 4 // it will not do better next time
		f.mu.Lock()
		switch {
		case err == nil:
			f.count.Delivered++
		case refused:
			f.count.Dropped++
		default:
			f.count.Failures++
		}
		if err == nil || refused {
			f.queue = f.queue[1:]
		}
		f.mu.Unlock()
		if refused {
			f.log.Warn("equipment event refused", "supi", next.SUPI, "error", err)
		}
		if err == nil || refused {
			delay = retryFirst
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if delay == retryFirst {
			f.log.Warn("equipment event not delivered yet", "supi", next.SUPI, "error", err)
		}
		wait(ctx, delay)
		delay = min(2*delay, forwardRetryMost)
	}
}
