package manager_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// accessRecords are those of one connection.
func accessRecords(e manager.Entry, conn string, at time.Time, types ...manager.AuditType) (out []manager.AuditRecord) {
	for i, k := range types {
		r := manager.AuditRecord{
			ID: fmt.Sprintf("%s-%d", conn, i), Type: k, At: at.UTC().Truncate(time.Millisecond), OperatorID: e.OperatorID, EntryID: e.ID,
			ConnectionID: conn, IMSI: e.IMSI, RelayID: e.RelayID, Source: netip.MustParseAddrPort("198.51.100.9:999"), DevicePort: e.DevicePort,
		}
		if k == manager.AuditDenied {
			r.Cause = manager.CauseSourceDenied
		}
		out = append(out, r)
	}
	return out
}

func auditOf(t *testing.T, s *manager.Service, q manager.AuditQuery) []manager.AuditRecord {
	t.Helper()
	q.OperatorID = op1
	rs, err := s.Audit(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// connections leaves out the life of entries.
func connections(rs []manager.AuditRecord) (out []manager.AuditRecord) {
	for _, r := range rs {
		if r.ConnectionID != "" {
			out = append(out, r)
		}
	}
	return out
}

// TestAuditIsKeptOnce: however batches are lost, repeated and mixed, every record is
// there once.
func TestAuditIsKeptOnce(t *testing.T) {
	m := start(t, config())
	relay := attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
	e := create(t, m.Service)
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var all []manager.AuditRecord
		for c := range 40 {
			all = append(all, accessRecords(e, fmt.Sprintf("c%d.%d", seed, c), time.Now(), manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)...)
		}
		for sent := 0; sent < len(all); {
			n := min(1+rnd.IntN(30), len(all)-sent)
			from := max(0, sent-rnd.IntN(20)) // some again
			refused, err := relay.AddAudit(t.Context(), all[from:sent+n])
			if err != nil || refused != 0 {
				t.Fatalf("AddAudit: %d refused, %v", refused, err)
			}
			if rnd.IntN(3) > 0 { // otherwise the answer was lost and all of it comes again
				sent += n
			}
		}
		got := connections(auditOf(t, m.Service, manager.AuditQuery{}))
		if want := (int(seed) + 1) * 120; len(got) != want {
			t.Errorf("seed %d: %d records, want %d", seed, len(got), want)
		}
		seen := map[string]bool{}
		for _, r := range got {
			if seen[r.ID] {
				t.Errorf("seed %d: %s is there twice", seed, r.ID)
			}
			seen[r.ID] = true
		}
	}
}

// The records of a SIM are kept, however long its ID may be.
func TestAuditOfALongSIMID(t *testing.T) {
	cfg := config()
	cfg.Subscribers[0].SIMID = strings.Repeat("8", manager.MaxSIMID)
	m := start(t, cfg)
	relay := attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
	e, err := m.CreateEntry(t.Context(), op1, manager.CreateRequest{SIMID: cfg.Subscribers[0].SIMID, Port: 22, Ranges: []string{"0.0.0.0/0"}})
	if err != nil {
		t.Fatal(err)
	}
	all := accessRecords(e, "c1", time.Now(), manager.AuditConnected)
	all[0].SIMID = e.SIMID
	if refused, err := relay.AddAudit(t.Context(), all); err != nil || refused != 0 {
		t.Errorf("%d refused, %v", refused, err)
	}
	if got := connections(auditOf(t, m.Service, manager.AuditQuery{})); len(got) != len(all) {
		t.Errorf("%d records; want %d", len(got), len(all))
	}
}

// A relay speaks for its own entries only, of their own operator, and not about the life
// of entries.
func TestAuditOfOthersIsRefused(t *testing.T) {
	m := start(t, config())
	one := attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
	e := create(t, m.Service)
	two := attach(t, m.Service, outerRelay("outer2", manager.PortRange{First: 100, Last: 200}))
	good := accessRecords(e, "good", time.Now(), manager.AuditAccess)[0]
	change := func(f func(*manager.AuditRecord)) manager.AuditRecord {
		r := good
		f(&r)
		return r
	}
	bad := []manager.AuditRecord{
		change(func(r *manager.AuditRecord) { r.OperatorID = op2 }),
		change(func(r *manager.AuditRecord) { r.OperatorID = "OP9999999999" }),
		change(func(r *manager.AuditRecord) { r.EntryID = "unknown" }),
		change(func(r *manager.AuditRecord) { r.Type = manager.AuditCreated }),
		change(func(r *manager.AuditRecord) { r.Type = "NONSENSE" }),
		change(func(r *manager.AuditRecord) { r.ID = "" }),
		change(func(r *manager.AuditRecord) { r.ConnectionID = "" }),
	}
	if refused, err := one.AddAudit(t.Context(), append(bad, good)); err != nil || refused != len(bad) {
		t.Errorf("%d refused, %v; want %d of %d", refused, err, len(bad), len(bad)+1)
	}
	if refused, err := two.AddAudit(t.Context(), []manager.AuditRecord{change(func(r *manager.AuditRecord) { r.ID = "other" })}); err != nil || refused != 1 {
		t.Errorf("another relay: %d refused, %v; want 1", refused, err)
	}
	if got := connections(auditOf(t, m.Service, manager.AuditQuery{})); len(got) != 1 || got[0].ID != good.ID {
		t.Errorf("records %+v", got)
	}
	if st := m.AuditStatus(); st.Stored != 1 || st.Refused != uint64(len(bad)+1) {
		t.Errorf("status %+v", st)
	}
	// A connection may outlive its entry's end by a moment, and the manager's memory.
	if err := m.DeleteEntry(t.Context(), op1, e.Address); err != nil {
		t.Fatal(err)
	}
	m2 := startOn(t, config(), m.store)
	again, err := m2.AttachRelay(outerRelay("outer1", manager.DefaultPorts()))
	if err != nil {
		t.Fatal(err)
	}
	late := accessRecords(e, "late", time.Now(), manager.AuditClosed)
	if refused, err := again.AddAudit(t.Context(), late); err != nil || refused != 0 {
		t.Errorf("after the entry's end: %d refused, %v", refused, err)
	}
	again.End()
	_, err = again.AddAudit(t.Context(), late)
	wantCode(t, err, manager.CodeRelayNotAttached, "a session that is over")
}

func TestAuditIsReadByPageTimeAndDevice(t *testing.T) {
	m := start(t, config())
	relay := attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
	e := create(t, m.Service)
	begin := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var all []manager.AuditRecord
	for c := range 25 { // pairs at one time
		all = append(all, accessRecords(e, fmt.Sprintf("c%02d", c), begin.Add(time.Duration(c/2)*time.Second), manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)...)
	}
	if _, err := relay.AddAudit(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	q := manager.AuditQuery{To: begin.Add(time.Minute), Limit: 7}
	var got []manager.AuditRecord
	for {
		page := auditOf(t, m.Service, q)
		got = append(got, page...)
		if len(page) < q.Limit {
			break
		}
		q.Before = manager.AuditKey(page[len(page)-1])
	}
	if len(got) != len(all) {
		t.Errorf("%d records in pages, want %d", len(got), len(all))
	}
	for i, r := range got {
		if i > 0 && manager.AuditKey(r) >= manager.AuditKey(got[i-1]) {
			t.Errorf("record %d is not older than the one before", i)
		}
	}
	if n := len(auditOf(t, m.Service, manager.AuditQuery{From: begin.Add(time.Second), To: begin.Add(2 * time.Second)})); n != 6 {
		t.Errorf("%d records in one second, want 6", n)
	}
	if n := len(auditOf(t, m.Service, manager.AuditQuery{IMSI: imsi3})); n != 0 {
		t.Errorf("%d records of another device", n)
	}
	if n := len(auditOf(t, m.Service, manager.AuditQuery{IMSI: imsi1, To: begin.Add(time.Minute)})); n != len(all) {
		t.Errorf("%d records of the device, want %d", n, len(all))
	}
	failures, err := m.ErrorLog(t.Context(), manager.AuditQuery{OperatorID: op1})
	if err != nil || len(failures) != 25 {
		t.Fatalf("%d failures, %v; want 25", len(failures), err)
	}
	f := failures[0]
	if f.Code != manager.CodeConnSourceDenied || f.Message(manager.English) == "" || f.Message(manager.Japanese) == f.Message(manager.English) {
		t.Errorf("failure %+v", f)
	}
	if rs, err := m.Audit(t.Context(), manager.AuditQuery{OperatorID: op2}); err != nil || len(rs) != 0 {
		t.Errorf("another operator reads %d records, %v", len(rs), err)
	}
	for _, key := range []string{"x", "1.", ".a", "99999999999999999999.a"} {
		_, err := m.Audit(t.Context(), manager.AuditQuery{OperatorID: op1, Before: key})
		wantCode(t, err, manager.CodeBadPageKey, key)
	}
}

// Records are shown for 24 hours, and for 366 days with the contract; turning it off, or
// on, brings nothing back.
func TestRetention(t *testing.T) {
	m := start(t, config())
	attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
	e := create(t, m.Service)
	ages := map[string]time.Duration{
		"now": 0, "day": 24*time.Hour - time.Minute, "older": 24*time.Hour + time.Minute, "year": 366*24*time.Hour - time.Minute, "ancient": 366*24*time.Hour + time.Minute,
	}
	fillUp := func() {
		t.Helper()
		for name, age := range ages {
			if err := m.store.AddAudit(t.Context(), accessRecords(e, name, time.Now().Add(-age), manager.AuditDenied)); err != nil {
				t.Fatal(err)
			}
		}
	}
	shown := func(why string, want int) {
		t.Helper()
		if n := len(connections(auditOf(t, m.Service, manager.AuditQuery{}))); n != want {
			t.Errorf("%s: %d records, want %d", why, n, want)
		}
		fs, err := m.ErrorLog(t.Context(), manager.AuditQuery{OperatorID: op1, From: time.UnixMilli(1)})
		if err != nil || len(fs) != want {
			t.Errorf("%s: %d failures, %v; want %d", why, len(fs), err, want)
		}
	}
	stored := func(why string, want int) {
		t.Helper()
		rs, err := m.store.Audit(t.Context(), manager.AuditQuery{OperatorID: op1})
		if n := len(connections(rs)); err != nil || n != want {
			t.Errorf("%s: %d records in the store, %v; want %d", why, n, err, want)
		}
	}
	fillUp()
	shown("without the contract", 2)
	wantCode(t, m.DeleteContract(t.Context(), op1, manager.ContractNapter), manager.CodeNoContract, "no contract")
	wantCode(t, m.AddContract(t.Context(), op1, "beer"), manager.CodeBadContract, "an unknown contract")
	if err := m.AddContract(t.Context(), op1, manager.ContractNapter); err != nil {
		t.Fatal(err)
	}
	shown("what was hidden stays away", 2)
	fillUp()
	shown("with the contract", 4)
	if err := m.AddContract(t.Context(), op1, manager.ContractNapter); err != nil { // again
		t.Fatal(err)
	}
	shown("twice", 4)
	if err := m.DeleteContract(t.Context(), op1, manager.ContractNapter); err != nil {
		t.Fatal(err)
	}
	shown("turned off", 2)
	stored("turned off", 2)
	if names, err := m.Contracts(t.Context(), op1); err != nil || len(names) != 0 {
		t.Errorf("contracts %v, %v", names, err)
	}
	// A manager that starts removes what is over.
	fillUp()
	stored("before", 5)
	m2 := startOn(t, config(), m.store)
	late := time.After(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for m2.AuditStatus().Purged < 3 {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("nothing was removed after 5 s")
		}
	}
	stored("after", 2)
}

func TestAuditExports(t *testing.T) {
	m := start(t, config())
	month := time.Now().UTC().Format("200601")
	for range 2 {
		if err := m.CountAuditExport(t.Context(), op1, 100); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		op    manager.OperatorID
		month string
		want  int64
	}{{op1, month, 200}, {op2, month, 0}, {op1, "200001", 0}} {
		if n, err := m.AuditExport(t.Context(), c.op, c.month); err != nil || n != c.want {
			t.Errorf("%s in %s: %d, %v; want %d", c.op, c.month, n, err, c.want)
		}
	}
	_, err := m.AuditExport(t.Context(), op1, "2026-1")
	wantCode(t, err, manager.CodeBadQuery, "a month that is none")
}

// The life of an entry is in the log, in the transaction in which it happens.
func TestLifeOfAnEntryIsAudited(t *testing.T) {
	m := start(t, config())
	attach(t, m.Service, outerRelay("outer1", manager.DefaultPorts()))
	e := create(t, m.Service)
	if err := m.DeleteEntry(t.Context(), op1, e.Address); err != nil {
		t.Fatal(err)
	}
	got := auditOf(t, m.Service, manager.AuditQuery{})
	if len(got) != 2 || got[0].Type != manager.AuditDeleted || got[1].Type != manager.AuditCreated {
		t.Fatalf("records %+v; want CREATED and DELETED, newest first", got)
	}
	for _, r := range got {
		if r.EntryID != e.ID || r.ConnectionID != "" || r.IMSI != e.IMSI || r.OperatorID != op1 || r.RelayID != "outer1" {
			t.Errorf("record %+v", r)
		}
	}
}

func BenchmarkAddAudit(b *testing.B) {
	m := start(b, config())
	session, err := m.AttachRelay(outerRelay("outer1", manager.DefaultPorts()))
	if err != nil {
		b.Fatal(err)
	}
	e := manager.Entry{ID: "entry", OperatorID: op1, IMSI: imsi1, RelayID: "outer1", Strategy: manager.IMSIPrioritized, DevicePort: 22,
		Address: netip.MustParseAddrPort("192.0.2.1:40000"), Created: time.Now(), Expires: time.Now().Add(time.Hour)}
	if err := m.store.CreateEntry(context.Background(), e); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		var batch []manager.AuditRecord
		for range 250 {
			n++
			batch = append(batch, accessRecords(e, fmt.Sprintf("%026d", n), time.Now(), manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)...)
		}
		if refused, err := session.AddAudit(context.Background(), batch); err != nil || refused > 0 {
			b.Fatal(refused, err)
		}
	}
	b.ReportMetric(float64(3*250*b.N)/b.Elapsed().Seconds(), "records/s")
}
