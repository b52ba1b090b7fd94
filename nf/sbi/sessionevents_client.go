package sbi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Defaults of EventsConfig.
const (
	DefaultEventExpiry  = time.Minute
	DefaultEventRefresh = time.Second
)

// pathNotify is where an EventsClient receives notifications.
const pathNotify = "/simreach-callback/v1/session-events"

var _ SessionEvents = (*EventsClient)(nil)

// EventsConfig is an EventsClient's configuration.
type EventsConfig struct {
	// SMF is the base URL of the SMF's services, "http://host:port". Required.
	SMF string `yaml:"smf"`
	// NotifyURL is the base URL at which the SMF reaches the listener. Empty means
	// the listener's address.
	NotifyURL string `yaml:"notify_url"`
	// Expiry is for how long a subscription is asked for. Zero means
	// DefaultEventExpiry.
	Expiry time.Duration `yaml:"expiry"`
	// Refresh is how often it is prolonged, which is also how soon a restart of the
	// SMF is noticed. Zero means DefaultEventRefresh.
	Refresh time.Duration `yaml:"refresh"`
	// Queue is how many events may wait for the subscriber's function; beyond it the
	// SMF is asked to keep them. Zero means DefaultEventQueue.
	Queue int `yaml:"queue"`
}

// Validate reports what is wrong with c; errors wrap ErrConfig.
func (c EventsConfig) Validate() error {
	if _, err := checkURL("smf", c.SMF); err != nil {
		return err
	}
	if c.NotifyURL != "" {
		if _, err := checkURL("notify_url", c.NotifyURL); err != nil {
			return err
		}
	}
	switch {
	case c.Expiry < 0 || c.Refresh < 0 || c.Queue < 0:
		return fmt.Errorf("%w: expiry, refresh and queue: want positive values, or 0 for the defaults", ErrConfig)
	case c.Expiry != 0 && c.Refresh != 0 && c.Expiry < 2*c.Refresh:
		return fmt.Errorf("%w: expiry: %s: want at least twice refresh, which is %s", ErrConfig, c.Expiry, c.Refresh)
	}
	return nil
}

// EventsDeps is what an EventsClient needs from outside.
type EventsDeps struct {
	Log      *slog.Logger // nil discards
	Listener net.Listener // receives the notifications; Run closes it
}

// EventsClient subscribes to the session events of an SMF in another process. It
// keeps its subscriptions through restarts of the SMF and breaks of the network:
// when one is lost it takes a new one, and with ImmediateReport it compares what
// the SMF has then with what it told before, so that its subscriber hears of every
// session that came, moved or went in between (a session that went is reported as
// PDU_SES_REL, dated now).
type EventsClient struct {
	cfg    EventsConfig
	deps   EventsDeps
	log    *slog.Logger
	client *Client
	ready  chan struct{}
	done   chan struct{} // closed when Run has returned
	join   chan *follower

	mu        sync.Mutex // guards the rest
	terms     map[string]*term
	connected int
	followers int
	count     EventsCounters
	lastError string
}

// EventsStatus is a copy of an EventsClient's state.
type EventsStatus struct {
	Subscribers int
	Connected   int    // of them, those with a subscription at the SMF
	LastError   string // of the last attempt that failed; empty if none did
	Counters    EventsCounters
}

// EventsCounters count from New on.
type EventsCounters struct {
	Events        uint64 // passed to subscribers
	Subscriptions uint64 // taken, again or for the first time
	Refused       uint64 // notifications that belong to no subscription or are malformed
}

// NewEventsClient checks its arguments; it opens nothing. Errors wrap ErrConfig.
func NewEventsClient(cfg EventsConfig, d EventsDeps) (*EventsClient, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Listener == nil {
		return nil, fmt.Errorf("%w: an EventsClient needs a Listener", ErrConfig)
	}
	if cfg.NotifyURL == "" {
		cfg.NotifyURL = "http://" + d.Listener.Addr().String()
	}
	if cfg.Expiry == 0 {
		cfg.Expiry = max(DefaultEventExpiry, 2*cfg.Refresh)
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = min(DefaultEventRefresh, cfg.Expiry/2)
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultEventQueue
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	client, err := NewClient(cfg.SMF, ClientOptions{RetryFor: -1})
	if err != nil {
		return nil, err
	}
	return &EventsClient{
		cfg: cfg, deps: d, log: d.Log, client: client,
		ready: make(chan struct{}), done: make(chan struct{}), join: make(chan *follower), terms: make(map[string]*term),
	}, nil
}

// Ready is closed when notifications are accepted and Subscribe does not wait.
func (c *EventsClient) Ready() <-chan struct{} { return c.ready }

// Status returns a copy of the state.
func (c *EventsClient) Status() EventsStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return EventsStatus{Subscribers: c.followers, Connected: c.connected, LastError: c.lastError, Counters: c.count}
}

// Run receives notifications and keeps the subscriptions until ctx ends; it joins
// all goroutines. It may be called once.
func (c *EventsClient) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer close(c.done)
	defer c.client.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathNotify, c.receive)
	served := make(chan error, 1)
	// The server ends after the followers, which unsubscribe first; a notification
	// on its way then is refused.
	wg.Go(func() { served <- serve(ctx, c.deps.Listener, mux, DefaultDrain, c.log) })
	close(c.ready)
	for {
		select {
		case f := <-c.join:
			wg.Go(func() { c.follow(ctx, f) })
		case err := <-served:
			return err
		}
	}
}

// follower is one Subscribe.
type follower struct {
	sub    EventSubscription
	notify func(SessionEvent)
	stop   chan struct{}
	first  chan error // outcome of the first attempt; room for one
	known  map[eventKey]SessionEvent
}

// Subscribe implements SessionEvents. It waits for Run to run. An SMF that cannot
// be reached is no error: the subscription is taken when it can be. One that
// refuses gives its Problem; after Run there is ErrStopped. After cancel, notify is called at most once more.
func (c *EventsClient) Subscribe(ctx context.Context, s EventSubscription, notify func(SessionEvent)) (cancel func(), err error) {
	f := &follower{
		sub: s, notify: notify, stop: make(chan struct{}), first: make(chan error, 1),
		known: make(map[eventKey]SessionEvent),
	}
	stop := sync.OnceFunc(func() { close(f.stop) })
	select {
	case c.join <- f:
	case <-c.done:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case err := <-f.first:
		if err != nil {
			return nil, err
		}
		return stop, nil
	case <-c.done:
		return nil, ErrStopped
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

// term is one subscription at the SMF; a follower has several in its life. Its
// notifId tells late notifications of an earlier term apart.
type term struct {
	id      string // notifId
	wake    chan struct{}
	queue   []SessionEvent // guarded by EventsClient.mu
	subID   string
	counted bool
}

// follow keeps a follower subscribed. It is the only goroutine that calls notify.
func (c *EventsClient) follow(ctx context.Context, f *follower) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-f.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	c.update(func() { c.followers++ })
	defer c.update(func() { c.followers-- })

	delay := retryFirst
	for first := true; ctx.Err() == nil; first = false {
		t := c.open()
		snapshot, err := c.subscribe(ctx, f, t)
		if first {
			var problem *Problem
			if errors.As(err, &problem) && problem.Status/100 == 4 {
				c.shut(t)
				f.first <- err
				return
			}
			f.first <- nil
		}
		if err != nil {
			c.shut(t)
			c.update(func() { c.lastError = err.Error() })
			wait(ctx, delay)
			delay = min(2*delay, retryMost)
			continue
		}
		delay = retryFirst
		c.compare(ctx, f, snapshot)
		c.pump(ctx, f, t)
		c.unsubscribe(ctx, t)
		c.shut(t)
	}
}

func (c *EventsClient) update(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
}

func (c *EventsClient) open() *term {
	t := &term{id: rand.Text(), wake: make(chan struct{}, 1)}
	c.update(func() { c.terms[t.id] = t })
	return t
}

func (c *EventsClient) shut(t *term) {
	c.update(func() {
		delete(c.terms, t.id)
		if t.counted {
			c.connected--
			t.counted = false
		}
	})
}

func (c *EventsClient) exposure(t *term, immediate bool) eventExposure {
	expiry := time.Now().Add(c.cfg.Expiry).UTC()
	doc := eventExposure{
		AnyUE: true, SubID: t.subID, NotifID: t.id, NotifURI: c.cfg.NotifyURL + pathNotify,
		Immediate: immediate, Method: methodOnEvent, Expiry: &expiry,
	}
	for _, e := range allEvents {
		doc.Events = append(doc.Events, eventSub{e})
	}
	return doc
}

// subscribe takes a subscription and returns the immediate reports.
func (c *EventsClient) subscribe(ctx context.Context, f *follower, t *term) ([]SessionEvent, error) {
	r, err := jsonRequest(http.MethodPost, pathEvents, c.exposure(t, f.sub.ImmediateReport), false)
	if err != nil {
		return nil, err
	}
	r.limit = maxSnapshot
	resp, err := c.client.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var doc eventExposure
	if err := c.client.read(r, resp, &doc); err != nil {
		return nil, err
	}
	if t.subID, err = lastSegment(resp.location); err != nil {
		return nil, c.client.unreadable(r, resp, err)
	}
	events, err := sessionEvents(doc.Notifs)
	if err != nil {
		return nil, c.client.unreadable(r, resp, err)
	}
	c.update(func() {
		c.count.Subscriptions++
		c.connected++
		t.counted = true
	})
	return events, nil
}

// unsubscribe is a courtesy: an SMF that does not hear of it finds out when it
// notifies, or by the expiry.
func (c *EventsClient) unsubscribe(ctx context.Context, t *term) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := c.client.call(ctx, http.MethodDelete, pathEvents+"/"+segment(t.subID), nil, nil, false); err != nil {
		c.log.Debug("cannot unsubscribe", "error", err)
	}
}

// compare tells f what is different in a new term.
func (c *EventsClient) compare(ctx context.Context, f *follower, snapshot []SessionEvent) {
	if !f.sub.ImmediateReport {
		return
	}
	gone := f.known
	f.known = make(map[eventKey]SessionEvent, len(snapshot))
	for _, e := range snapshot {
		k := e.key()
		old, had := gone[k]
		delete(gone, k)
		if had && e.Type != SessionReleased && samePlace(old, e) {
			f.known[k] = old
			continue
		}
		c.tell(ctx, f, e)
	}
	for _, e := range gone {
		e.Type, e.At = SessionReleased, time.Now()
		c.tell(ctx, f, e)
	}
	if f.sub.Reported != nil {
		f.sub.Reported()
		f.sub.Reported = nil
	}
}

// tell passes an event on and remembers what it leaves behind.
func (c *EventsClient) tell(ctx context.Context, f *follower, e SessionEvent) {
	if ctx.Err() != nil {
		return
	}
	if f.sub.ImmediateReport {
		if e.Type == SessionReleased {
			delete(f.known, e.key())
		} else {
			f.known[e.key()] = e
		}
	}
	c.update(func() { c.count.Events++ })
	f.notify(e)
}

// pump passes on what is notified, and refreshes, until the term is lost.
func (c *EventsClient) pump(ctx context.Context, f *follower, t *term) {
	refresh := time.NewTicker(c.cfg.Refresh)
	defer refresh.Stop()
	for {
		select {
		case <-t.wake:
			var events []SessionEvent
			c.update(func() { events, t.queue = t.queue, nil })
			for _, e := range events {
				c.tell(ctx, f, e)
			}
		case <-refresh.C:
			err := c.client.call(ctx, http.MethodPut, pathEvents+"/"+segment(t.subID), c.exposure(t, f.sub.ImmediateReport), nil, true)
			if err == nil {
				c.connect(t, true)
				continue
			}
			var problem *Problem
			if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
				c.log.Info("event subscription lost, taking another", "error", err)
				return
			}
			// The SMF may be away. If it comes back with the subscription all is
			// well, if without it answers 404.
			c.connect(t, false)
			c.update(func() { c.lastError = err.Error() })
		case <-ctx.Done():
			return
		}
	}
}

// connect counts whether t is alive.
func (c *EventsClient) connect(t *term, alive bool) {
	c.update(func() {
		switch {
		case alive && !t.counted:
			c.connected++
		case !alive && t.counted:
			c.connected--
		}
		t.counted = alive
	})
}

// receive answers a notification. Events are queued, so that a slow subscriber
// does not make the SMF repeat them.
func (c *EventsClient) receive(w http.ResponseWriter, r *http.Request) {
	m, err := decode(r.Header.Get("Content-Type"), http.MaxBytesReader(w, r.Body, maxBody))
	in := incoming{Request: r}
	var report eventReport
	var events []SessionEvent
	if err == nil {
		in.message = *m
		if err = in.into(&report); err == nil {
			events, err = sessionEvents(report.Notifs)
		}
	}
	if err != nil {
		c.update(func() { c.count.Refused++ })
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(c.enqueue(report.NotifID, events))
}

// enqueue returns the HTTP status to answer.
func (c *EventsClient) enqueue(id string, events []SessionEvent) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.terms[id]
	switch {
	case !ok:
		c.count.Refused++
		return http.StatusNotFound
	case len(t.queue)+len(events) > c.cfg.Queue && len(t.queue) > 0:
		return http.StatusServiceUnavailable
	}
	t.queue = append(t.queue, events...)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return http.StatusNoContent
}
