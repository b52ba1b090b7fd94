package amf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

func isErr(err, target error) bool { return errors.Is(err, target) }

func TestConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"as it is", func(*Config) {}, true},
		{"no NF ID", func(c *Config) { c.NFID = "" }, false},
		{"no name", func(c *Config) { c.Name = "" }, false},
		{"no PLMN", func(c *Config) { c.PLMNs = nil }, false},
		{"bad PLMN", func(c *Config) { c.PLMNs[0].PLMN.MCC = "x" }, false},
		{"no slice", func(c *Config) { c.PLMNs[0].Slices = nil }, false},
		{"TAC of 25 bits", func(c *Config) { c.PLMNs[0].TACs = []ident.TAC{1 << 24} }, false},
		{"any TAC", func(c *Config) { c.PLMNs[0].TACs = nil }, true},
		{"GUAMI of another PLMN", func(c *Config) { c.GUAMI.PLMN.MCC = "999" }, false},
		{"AMF set of 11 bits", func(c *Config) { c.GUAMI.Set = 1 << 10 }, false},
		{"NIA0: emergency only, not offered", func(c *Config) { c.Integrity = []int{2, 0} }, false},
		{"NIA4", func(c *Config) { c.Integrity = []int{4} }, false},
		{"NEA0", func(c *Config) { c.Ciphering = []int{0} }, true},
		{"NEA4", func(c *Config) { c.Ciphering = []int{4} }, false},
		{"negative timer", func(c *Config) { c.T3550 = -1 }, false},
		{"negative count", func(c *Config) { c.Retransmissions = -1 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig()
			tt.change(&c)
			if err := c.Validate(); (err == nil) != tt.ok || (err != nil && !errors.Is(err, ErrConfig)) {
				t.Errorf("Validate: %v, want ok %v", err, tt.ok)
			}
		})
	}
}

func TestConfigYAML(t *testing.T) {
	const text = `
nf_id: 11111111-1111-4111-8111-111111111111
name: amf1
guami: {plmn: 001-01, region: 2, set: 1, pointer: 3}
plmns:
- plmn: 001-01
  tacs: [1, 2]
  slices: ["1", 2-010203]
integrity: [2, 1]
ciphering: [0]
t3512: 30m
t3550: 2s
drain_timeout: 1s
`
	var c Config
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.GUAMI != testConfig().GUAMI || c.PLMNs[0].Slices[1].SD != "010203" || c.T3512 != 30*time.Minute || c.Integrity[0] != 2 {
		t.Errorf("%+v", c)
	}
}

func TestSayable(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		time.Second: 2 * time.Second, 62 * time.Second: 62 * time.Second, 63 * time.Second: 90 * time.Second,
		54 * time.Minute: time.Hour, 30 * time.Minute: 30 * time.Minute, 400 * time.Hour: 310 * time.Hour,
	} {
		if got := sayable(d); got != want {
			t.Errorf("sayable(%v) = %v, want %v", d, got, want)
		}
	}
}

func TestNewChecksDeps(t *testing.T) {
	c := newCore()
	full := Deps{N2: sctp.NewPipeListener(n2Addr), Authentication: c, SubscriberData: c, UEContext: c, Sessions: c}
	for i, drop := range []func(*Deps){
		func(d *Deps) { d.N2 = nil }, func(d *Deps) { d.Authentication = nil }, func(d *Deps) { d.SubscriberData = nil },
		func(d *Deps) { d.UEContext = nil }, func(d *Deps) { d.Sessions = nil },
	} {
		d := full
		drop(&d)
		if _, err := New(testConfig(), d); !errors.Is(err, ErrDeps) {
			t.Errorf("%d: %v, want ErrDeps", i, err)
		}
	}
	if _, err := New(Config{}, full); !errors.Is(err, ErrConfig) {
		t.Errorf("%v, want ErrConfig", err)
	}
}

// Stop: associations end, calls that hang are cancelled, everything is joined, and
// whoever still asks gets ErrStopped.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := &testCore{core: newCore(alice, bob), t: t, l: sctp.NewPipeListener(n2Addr), done: make(chan error, 1)}
		var warned strings.Builder
		a, err := New(testConfig(), Deps{
			N2: tc.l, Authentication: tc.core, SubscriberData: tc.core, UEContext: tc.core, Sessions: tc.core,
			Log: slog.New(slog.NewTextHandler(&warned, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		if err != nil {
			t.Fatal(err)
		}
		tc.amf = a
		if err := a.Deregister(t.Context(), alice.supi, sbi.SubscriptionWithdrawn); err == nil {
			t.Error("an AMF that does not run deregistered a UE")
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { tc.done <- a.Run(ctx) }()
		<-a.Ready()
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		tc.onDeregister = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		u.send(&nas.DeregistrationRequest{SwitchOff: true, Identity: nas.MobileIdentity{GUTI: u.guti}})
		u.wantRelease(ngap.NASDeregister, "deregistered")
		tc.onSubscription = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		v := g.ue(bob)
		v.toSecurityMode()
		v.completeSecurity(v.request)
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-tc.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("took %v, want DrainTimeout at most", d)
		}
		if warned.Len() > 0 {
			t.Errorf("told of calls that it ended itself:\n%s", &warned)
		}
		g.wantClosed("after Run")
		if err := a.Run(t.Context()); !errors.Is(err, ErrRunning) {
			t.Errorf("second Run: %v, want ErrRunning", err)
		}
		if err := a.Deregister(t.Context(), bob.supi, sbi.SubscriptionWithdrawn); !errors.Is(err, ErrStopped) {
			t.Errorf("%v, want ErrStopped", err)
		}
	})
}

// A listener that fails ends Run with an error.
func TestListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := &testCore{core: newCore(), t: t, l: sctp.NewPipeListener(n2Addr)}
		a, err := New(testConfig(), Deps{N2: tc.l, Authentication: tc.core, SubscriberData: tc.core, UEContext: tc.core, Sessions: tc.core})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- a.Run(t.Context()) }()
		<-a.Ready()
		if err := tc.l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, sctp.ErrClosed) {
			t.Errorf("%v, want the listener's error", err)
		}
	})
}

// Many UEs at once with few slots for calls, then all deregister: nothing is left,
// and idle UEs hold no goroutine (goleak and the bubble see to that).
func TestManyUEs(t *testing.T) {
	const n = 100
	subs := make([]*subscriber, n)
	for i := range subs {
		subs[i] = newSubscriber(ident.IMSI(fmt.Sprintf("00101%010d", i+1)))
	}
	bubble(t, func(c *Config) { c.MaxCalls = 3 }, subs, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		ues := make([]*testUE, n)
		for i, s := range subs {
			ues[i] = g.ue(s)
			ues[i].request = ues[i].initialRequest()
			ues[i].connect(ues[i].encode(ues[i].request))
		}
		// Messages of many UEs interleave: sort them out by RAN UE NGAP ID.
		byRAN := map[uint32]*testUE{}
		for i, u := range ues {
			byRAN[uint32(i+1)] = u
		}
		done := 0
		for done < n {
			m, err := g.poll()
			if err != nil {
				t.Fatalf("%d of %d registered, then silence: %v", done, n, err)
			}
			var ids ngap.UEIDs
			switch m := m.(type) {
			case *ngap.DownlinkNASTransport:
				ids = m.IDs
			case *ngap.InitialContextSetupRequest:
				ids = m.IDs
			default:
				t.Fatalf("%T", m)
			}
			u := byRAN[ids.RAN]
			switch x := u.open(u.nasOf(m)).(type) {
			case *nas.AuthenticationRequest:
				u.sendPlain(u.answerChallenge(x))
			case *nas.SecurityModeCommand:
				u.completeSecurity(u.request)
			case *nas.RegistrationAccept:
				u.guti = x.GUTI
				u.contextDone()
				u.send(&nas.RegistrationComplete{})
				done++
			default:
				t.Fatalf("%T", x)
			}
		}
		synctest.Wait()
		if st := tc.amf.Status(); len(st.UEs) != n {
			t.Fatalf("%d UEs, want %d", len(st.UEs), n)
		}
		for _, u := range ues {
			u.send(&nas.DeregistrationRequest{SwitchOff: true, Identity: nas.MobileIdentity{GUTI: u.guti}})
		}
		for range n {
			m := want[*ngap.UEContextReleaseCommand](g, "deregistered")
			g.write(&ngap.UEContextReleaseComplete{IDs: m.IDs})
		}
		synctest.Wait()
		wantEmpty(tc)
	})
}

// More than a mailbox holds is dropped and counted; the UE lives on.
func TestMailboxBound(t *testing.T) {
	bubble(t, nil, nil, func(t *testing.T, tc *testCore) {
		u := newUE(tc.amf)
		block, entered := make(chan struct{}), make(chan struct{})
		u.post(func(*ue) { close(entered); <-block })
		<-entered
		for range maxMailbox + 5 {
			u.postBounded(func(*ue) {})
		}
		if n := tc.amf.Status().Counters.MailboxDrops; n != 5 {
			t.Errorf("%d dropped, want 5", n)
		}
		close(block)
		synctest.Wait()
		tc.amf.reg.removeUE(u)
	})
}

// A gNB that takes nothing is given up after SendTimeout.
func TestStuckGNB(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		u.session(1)
		big := make([]byte, 10_000)
		for range 150 { // more than the association buffers
			go func() {
				_ = tc.amf.N1N2Transfer(t.Context(), alice.supi, sbi.N1N2Message{Session: 1, N1: big})
			}()
		}
		sleep(11 * time.Second)
		if s, _ := u.status(); s.Connected || s.State != "REGISTERED" {
			t.Errorf("%+v: want the gNB given up and the UE idle", s)
		}
		if c := tc.amf.Status().Counters; c.GNBsLost != 1 || c.SendFailures == 0 {
			t.Errorf("%d lost, %d send failures", c.GNBsLost, c.SendFailures)
		}
	})
}
