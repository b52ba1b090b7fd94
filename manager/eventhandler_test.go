package manager_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

func atOnce() manager.Typed { // an action that happens at once
	return typed("SuspendAction", "executionDateTimeConst", "IMMEDIATELY")
}

func daily(mib, rest string) manager.Typed {
	return typed("SubscriberDailyTrafficRule", "limitTotalTrafficMegaByte", mib, "inactiveTimeoutDateConst", rest)
}

func slower() manager.Typed {
	return typed("ChangeSpeedClassAction", "speedClass", "s1.minimum", "executionDateTimeConst", "IMMEDIATELY")
}

// Of two managers on one store, both of which hear of reports, one acts.
func TestFiresOnceWithTwoManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		core, web := newFakeCore(imsi1), &fakeWeb{}
		a := startSIMsOn(t, st, core, web)
		b := startSIMsOn(t, st, core, web)
		a.handler(t, daily("1", "NEVER"), typed("ExecuteWebRequestAction", "url", "http://example.com/", "httpMethod", "POST", "contentType", "text/plain", "executionDateTimeConst", "IMMEDIATELY"))
		s := a.attach(t, imsi1, "c1")
		for i := range 10 {
			s.rig = []*simRig{a, b}[i%2]
			s.use(t, 1)
		}
		pass(time.Minute)
		if n := len(web.requests()); n != 1 {
			t.Errorf("%d web requests; want 1", n)
		}
	})
}

// A web request is filled in, and tried again when the server has a fault of its own.
func TestWebRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		r.web.statuses = []int{503, 500}
		if _, err := r.PutSIMTags(t.Context(), op1, ref1, map[string]string{"name": `a "b"`}); err != nil {
			t.Fatal(err)
		}
		r.handler(t, typed("SubscriberSessionStatusRule", "sessionStatus", "Created", "inactiveTimeoutDateConst", "IMMEDIATELY"),
			typed("ExecuteWebRequestAction", "url", "http://example.com/?s=${simId}&n=${name}", "httpMethod", "POST", "contentType", "application/json", "body", `{"imsi":"${imsi}","name":"${name}","x":"${nothing}"}`, "executionDateTimeConst", "IMMEDIATELY"))
		r.attach(t, imsi1, "c1")
		pass(time.Minute)
		got := r.web.requests()
		if len(got) != 3 {
			t.Fatalf("%d requests; want two that failed and one more", len(got))
		}
		if want := "http://example.com/?s=" + sim1 + "&n=a+%22b%22"; got[2].URL != want {
			t.Errorf("URL %q; want %q", got[2].URL, want)
		}
		if want := `{"imsi":"` + imsi1 + `","name":"a \"b\"","x":""}`; got[2].Body != want {
			t.Errorf("body %q; want %q", got[2].Body, want)
		}
	})
}

// Handlers that set each other off come to an end.
func TestHandlerChainsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		on := func(status, action string) {
			r.handler(t, typed("SimStatusAttributeRule", "targetStatus", status, "inactiveTimeoutDateConst", "IMMEDIATELY"), typed(action, "executionDateTimeConst", "IMMEDIATELY"))
		}
		on("active", "DeactivationAction")
		on("inactive", "ActivationAction")
		r.status(t, manager.SIMActive)
		pass(time.Minute)
		history, err := r.StatusHistory(t.Context(), op1, ref1, manager.RecordQuery{})
		if err != nil || len(history) != 7 {
			t.Errorf("%d statuses, %v; want ready, active and five changes by handlers", len(history), err)
		}
	})
}

func TestOtherRules(t *testing.T) {
	rest := []string{"inactiveTimeoutDateConst", "NEVER"}
	for name, c := range map[string]struct {
		rule   manager.Typed
		happen func(t *testing.T, r *simRig)
	}{
		"the first traffic":    {typed("SubscriberFirstTrafficRule", rest...), func(t *testing.T, r *simRig) { r.attach(t, imsi1, "c1").use(t, 1) }},
		"the operator's total": {typed("DailyTotalTrafficRule", append(rest, "limitTotalTrafficMegaByte", "5")...), func(t *testing.T, r *simRig) { r.attach(t, imsi3, "c3").use(t, 4); r.attach(t, imsi1, "c1").use(t, 1) }},
		"a speed class": {typed("SimSpeedClassAttributeRule", append(rest, "targetSpeedClass", "s1.fast")...), func(t *testing.T, r *simRig) {
			if _, err := r.SetSpeedClass(t.Context(), op1, ref1, "s1.fast"); err != nil {
				t.Error(err)
			}
		}},
		"a status from another": {typed("SubscriberStatusAttributeRule", append(rest, "sourceStatus", "ready", "targetStatus", "active")...), func(t *testing.T, r *simRig) { r.attach(t, imsi1, "c1") }},
		"an expiry": {typed("SubscriberExpiredRule", rest...), func(t *testing.T, r *simRig) {
			if _, err := r.SetExpiry(t.Context(), op1, ref1, time.Now().Add(time.Second), ""); err != nil {
				t.Error(err)
			}
		}},
		"another device": {typed("SimImeiMismatchedRule", rest...), func(t *testing.T, r *simRig) {
			e := sbi.EquipmentEvent{ID: "e1", Type: sbi.EquipmentRefused, SUPI: ident.IMSI(imsi1).SUPI(), PEI: "imei-353490069873319"}
			if err := r.EquipmentEvent(t.Context(), e); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startSIMs(t)
				h := r.handler(t, c.rule, atOnce())
				c.happen(t, r)
				pass(4 * time.Second)
				if s := r.sim(t, imsi1); s.Status != manager.SIMSuspended {
					t.Errorf("%s; want the rule to have fired", s.Status)
				}
				if hs, err := r.HandlersOf(t.Context(), op1, imsi1); err != nil || len(hs) != 1 || hs[0].ID != h.ID {
					t.Errorf("handlers that watch it: %v, %v", hs, err)
				}
			})
		})
	}
}

// A handler watches the SIM that its target names, in whatever form of an IMSI.
func TestHandlerOfPrefixedIMSI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		want := manager.EventHandler{Name: "h", Active: true, Kind: manager.TargetIMSI, Target: "imsi-" + imsi1, Rule: daily("1", "NEVER"), Actions: []manager.Typed{atOnce()}}
		h, err := r.CreateHandler(t.Context(), op1, want)
		if err == nil && h.Target == imsi1 {
			h, err = r.PutHandler(t.Context(), op1, h.ID, want)
		}
		if err != nil || h.Target != imsi1 {
			t.Errorf("target %q, %v; want %s", h.Target, err, imsi1)
		}
		r.attach(t, imsi1, "c1").use(t, 1)
		pass(4 * time.Second)
		if got := r.sim(t, imsi1).Status; got != manager.SIMSuspended {
			t.Errorf("%s; want the rule to have fired", got)
		}
	})
}

func TestIgnoredHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startSIMs(t)
		h := r.handler(t, daily("1", "NEVER"), atOnce())
		ignore := func(on bool) error { return r.IgnoreHandler(t.Context(), op1, h.ID, imsi1, on) }
		wantCode(t, ignore(false), manager.CodeNotIgnored, "not ignored yet")
		if err := ignore(true); err != nil {
			t.Fatal(err)
		}
		s := r.attach(t, imsi1, "c1")
		s.use(t, 1)
		pass(3 * time.Second)
		if got := r.sim(t, imsi1).Status; got != manager.SIMActive {
			t.Errorf("%s; want the handler to leave it alone", got)
		}
		if err := ignore(false); err != nil {
			t.Fatal(err)
		}
		s.use(t, 1)
		pass(3 * time.Second)
		if got := r.sim(t, imsi1).Status; got != manager.SIMSuspended {
			t.Errorf("%s; want suspended", got)
		}
	})
}

func TestHandlerIsRefused(t *testing.T) {
	r := startSIMs(t)
	ok := func() manager.EventHandler {
		return manager.EventHandler{Name: "h", Active: true, Kind: manager.TargetIMSI, Target: imsi1, Rule: daily("1", "NEVER"), Actions: []manager.Typed{atOnce()}}
	}
	for name, c := range map[string]struct {
		change func(*manager.EventHandler)
		want   manager.Code
	}{
		"no name":                {func(h *manager.EventHandler) { h.Name = "" }, manager.CodeBadHandler},
		"no target":              {func(h *manager.EventHandler) { h.Kind = "" }, manager.CodeBadHandler},
		"another operator":       {func(h *manager.EventHandler) { h.Kind, h.Target = manager.TargetOperator, string(op2) }, manager.CodeBadHandler},
		"another operator's SIM": {func(h *manager.EventHandler) { h.Target = imsi2 }, manager.CodeUnknownSubscriber},
		"an unknown group":       {func(h *manager.EventHandler) { h.Kind, h.Target = manager.TargetGroup, "g" }, manager.CodeUnknownGroup},
		"no actions":             {func(h *manager.EventHandler) { h.Actions = nil }, manager.CodeBadHandler},
		"six actions": {func(h *manager.EventHandler) {
			h.Actions = []manager.Typed{atOnce(), atOnce(), atOnce(), atOnce(), atOnce(), atOnce()}
		}, manager.CodeBadHandler},
		"a rule about charges":   {func(h *manager.EventHandler) { h.Rule.Type = "MonthlyChargeRule" }, manager.CodeUnsupportedRule},
		"mail":                   {func(h *manager.EventHandler) { h.Actions[0].Type = "SendMailAction" }, manager.CodeUnsupportedAction},
		"traffic without a rest": {func(h *manager.EventHandler) { h.Rule = daily("1", "IMMEDIATELY") }, manager.CodeBadHandler},
		"traffic of nothing":     {func(h *manager.EventHandler) { h.Rule = daily("0", "NEVER") }, manager.CodeBadHandler},
		"an unknown moment":      {func(h *manager.EventHandler) { h.Rule = daily("1", "SOON") }, manager.CodeBadHandler},
		"a total of one device":  {func(h *manager.EventHandler) { h.Rule.Type = "DailyTotalTrafficRule" }, manager.CodeBadHandler},
		"an address with a login": {func(h *manager.EventHandler) {
			h.Actions[0] = typed("ExecuteWebRequestAction", "url", "http://u:p@h/", "executionDateTimeConst", "IMMEDIATELY")
		}, manager.CodeBadHandler},
		"a file": {func(h *manager.EventHandler) {
			h.Actions[0] = typed("ExecuteWebRequestAction", "url", "file:///etc/passwd", "executionDateTimeConst", "IMMEDIATELY")
		}, manager.CodeBadHandler},
	} {
		h := ok()
		c.change(&h)
		_, err := r.CreateHandler(t.Context(), op1, h)
		wantCode(t, err, c.want, name)
	}
	for i := range manager.MaxHandlers {
		if _, err := r.CreateHandler(t.Context(), op1, ok()); err != nil {
			t.Fatalf("handler %d: %v", i, err)
		}
	}
	_, err := r.CreateHandler(t.Context(), op1, ok())
	wantCode(t, err, manager.CodeTooManyHandlers, fmt.Sprintf("handler %d", manager.MaxHandlers+1))
}
