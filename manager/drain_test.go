package manager_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
)

func TestDrainRelay(t *testing.T) {
	cfg := config()
	cfg.RelayTimeout = 100 * time.Millisecond
	r := start(t, cfg)
	outer := attach(t, r.Service, outerRelay("outer1", wide))
	attach(t, r.Service, innerRelay("inner1", "192.0.2.11:7001"))
	if err := r.DrainRelay(t.Context(), "outer1"); err != nil {
		t.Fatal(err)
	}
	if !outer.told(manager.CommandDrain) {
		t.Error("the relay was not told before the request was answered")
	}
	outer.Load(manager.RelayLoad{Draining: true, At: time.Now()})
	if err := r.DrainRelay(t.Context(), "outer1"); err != nil {
		t.Errorf("draining one that drains: %v", err)
	}
	if st := r.Relays(); len(st) != 2 || !st[0].Draining || st[1].Kind != manager.InnerRelay {
		t.Errorf("relays %+v; want the outer one draining, and the inner one", st)
	}
	wantCode(t, r.DrainRelay(t.Context(), "outer2"), manager.CodeUnknownRelay, "one that is not there")
	wantCode(t, r.DrainRelay(t.Context(), "inner1"), manager.CodeUnknownRelay, "an inner relay")
	outer.with(func(f *fakeRelay) { f.mute = true })
	err := r.DrainRelay(t.Context(), "outer1")
	if wantCode(t, err, manager.CodeDrainFailed, "one that does not answer"); manager.AsError(err).Kind() != manager.KindFailed {
		t.Errorf("kind %v; want KindFailed: clients repeat what is answered with 503", manager.AsError(err).Kind())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.DrainRelay(ctx, "outer1"); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever asked has gone: %v", err)
	}
}

// A manager that is asked to drain another one's relay passes it on.
func TestDrainRelayOfAnotherManager(t *testing.T) {
	ms := several(t, pgtest.Start(t), 2)
	outer := attach(t, ms[1].Service, outerRelay("outer1", wide))
	sees(t, ms[0], 1)
	if err := ms[0].DrainRelay(t.Context(), "outer1"); err != nil {
		t.Fatal(err)
	}
	outer.await(t, "the relay is told to drain", func(f *fakeRelay) bool { return f.has(manager.CommandDrain) })
}

func TestPlatformOperators(t *testing.T) {
	root1, root2 := manager.Principal{OperatorID: op1}, manager.Principal{OperatorID: op2}
	for _, c := range []struct {
		name     string
		change   func(*manager.Config)
		one, two bool
	}{
		{"none of several", func(*manager.Config) {}, false, false},
		{"one of several", func(c *manager.Config) { c.PlatformOperators = []manager.OperatorID{op2} }, false, true},
		{"the only one", func(c *manager.Config) {
			c.Operators, c.Subscribers = c.Operators[:1], c.Subscribers[:1]
		}, true, false},
	} {
		cfg := config()
		c.change(&cfg)
		r := start(t, cfg)
		for p, want := range map[manager.Principal]bool{root1: c.one, root2: c.two} {
			if err := r.OperatesPlatform(p); (err == nil) != want {
				t.Errorf("%s: %s: %v; want allowed %v", c.name, p, err, want)
			} else if err != nil {
				wantCode(t, err, manager.CodeNotPlatform, c.name)
			}
		}
	}
	cfg := config()
	cfg.PlatformOperators = []manager.OperatorID{"OP0000000009"}
	if err := cfg.Validate(); err == nil {
		t.Error("an operator that there is not was taken")
	}
}

// Metrics are there while the manager runs, and say what happened.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	dir := &places{}
	m, err := manager.New(config(), manager.Deps{Store: st, Directory: dir, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	stop := func() { cancel(); wg.Wait() }
	defer stop()
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-m.Ready()
	outer := attach(t, m, outerRelay("outer1", wide))
	dir.set(imsi1, "upf1", "10.0.0.1")
	e := create(t, m)
	for _, l := range []manager.Login{{AuthKeyID: "keyId-1", AuthKey: "secret-1"}, {AuthKeyID: "keyId-1", AuthKey: "wrong"}} {
		_, _ = m.Authenticate(t.Context(), l) // the second is refused
	}
	if _, err := m.CreateEntry(t.Context(), op1, manager.CreateRequest{IMSI: imsi2, Port: 22, Caller: client}); err == nil {
		t.Error("an entry to another's device")
	}
	_, err = outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address})
	wantCode(t, err, manager.CodeNoInnerRelay, "no inner relay is attached")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"simreach_manager_entries": 1, "simreach_manager_relays outer": 1, "simreach_manager_relays inner": 0, "simreach_manager_devices": 1,
		"simreach_manager_entries_created_total ok": 1, "simreach_manager_entries_created_total NAP0006": 1,
		"simreach_manager_logins_total ok auth-key": 1, "simreach_manager_logins_total AUT0001 auth-key": 1, "simreach_manager_resolve_seconds NAP0021": 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v; want %v", name, v, want)
		}
	}
	stop()
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%d metrics, %v, after Run; want none", len(families), err)
	}
}
