package manager_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

var errAway = errors.New("connection refused")

// fakeCore is a UDM and an SMF that the test looks into.
type fakeCore struct {
	mu        sync.Mutex
	away      bool
	subs      map[ident.SUPI]sbi.Subscription
	sessions  map[ident.SUPI][]sbi.SessionInfo
	provision int // calls
	recreated int
}

func newFakeCore(imsis ...string) *fakeCore {
	c := &fakeCore{subs: map[ident.SUPI]sbi.Subscription{}, sessions: map[ident.SUPI][]sbi.SessionInfo{}}
	for _, i := range imsis {
		supi := ident.IMSI(i).SUPI()
		c.subs[supi] = sbi.Subscription{SUPI: supi}
	}
	return c
}

func (c *fakeCore) with(f func(*fakeCore)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func (c *fakeCore) sub(imsi string) (s sbi.Subscription) {
	c.with(func(c *fakeCore) { s = c.subs[ident.IMSI(imsi).SUPI()] })
	return s
}

func (c *fakeCore) Subscriptions(context.Context) ([]sbi.Subscription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.subs)), nil
}

func (c *fakeCore) find(supi ident.SUPI) (sbi.Subscription, error) {
	if c.away {
		return sbi.Subscription{}, errAway
	}
	s, ok := c.subs[supi]
	if !ok {
		return s, &sbi.Problem{Status: 404, Cause: sbi.CauseUserNotFound}
	}
	return s, nil
}

func (c *fakeCore) Subscription(_ context.Context, supi ident.SUPI) (sbi.Subscription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(supi)
}

func (c *fakeCore) Provision(_ context.Context, supi ident.SUPI, ch sbi.SubscriptionChange) (sbi.Subscription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.provision++
	s, err := c.find(supi)
	if err != nil {
		return s, err
	}
	ch.Apply(&s)
	c.subs[supi] = s
	if s.Barred {
		delete(c.sessions, supi)
	}
	return s, nil
}

func (c *fakeCore) SetAMBR(_ context.Context, supi ident.SUPI, id ident.PDUSessionID, ambr ident.AMBR) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.sessions[supi] {
		if c.sessions[supi][i].Session == id {
			c.sessions[supi][i].AMBR = ambr
			return nil
		}
	}
	return &sbi.Problem{Status: 404, Cause: sbi.CauseContextNotFound}
}

func (c *fakeCore) Release(context.Context, ident.SUPI, ident.PDUSessionID) error { return nil }

func (c *fakeCore) Recreate(context.Context, ident.SUPI, ident.PDUSessionID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recreated++
	return nil
}

func (c *fakeCore) SessionsOf(_ context.Context, supi ident.SUPI) ([]sbi.SessionInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, errAway
	}
	return slices.Clone(c.sessions[supi]), nil
}

// fakeWeb answers web requests with the statuses given, and then with 200.
type fakeWeb struct {
	mu       sync.Mutex
	statuses []int
	got      []manager.WebRequest
}

func (w *fakeWeb) Do(_ context.Context, r manager.WebRequest) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, r)
	if len(w.statuses) == 0 {
		return 200, nil
	}
	s := w.statuses[0]
	w.statuses = w.statuses[1:]
	return s, nil
}

func (w *fakeWeb) requests() []manager.WebRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// simRig is a running manager with a core.
type simRig struct {
	*manager.Service
	core  *fakeCore
	web   *fakeWeb
	store *store.Store
	stop  func()
}

func startSIMs(t *testing.T, change ...func(*manager.Config)) *simRig {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return startSIMsOn(t, st, newFakeCore(imsi1, imsi3), &fakeWeb{}, change...)
}

func startSIMsOn(t *testing.T, st *store.Store, core *fakeCore, web *fakeWeb, change ...func(*manager.Config)) *simRig {
	t.Helper()
	cfg := config()
	for _, c := range change {
		c(&cfg)
	}
	m, err := manager.New(cfg, manager.Deps{Store: st, Directory: &places{}, Core: manager.Core{Provisioning: core, Control: core}, Web: web})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	<-m.Ready()
	return &simRig{m, core, web, st, stop}
}

// pass lets a bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

var ref1 = manager.SIMRef{IMSI: imsi1}

func (r *simRig) sim(t *testing.T, imsi string) manager.SIMResult {
	t.Helper()
	s, err := r.SIM(t.Context(), op1, manager.SIMRef{IMSI: ident.IMSI(imsi)})
	if err != nil {
		t.Fatalf("SIM: %v", err)
	}
	return s
}

func (r *simRig) status(t *testing.T, to manager.SIMStatus) manager.SIMResult {
	t.Helper()
	s, err := r.SetSIMStatus(t.Context(), op1, ref1, to)
	if err != nil {
		t.Fatalf("to %s: %v", to, err)
	}
	return s
}

// session is a PDU session that the SMF charges for.
type session struct {
	rig *simRig
	d   sbi.ChargingData
	ref sbi.ChargingRef
}

func (r *simRig) attach(t *testing.T, imsi, chargingID string) *session {
	t.Helper()
	supi := ident.IMSI(imsi).SUPI()
	s := &session{rig: r, d: sbi.ChargingData{
		SMF: "smf1", Sequence: 1, At: time.Now(), ChargingID: chargingID, SUPI: supi, PEI: "imeisv-3534900698733190", Session: 1, DNN: "internet",
		Address: ident.UEAddress{V4: netip.MustParseAddr("10.0.0.1")}, UPF: "upf1", AMBR: ident.AMBR{Uplink: 1e9, Downlink: 1e9}, Started: time.Now(),
	}}
	var err error
	if s.ref, err = r.CreateCharging(t.Context(), s.d); err != nil {
		t.Fatalf("CreateCharging: %v", err)
	}
	r.core.with(func(c *fakeCore) {
		c.sessions[supi] = []sbi.SessionInfo{{SUPI: supi, Session: 1, AMBR: s.d.AMBR, State: "active"}}
	})
	return s
}

// use reports mebibytes.
func (s *session) use(t *testing.T, mib uint64) {
	t.Helper()
	s.d.Sequence++
	s.d.At = time.Now()
	s.d.Used = &sbi.UsedUnits{DownlinkOctets: mib << 20, DownlinkPackets: mib, From: s.d.At.Add(-time.Second), To: s.d.At}
	if err := s.rig.UpdateCharging(t.Context(), s.ref, s.d); err != nil {
		t.Fatalf("UpdateCharging: %v", err)
	}
}

// typed makes a rule or an action of pairs of names and texts.
func typed(kind string, pairs ...string) manager.Typed {
	t := manager.Typed{Type: kind, Properties: map[string]json.RawMessage{}}
	for i := 0; i < len(pairs); i += 2 {
		text, err := json.Marshal(pairs[i+1])
		if err != nil {
			panic(err)
		}
		t.Properties[pairs[i]] = text
	}
	return t
}

func (r *simRig) handler(t *testing.T, rule manager.Typed, actions ...manager.Typed) manager.EventHandler {
	t.Helper()
	h, err := r.CreateHandler(t.Context(), op1, manager.EventHandler{Name: "h", Active: true, Kind: manager.TargetOperator, Target: string(op1), Rule: rule, Actions: actions})
	if err != nil {
		t.Fatalf("CreateHandler: %v", err)
	}
	return h
}
