package sbi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Defaults of EventLimits.
const (
	DefaultEventQueue    = 65536
	DefaultDropAfter     = 30 * time.Second
	DefaultSnapshotWait  = 2 * time.Second
	DefaultSubscriptions = 64

	notifyBatch = 500 // events of one notification, about 200 kB
)

// EventLimits bounds the subscriptions that a Handler keeps; the zero value means
// the defaults.
type EventLimits struct {
	// Queue is how many events may wait for one subscriber. One that is further
	// behind loses its subscription, and takes a new one when it finds out.
	Queue int `yaml:"queue"`
	// DropAfter is how long notifications may fail before the subscription ends.
	DropAfter time.Duration `yaml:"drop_after"`
	// SnapshotWait is how long immediate reports may take (see
	// EventSubscription.Reported).
	SnapshotWait time.Duration `yaml:"snapshot_wait"`
	// Subscriptions is how many there may be.
	Subscriptions int `yaml:"subscriptions"`
}

func (l EventLimits) withDefaults() EventLimits {
	if l.Queue <= 0 {
		l.Queue = DefaultEventQueue
	}
	if l.DropAfter <= 0 {
		l.DropAfter = DefaultDropAfter
	}
	if l.SnapshotWait <= 0 {
		l.SnapshotWait = DefaultSnapshotWait
	}
	if l.Subscriptions <= 0 {
		l.Subscriptions = DefaultSubscriptions
	}
	return l
}

// publisher serves Nsmf_EventExposure on top of a SessionEvents. It owns one
// goroutine for each subscription, until close.
type publisher struct {
	events SessionEvents
	limits EventLimits
	log    *slog.Logger
	http   *http.Client
	wg     sync.WaitGroup

	mu     sync.Mutex // guards the rest
	closed bool
	subs   map[string]*subscription
}

// subscription is one subscriber. Its goroutine is deliver.
type subscription struct {
	doc    eventExposure // as answered, without notifications; Expiry guarded by publisher.mu
	wanted map[EventType]bool
	stop   context.CancelFunc
	end    func() // of the SessionEvents subscription
	wake   chan struct{}

	mu       sync.Mutex // guards the rest
	queue    []SessionEvent
	limit    int // 0 while the snapshot comes in
	overflow bool
}

func newPublisher(e SessionEvents, l EventLimits, log *slog.Logger) *publisher {
	return &publisher{
		events: e, limits: l.withDefaults(), log: log, subs: make(map[string]*subscription),
		http: &http.Client{Transport: newTransport(), CheckRedirect: noRedirect, Timeout: DefaultTimeout},
	}
}

func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.subs {
		s.stop()
	}
	p.mu.Unlock()
	p.wg.Wait()
	p.http.CloseIdleConnections()
}

func (p *publisher) routes() []route {
	const one = pathEvents + "/{id}"
	return []route{
		{http.MethodPost, pathEvents, p.create},
		{http.MethodGet, one, func(_ context.Context, in *incoming) (*answer, error) { return p.show(in.PathValue("id")) }},
		{http.MethodPut, one, p.update},
		{http.MethodDelete, one, func(_ context.Context, in *incoming) (*answer, error) { return nil, p.remove(in.PathValue("id")) }},
	}
}

// create answers POST: it subscribes, waits for the immediate reports, and puts
// them into the answer.
func (p *publisher) create(ctx context.Context, in *incoming) (*answer, error) {
	var doc eventExposure
	if err := in.into(&doc); err != nil {
		return nil, err
	}
	wanted, err := doc.check()
	if err != nil {
		return nil, invalidIE(err)
	}
	doc.SubID, doc.Notifs, doc.Method = rand.Text(), nil, methodOnEvent
	s := &subscription{doc: doc, wanted: wanted, wake: make(chan struct{}, 1)}

	// The subscription outlives the request that made it.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if err := p.admit(s); err != nil {
		stop()
		return nil, err
	}
	reported := make(chan struct{})
	s.end, err = p.events.Subscribe(ctx, EventSubscription{
		ImmediateReport: doc.Immediate,
		Reported:        sync.OnceFunc(func() { close(reported) }),
	}, s.offer)
	if err != nil {
		p.forget(s)
		return nil, err
	}
	if doc.Immediate {
		if err := p.awaitSnapshot(ctx, reported); err != nil {
			s.end()
			p.forget(s)
			return nil, err
		}
	}
	snapshot := s.settle(p.limits.Queue)
	p.start(life, s)
	out := s.doc
	out.Notifs = toNotifications(snapshot)
	return &answer{status: http.StatusCreated, location: pathEvents + "/" + doc.SubID, doc: out}, nil
}

func (p *publisher) awaitSnapshot(ctx context.Context, reported <-chan struct{}) error {
	t := time.NewTimer(p.limits.SnapshotWait)
	defer t.Stop()
	select {
	case <-reported:
	case <-t.C: // the implementation does not say: what has come is what there is
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// admit makes room for s in the table.
func (p *publisher) admit(s *subscription) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return &Problem{Status: http.StatusServiceUnavailable, Cause: CauseSystemFailure, Detail: "shutting down"}
	case len(p.subs) >= p.limits.Subscriptions:
		return &Problem{Status: http.StatusServiceUnavailable, Cause: CauseInsufficientResources, Detail: fmt.Sprintf("there are %d subscriptions already", len(p.subs))}
	}
	p.subs[s.doc.SubID] = s
	p.wg.Add(1) // its goroutine's, or create's until there is one
	return nil
}

// forget undoes admit.
func (p *publisher) forget(s *subscription) {
	s.stop()
	p.mu.Lock()
	delete(p.subs, s.doc.SubID)
	p.mu.Unlock()
	p.wg.Done()
}

func (p *publisher) start(ctx context.Context, s *subscription) {
	go func() {
		defer p.forget(s)
		err := p.deliver(ctx, s)
		s.end()
		if err != nil {
			p.log.Warn("event subscription dropped", "nf", "smf", "notify", s.doc.NotifURI, "error", err)
		}
	}()
}

func (p *publisher) show(id string) (*answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.subs[id]
	if !ok {
		return nil, noSubscription(id)
	}
	return &answer{doc: s.doc}, nil
}

// update answers PUT, which changes the expiry and nothing else.
func (p *publisher) update(_ context.Context, in *incoming) (*answer, error) {
	var doc eventExposure
	if err := in.into(&doc); err != nil {
		return nil, err
	}
	id := in.PathValue("id")
	p.mu.Lock()
	s, ok := p.subs[id]
	if ok && doc.NotifID == s.doc.NotifID && doc.NotifURI == s.doc.NotifURI {
		s.doc.Expiry = doc.Expiry
		s.signal()
	}
	p.mu.Unlock()
	if !ok {
		return nil, noSubscription(id)
	}
	return p.show(id)
}

func (p *publisher) remove(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.subs[id]
	if !ok {
		return noSubscription(id)
	}
	s.stop()
	delete(p.subs, id)
	return nil
}

func noSubscription(id string) *Problem {
	return &Problem{Status: http.StatusNotFound, Cause: CauseSubscriptionNotFound, Detail: fmt.Sprintf("no subscription %.60q", id)}
}

// offer is the notify of SessionEvents: it never blocks.
func (s *subscription) offer(e SessionEvent) {
	if !s.wanted[e.Type] {
		return
	}
	s.mu.Lock()
	if s.limit > 0 && len(s.queue) >= s.limit {
		s.overflow = true
		s.stop() // also out of a notification that hangs
	} else {
		s.queue = append(s.queue, e)
	}
	s.mu.Unlock()
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// settle takes the snapshot and bounds the queue from here on.
func (s *subscription) settle(limit int) []SessionEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.queue
	s.queue, s.limit = nil, limit
	return out
}

// batch returns the events to send next, without removing them.
func (s *subscription) batch() (events []SessionEvent, overflow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue[:min(len(s.queue), notifyBatch)], s.overflow
}

// sent removes n events.
func (s *subscription) sent(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.queue[:n])
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
}

var (
	errOverflow   = errors.New("more events wait than its queue holds")
	errExpired    = errors.New("expired")
	errNotWelcome = errors.New("the subscriber does not know it")
)

// deliver notifies in order, one request at a time, until the subscription ends:
// nil when it was removed, else the reason.
func (p *publisher) deliver(ctx context.Context, s *subscription) error {
	for {
		events, overflow := s.batch()
		switch {
		case overflow:
			return errOverflow
		case len(events) > 0:
			if err := p.insist(ctx, s, events); ctx.Err() == nil && err != nil {
				return err
			}
			if ctx.Err() == nil {
				s.sent(len(events))
				continue
			}
		}
		expiry, left := p.expiry(s)
		if left <= 0 {
			return errExpired
		}
		select {
		case <-s.wake:
		case <-expiry:
		case <-ctx.Done():
			if _, overflow := s.batch(); overflow {
				return errOverflow
			}
			return nil
		}
	}
}

// expiry returns a channel that fires when s may have expired, and how long that is
// off. Without an expiry it never fires.
func (p *publisher) expiry(s *subscription) (<-chan time.Time, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.doc.Expiry == nil {
		return nil, 1
	}
	left := time.Until(*s.doc.Expiry)
	return time.After(left), left
}

// insist sends one notification until it is accepted, at most DropAfter long.
func (p *publisher) insist(ctx context.Context, s *subscription, events []SessionEvent) error {
	body, err := json.Marshal(eventReport{NotifID: s.doc.NotifID, Notifs: toNotifications(events)})
	if err != nil {
		return fmt.Errorf("encode notification: %w", err)
	}
	give := time.Now().Add(p.limits.DropAfter)
	delay := retryFirst
	for {
		err := p.notify(ctx, s.doc.NotifURI, body)
		if err == nil || errors.Is(err, errNotWelcome) {
			return err
		}
		if time.Now().Add(delay).After(give) {
			return fmt.Errorf("undeliverable for %s: %w", p.limits.DropAfter, err)
		}
		if !wait(ctx, delay) {
			return ctx.Err()
		}
		delay = min(2*delay, 2*time.Second)
	}
}

func (p *publisher) notify(ctx context.Context, uri string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", typeJSON)
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests:
		return fmt.Errorf("%w: it answered %s", errNotWelcome, resp.Status)
	}
	return fmt.Errorf("the subscriber answered %s", resp.Status)
}
