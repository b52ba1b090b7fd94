package manager_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
	"github.com/simreach/simreach/nf/sbi"
)

// stuckCore takes a change and does not answer until it is released.
type stuckCore struct {
	*fakeCore
	asked    chan struct{}
	released chan struct{}
}

func (c *stuckCore) Provision(ctx context.Context, _ ident.SUPI, _ sbi.SubscriptionChange) (sbi.Subscription, error) {
	c.asked <- struct{}{}
	select {
	case <-c.released:
	case <-ctx.Done():
	}
	return sbi.Subscription{}, errAway
}

// sickStore says, if told to, that it cannot read SIMs.
type sickStore struct {
	*store.Store
	mu   sync.Mutex // guards the rest
	sick bool
}

func (s *sickStore) set(sick bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sick = sick
}

func (s *sickStore) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sick {
		return errors.New("disk on fire")
	}
	return nil
}

func (s *sickStore) SIMByIMSI(ctx context.Context, imsi ident.IMSI) (manager.SIM, error) {
	if err := s.fault(); err != nil {
		return manager.SIM{}, err
	}
	return s.Store.SIMByIMSI(ctx, imsi)
}

func (s *sickStore) SupervisedSIMs(ctx context.Context, after ident.IMSI, limit int) ([]manager.SIM, error) {
	if err := s.fault(); err != nil {
		return nil, err
	}
	return s.Store.SupervisedSIMs(ctx, after, limit)
}

// memoryStore is a store for one test.
func memoryStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// attachedTo starts a manager with relays beside an SMF that has sessions of a device.
func attachedTo(t *testing.T, d manager.Deps, events *smf) (*rig, *fakeRelay) {
	t.Helper()
	events.exist = []sbi.SessionEvent{
		event(sbi.SessionEstablished, imsi1, 1, "upf1", "10.0.0.1"), event(sbi.SessionEstablished, imsi1, 2, "upf1", "10.0.0.2"),
	}
	d.Directory = startDirectory(t, manager.DirectoryConfig{}, events)
	st, _ := d.Store.(*store.Store)
	m := startWith(t, config(), st, d)
	attach(t, m.Service, innerRelay("inner1", "192.0.2.11:7001"))
	return m, attach(t, m.Service, process("i1"))
}

func resolves(t *testing.T, r *fakeRelay, e manager.Entry) error {
	t.Helper()
	q := manager.ResolveRequest{Hit: e.Address, Client: clientPort}
	_, err := r.Resolve(t.Context(), q)
	if _, known, tried := r.TryResolve(t.Context(), q); known && (tried == nil) != (err == nil) {
		t.Errorf("%v, and of memory %v; want the same", err, tried)
	}
	return err
}

// A SIM that is barred is not reached any more, and its connections are cut, while the core
// hangs or is away and goes on having its sessions; also after a restart.
func TestBarredWhileTheCoreIsAway(t *testing.T) {
	st, core := memoryStore(t), &stuckCore{newFakeCore(imsi1), make(chan struct{}, 100), make(chan struct{})}
	deps := manager.Deps{Store: st, Core: manager.Core{Provisioning: core, Control: core}}
	m, outer := attachedTo(t, deps, &smf{})
	e := create(t, m.Service)
	if err := resolves(t, outer, e); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := m.SetSIMStatus(t.Context(), op1, ref1, manager.SIMSuspended); err != nil {
			t.Errorf("suspend: %v", err)
		}
	})
	<-core.asked // and it does not answer
	wantCode(t, resolves(t, outer, e), manager.CodeDeviceOffline, "its SIM is suspended, and the core hangs")
	_, err := m.Ping(t.Context(), op1, ref1, 1, time.Second)
	wantCode(t, err, manager.CodeDeviceOffline, "ping of a suspended SIM")
	outer.await(t, "its connections are cut", func(f *fakeRelay) bool { return len(cuts(f)) == 2 })
	outer.with(func(f *fakeRelay) {
		for _, c := range cuts(f) {
			if c.IMSI != imsi1 || c.Device.String() != "10.0.0.1" && c.Device.String() != "10.0.0.2" {
				t.Errorf("told %+v; want a cut of each session", c)
			}
		}
	})
	place := []manager.Place{{IMSI: imsi1, Inner: "inner1", Address: netip.MustParseAddr("10.0.0.1")}}
	if left, err := outer.Departed(t.Context(), place); err != nil || len(left) != 1 {
		t.Errorf("%+v have left, %v; want the device", left, err)
	}
	close(core.released)
	wg.Wait()
	wantCode(t, resolves(t, outer, e), manager.CodeDeviceOffline, "its SIM is suspended, and the core is away")

	_, after := attachedTo(t, deps, &smf{})
	wantCode(t, resolves(t, after, e), manager.CodeDeviceOffline, "after a restart")
}

// A SIM that is active again is reached, whatever the core has heard of it.
func TestBarredAndActiveAgain(t *testing.T) {
	core := newFakeCore(imsi1)
	core.away = true
	m, outer := attachedTo(t, manager.Deps{Store: memoryStore(t), Core: manager.Core{Provisioning: core, Control: core}}, &smf{})
	e := create(t, m.Service)
	for _, to := range []manager.SIMStatus{manager.SIMInactive, manager.SIMSuspended} {
		if _, err := m.SetSIMStatus(t.Context(), op1, ref1, to); err != nil {
			t.Fatal(err)
		}
		wantCode(t, resolves(t, outer, e), manager.CodeDeviceOffline, "its SIM is "+string(to))
		if _, err := m.SetSIMStatus(t.Context(), op1, ref1, manager.SIMActive); err != nil {
			t.Fatal(err)
		}
		if err := resolves(t, outer, e); err != nil {
			t.Errorf("its SIM is active again: %v", err)
		}
	}
}

// As long as the directory knows no places the relays judge by themselves what to cut.
func TestBarredWithoutPlaces(t *testing.T) {
	m, outer := attachedTo(t, manager.Deps{Store: memoryStore(t)}, &smf{silent: true})
	if _, err := m.SetSIMStatus(t.Context(), op1, ref1, manager.SIMSuspended); err != nil {
		t.Fatal(err)
	}
	outer.await(t, "it is told to ask", func(f *fakeRelay) bool { return f.has(manager.CommandReview) })
	place := []manager.Place{{IMSI: imsi1, Inner: "inner1", Address: netip.MustParseAddr("10.0.0.9")}}
	if left, err := outer.Departed(t.Context(), place); err != nil || len(left) != 1 {
		t.Errorf("%+v have left, %v; want the device", left, err)
	}
}

// Who cannot read which SIMs are barred hands out no route, and reads again.
func TestBarredIsNotRead(t *testing.T) {
	st := &sickStore{Store: memoryStore(t)}
	if _, err := st.SeedSIMs(t.Context(), []manager.SIM{{
		IMSI: imsi1, SIMID: sim1, OperatorID: op1, Status: manager.SIMSuspended, SpeedClass: manager.DefaultSpeedClass, Tags: map[string]string{}, Created: time.Now(),
	}}); err != nil {
		t.Fatal(err)
	}
	st.set(true)
	m, outer := attachedTo(t, manager.Deps{Store: st}, &smf{})
	st.set(false)
	e := create(t, m.Service)
	st.set(true)
	wantCode(t, resolves(t, outer, e), manager.CodeInternal, "nobody knows whether it is barred")
	st.set(false)
	wantCode(t, resolves(t, outer, e), manager.CodeDeviceOffline, "the store says that it is barred")
	outer.await(t, "its connections are cut", func(f *fakeRelay) bool { return len(cuts(f)) == 2 })
}

// toldStore tells of no change but those that the test gives.
type toldStore struct {
	*store.Store
	tell chan manager.Change
}

func (s *toldStore) Watch(ctx context.Context, f func(manager.Change)) error {
	f(manager.Change{Kind: manager.ChangeResync})
	for {
		select {
		case c := <-s.tell:
			f(c)
		case <-ctx.Done():
			return nil
		}
	}
}

// While changes do not arrive the store is asked whether a SIM is barred.
func TestBarredWhileChangesAreLost(t *testing.T) {
	st := &toldStore{memoryStore(t), make(chan manager.Change)}
	m, outer := attachedTo(t, manager.Deps{Store: st}, &smf{})
	e := create(t, m.Service)
	for range 2 { // the first has been followed when the second is taken
		st.tell <- manager.Change{Kind: manager.ChangeLost}
	}
	elsewhere := func(status manager.SIMStatus) {
		if _, _, err := st.UpdateSIM(t.Context(), imsi1, func(sim *manager.SIM) error { sim.Status = status; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere(manager.SIMSuspended)
	wantCode(t, resolves(t, outer, e), manager.CodeDeviceOffline, "suspended at another manager")
	elsewhere(manager.SIMActive)
	if err := resolves(t, outer, e); err != nil {
		t.Errorf("its SIM is active again: %v", err)
	}
}

// testBarredElsewhere: the manager that the relay is attached to follows the store.
func testBarredElsewhere(t *testing.T, server *pgtest.Server) {
	url := server.Database(t)
	open := func() *store.Store {
		st, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	core := newFakeCore(imsi1)
	core.away = true
	m, outer := attachedTo(t, manager.Deps{Store: open()}, &smf{})
	e := create(t, m.Service)
	st := open()
	other := startWith(t, config(), st, manager.Deps{Store: st, Core: manager.Core{Provisioning: core, Control: core}})
	if _, err := other.SetSIMStatus(t.Context(), op1, ref1, manager.SIMSuspended); err != nil {
		t.Fatal(err)
	}
	outer.await(t, "its connections are cut", func(f *fakeRelay) bool { return len(cuts(f)) == 2 })
	wantCode(t, resolves(t, outer, e), manager.CodeDeviceOffline, "suspended at another manager")
}
