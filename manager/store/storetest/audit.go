package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/manager"
)

func auditRecord(id string, at time.Time) manager.AuditRecord {
	return manager.AuditRecord{
		ID: id, Type: manager.AuditClosed, At: at, OperatorID: op, EntryID: "entry", ConnectionID: "conn", IMSI: "001010000000001",
		SIMID: "8942310000000000001", RelayID: "outer1", Source: netip.MustParseAddrPort("[2001:db8::1]:1"),
		Destination: netip.MustParseAddrPort("10.60.0.1:22"), DevicePort: 22, TLS: true, Cause: manager.CauseIdle, Up: 1 << 62, Down: 7,
	}
}

func audit(t *testing.T, s manager.Store, q manager.AuditQuery) []manager.AuditRecord {
	t.Helper()
	if q.OperatorID == "" {
		q.OperatorID = op
	}
	rs, err := s.Audit(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func testAudit(t *testing.T, s manager.Store) {
	want := auditRecord("a", t0)
	bare := manager.AuditRecord{ID: "b", Type: manager.AuditCreated, At: t0.Add(time.Millisecond), OperatorID: op, EntryID: "entry", RelayID: "outer1"}
	if err := s.AddAudit(t.Context(), []manager.AuditRecord{want, bare}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]manager.AuditRecord{bare, want}, audit(t, s, manager.AuditQuery{}), equal...); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]manager.AuditRecord{want}, audit(t, s, manager.AuditQuery{Failures: true}), equal...); d != "" {
		t.Errorf("failures (-want +got):\n%s", d)
	}
	if o, r, err := s.EntryOwner(t.Context(), "entry"); o != op || r != "outer1" || err != nil {
		t.Errorf("owner of an entry that is over: %s, %s, %v", o, r, err)
	}
	if _, _, err := s.EntryOwner(t.Context(), "none"); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("owner of an unknown entry: %v", err)
	}
	if _, err := s.Audit(t.Context(), manager.AuditQuery{OperatorID: op, Before: "x"}); !errors.Is(err, manager.CodeBadPageKey) {
		t.Errorf("a key that is none: %v", err)
	}
}

// testAuditOnce: writers that hand in the same records, at one time and again, leave one
// of each; all sizes of batches work.
func testAuditOnce(t *testing.T, s manager.Store) {
	var all []manager.AuditRecord
	for i := range 333 {
		all = append(all, auditRecord(fmt.Sprintf("%05d", i), t0.Add(time.Duration(i/3)*time.Millisecond)))
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for from := w; from < len(all); {
				n := min(1+(from*7+w)%90, len(all)-from)
				if err := s.AddAudit(t.Context(), all[max(0, from-5):from+n]); err != nil {
					t.Error(err)
				}
				from += n
			}
		})
	}
	wg.Wait()
	if err := s.AddAudit(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if err := s.AddAudit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// Text that cannot be kept is refused, and takes no other writer's records along.
	wg.Go(func() {
		bad := auditRecord("bad", t0)
		bad.ConnectionID = "\x00"
		if err := s.AddAudit(t.Context(), []manager.AuditRecord{auditRecord("beside", t0), bad}); !errors.Is(err, manager.ErrBadText) {
			t.Errorf("text that cannot be kept: %v; want %v", err, manager.ErrBadText)
		}
	})
	// More than one statement takes, with some of them twice.
	var many []manager.AuditRecord
	for i := range 9000 {
		r := auditRecord(fmt.Sprintf("m%05d", i/2), t0)
		r.OperatorID = "OP0000000009"
		many = append(many, r)
	}
	if err := s.AddAudit(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := len(audit(t, s, manager.AuditQuery{OperatorID: "OP0000000009"})); n != len(many)/2 {
		t.Errorf("%d records of many; want one of each, %d", n, len(many)/2)
	}
	got := audit(t, s, manager.AuditQuery{})
	if len(got) != len(all) {
		t.Fatalf("%d records, want %d", len(got), len(all))
	}
	var paged []manager.AuditRecord
	for q := (manager.AuditQuery{Limit: 50}); ; {
		page := audit(t, s, q)
		paged = append(paged, page...)
		if len(page) < q.Limit {
			break
		}
		q.Before = manager.AuditKey(page[len(page)-1])
	}
	if d := cmp.Diff(got, paged, equal...); d != "" {
		t.Errorf("pages differ from the whole:\n%s", d)
	}
}

func testPurge(t *testing.T, s manager.Store) {
	const other = manager.OperatorID("OP0000000002")
	var all []manager.AuditRecord
	for i := range 10 {
		a, b := auditRecord(fmt.Sprint("a", i), t0.Add(time.Duration(i)*time.Second)), auditRecord(fmt.Sprint("b", i), t0)
		b.OperatorID = other
		all = append(all, a, b)
	}
	if err := s.AddAudit(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if ops, err := s.AuditOperators(t.Context()); err != nil || len(ops) != 2 || ops[0] != op || ops[1] != other {
		t.Errorf("operators %v, %v", ops, err)
	}
	for _, want := range []int{4, 2, 0} {
		if n, err := s.PurgeAudit(t.Context(), op, t0.Add(6*time.Second), 4); err != nil || n != want {
			t.Errorf("purged %d, %v; want %d", n, err, want)
		}
	}
	if n, m := len(audit(t, s, manager.AuditQuery{})), len(audit(t, s, manager.AuditQuery{OperatorID: other})); n != 4 || m != 10 {
		t.Errorf("%d and %d records are left; want 4 and 10", n, m)
	}
}

func testContracts(t *testing.T, s manager.Store) {
	for _, n := range []string{"b", "a", "b"} {
		if err := s.AddContract(t.Context(), op, n, t0); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := s.Contracts(t.Context(), op); err != nil || fmt.Sprint(names) != "[a b]" {
		t.Errorf("contracts %v, %v", names, err)
	}
	if err := s.DeleteContract(t.Context(), op, "a"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteContract(t.Context(), op, "a"); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if names, err := s.Contracts(t.Context(), "OP0000000002"); err != nil || len(names) != 0 {
		t.Errorf("another's contracts %v, %v", names, err)
	}
	for range 2 {
		if err := s.AddAuditExport(t.Context(), op, "202601", 5); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.AuditExport(t.Context(), op, "202601"); err != nil || n != 10 {
		t.Errorf("exported %d, %v; want 10", n, err)
	}
}

func testCredentials(t *testing.T, s manager.Store) {
	want := manager.Credential{ID: "c1", OperatorID: op, Name: "ä", CA: []byte{0, 1, 255}, PublicKey: []byte{7}, Created: t0, RevokedSerials: []string{}}
	most := manager.CredentialLimits{InForce: 2, Revoked: 1, Forget: t0}
	if err := s.AddCredential(t.Context(), want, most); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Credential(t.Context(), "c1"); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v (-want +got):\n%s", err, cmp.Diff(want, got))
	}
	if _, err := s.Credential(t.Context(), "c2"); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
	refused := errors.New("refused")
	if _, err := s.UpdateCredential(t.Context(), "c1", func(c *manager.Credential) error { c.Name = "x"; return refused }); !errors.Is(err, refused) {
		t.Errorf("a refused change: %v", err)
	}
	if _, err := s.UpdateCredential(t.Context(), "c2", func(*manager.Credential) error { return nil }); !errors.Is(err, manager.ErrNotFound) {
		t.Errorf("a change of an unknown one: %v", err)
	}
	want.Revoked, want.RevokedSerials = t0.Add(time.Hour), []string{"a", "ff"}
	got, err := s.UpdateCredential(t.Context(), "c1", func(c *manager.Credential) error {
		c.Revoked, c.RevokedSerials = want.Revoked, want.RevokedSerials
		return nil
	})
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("changed: %v (-want +got):\n%s", err, cmp.Diff(want, got))
	}
	second := want
	second.ID = "c2"
	if err := s.AddCredential(t.Context(), second, most); err != nil {
		t.Fatal(err)
	}
	if cs, err := s.Credentials(t.Context(), manager.CredentialQuery{OperatorID: op, After: "c1", Limit: 5}); err != nil || len(cs) != 1 || cmp.Diff(second, cs[0]) != "" {
		t.Errorf("list: %+v, %v", cs, err)
	}
	if cs, err := s.Credentials(t.Context(), manager.CredentialQuery{OperatorID: "OP0000000002"}); err != nil || len(cs) != 0 {
		t.Errorf("another's list: %+v, %v", cs, err)
	}
	// Two are revoked, of which one may be: they count for nothing else, and go when
	// their time has come.
	third := manager.Credential{ID: "c3", OperatorID: op, CA: []byte{1}, PublicKey: []byte{7}, Created: t0}
	if err := s.AddCredential(t.Context(), third, most); !errors.Is(err, manager.ErrTooMany) {
		t.Errorf("with one more revoked than may be: %v", err)
	}
	most.Forget = want.Revoked.Add(time.Millisecond)
	if err := s.AddCredential(t.Context(), third, most); err != nil {
		t.Errorf("with nothing but what is forgotten: %v", err)
	}
	if cs, err := s.Credentials(t.Context(), manager.CredentialQuery{OperatorID: op}); err != nil || len(cs) != 1 || cs[0].ID != "c3" {
		t.Errorf("%+v, %v; want c3 alone", cs, err)
	}
}
