//go:build !race

package manager_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
)

// Days of a bubble's clock are hundreds of thousands of turns of the manager's loops,
// which take minutes under the race detector: make test runs these without it. What they
// do runs in other tests with it.

// The rule fires within 2 s of the report that reaches the threshold, not before, and
// once until its rest is over; the day after counts anew.
func TestTrafficRuleOverDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		faster := typed("ChangeSpeedClassAction", "speedClass", "s1.fast", "executionDateTimeConst", "BEGINNING_OF_NEXT_DAY")
		r.handler(t, daily("10", "BEGINNING_OF_NEXT_DAY"), slower(), faster)
		s := r.attach(t, imsi1, "c1")
		class := func(want manager.SpeedClass, why string) {
			t.Helper()
			if got := r.sim(t, imsi1).SpeedClass; got != want {
				t.Errorf("%s: %s; want %s", why, got, want)
			}
		}
		s.use(t, 9)
		pass(2 * time.Second)
		class(manager.DefaultSpeedClass, "9 MiB of 10")
		s.use(t, 1)
		pass(2 * time.Second)
		class("s1.minimum", "10 MiB")
		if got := r.core.sub(imsi1).SessionAMBR; got != (ident.AMBR{Uplink: 32_000, Downlink: 32_000}) {
			t.Errorf("the core limits to %v", got)
		}
		if _, err := r.SetSpeedClass(t.Context(), op1, ref1, "s1.standard"); err != nil {
			t.Fatal(err)
		}
		s.use(t, 50)
		pass(2 * time.Second)
		class("s1.standard", "while the rule rests")
		pass(24*time.Hour - 8*time.Second) // bubbles begin at midnight UTC
		class("s1.standard", "before midnight")
		pass(4 * time.Second)
		class("s1.fast", "after midnight")
		s.use(t, 9)
		pass(2 * time.Second)
		class("s1.fast", "9 MiB on the second day")
		s.use(t, 1)
		pass(2 * time.Second)
		class("s1.minimum", "10 MiB on the second day")
	})
}

// What waits for its time is done by whoever runs then.
func TestActionsSurviveARestartOverDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		core := newFakeCore(imsi1)
		first := startSIMsOn(t, st, core, &fakeWeb{})
		first.handler(t, daily("1", "NEVER"), typed("SuspendAction", "executionDateTimeConst", "AFTER_ONE_DAY", "executionOffsetMinutes", "5"))
		first.attach(t, imsi1, "c1").use(t, 1)
		pass(time.Second)
		first.stop()
		second := startSIMsOn(t, st, core, &fakeWeb{})
		pass(24*time.Hour + 4*time.Minute)
		if s := second.sim(t, imsi1); s.Status != manager.SIMActive {
			t.Errorf("a minute early: %s", s.Status)
		}
		pass(2 * time.Minute)
		if s := second.sim(t, imsi1); s.Status != manager.SIMSuspended || !core.sub(imsi1).Barred {
			t.Errorf("a day and 6 minutes later: %s; want suspended", s.Status)
		}
	})
}

func TestAPICallsOverDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, config())
		ctx := t.Context()
		list := func(op manager.OperatorID) (apis []string) {
			calls, err := r.APICalls(ctx, manager.APICallQuery{OperatorID: op, Limit: 100})
			must(t, err)
			for _, c := range calls {
				apis = append(apis, c.API)
			}
			return apis
		}
		record := func() {
			for _, api := range []string{"Auth:auth", "Sim:getSim"} {
				r.RecordCall(manager.APICall{Principal: root1, API: api, Path: "/", Status: 200, Source: "::1"})
			}
		}
		record()
		if got := list(op1); len(got) != 1 || got[0] != "Auth:auth" {
			t.Errorf("without the contract %v are kept; want logins only", got)
		}
		must(t, r.AddContract(ctx, op1, manager.ContractAPIAudit))
		record()
		if got := list(op1); len(got) != 3 {
			t.Errorf("with the contract %v are kept; want all since", got)
		}
		if got := list(op2); len(got) != 0 {
			t.Errorf("another operator sees %v", got)
		}
		<-time.After(48 * time.Hour)
		if got := list(op1); len(got) != 3 {
			t.Errorf("two days later %v are kept with the contract", got)
		}
		must(t, r.DeleteContract(ctx, op1, manager.ContractAPIAudit))
		if got := list(op1); len(got) != 0 {
			t.Errorf("two days later %v are shown without the contract", got)
		}
		<-time.After(2 * time.Minute)
		if n, err := r.store.PurgeAPICalls(ctx, op1, time.Now(), 100); err != nil || n != 0 {
			t.Errorf("%d calls are left, %v; want them removed in the background", n, err)
		}
	})
}
