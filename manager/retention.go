package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"
)

// ContractNapter is the option that keeps the audit log for longer (N8).
const ContractNapter = "napter"

// How long audit records are kept, without and with ContractNapter.
const (
	ShortRetention = 24 * time.Hour
	LongRetention  = 366 * 24 * time.Hour
)

const (
	purgeInterval = time.Minute
	purgeBatch    = 2000 // records in one transaction, during which nothing else is written
	maxOwners     = 50_000
)

// auditState is what a Service keeps of the audit log in memory. Its zero value works.
type auditState struct {
	mu     sync.Mutex                       // guards owners
	owners map[EntryID]unique.Handle[owner] // there are few different ones

	stored  atomic.Uint64
	refused atomic.Uint64
	purged  atomic.Uint64
}

type owner struct {
	operator OperatorID
	relay    RelayID
}

// AuditStatus is a snapshot of counters about the audit log, since the manager began.
type AuditStatus struct {
	Stored  uint64 // taken from relays, repeated ones included
	Refused uint64 // of which the relay may not speak
	Purged  uint64 // removed because their time was over
}

// AuditStatus returns a copy of the counters.
func (s *Service) AuditStatus() AuditStatus {
	return AuditStatus{Stored: s.audit.stored.Load(), Refused: s.audit.refused.Load(), Purged: s.audit.purged.Load()}
}

// AddAudit keeps a relay's audit records, once for each ID however often they come. It
// returns how many it refused for good: those about an entry that is not on this relay
// or not that operator's, and those with a type or an ID that cannot be.
//
// When it returns nil all others are stored. Errors: CodeRelayNotAttached,
// CodeInternal.
func (rs *RelaySession) AddAudit(ctx context.Context, records []AuditRecord) (refused int, err error) {
	s := rs.svc
	if rs.err() != nil {
		return 0, NewError(CodeRelayNotAttached)
	}
	good := make([]AuditRecord, 0, len(records))
	for _, r := range records {
		ok, err := s.maySpeak(ctx, rs.relay.ID, r)
		if err != nil {
			return 0, AsError(err)
		}
		if !ok {
			refused++
			continue
		}
		r.RelayID, r.At = rs.relay.ID, r.At.UTC().Truncate(time.Millisecond)
		good = append(good, r)
	}
	if len(good) > 0 {
		if err := s.store.AddAudit(ctx, good); err != nil {
			return 0, AsError(fmt.Errorf("audit records of relay %s: %w", rs.relay.ID, err))
		}
	}
	s.audit.stored.Add(uint64(len(good)))
	if refused > 0 && s.audit.refused.Add(uint64(refused)) == uint64(refused) {
		s.log.Warn("audit records refused; further ones are only counted", "relay", rs.relay.ID, "records", refused)
	}
	return refused, nil
}

// maySpeak reports whether a relay may hand in r.
func (s *Service) maySpeak(ctx context.Context, relay RelayID, r AuditRecord) (bool, error) {
	switch r.Type {
	case AuditAccess, AuditConnected, AuditDenied, AuditRefused, AuditClosed:
	default:
		return false, nil // the life of entries is told by the managers
	}
	if slices.ContainsFunc([]string{r.ID, r.ConnectionID, string(r.Cause), string(r.IMSI), r.SIMID, string(r.EntryID)}, unstorable) {
		return false, nil
	}
	if r.ID == "" || len(r.ID) > 64 || r.ConnectionID == "" || len(r.ConnectionID) > 64 || len(r.Cause) > 64 || len(r.IMSI) > 15 || len(r.SIMID) > MaxSIMID {
		return false, nil
	}
	o, err := s.entryOwner(ctx, r.EntryID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return o == owner{r.OperatorID, relay}, err
}

// entryOwner remembers what the store says: an entry never changes hands.
func (s *Service) entryOwner(ctx context.Context, id EntryID) (owner, error) {
	a := &s.audit
	a.mu.Lock()
	known, ok := a.owners[id]
	a.mu.Unlock()
	if ok {
		return known.Value(), nil
	}
	op, relay, err := s.store.EntryOwner(ctx, id)
	if err != nil {
		return owner{}, err
	}
	o := owner{op, relay}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.owners == nil || len(a.owners) >= maxOwners {
		a.owners = map[EntryID]unique.Handle[owner]{} // they come back as they are asked for
	}
	a.owners[id] = unique.Make(o)
	return o, nil
}

// retention returns how long an operator's audit records are kept.
func (s *Service) retention(ctx context.Context, op OperatorID) (time.Duration, error) {
	names, err := s.store.Contracts(ctx, op)
	if err != nil {
		return 0, err
	}
	if slices.Contains(names, ContractNapter) {
		return LongRetention, nil
	}
	return ShortRetention, nil
}

// Audit returns what q selects of an operator's audit log, newest first. Records whose
// time is over are left out, whether they have been removed yet or not (N8).
//
// Errors: CodeBadPageKey, CodeInternal.
func (s *Service) Audit(ctx context.Context, q AuditQuery) ([]AuditRecord, error) {
	keep, err := s.retention(ctx, q.OperatorID)
	if err != nil {
		return nil, AsError(err)
	}
	if oldest := now().Add(-keep); q.From.Before(oldest) {
		q.From = oldest
	}
	rs, err := s.store.Audit(ctx, q)
	if err != nil {
		return nil, AsError(err)
	}
	return rs, nil
}

// Failure is a line of the error log (N9): an audit record with the code that says why.
type Failure struct {
	AuditRecord
	Code Code
}

// Message says why in a language.
func (f Failure) Message(l Language) string { return NewError(f.Code).Message(l) }

// ErrorLog returns those records of Audit that tell of a failure.
//
// Errors: CodeBadPageKey, CodeInternal.
func (s *Service) ErrorLog(ctx context.Context, q AuditQuery) ([]Failure, error) {
	q.Failures = true
	rs, err := s.Audit(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]Failure, len(rs))
	for i, r := range rs {
		out[i] = Failure{r, r.Cause.Code()}
	}
	return out, nil
}

// Contracts returns the names of an operator's contracts. Errors: CodeInternal.
func (s *Service) Contracts(ctx context.Context, op OperatorID) ([]string, error) {
	names, err := s.store.Contracts(ctx, op)
	if err != nil {
		return nil, AsError(err)
	}
	return names, nil
}

// AddContract adds a contract unless the operator has it. What the shorter retention has
// already hidden does not come back. Errors: CodeBadContract, CodeInternal.
func (s *Service) AddContract(ctx context.Context, op OperatorID, name string) error {
	if !knownContract(name) {
		return NewError(CodeBadContract, name)
	}
	names, err := s.Contracts(ctx, op)
	if err != nil {
		return err
	}
	if name == ContractNapter && !slices.Contains(names, name) {
		if err := s.purge(ctx, op, ShortRetention); err != nil {
			return AsError(err)
		}
	}
	if err := s.store.AddContract(ctx, op, name, now()); err != nil {
		return AsError(err)
	}
	return nil
}

// DeleteContract ends a contract; records of which the time is over thereby are
// discarded before it returns. Errors: CodeBadContract, CodeNoContract, CodeInternal.
func (s *Service) DeleteContract(ctx context.Context, op OperatorID, name string) error {
	if !knownContract(name) {
		return NewError(CodeBadContract, name)
	}
	switch err := s.store.DeleteContract(ctx, op, name); {
	case errors.Is(err, ErrNotFound):
		return NewError(CodeNoContract, name)
	case err != nil:
		return AsError(err)
	}
	if name == ContractNapter {
		if err := s.purge(ctx, op, ShortRetention); err != nil {
			return AsError(err)
		}
	}
	return nil
}

func knownContract(name string) bool { return name == ContractNapter || name == ContractAPIAudit }

// CountAuditExport counts bytes of audit records that an operator has read now, and
// AuditExport returns those of a month, "YYYYMM". Errors: CodeBadQuery, CodeInternal.
func (s *Service) CountAuditExport(ctx context.Context, op OperatorID, bytes int64) error {
	if err := s.store.AddAuditExport(ctx, op, now().Format("200601"), bytes); err != nil {
		return AsError(err)
	}
	return nil
}

// AuditExport is explained at CountAuditExport.
func (s *Service) AuditExport(ctx context.Context, op OperatorID, month string) (int64, error) {
	if _, err := time.Parse("200601", month); err != nil {
		return 0, NewError(CodeBadQuery, "year_month")
	}
	n, err := s.store.AuditExport(ctx, op, month)
	if err != nil {
		return 0, AsError(err)
	}
	return n, nil
}

// purgeLoop removes audit records whose time is over until ctx ends.
func (s *Service) purgeLoop(ctx context.Context) {
	tick := time.NewTicker(purgeInterval)
	defer tick.Stop()
	for {
		if err := s.purgeAll(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("old audit records not removed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) purgeAll(ctx context.Context) error {
	ops, err := s.store.AuditOperators(ctx)
	if err != nil {
		return err
	}
	for _, op := range ops {
		keep, err := s.retention(ctx, op)
		if err != nil {
			return err
		}
		if err := s.purge(ctx, op, keep); err != nil {
			return err
		}
	}
	return nil
}

// purge removes an operator's records that are older than keep.
func (s *Service) purge(ctx context.Context, op OperatorID, keep time.Duration) error {
	before := now().Add(-keep)
	for {
		n, err := s.store.PurgeAudit(ctx, op, before, purgeBatch)
		if err != nil {
			return err
		}
		s.audit.purged.Add(uint64(n))
		if n < purgeBatch {
			return nil
		}
	}
}
