package manager

// Cause is a stable word for why a connection was denied, refused or closed. Relays
// make it; the audit log and the error log carry it.
type Cause string

// Causes.
const (
	CauseClosed      Cause = "closed"       // both sides ended in order
	CauseClientReset Cause = "client-reset" // the client was reset or vanished
	CauseDeviceReset Cause = "device-reset"
	CauseExpired     Cause = "expired"
	CauseRevoked     Cause = "revoked"
	CauseIdle        Cause = "idle-timeout"
	CauseDeviceLeft  Cause = "device-left" // its session ended, or moved to another address
	CauseStopped     Cause = "stopped"     // the relay stopped

	CauseSourceDenied         Cause = "source-denied"
	CauseRateLimited          Cause = "rate-limited"
	CauseTooManyConnections   Cause = "too-many-connections" // of one entry
	CauseOverloaded           Cause = "overloaded"           // of the relay
	CauseAuditUnavailable     Cause = "audit-unavailable"    // the relay could not keep a record of it
	CauseTLSHandshake         Cause = "tls-handshake"        // no TLS, or none that both sides speak
	CauseTLSTimeout           Cause = "tls-timeout"
	CauseCertificateMissing   Cause = "certificate-missing"
	CauseCertificateExpired   Cause = "certificate-expired" // or not yet in force
	CauseCertificateUntrusted Cause = "certificate-untrusted"
	CauseCertificateKey       Cause = "certificate-key" // the CA's name, but not signed with its key
	CauseCertificateRevoked   Cause = "certificate-revoked"
	CauseCredentialRevoked    Cause = "credential-revoked"
	CauseUnknownEntry         Cause = "unknown-entry"
	CauseUnknownTarget        Cause = "unknown-target" // not a device of the entry
	CauseBadRequest           Cause = "bad-request"    // not HTTP/2, or not CONNECT, on an entry for several devices
	CauseDeviceOffline        Cause = "device-offline"
	CauseDeviceRefused        Cause = "device-refused"
	CauseDeviceUnreachable    Cause = "device-unreachable"
	CauseDeviceTimeout        Cause = "device-timeout"
	CauseNoInnerRelay         Cause = "no-inner-relay"
	CauseInnerUnreachable     Cause = "inner-unreachable"
	CauseInnerRefused         Cause = "inner-refused"
	CauseTicketInvalid        Cause = "ticket-invalid"
	CauseDraining             Cause = "draining"
	CauseManagerAway          Cause = "manager-away"
	CauseTimeout              Cause = "timeout"
	CauseFailed               Cause = "resolve-failed"
)

// causes is the one table of causes; it never changes. A cause without a code is no
// failure: the error log does not show it. refused says that a connection turned away
// for it is REFUSED, not DENIED; cuts that it also ends connections that have reached
// their device.
var causes = map[Cause]struct {
	code    Code
	refused bool
	cuts    bool
}{
	CauseClosed:      {},
	CauseClientReset: {},
	CauseDeviceReset: {code: CodeConnDeviceReset, cuts: true},
	CauseExpired:     {code: CodeConnExpired, cuts: true},
	CauseRevoked:     {code: CodeConnRevoked, cuts: true},
	CauseIdle:        {code: CodeConnIdle, cuts: true},
	CauseDeviceLeft:  {code: CodeConnDeviceLeft, cuts: true},
	CauseStopped:     {code: CodeConnStopped, cuts: true},

	CauseSourceDenied:         {code: CodeConnSourceDenied},
	CauseRateLimited:          {code: CodeConnRateLimited, refused: true},
	CauseTooManyConnections:   {code: CodeConnTooMany, refused: true},
	CauseOverloaded:           {code: CodeConnOverloaded, refused: true},
	CauseAuditUnavailable:     {code: CodeConnAuditUnavailable, refused: true},
	CauseTLSHandshake:         {code: CodeConnTLSHandshake},
	CauseTLSTimeout:           {code: CodeConnTLSTimeout},
	CauseCertificateMissing:   {code: CodeConnCertificateMissing},
	CauseCertificateExpired:   {code: CodeConnCertificateExpired, cuts: true},
	CauseCertificateUntrusted: {code: CodeConnCertificateUntrusted},
	CauseCertificateKey:       {code: CodeConnCertificateKey},
	CauseCertificateRevoked:   {code: CodeConnCertificateRevoked, cuts: true},
	CauseCredentialRevoked:    {code: CodeConnCredentialRevoked, cuts: true},
	CauseUnknownEntry:         {code: CodeConnUnknownEntry},
	CauseUnknownTarget:        {code: CodeConnUnknownTarget},
	CauseBadRequest:           {code: CodeConnBadRequest},
	CauseDeviceOffline:        {code: CodeDeviceOffline},
	CauseDeviceRefused:        {code: CodeConnDeviceRefused},
	CauseDeviceUnreachable:    {code: CodeConnDeviceUnreachable},
	CauseDeviceTimeout:        {code: CodeConnDeviceTimeout},
	CauseNoInnerRelay:         {code: CodeConnNoInnerRelay},
	CauseInnerUnreachable:     {code: CodeConnInnerUnreachable},
	CauseInnerRefused:         {code: CodeConnInnerRefused},
	CauseTicketInvalid:        {code: CodeConnTicketInvalid},
	CauseDraining:             {code: CodeConnDraining},
	CauseManagerAway:          {code: CodeConnManagerAway},
	CauseTimeout:              {code: CodeConnTimeout},
	CauseFailed:               {code: CodeConnFailed},
}

// Code returns the code that the error log shows for c; empty for what is no failure.
// A cause that is not in the table has the code of CauseFailed.
func (c Cause) Code() Code {
	t, ok := causes[c]
	if !ok {
		return CodeConnFailed
	}
	return t.code
}

// Denial returns the audit type of a connection that is turned away for c: DENIED, or
// REFUSED for too many accesses.
func (c Cause) Denial() AuditType {
	if causes[c].refused {
		return AuditRefused
	}
	return AuditDenied
}

// Failure reports whether the error log shows the record: it has a cause that is a
// failure, and no record before it has told it. A connection that was turned away is
// CLOSED for the cause that it was DENIED or REFUSED for.
func (r AuditRecord) Failure() bool {
	return r.Cause != "" && r.Cause.Code() != "" && (r.Type != AuditClosed || causes[r.Cause].cuts)
}
