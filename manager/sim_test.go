package manager_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

// Every request in every status: which are refused.
func TestSIMStatusMachine(t *testing.T) {
	all := []manager.SIMStatus{manager.SIMReady, manager.SIMActive, manager.SIMInactive, manager.SIMStandby, manager.SIMSuspended, manager.SIMTerminated}
	for _, from := range all[:5] {
		r := startSIMs(t, func(c *manager.Config) { c.Subscribers[0].SIM.Status = from })
		if _, err := r.SetTerminationEnabled(t.Context(), op1, ref1, true); err != nil {
			t.Fatal(err)
		}
		for _, to := range all {
			// Back to where it was, behind the back of the machine.
			if _, _, err := r.store.UpdateSIM(t.Context(), imsi1, func(s *manager.SIM) error { s.Status = from; return nil }); err != nil {
				t.Fatal(err)
			}
			_, err := r.SetSIMStatus(t.Context(), op1, ref1, to)
			refused := to == manager.SIMReady && from != manager.SIMReady
			if (err != nil) != refused || err != nil && !errors.Is(err, manager.CodeSIMStatus) {
				t.Errorf("%s to %s: %v; want refused %v", from, to, err, refused)
			}
		}
		for _, to := range all {
			if _, err := r.SetSIMStatus(t.Context(), op1, ref1, to); !errors.Is(err, manager.CodeSIMStatus) {
				t.Errorf("terminated to %s: %v; want a refusal: it is final", to, err)
			}
		}
	}
}

func TestTerminationIsProtected(t *testing.T) {
	r := startSIMs(t)
	_, err := r.SetSIMStatus(t.Context(), op1, ref1, manager.SIMTerminated)
	wantCode(t, err, manager.CodeTerminationProtected, "terminate with the protection on")
	_, err = r.SetSIMStatus(t.Context(), op2, ref1, manager.SIMSuspended)
	wantCode(t, err, manager.CodeUnknownSubscriber, "another operator's SIM")
}

// Suspending bars in the core before the request is answered, activating admits.
func TestStatusReachesTheCore(t *testing.T) {
	r := startSIMs(t)
	if s := r.status(t, manager.SIMSuspended); s.Dirty || !r.core.sub(imsi1).Barred {
		t.Errorf("after suspending: dirty %v, barred %v; want the core to bar", s.Dirty, r.core.sub(imsi1).Barred)
	}
	if s := r.status(t, manager.SIMActive); s.Dirty || r.core.sub(imsi1).Barred {
		t.Error("after activating: the core still bars")
	}
	history, err := r.StatusHistory(t.Context(), op1, ref1, manager.RecordQuery{})
	if err != nil || len(history) != 3 {
		t.Errorf("history %v, %v; want ready, suspended, active", history, err)
	}
}

// A core that is away learns of the change when it is back, and the answer says so.
func TestCoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		r.core.with(func(c *fakeCore) { c.away = true })
		if s := r.status(t, manager.SIMSuspended); !s.Dirty || s.Status != manager.SIMSuspended {
			t.Errorf("dirty %v, status %s; want the change stored and pending", s.Dirty, s.Status)
		}
		pass(10 * time.Second)
		if r.core.sub(imsi1).Barred || !r.sim(t, imsi1).Dirty {
			t.Error("the core is away, yet it has the change")
		}
		r.core.with(func(c *fakeCore) { c.away = false })
		pass(2 * time.Second)
		if !r.core.sub(imsi1).Barred || r.sim(t, imsi1).Dirty {
			t.Error("2 s after the core is back: it does not have the change")
		}
	})
}

// A core that forgot is told again; what is as it would be by itself is left alone.
func TestCoreForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		r.status(t, manager.SIMSuspended)
		calls := 0
		r.core.with(func(c *fakeCore) { c.subs[ident.IMSI(imsi1).SUPI()] = sbi.Subscription{}; calls = c.provision })
		pass(16 * time.Second)
		if !r.core.sub(imsi1).Barred {
			t.Error("the core restarted 16 s ago and bars nobody")
		}
		pass(5 * time.Minute)
		r.core.with(func(c *fakeCore) {
			if c.provision != calls+1 {
				t.Errorf("%d changes sent; want the one that was lost", c.provision-calls)
			}
		})
	})
}

// A speed class limits the session that exists and later ones; the default gives back
// what the core gave by itself.
func TestSpeedClass(t *testing.T) {
	r := startSIMs(t)
	r.attach(t, imsi1, "c1")
	live := func() (a ident.AMBR) {
		r.core.with(func(c *fakeCore) { a = c.sessions[ident.IMSI(imsi1).SUPI()][0].AMBR })
		return a
	}
	slow := ident.AMBR{Uplink: 32_000, Downlink: 32_000}
	if _, err := r.SetSpeedClass(t.Context(), op1, ref1, "s1.minimum"); err != nil {
		t.Fatal(err)
	}
	if got := r.core.sub(imsi1).SessionAMBR; got != slow || live() != slow {
		t.Errorf("s1.minimum: subscribed %v, live %v; want %v", got, live(), slow)
	}
	if _, err := r.SetSpeedClass(t.Context(), op1, ref1, manager.DefaultSpeedClass); err != nil {
		t.Fatal(err)
	}
	if got := r.core.sub(imsi1).SessionAMBR; got != (ident.AMBR{}) || live() != (ident.AMBR{Uplink: 1e9, Downlink: 1e9}) {
		t.Errorf("the default: subscribed %v, live %v; want the core's own", got, live())
	}
	_, err := r.SetSpeedClass(t.Context(), op1, ref1, "s9.light")
	wantCode(t, err, manager.CodeBadSpeedClass, "an unknown class")
}

// The core's own AMBR is not forgotten over a report that still has a class's limit when
// the next class comes.
func TestSpeedClassAfterLateReport(t *testing.T) {
	r := startSIMs(t)
	one := r.attach(t, imsi1, "c1")
	own := one.d.AMBR
	set := func(class manager.SpeedClass) (live ident.AMBR) {
		if _, err := r.SetSpeedClass(t.Context(), op1, ref1, class); err != nil {
			t.Fatal(err)
		}
		r.core.with(func(c *fakeCore) { live = c.sessions[ident.IMSI(imsi1).SUPI()][0].AMBR })
		return live
	}
	for _, reconnect := range []bool{false, true} {
		one.d.AMBR = set("s1.minimum")
		if reconnect { // the core limits the new session from its start
			two := r.attach(t, imsi1, "c2")
			two.d.AMBR, two.d.Sequence = one.d.AMBR, 1
			one = two
			r.core.with(func(c *fakeCore) { c.sessions[ident.IMSI(imsi1).SUPI()][0].AMBR = one.d.AMBR })
		}
		one.use(t, 1)
		if got := r.sim(t, imsi1).Session.AMBR; got != one.d.AMBR {
			t.Fatalf("reported %v; want the limit", got)
		}
		for range 2 {
			if got := set(manager.DefaultSpeedClass); got != own {
				t.Errorf("the default: %v; want the core's own %v", got, own)
			}
			one.use(t, 1) // reported before the core's answer came
			set("s1.fast")
		}
		set(manager.DefaultSpeedClass)
	}
}

func TestIMEILock(t *testing.T) {
	r := startSIMs(t)
	lock := func(text string) error {
		_, err := r.SetIMEILock(t.Context(), op1, ref1, text)
		return err
	}
	wantCode(t, lock(""), manager.CodeNoIMEI, "no IMEI and no session")
	for _, text := range []string{"12", "35349006987331x", "353490069873319|anon", "|ANONYMOUS"} {
		if err := lock(text); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
	if err := lock("353490069873319|anonymous"); err != nil {
		t.Fatal(err)
	}
	if got, want := r.core.sub(imsi1).Lock, (sbi.PEILock{PEI: "imei-353490069873319", Anonymous: true}); got != want {
		t.Errorf("lock in the core %+v; want %+v", got, want)
	}
	r.attach(t, imsi1, "c1")
	if err := lock(""); err != nil {
		t.Fatal(err)
	}
	if got, want := r.core.sub(imsi1).Lock, (sbi.PEILock{PEI: "imeisv-3534900698733190"}); got != want {
		t.Errorf("lock to the session's device %+v; want %+v", got, want)
	}
	if _, err := r.UnsetIMEILock(t.Context(), op1, ref1); err != nil || r.core.sub(imsi1).Lock != (sbi.PEILock{}) {
		t.Errorf("unset: %v, %+v", err, r.core.sub(imsi1).Lock)
	}
}

func TestDeleteSession(t *testing.T) {
	r := startSIMs(t)
	_, err := r.DeleteSession(t.Context(), op1, ref1)
	wantCode(t, err, manager.CodeDeviceOffline, "without a session")
	r.attach(t, imsi1, "c1")
	if _, err := r.DeleteSession(t.Context(), op1, ref1); err != nil || r.core.recreated != 1 {
		t.Errorf("DeleteSession: %v, %d recreated; want one", err, r.core.recreated)
	}
	r.core.with(func(c *fakeCore) { c.away = true })
	_, err = r.DeleteSession(t.Context(), op1, ref1)
	wantCode(t, err, manager.CodeCoreAway, "while the core is away")
}

// The first session makes a SIM active; a report counts once, and one of a session that
// is not known is answered so that the SMF begins anew (TS 32.290 clause 5.3.2.3).
func TestCharging(t *testing.T) {
	r := startSIMs(t)
	s := r.attach(t, imsi1, "c1")
	if sim := r.sim(t, imsi1); sim.Status != manager.SIMActive || !sim.Online() || sim.Session.IMEI() != "3534900698733190" {
		t.Errorf("after the first session: %+v", sim)
	}
	s.use(t, 3)
	if err := r.UpdateCharging(t.Context(), s.ref, s.d); err != nil { // a repeat
		t.Fatal(err)
	}
	bins, err := r.UsageOf(t.Context(), op1, ref1, manager.PeriodDay, time.Now().AddDate(0, 0, -1), time.Now())
	if err != nil || len(bins) != 1 || bins[0].Down != 3<<20 {
		t.Errorf("usage %+v, %v; want 3 MiB, once", bins, err)
	}
	err = r.UpdateCharging(t.Context(), "nothing", s.d)
	if p, ok := errors.AsType[*sbi.Problem](err); !ok || p.Cause != sbi.CauseContextNotFound {
		t.Errorf("an unknown reference: %v; want CONTEXT_NOT_FOUND", err)
	}
	s.d.Sequence++
	s.d.Used, s.d.Stopped = nil, time.Now()
	if err := r.ReleaseCharging(t.Context(), s.ref, s.d); err != nil {
		t.Fatal(err)
	}
	if sim := r.sim(t, imsi1); sim.Online() || sim.Previous == nil {
		t.Errorf("after its release: %+v", sim)
	}
}

// Reports that come at one time are all stored, each once.
func TestChargingTogether(t *testing.T) {
	r := startSIMs(t)
	s := r.attach(t, imsi1, "c1")
	var wg sync.WaitGroup
	d := s.d
	d.Sequence, d.Used = 2, &sbi.UsedUnits{UplinkOctets: 7, To: time.Now()}
	for range 20 {
		wg.Go(func() {
			if err := r.UpdateCharging(t.Context(), s.ref, d); err != nil {
				t.Errorf("UpdateCharging: %v", err)
			}
		})
	}
	wg.Wait()
	u, err := r.store.UsageTotal(t.Context(), imsi1, manager.PeriodAll, time.Unix(0, 0))
	if err != nil || u.Up != 7 {
		t.Errorf("usage %+v, %v; want 7 octets", u, err)
	}
}

// A session whose SMF was killed is ended once the SMF does not know it any more.
func TestSilentSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		r.attach(t, imsi1, "c1")
		pass(5 * time.Minute)
		if !r.sim(t, imsi1).Online() {
			t.Error("the SMF knows the session, yet it was ended")
		}
		r.core.with(func(c *fakeCore) { clear(c.sessions) })
		pass(3 * time.Minute)
		if r.sim(t, imsi1).Online() {
			t.Error("the SMF has not known the session for 3 minutes, yet the SIM is online")
		}
	})
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		_, err := r.UnsetExpiry(t.Context(), op1, ref1)
		wantCode(t, err, manager.CodeNoExpiry, "no expiry is set")
		if _, err := r.SetExpiry(t.Context(), op1, ref1, time.Now().Add(time.Minute), manager.ExpireSuspend); err != nil {
			t.Fatal(err)
		}
		pass(59 * time.Second)
		if s := r.sim(t, imsi1); s.Status != manager.SIMReady {
			t.Errorf("before it expires: %s", s.Status)
		}
		pass(3 * time.Second)
		if s := r.sim(t, imsi1); s.Status != manager.SIMSuspended || !r.core.sub(imsi1).Barred {
			t.Errorf("after it expired: %s, barred %v; want suspended", s.Status, r.core.sub(imsi1).Barred)
		}
		r.status(t, manager.SIMActive)
		pass(time.Minute)
		if s := r.sim(t, imsi1); s.Status != manager.SIMActive {
			t.Errorf("%s; want the action taken once", s.Status)
		}
	})
}

// A SIM that is protected from termination is not told to end itself. What was told
// before it became protected stands.
func TestExpiryOfProtectedSIM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		protect := func(on bool) {
			if _, err := r.SetTerminationEnabled(t.Context(), op1, ref1, !on); err != nil {
				t.Fatal(err)
			}
		}
		end := func() error {
			_, err := r.SetExpiry(t.Context(), op1, ref1, time.Now().Add(time.Minute), manager.ExpireTerminate)
			return err
		}
		wantCode(t, end(), manager.CodeTerminationProtected, "protected")
		pass(2 * time.Minute)
		if s := r.sim(t, imsi1); s.Status != manager.SIMReady || !s.ExpiryTime.IsZero() {
			t.Errorf("%s, expires %s; want it left as it was", s.Status, s.ExpiryTime)
		}
		protect(false)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		protect(true)
		pass(2 * time.Minute)
		if s := r.sim(t, imsi1); s.Status != manager.SIMTerminated {
			t.Errorf("%s; want terminated", s.Status)
		}
	})
}

func TestRegistration(t *testing.T) {
	r := startSIMs(t, func(c *manager.Config) {
		c.Subscribers = append(c.Subscribers, manager.SubscriberConfig{IMSI: "001010000000009", SIMID: "8949", SIM: manager.SIMSeed{RegistrationSecret: "s3cret"}})
	})
	ref := manager.SIMRef{SIMID: "8949"}
	_, err := r.SIM(t.Context(), op1, ref)
	wantCode(t, err, manager.CodeUnknownSIM, "nobody's SIM")
	_, err = r.RegisterSIM(t.Context(), op1, ref, "wrong", "", nil)
	wantCode(t, err, manager.CodeUnknownSIM, "a wrong secret")
	s, err := r.RegisterSIM(t.Context(), op1, ref, "s3cret", "", map[string]string{"name": "n"})
	if err != nil || s.Status != manager.SIMReady || s.OperatorID != op1 || s.Name() != "n" {
		t.Errorf("RegisterSIM = %+v, %v", s, err)
	}
	_, err = r.RegisterSIM(t.Context(), op2, ref, "s3cret", "", nil)
	wantCode(t, err, manager.CodeUnknownSIM, "a SIM that is owned")
	changed, err := r.SetSIMStatus(t.Context(), op1, ref, manager.SIMActive)
	if err != nil {
		t.Fatal(err)
	}
	s, err = r.RegisterSIM(t.Context(), op1, ref, "s3cret", "", map[string]string{"name": "n"})
	if err != nil || s.Status != manager.SIMActive || !s.Registered.Equal(changed.Registered) || !s.Modified.Equal(changed.Modified) {
		t.Errorf("the same once more: %+v, %v; want %+v", s, err, changed)
	}
	_, err = r.RegisterSIM(t.Context(), op1, ref, "wrong", "", nil)
	wantCode(t, err, manager.CodeUnknownSIM, "one's own with a wrong secret")
}

// The time of an entry shows at once and is stored.
func TestPortMappingTime(t *testing.T) {
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	r := startSIMsOn(t, st, newFakeCore(imsi1), &fakeWeb{})
	attach(t, r.Service, outerRelay("outer1", manager.DefaultPorts()))
	e := create(t, r.Service)
	if got := r.sim(t, imsi1).PortMapped; !got.Equal(e.Created) {
		t.Errorf("last port mapping at %v; want %v", got, e.Created)
	}
	r.stop()
	if got, err := st.SIMByIMSI(t.Context(), imsi1); err != nil || !got.PortMapped.Equal(e.Created) {
		t.Errorf("stored: %v, %v; want %v", got.PortMapped, err, e.Created)
	}
}

// A ping goes through the inner relay of the device's UPF.
func TestPing(t *testing.T) {
	r := start(t, config())
	ping := func(count int) (manager.PingResult, error) {
		return r.Ping(t.Context(), op1, ref1, count, time.Second)
	}
	_, err := ping(6)
	wantCode(t, err, manager.CodeBadPing, "six requests")
	_, err = ping(1)
	wantCode(t, err, manager.CodeDeviceOffline, "offline")
	r.dir.set(imsi1, "upf1", "10.0.0.1")
	_, err = ping(1)
	wantCode(t, err, manager.CodePingFailed, "no inner relay")
	if e := manager.AsError(err); e.Kind() != manager.KindFailed || !errors.Is(e.Err, manager.CodeNoInnerRelay) {
		t.Errorf("no inner relay: %v; want a failure that clients do not repeat, and why in the log", err)
	}
	inner, err := r.AttachRelay(innerRelay("inner1", "192.0.2.9:7000"))
	if err != nil {
		t.Fatal(err)
	}
	defer inner.End()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		c, err := inner.Next(ctx)
		if err != nil || c.Kind != manager.CommandPing || c.Ping.Device.String() != "10.0.0.1" || c.Ping.Count != 2 {
			t.Errorf("command %+v, %v; want a ping of 10.0.0.1", c, err)
		}
		inner.Acknowledge(manager.Acknowledgement{Session: c.Session, ID: c.ID, Ping: &manager.PingResult{Sent: 2, Received: 2, RTT: time.Millisecond}})
	})
	if got, err := ping(2); err != nil || got.Received != 2 {
		t.Errorf("ping = %+v, %v; want both", got, err)
	}
}

// Who guesses a SIM's registration secret is slowed down, whatever account they use; the
// right one is taken all the same.
func TestRegistrationSecretsAreNotGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Subscribers = append(cfg.Subscribers, manager.SubscriberConfig{IMSI: "001010000000009", SIM: manager.SIMSeed{RegistrationSecret: "s3cret"}})
		r := start(t, cfg)
		ref := manager.SIMRef{IMSI: "001010000000009"}
		begin := time.Now()
		for i := range 10 {
			_, err := r.RegisterSIM(t.Context(), []manager.OperatorID{op1, op2}[i%2], ref, "wrong", "", nil)
			wantCode(t, err, manager.CodeUnknownSubscriber, "a wrong secret")
		}
		// Five are free; then 250 ms, doubled each time, at most 4 s.
		if took := time.Since(begin); took != 7750*time.Millisecond {
			t.Errorf("ten guesses took %s; want 7.75 s", took)
		}
		if s, err := r.RegisterSIM(t.Context(), op1, ref, "s3cret", "", nil); err != nil || s.OperatorID != op1 {
			t.Errorf("the right secret: %v, %v", s.OperatorID, err)
		}
	})
}

// tardy is a Store that has read a SIM before a time of a port mapping was stored, and says
// so after.
type tardy struct {
	manager.Store
	stored chan struct{}
}

func (s tardy) NotePortMappings(ctx context.Context, at map[ident.IMSI]time.Time) error {
	defer close(s.stored)
	return s.Store.NotePortMappings(ctx, at)
}

func (s tardy) SIMByIMSI(ctx context.Context, imsi ident.IMSI) (manager.SIM, error) {
	sim, err := s.Store.SIMByIMSI(ctx, imsi)
	if sim.PortMapped.IsZero() {
		select {
		case <-s.stored:
			synctest.Wait() // and is no longer on its way there
		case <-time.After(time.Minute): // it is not on its way
		}
	}
	return sim, err
}

// A time that is stored while a SIM is read is told all the same.
func TestPortMappingTimeOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		m := startWith(t, config(), st, manager.Deps{Store: tardy{st, make(chan struct{})}, Directory: &places{}})
		attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
		e := create(t, m.Service)
		if got, err := m.SIM(t.Context(), op1, ref1); err != nil || !got.PortMapped.Equal(e.Created) {
			t.Errorf("last port mapping at %v, %v; want %v", got.PortMapped, err, e.Created)
		}
	})
}
