package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// simTests are the part of the suite about SIMs.
var simTests = []struct {
	name string
	test func(*testing.T, manager.Store)
}{
	{"a SIM comes back as it was stored", testSIMRoundTrip},
	{"seeding leaves what is there", testSeed},
	{"searches find parts, whatever the case", testSearch},
	{"pages of SIMs are complete", testSIMPages},
	{"changes that the core must learn make a SIM dirty", testDirty},
	{"changes of one SIM at one time are all kept", testSIMRace},
	{"a report counts once", testChargingOnce},
	{"a session's life is in its events", testSessionLife},
	{"usage is in bins of all periods", testUsage},
	{"groups have SIMs and end without them", testGroups},
	{"a firing has one winner and rests", testFire},
	{"an action is claimed once", testActions},
	{"handlers are limited and found by target", testHandlers},
}

const simA, simB = ident.IMSI("001010000000001"), ident.IMSI("001010000000002")

func simOf(imsi ident.IMSI, change ...func(*manager.SIM)) manager.SIM {
	s := manager.SIM{
		IMSI: imsi, SIMID: "894" + string(imsi), OperatorID: op, Status: manager.SIMReady, SpeedClass: manager.DefaultSpeedClass,
		Tags: map[string]string{"name": ""}, Created: t0, Modified: t0,
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func seed(t *testing.T, s manager.Store, sims ...manager.SIM) {
	t.Helper()
	if n, err := s.SeedSIMs(t.Context(), sims); err != nil || n != len(sims) {
		t.Fatalf("SeedSIMs = %d, %v; want all %d", n, err, len(sims))
	}
}

func testSIMRoundTrip(t *testing.T, s manager.Store) {
	want := simOf(simA, func(s *manager.SIM) {
		s.Tags = map[string]string{"name": "Kamera 1", "site": "Ōsaka"}
		s.Lock = &manager.IMEILock{IMEI: "353490069873319", Anonymous: true}
		s.ExpiryTime, s.ExpiryAction = t0.Add(time.Hour), manager.ExpireSuspend
		s.Bundles, s.MSISDN, s.ICCID = []string{"b"}, "8190", "894"
	})
	seed(t, s, want)
	for name, get := range map[string]func() (manager.SIM, error){
		"by IMSI":   func() (manager.SIM, error) { return s.SIMByIMSI(t.Context(), simA) },
		"by SIM ID": func() (manager.SIM, error) { return s.SIMByID(t.Context(), want.SIMID) },
	} {
		got, err := get()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(ident.AMBR{})); d != "" {
			t.Errorf("%s: SIM changed in the store (-stored +read):\n%s", name, d)
		}
	}
	if _, err := s.SIMByIMSI(t.Context(), simB); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("an unknown IMSI: %v; want ErrNotFound", err)
	}
	history, err := s.StatusHistory(t.Context(), manager.RecordQuery{IMSI: simA})
	if err != nil || len(history) != 1 || history[0].Status != manager.SIMReady {
		t.Errorf("history = %v, %v; want the first status", history, err)
	}
	if due, err := s.ExpiringSIMs(t.Context(), t0.Add(time.Hour-time.Millisecond), 9); err != nil || len(due) != 0 {
		t.Errorf("1 ms before it expires: %d due, %v", len(due), err)
	}
	if due, err := s.ExpiringSIMs(t.Context(), t0.Add(time.Hour), 9); err != nil || len(due) != 1 {
		t.Errorf("when it expires: %d due, %v; want it", len(due), err)
	}
}

func testSeed(t *testing.T, s manager.Store) {
	seed(t, s, simOf(simA))
	if _, _, err := s.UpdateSIM(t.Context(), simA, func(s *manager.SIM) error { s.Status = manager.SIMActive; return nil }); err != nil {
		t.Fatal(err)
	}
	n, err := s.SeedSIMs(t.Context(), []manager.SIM{simOf(simA), simOf(simB), simOf("001010000000003", func(x *manager.SIM) { x.SIMID = simOf(simA).SIMID })})
	if err != nil || n != 1 {
		t.Fatalf("SeedSIMs = %d, %v; want 1: one is there, one has another's SIM ID", n, err)
	}
	if got, err := s.SIMByIMSI(t.Context(), simA); err != nil || got.Status != manager.SIMActive {
		t.Errorf("status after seeding again: %s, %v; want active", got.Status, err)
	}
}

func imsis(sims []manager.SIM) string {
	var out string
	for _, s := range sims {
		out += string(s.IMSI[len(s.IMSI)-1])
	}
	return out
}

func testSearch(t *testing.T, s manager.Store) {
	ctx := t.Context()
	g := manager.Group{ID: "g-1", OperatorID: op, Tags: map[string]string{"name": "Fleet West"}, Created: t0, Modified: t0}
	if err := s.AddGroup(ctx, g, 9); err != nil {
		t.Fatal(err)
	}
	seed(t, s,
		simOf("001010000000001", func(x *manager.SIM) { x.Tags["name"], x.GroupID = "Camera 100%", g.ID }),
		simOf("001010000000002", func(x *manager.SIM) {
			x.Tags["name"], x.Tags["Site"] = "camera b", "Tokyo"
			x.Status = manager.SIMActive
		}),
		simOf("001010000000003", func(x *manager.SIM) { x.SIMID, x.SerialNumber, x.SpeedClass = "", "SN1", "s1.fast" }),
		simOf("001010000000004", func(x *manager.SIM) { x.OperatorID, x.Tags["name"] = "OP0000000002", "camera" }))
	term := func(f manager.SearchField, vs ...string) manager.SearchTerm {
		return manager.SearchTerm{Field: f, Values: vs}
	}
	online := true
	for _, c := range []struct {
		name string
		q    manager.SIMQuery
		want string
	}{
		{"all", manager.SIMQuery{}, "123"},
		{"only those with a SIM ID", manager.SIMQuery{BySIMID: true}, "12"},
		{"part of a name", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchName, "CAMERA")}}, "12"},
		{"a per cent sign is itself", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchName, "0%")}}, "1"},
		{"an underscore is itself", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchName, "camera_b")}}, ""},
		{"a group's name", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchGroup, "west")}}, "1"},
		{"a tag's value", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchTag, "tokyo")}}, "2"},
		{"alternatives", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchTag, "tokyo", "100")}}, "12"},
		{"and", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchName, "camera"), term(manager.SearchStatus, "active")}}, "2"},
		{"or", manager.SIMQuery{Terms: []manager.SearchTerm{term(manager.SearchSerial, "sn"), term(manager.SearchStatus, "active")}, Any: true}, "23"},
		{"status", manager.SIMQuery{Statuses: []manager.SIMStatus{manager.SIMReady}}, "13"},
		{"speed class", manager.SIMQuery{SpeedClasses: []manager.SpeedClass{"s1.fast", "s1.slow"}}, "3"},
		{"serial number", manager.SIMQuery{Serials: []string{"SN1"}}, "3"},
		{"online", manager.SIMQuery{Online: &online}, ""},
		{"group", manager.SIMQuery{GroupID: g.ID}, "1"},
		{"tag", manager.SIMQuery{TagName: "Site", TagValue: "Tokyo"}, "2"},
		{"tag in another case", manager.SIMQuery{TagName: "Site", TagValue: "tokyo"}, ""},
		{"beginning of a tag", manager.SIMQuery{TagName: "name", TagValue: "Cam", TagPrefix: true}, "1"},
	} {
		c.q.OperatorID = op
		got, err := s.SIMs(ctx, c.q)
		if err != nil || imsis(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, imsis(got), err, c.want)
		}
	}
	counts, err := s.CountSIMs(ctx, op)
	if err != nil || counts[manager.SIMReady] != 2 || counts[manager.SIMActive] != 1 {
		t.Errorf("CountSIMs = %v, %v; want 2 ready and 1 active", counts, err)
	}
}

func testSIMPages(t *testing.T, s manager.Store) {
	var sims []manager.SIM
	for i := range 25 {
		sims = append(sims, simOf(ident.IMSI(fmt.Sprintf("00101000000%04d", i))))
	}
	seed(t, s, sims...)
	for _, bySIM := range []bool{false, true} {
		seen, after := 0, ""
		for {
			page, err := s.SIMs(t.Context(), manager.SIMQuery{OperatorID: op, BySIMID: bySIM, After: after, Limit: 7})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			seen += len(page)
			after = string(page[len(page)-1].IMSI)
			if bySIM {
				after = page[len(page)-1].SIMID
			}
		}
		if seen != 25 {
			t.Errorf("pages have %d SIMs; want 25", seen)
		}
	}
}

func testDirty(t *testing.T, s manager.Store) {
	ctx := t.Context()
	seed(t, s, simOf(simA))
	change := func(f func(*manager.SIM)) manager.SIM {
		t.Helper()
		_, after, err := s.UpdateSIM(ctx, simA, func(s *manager.SIM) error { f(s); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return after
	}
	if got := change(func(s *manager.SIM) { s.Tags["name"] = "x" }); got.Dirty {
		t.Error("a name is nothing for the core, yet the SIM is dirty")
	}
	first := change(func(s *manager.SIM) { s.Status = manager.SIMSuspended })
	second := change(func(s *manager.SIM) { s.SpeedClass = "s1.slow" })
	if !first.Dirty || second.Version <= first.Version {
		t.Errorf("versions %d and %d, dirty %v; want a new one each time", first.Version, second.Version, first.Dirty)
	}
	dirty := func(want string, why string) {
		t.Helper()
		got, err := s.DirtySIMs(ctx, "", 9)
		if err != nil || imsis(got) != want {
			t.Errorf("%s: dirty %q, %v; want %q", why, imsis(got), err, want)
		}
	}
	if err := s.MarkSynced(ctx, simA, second.Version); err != nil {
		t.Fatal(err)
	}
	dirty("", "the core has the newest version")
	if err := s.MarkSynced(ctx, simA, first.Version); err != nil {
		t.Fatal(err)
	}
	dirty("1", "the core got the older version last")
	if sup, err := s.SupervisedSIMs(ctx, "", 9); err != nil || imsis(sup) != "1" {
		t.Errorf("supervised %q, %v; want the one that is barred", imsis(sup), err)
	}
	refusal := errors.New("no")
	if _, _, err := s.UpdateSIM(ctx, simA, func(s *manager.SIM) error { s.Status = manager.SIMTerminated; return refusal }); !errors.Is(err, refusal) {
		t.Errorf("a refused change: %v; want the refusal", err)
	}
	if got, err := s.SIMByIMSI(ctx, simA); err != nil || got.Status != manager.SIMSuspended {
		t.Errorf("status after a refused change: %s, %v", got.Status, err)
	}
}

func testSIMRace(t *testing.T, s manager.Store) {
	seed(t, s, simOf(simA))
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			_, _, err := s.UpdateSIM(context.WithoutCancel(t.Context()), simA, func(s *manager.SIM) error { s.Tags[fmt.Sprint(i)] = "x"; return nil })
			if err != nil {
				t.Errorf("UpdateSIM: %v", err)
			}
		})
	}
	wg.Wait()
	if got, err := s.SIMByIMSI(t.Context(), simA); err != nil || len(got.Tags) != 13 {
		t.Errorf("%d tags, %v; want all 12 and the name", len(got.Tags), err)
	}
}

func report(kind manager.ReportKind, ref string, seq uint32, change ...func(*manager.ChargingReport)) manager.ChargingReport {
	r := manager.ChargingReport{
		Kind: kind, Ref: ref, ChargingID: "c-" + ref, Sequence: seq, IMSI: simA, At: t0.Add(time.Duration(seq) * time.Second),
		Status: manager.SessionStatus{Session: 1, DNN: "internet", UPF: "upf1", Created: t0, Updated: t0},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func used(up, down uint64) func(*manager.ChargingReport) {
	return func(r *manager.ChargingReport) {
		r.Used = manager.Usage{Up: up, Down: down, UpPackets: 1, DownPackets: 1}
	}
}

func apply(t *testing.T, s manager.Store, reports ...manager.ChargingReport) []manager.ChargingOutcome {
	t.Helper()
	out, err := s.ApplyCharging(t.Context(), reports)
	if err != nil {
		t.Fatalf("ApplyCharging: %v", err)
	}
	return out
}

func testChargingOnce(t *testing.T, s manager.Store) {
	seed(t, s, simOf(simA))
	out := apply(t, s, report(manager.ChargingCreate, "r1", 1), report(manager.ChargingUpdate, "r1", 2, used(10, 20)), report(manager.ChargingUpdate, "r1", 2, used(10, 20)))
	if out[0].Repeat || out[1].Repeat || !out[2].Repeat {
		t.Errorf("outcomes %+v; want the third to be a repeat", out)
	}
	again := report(manager.ChargingCreate, "r2", 1, func(r *manager.ChargingReport) { r.ChargingID = "c-r1" })
	if o := apply(t, s, again)[0]; o.Ref != "r1" || !o.Repeat {
		t.Errorf("the same session created again: %+v; want the first one's reference", o)
	}
	if o := apply(t, s, report(manager.ChargingUpdate, "r9", 2, used(1, 1)))[0]; o.Ref != "" {
		t.Errorf("an unknown reference: %+v; want none", o)
	}
	var wg sync.WaitGroup
	var counted atomic.Int64
	for range 8 {
		wg.Go(func() {
			out, err := s.ApplyCharging(context.WithoutCancel(t.Context()), []manager.ChargingReport{report(manager.ChargingUpdate, "r1", 3, used(1, 0))})
			if err != nil {
				t.Errorf("ApplyCharging: %v", err)
			} else if !out[0].Repeat {
				counted.Add(1)
			}
		})
	}
	wg.Wait()
	u, err := s.UsageTotal(t.Context(), string(simA), manager.PeriodAll, manager.PeriodAll.Start(t0))
	if want := (manager.Usage{Up: 11, Down: 20, UpPackets: 2, DownPackets: 2}); err != nil || u != want || counted.Load() != 1 {
		t.Errorf("usage %+v, %v, counted %d times; want %+v, once", u, err, counted.Load(), want)
	}
}

func testSessionLife(t *testing.T, s manager.Store) {
	ctx := t.Context()
	seed(t, s, simOf(simA))
	o := apply(t, s, report(manager.ChargingCreate, "r1", 1))[0]
	if o.Before.Status != manager.SIMReady || o.After.Status != manager.SIMActive || o.After.Session == nil || o.Event != manager.SessionCreated {
		t.Errorf("the first session: %+v; want an active SIM with a session", o)
	}
	online := true
	if got, err := s.SIMs(ctx, manager.SIMQuery{OperatorID: op, Online: &online}); err != nil || imsis(got) != "1" {
		t.Errorf("online %q, %v; want it", imsis(got), err)
	}
	moved := func(r *manager.ChargingReport) { r.Status.UPF = "upf2" }
	if o := apply(t, s, report(manager.ChargingUpdate, "r1", 2, moved))[0]; o.Event != manager.SessionModified || o.After.Session.UPF != "upf2" {
		t.Errorf("another UPF: %+v; want Modified", o)
	}
	second := func(r *manager.ChargingReport) { r.Status.Session = 2; r.At = t0.Add(3 * time.Second) }
	apply(t, s, report(manager.ChargingCreate, "r2", 1, second))
	o = apply(t, s, report(manager.ChargingRelease, "r2", 2, second, used(5, 5)))[0]
	if o.Event != manager.SessionDeleted || o.After.Session == nil || o.After.Session.ID != "r1" || o.After.Previous.ID != "r2" {
		t.Errorf("the second of two sessions ended: %+v; want the first to be the SIM's again", o)
	}
	// The same number again: the release of the first got lost.
	o = apply(t, s, report(manager.ChargingCreate, "r3", 1, func(r *manager.ChargingReport) { r.At = t0.Add(9 * time.Second) }))[0]
	if o.After.Session == nil || o.After.Session.ID != "r3" || o.After.Previous.ID != "r1" {
		t.Errorf("a session with the number of another: %+v; want the other to have ended", o)
	}
	if o := apply(t, s, report(manager.ChargingRelease, "r1", 3, used(1, 1)))[0]; o.Event != "" || o.After.Session.ID != "r3" || o.Counted.Up != 1 {
		t.Errorf("a late release: %+v; want its usage and nothing else", o)
	}
	o, err := s.EndSession(ctx, "r3", t0.Add(20*time.Second))
	if err != nil || o.Event != manager.SessionDeleted || o.After.Session != nil {
		t.Errorf("EndSession = %+v, %v; want the session gone", o, err)
	}
	if o, err := s.EndSession(ctx, "r3", t0.Add(21*time.Second)); err != nil || o.Event != "" {
		t.Errorf("EndSession again = %+v, %v; want nothing", o, err)
	}
	events, err := s.SessionRecords(ctx, manager.RecordQuery{IMSI: simA})
	if err != nil {
		t.Fatal(err)
	}
	var got string
	for _, e := range events {
		got += string(e.Kind[0]) + e.Session.ID[1:] + " "
	}
	if want := "C1 M1 C2 D2 D1 C3 D3 "; got != want {
		t.Errorf("events %q; want %q", got, want)
	}
	if some, err := s.SessionRecords(ctx, manager.RecordQuery{IMSI: simA, Descending: true, Limit: 2, After: events[6].ID, To: t0.Add(9 * time.Second)}); err != nil || len(some) != 2 || some[0].Session.ID != "r3" {
		t.Errorf("the page after the newest: %d, %v", len(some), err)
	}
	if o := apply(t, s, report(manager.ChargingCreate, "r4", 1, func(r *manager.ChargingReport) { r.IMSI = simB }))[0]; o.Known || o.Ref != "r4" {
		t.Errorf("a subscriber that is nobody's SIM: %+v; want a reference and nothing else", o)
	}
	if stale, err := s.StaleSessions(ctx, t0.Add(time.Hour), 9); err != nil || len(stale) != 1 || stale[0].ID != "r4" {
		t.Errorf("stale %v, %v; want the one that exists", stale, err)
	}
	if err := s.TouchSession(ctx, "r4", t0.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if stale, err := s.StaleSessions(ctx, t0.Add(time.Hour), 9); err != nil || len(stale) != 0 {
		t.Errorf("stale %v, %v after it was seen", stale, err)
	}
	if err := s.PurgeUsage(ctx, t0.Add(10*time.Second), t0); err != nil {
		t.Fatal(err)
	}
	if left, err := s.SessionRecords(ctx, manager.RecordQuery{IMSI: simA}); err != nil || len(left) != 1 {
		t.Errorf("%d events, %v after purging; want the last", len(left), err)
	}
}

func testUsage(t *testing.T, s manager.Store) {
	ctx := t.Context()
	seed(t, s, simOf(simA, func(s *manager.SIM) { s.GroupID = "g" }), simOf(simB))
	at := func(d time.Duration) func(*manager.ChargingReport) {
		return func(r *manager.ChargingReport) { r.At = t0.Add(d) }
	}
	apply(t, s, report(manager.ChargingCreate, "r1", 1), report(manager.ChargingUpdate, "r1", 2, used(1, 2)),
		report(manager.ChargingUpdate, "r1", 3, used(10, 20), at(5*time.Minute)), report(manager.ChargingUpdate, "r1", 4, used(100, 200), at(24*time.Hour)),
		report(manager.ChargingCreate, "r2", 1, func(r *manager.ChargingReport) { r.IMSI = simB }), report(manager.ChargingUpdate, "r2", 2, used(1000, 0)))
	for _, c := range []struct {
		subject string
		period  manager.Period
		want    []uint64 // up of each bin
	}{
		{string(simA), manager.PeriodMinutes, []uint64{1, 10, 100}},
		{string(simA), manager.PeriodDay, []uint64{11, 100}},
		{string(simA), manager.PeriodMonth, []uint64{111}},
		{string(op), manager.PeriodDay, []uint64{1011, 100}},
		{"g", manager.PeriodMonth, []uint64{111}},
	} {
		bins, err := s.Usage(ctx, manager.UsageQuery{Subject: c.subject, Period: c.period, From: t0.AddDate(0, -1, 0), To: t0.AddDate(0, 1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, b := range bins {
			got = append(got, b.Up)
			if b.Start != c.period.Start(b.Start) || b.SpeedClass != manager.DefaultSpeedClass {
				t.Errorf("%s of %s: a bin at %s of %s", c.period, c.subject, b.Start, b.SpeedClass)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s of %s (-want +got):\n%s", c.period, c.subject, d)
		}
	}
	ranked, err := s.TrafficRanking(ctx, op, manager.PeriodDay.Start(t0), t0, 9, false)
	want := []manager.Ranked{{IMSI: simB, Volume: 1000}, {IMSI: simA, Volume: 33}}
	if d := cmp.Diff(want, ranked); err != nil || d != "" {
		t.Errorf("ranking: %v (-want +got):\n%s", err, d)
	}
}

func testGroups(t *testing.T, s manager.Store) {
	ctx := t.Context()
	for _, id := range []string{"g1", "g2"} {
		g := manager.Group{ID: manager.GroupID(id), OperatorID: op, Tags: map[string]string{"name": id}, Created: t0, Modified: t0,
			Configuration: map[string]map[string]json.RawMessage{"SoracomAir": {"userdata": json.RawMessage(`"x"`)}}}
		if err := s.AddGroup(ctx, g, 9); err != nil {
			t.Fatal(err)
		}
		got, err := s.Group(ctx, g.ID)
		if d := cmp.Diff(g, got); err != nil || d != "" {
			t.Errorf("group: %v (-stored +read):\n%s", err, d)
		}
	}
	seed(t, s, simOf(simA, func(x *manager.SIM) { x.GroupID = "g1" }))
	gs, err := s.Groups(ctx, manager.GroupQuery{OperatorID: op, TagName: "name", TagValue: "g2"})
	if err != nil || len(gs) != 1 || gs[0].ID != "g2" {
		t.Errorf("groups by tag: %v, %v", gs, err)
	}
	if gs, err = s.Groups(ctx, manager.GroupQuery{OperatorID: op, After: "g1", Limit: 5}); err != nil || len(gs) != 1 {
		t.Errorf("groups after the first: %v, %v", gs, err)
	}
	if g, err := s.UpdateGroup(ctx, "g2", func(g *manager.Group) error { g.Tags["a"] = "b"; return nil }); err != nil || g.Tags["a"] != "b" {
		t.Errorf("UpdateGroup = %v, %v", g, err)
	}
	if err := s.DeleteGroup(ctx, "g1"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteGroup(ctx, "g1"); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("deleted again: %v; want ErrNotFound", err)
	}
	if got, err := s.SIMByIMSI(ctx, simA); err != nil || got.GroupID != "" {
		t.Errorf("group of the SIM after its end: %q, %v; want none", got.GroupID, err)
	}
}

func handler(id string, change ...func(*manager.EventHandler)) manager.EventHandler {
	h := manager.EventHandler{ID: manager.HandlerID(id), OperatorID: op, Name: id, Active: true, Kind: manager.TargetOperator, Target: string(op),
		Rule: manager.Typed{Type: "SimExpiredRule", Properties: map[string]json.RawMessage{"inactiveTimeoutDateConst": json.RawMessage(`"NEVER"`)}}, Created: t0, Modified: t0}
	for _, c := range change {
		c(&h)
	}
	return h
}

func testFire(t *testing.T, s manager.Store) {
	ctx := t.Context()
	if err := s.AddHandler(ctx, handler("h1"), 10); err != nil {
		t.Fatal(err)
	}
	fire := func(after time.Duration, mark string) bool {
		t.Helper()
		ok, err := s.Fire(ctx, manager.Firing{HandlerID: "h1", Subject: string(simA), Mark: mark, At: t0.Add(after), Until: t0.Add(after + time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !fire(0, "e1") || fire(time.Minute-time.Millisecond, "e2") {
		t.Error("want it to fire, and then to rest for a minute")
	}
	if fire(time.Minute, "e1") || !fire(time.Minute, "e2") {
		t.Error("after the rest: want the same event to fire no more, and another to fire")
	}
	if err := s.PutHandler(ctx, handler("h1"), 10); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			ok, err := s.Fire(context.WithoutCancel(ctx), manager.Firing{HandlerID: "h1", Subject: string(simA), At: t0, Until: t0.Add(time.Hour),
				Actions: []manager.PendingAction{{ID: fmt.Sprintf("a%d", i), HandlerID: "h1", IMSI: simA, Due: t0}}})
			if err != nil {
				t.Errorf("Fire: %v", err)
			}
			if ok {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	actions, err := s.ClaimActions(ctx, t0, t0.Add(time.Minute), 99)
	if err != nil || won.Load() != 1 || len(actions) != 1 {
		t.Errorf("%d fired with %d actions, %v; want one of each", won.Load(), len(actions), err)
	}
}

func testActions(t *testing.T, s manager.Store) {
	ctx := t.Context()
	if next, err := s.NextAction(ctx); err != nil || !next.IsZero() {
		t.Errorf("NextAction of an empty store = %v, %v", next, err)
	}
	a := manager.PendingAction{ID: "a1", HandlerID: "h1", IMSI: simA, Due: t0.Add(time.Second), Depth: 2, Action: manager.Typed{Type: "SuspendAction"}}
	if _, err := s.Fire(ctx, manager.Firing{HandlerID: "h1", Subject: "x", At: t0, Until: t0, Actions: []manager.PendingAction{a}}); err != nil {
		t.Fatal(err)
	}
	claim := func(after time.Duration) []manager.PendingAction {
		t.Helper()
		got, err := s.ClaimActions(ctx, t0.Add(after), t0.Add(after+time.Minute), 9)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := claim(0); len(got) != 0 {
		t.Error("claimed before it is due")
	}
	if got := claim(time.Second); len(got) != 1 || got[0].Attempts != 1 || got[0].Depth != 2 || got[0].Action.Type != "SuspendAction" {
		t.Errorf("claimed %+v; want the action", got)
	}
	if got := claim(2 * time.Second); len(got) != 0 {
		t.Error("claimed twice")
	}
	if got := claim(2 * time.Minute); len(got) != 1 || got[0].Attempts != 2 {
		t.Errorf("claimed %+v after the claim ran out; want a second attempt", got)
	}
	if err := s.PostponeAction(ctx, "a1", t0.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if next, err := s.NextAction(ctx); err != nil || !next.Equal(t0.Add(time.Hour)) {
		t.Errorf("NextAction = %v, %v; want in an hour", next, err)
	}
	if err := s.FinishAction(ctx, "a1"); err != nil {
		t.Fatal(err)
	}
	if got := claim(2 * time.Hour); len(got) != 0 {
		t.Error("claimed after its end")
	}
}

func testHandlers(t *testing.T, s manager.Store) {
	ctx := t.Context()
	for i, h := range []manager.EventHandler{handler("h1"), handler("h2", func(h *manager.EventHandler) { h.Active = false })} {
		if err := s.AddHandler(ctx, h, 2); err != nil {
			t.Fatalf("handler %d: %v", i, err)
		}
	}
	if err := s.AddHandler(ctx, handler("h3"), 2); !errors.Is(err, manager.ErrTooMany) {
		t.Errorf("a third of two: %v; want ErrTooMany", err)
	}
	if err := s.AddHandler(ctx, handler("h3", func(h *manager.EventHandler) { h.Kind, h.Target = manager.TargetIMSI, string(simA) }), 2); err != nil {
		t.Errorf("one of another target: %v", err)
	}
	active, err := s.ActiveHandlers(ctx, []string{string(op), string(simA)})
	if err != nil || len(active) != 2 || active[0].ID != "h1" || active[1].ID != "h3" {
		t.Errorf("active %v, %v; want h1 and h3", active, err)
	}
	if hs, err := s.Handlers(ctx, op, manager.TargetIMSI); err != nil || len(hs) != 1 {
		t.Errorf("of an IMSI: %v, %v", hs, err)
	}
	for _, want := range []bool{true, false} {
		if changed, err := s.SetIgnored(ctx, "h1", simA, true); err != nil || changed != want {
			t.Errorf("SetIgnored = %v, %v; want %v", changed, err, want)
		}
	}
	if ignored, err := s.Ignored(ctx, simA); err != nil || !ignored["h1"] || ignored["h3"] {
		t.Errorf("Ignored = %v, %v; want h1", ignored, err)
	}
	if err := s.DeleteHandler(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Handler(ctx, "h1"); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("after its end: %v; want ErrNotFound", err)
	}
}
