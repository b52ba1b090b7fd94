package sbi

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
)

func event(t EventType, imsi, addr, upf string) SessionEvent {
	return SessionEvent{
		Type: t, SUPI: ident.SUPI("imsi-" + imsi), Session: 1, DNN: "internet", SNSSAI: slice1,
		Address: ident.UEAddress{V4: netip.MustParseAddr(addr)}, UPF: upf,
		At: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC),
	}
}

// eventsClient runs an EventsClient of the SMF at url until the test ends.
func eventsClient(t *testing.T, url string, cfg EventsConfig) *EventsClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.SMF = url
	if cfg.Refresh == 0 {
		cfg.Refresh = 20 * time.Millisecond
	}
	c, err := NewEventsClient(cfg, EventsDeps{Listener: l})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("EventsClient.Run: %v", err)
		}
		if _, err := c.Subscribe(context.Background(), EventSubscription{}, nil); !errors.Is(err, ErrStopped) {
			t.Errorf("Subscribe after Run = %v, want ErrStopped", err)
		}
	})
	return c
}

// want reads events off a channel.
func want(t *testing.T, why string, got <-chan SessionEvent, events ...SessionEvent) {
	t.Helper()
	for _, w := range events {
		select {
		case g := <-got:
			if w.At.IsZero() {
				g.At = time.Time{}
			}
			if diff := cmp.Diff(w, g, cmpAddr); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", why, diff)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no %s of %s in 10 s", why, w.Type, w.SUPI)
		}
	}
}

func subscribe(t *testing.T, c SessionEvents, s EventSubscription) (<-chan SessionEvent, func()) {
	t.Helper()
	got := make(chan SessionEvent, 10000)
	cancel, err := c.Subscribe(t.Context(), s, func(e SessionEvent) { got <- e })
	if err != nil {
		t.Fatal(err)
	}
	return got, cancel
}

func TestEventsArriveInOrder(t *testing.T) {
	v6 := event(SessionEstablished, "001010000000003", "10.0.0.3", "upf1")
	v6.Address.V6 = netip.MustParsePrefix("2001:db8:3::/64")
	exist := []SessionEvent{event(SessionEstablished, "001010000000001", "10.0.0.1", "upf1"), v6}
	f := &fake{sessions: exist, ended: make(chan struct{}, 1)}
	c := eventsClient(t, loopback(t, f.services()), EventsConfig{})
	reported := make(chan struct{})
	got, cancel := subscribe(t, c, EventSubscription{ImmediateReport: true, Reported: func() { close(reported) }})
	<-reported
	want(t, "sessions that exist are reported first", got, exist...)
	var live []SessionEvent
	for i := range 2000 {
		e := event(SessionEstablished, "001010000000002", "10.0.0.2", "upf1")
		e.Type = allEvents[i%3]
		e.At = e.At.Add(time.Duration(i) * time.Second)
		live = append(live, e)
	}
	f.emit(live...)
	want(t, "events arrive in the order they happened", got, live...)
	if s := c.Status(); s.Connected != 1 || s.Counters.Events != 2002 || s.Counters.Subscriptions != 1 {
		t.Errorf("Status = %+v, want one subscription and 2002 events", s)
	}
	cancel()
	<-f.ended // cancelling ends the subscription at the SMF
}

func TestEventsWithoutImmediateReport(t *testing.T) {
	f := &fake{sessions: []SessionEvent{event(SessionEstablished, "001010000000001", "10.0.0.1", "upf1")}}
	got, _ := subscribe(t, eventsClient(t, loopback(t, f.services()), EventsConfig{}), EventSubscription{})
	live := event(SessionReleased, "001010000000001", "10.0.0.1", "upf1")
	f.emit(live)
	want(t, "only what happens is reported", got, live)
}

// An implementation that never calls Reported costs SnapshotWait, no more.
func TestEventsOfSilentImplementation(t *testing.T) {
	f := &fake{silent: true, sessions: []SessionEvent{event(SessionEstablished, "001010000000001", "10.0.0.1", "upf1")}}
	got, _ := subscribe(t, eventsClient(t, loopback(t, f.services()), EventsConfig{}), EventSubscription{ImmediateReport: true})
	want(t, "sessions that exist are reported", got, f.sessions...)
}

func TestSMFRestart(t *testing.T) {
	one := event(SessionEstablished, "001010000000001", "10.0.0.1", "upf1")
	two := event(SessionEstablished, "001010000000002", "10.0.0.2", "upf1")
	three := event(SessionEstablished, "001010000000003", "10.0.0.3", "upf1")
	f := &fake{sessions: []SessionEvent{one, two, three}}
	url, stop := start(t, "127.0.0.1:0", f.services())
	c := eventsClient(t, url, EventsConfig{})
	got, _ := subscribe(t, c, EventSubscription{ImmediateReport: true})
	want(t, "sessions that exist are reported", got, one, two, three)

	stop()
	moved := two
	moved.Address.V4, moved.UPF = netip.MustParseAddr("10.9.0.2"), "upf2"
	f2 := &fake{sessions: []SessionEvent{one, moved}}
	_, stop2 := start(t, strings.TrimPrefix(url, "http://"), f2.services())
	defer stop2()

	gone := three
	gone.Type, gone.At = SessionReleased, time.Time{}
	want(t, "after the restart the differences are told, and nothing else", got, moved, gone)
	live := event(SessionReleased, "001010000000001", "10.0.0.1", "upf1")
	f2.emit(live)
	want(t, "events flow again", got, live)
	if s := c.Status(); s.Connected != 1 || s.Counters.Subscriptions != 2 {
		t.Errorf("Status = %+v, want one subscription, the second", s)
	}
}

// A subscriber may start before its SMF.
func TestSubscribeBeforeSMF(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	got, _ := subscribe(t, eventsClient(t, "http://"+address, EventsConfig{}), EventSubscription{ImmediateReport: true})
	f := &fake{sessions: []SessionEvent{event(SessionEstablished, "001010000000001", "10.0.0.1", "upf1")}}
	_, stop := start(t, address, f.services())
	defer stop()
	want(t, "sessions are reported when the SMF is there", got, f.sessions...)
}

func TestSubscribeRefused(t *testing.T) {
	refusal := &Problem{Status: 403, Cause: "MODIFICATION_NOT_ALLOWED", Detail: "no"}
	f := &fake{err: refusal}
	c := eventsClient(t, loopback(t, f.services()), EventsConfig{})
	_, err := c.Subscribe(t.Context(), EventSubscription{}, nil)
	if diff := cmp.Diff(error(refusal), err); diff != "" {
		t.Errorf("Subscribe gave another error (-want +got):\n%s", diff)
	}
}

// A subscriber that is gone loses its subscription, and the SMF is rid of it.
func TestSubscriberGone(t *testing.T) {
	f := &fake{ended: make(chan struct{}, 1)}
	s := f.services()
	s.Events.DropAfter = 100 * time.Millisecond
	client := dial(t, loopback(t, s), ClientOptions{})
	doc := eventExposure{AnyUE: true, NotifID: "1", NotifURI: "http://127.0.0.1:1/gone", Events: []eventSub{{SessionEstablished}}}
	if err := client.call(t.Context(), "POST", pathEvents, doc, nil, false); err != nil {
		t.Fatal(err)
	}
	f.emit(event(SessionEstablished, "001010000000001", "10.0.0.1", "upf1"))
	<-f.ended
}

func TestSubscriptionExpires(t *testing.T) {
	f := &fake{ended: make(chan struct{}, 1)}
	client := dial(t, loopback(t, f.services()), ClientOptions{})
	soon := time.Now().Add(50 * time.Millisecond)
	doc := eventExposure{AnyUE: true, NotifID: "1", NotifURI: "http://127.0.0.1:1/", Events: []eventSub{{SessionEstablished}}, Expiry: &soon}
	if err := client.call(t.Context(), "POST", pathEvents, doc, nil, false); err != nil {
		t.Fatal(err)
	}
	<-f.ended
}

func TestSubscriptionOverflow(t *testing.T) {
	f := &fake{ended: make(chan struct{}, 1)}
	s := f.services()
	s.Events.Queue, s.Events.Subscriptions = 10, 1
	client := dial(t, loopback(t, s), ClientOptions{})
	// A listener that never answers holds the first notification up.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	doc := eventExposure{AnyUE: true, NotifID: "1", NotifURI: "http://" + l.Addr().String(), Events: []eventSub{{SessionEstablished}}}
	if err := client.call(t.Context(), "POST", pathEvents, doc, nil, false); err != nil {
		t.Fatal(err)
	}
	err = client.call(t.Context(), "POST", pathEvents, doc, nil, false)
	var p *Problem
	if !errors.As(err, &p) || p.Cause != CauseInsufficientResources {
		t.Errorf("the second subscription = %v, want %s", err, CauseInsufficientResources)
	}
	for range 11 {
		f.emit(event(SessionEstablished, "001010000000001", "10.0.0.1", "upf1"))
	}
	<-f.ended // the eleventh does not fit
}

func TestSubscriptionResource(t *testing.T) {
	f := &fake{ended: make(chan struct{}, 1)}
	client := dial(t, loopback(t, f.services()), ClientOptions{})
	doc := eventExposure{AnyUE: true, NotifID: "1", NotifURI: "http://127.0.0.1:1/", Events: []eventSub{{SessionEstablished}, {"QOS_MON"}}}
	var made, shown eventExposure
	if err := client.call(t.Context(), "POST", pathEvents, doc, &made, false); err != nil {
		t.Fatal(err)
	}
	path := pathEvents + "/" + made.SubID
	if err := client.call(t.Context(), "GET", path, nil, &shown, true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, shown); diff != "" {
		t.Errorf("GET shows something else than POST made (-POST +GET):\n%s", diff)
	}
	if err := client.call(t.Context(), "DELETE", path, nil, nil, true); err != nil {
		t.Fatal(err)
	}
	<-f.ended
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		err := client.call(t.Context(), method, path, doc, nil, false)
		var p *Problem
		if !errors.As(err, &p) || p.Cause != CauseSubscriptionNotFound {
			t.Errorf("%s of what was deleted = %v, want %s", method, err, CauseSubscriptionNotFound)
		}
	}
	for name, bad := range map[string]eventExposure{
		"one UE":      {NotifID: "1", NotifURI: "http://x/", Events: doc.Events},
		"no notifUri": {AnyUE: true, NotifID: "1", Events: doc.Events},
		"https":       {AnyUE: true, NotifID: "1", NotifURI: "https://x/", Events: doc.Events},
		"no notifId":  {AnyUE: true, NotifURI: "http://x/", Events: doc.Events},
		"no events":   {AnyUE: true, NotifID: "1", NotifURI: "http://x/", Events: []eventSub{{"QOS_MON"}}},
	} {
		err := client.call(t.Context(), "POST", pathEvents, bad, nil, false)
		var p *Problem
		if !errors.As(err, &p) || p.Cause != CauseMandatoryIEIncorrect {
			t.Errorf("%s: %v, want %s", name, err, CauseMandatoryIEIncorrect)
		}
	}
}

// Subscribers do not disturb each other, and many come and go without a leak.
func TestManySubscribers(t *testing.T) {
	f := &fake{}
	c := eventsClient(t, loopback(t, f.services()), EventsConfig{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			cancel, err := c.Subscribe(t.Context(), EventSubscription{ImmediateReport: true}, func(SessionEvent) {})
			if err != nil {
				t.Error(err)
				return
			}
			cancel()
			cancel() // twice does no harm
		})
	}
	wg.Wait()
}

func TestEventsConfig(t *testing.T) {
	for name, cfg := range map[string]EventsConfig{
		"no smf":           {},
		"https":            {SMF: "https://smf:1"},
		"notify_url":       {SMF: "http://smf:1", NotifyURL: "smf"},
		"negative refresh": {SMF: "http://smf:1", Refresh: -1},
		"short expiry":     {SMF: "http://smf:1", Expiry: time.Second, Refresh: time.Second},
	} {
		if _, err := NewEventsClient(cfg, EventsDeps{}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	if _, err := NewEventsClient(EventsConfig{SMF: "http://smf:1"}, EventsDeps{}); !errors.Is(err, ErrConfig) {
		t.Errorf("no listener: %v, want ErrConfig", err)
	}
}
