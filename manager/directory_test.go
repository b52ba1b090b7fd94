package manager_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/nf/sbi"
)

// smf is an SMF's event exposure with the events that the test gives.
type smf struct {
	mu     sync.Mutex
	exist  []sbi.SessionEvent
	fail   int // refuse that many subscriptions
	tries  int
	notify func(sbi.SessionEvent)
	gone   bool
	silent bool // does not say by itself that it has told of all that exist
	report func()
}

func (s *smf) Subscribe(_ context.Context, sub sbi.EventSubscription, notify func(sbi.SessionEvent)) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.tries <= s.fail {
		return nil, errors.New("connection refused")
	}
	if sub.ImmediateReport {
		for _, e := range s.exist {
			notify(e)
		}
		if s.report = sub.Reported; !s.silent && s.report != nil {
			s.report()
		}
	}
	s.notify = notify
	return func() { s.mu.Lock(); s.gone = true; s.mu.Unlock() }, nil
}

func event(typ sbi.EventType, imsi string, id ident.PDUSessionID, upf, addr string) sbi.SessionEvent {
	e := sbi.SessionEvent{Type: typ, SUPI: ident.IMSI(imsi).SUPI(), Session: id, DNN: "internet", UPF: upf}
	if addr != "" {
		e.Address.V4 = netip.MustParseAddr(addr)
	}
	return e
}

func startDirectory(t *testing.T, cfg manager.DirectoryConfig, s *smf) *manager.SessionDirectory {
	t.Helper()
	d, err := manager.NewSessionDirectory(cfg, manager.DirectoryDeps{SMF: s})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-d.Ready()
	return d
}

func TestDirectoryFollowsEvents(t *testing.T) {
	const est, rel, moved = sbi.SessionEstablished, sbi.SessionReleased, sbi.AddressChanged
	s := &smf{exist: []sbi.SessionEvent{event(est, imsi1, 1, "upf1", "10.0.0.1")}}
	d := startDirectory(t, manager.DirectoryConfig{DNN: "internet"}, s)
	ims := event(est, imsi1, 5, "upf2", "10.9.9.9")
	ims.DNN = "ims"
	for _, c := range []struct {
		name  string
		event sbi.SessionEvent
		want  string // "UPF address" of imsi1; empty: offline
	}{
		{"reported at once", event(est, imsi2, 1, "upf1", "10.0.0.2"), "upf1 10.0.0.1"},
		{"another data network does not count", ims, "upf1 10.0.0.1"},
		{"a new address", event(moved, imsi1, 1, "", "10.0.0.3"), "upf1 10.0.0.3"},
		{"a second session is the latest", event(est, imsi1, 2, "upf2", "10.0.0.1"), "upf2 10.0.0.1"},
		{"a new address of the older one changes nothing", event(moved, imsi1, 1, "upf1", "10.0.0.4"), "upf2 10.0.0.1"},
		{"its release leaves the other", event(rel, imsi1, 2, "upf2", "10.0.0.1"), "upf1 10.0.0.4"},
		{"moved to another UPF with the same session ID", event(est, imsi1, 1, "upf2", "10.0.0.4"), "upf2 10.0.0.4"},
		{"the late release of what it left", event(rel, imsi1, 1, "upf1", "10.0.0.4"), "upf2 10.0.0.4"},
		{"a session without an address", event(est, imsi1, 3, "upf1", ""), "upf2 10.0.0.4"},
		{"a release that says no more than the session", event(rel, imsi1, 1, "", ""), ""},
		{"released twice", event(rel, imsi1, 1, "", ""), ""},
	} {
		s.notify(c.event)
		got := ""
		a, err := d.Lookup(t.Context(), imsi1)
		if err == nil {
			got = a.UPF + " " + a.Address.String()
		} else if !errors.Is(err, manager.ErrNotAttached) {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got != c.want {
			t.Errorf("%s: device is at %q; want %q", c.name, got, c.want)
		}
	}
	if d.Size() != 1 {
		t.Errorf("%d devices; want the other one", d.Size())
	}
	if st := d.Status(); st.Ignored != 4 {
		t.Errorf("status %+v; want 4 events ignored", st)
	}
}

func TestDirectoryIPv6(t *testing.T) {
	e := event(sbi.SessionEstablished, imsi1, 1, "upf1", "")
	e.Address.V6 = netip.MustParsePrefix("2001:db8:1::/64")
	d := startDirectory(t, manager.DirectoryConfig{}, &smf{exist: []sbi.SessionEvent{e}})
	if a, err := d.Lookup(t.Context(), imsi1); err != nil || a.Address != netip.MustParseAddr("2001:db8:1::1") {
		t.Errorf("Lookup = %v, %v; want the first address of the prefix", a, err)
	}
}

func TestDirectoryTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s := &smf{fail: 3, exist: []sbi.SessionEvent{event(sbi.SessionEstablished, imsi1, 1, "upf1", "10.0.0.1")}}
		d := startDirectory(t, manager.DirectoryConfig{RetryInterval: time.Second}, s)
		if took := time.Since(begin); took != 3*time.Second || d.Size() != 1 {
			t.Errorf("subscribed after %s with %d devices; want 3 s and 1", took, d.Size())
		}
	})
}
