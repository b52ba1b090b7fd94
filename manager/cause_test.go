package manager

import "testing"

// A failure is in the error log once: the record that closes a connection that was
// turned away repeats its cause, the one that closes a relayed connection tells it first.
func TestFailuresAreToldOnce(t *testing.T) {
	for _, c := range []struct {
		typ   AuditType
		cause Cause
		want  bool
	}{
		{AuditAccess, "", false}, {AuditConnected, "", false},
		{AuditDenied, CauseSourceDenied, true}, {AuditClosed, CauseSourceDenied, false},
		{AuditRefused, CauseRateLimited, true}, {AuditClosed, CauseRateLimited, false},
		{AuditClosed, CauseClosed, false}, {AuditClosed, CauseClientReset, false},
		{AuditClosed, CauseDeviceReset, true}, {AuditClosed, CauseExpired, true}, {AuditClosed, CauseIdle, true},
		{AuditDenied, "of-a-newer-relay", true},
	} {
		if got := (AuditRecord{Type: c.typ, Cause: c.cause}).Failure(); got != c.want {
			t.Errorf("%s %q: %v; want %v", c.typ, c.cause, got, c.want)
		}
	}
}
