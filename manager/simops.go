package manager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// SIMRef names a SIM by its ID, or if that is empty by its IMSI.
type SIMRef struct {
	IMSI  ident.IMSI
	SIMID string
}

func (r SIMRef) unknown() *Error {
	if r.SIMID != "" {
		return NewError(CodeUnknownSIM, r.SIMID)
	}
	return NewError(CodeUnknownSubscriber, string(r.IMSI))
}

// owned returns a SIM of the operator. Errors: CodeUnknownSubscriber, CodeUnknownSIM
// (also for another operator's), CodeInternal.
func (s *Service) owned(ctx context.Context, op OperatorID, ref SIMRef) (Subscriber, error) {
	var sub Subscriber
	var err error
	if ref.SIMID != "" {
		sub, err = s.subscriberBySIM(ctx, ref.SIMID)
	} else {
		sub, err = s.subscriberByIMSI(ctx, ref.IMSI)
	}
	if err == nil && (sub.OperatorID != op || op == "") {
		err = ref.unknown()
	}
	return sub, err
}

func (s *Service) ownedSIM(ctx context.Context, op OperatorID, ref SIMRef) (SIM, error) {
	sub, err := s.owned(ctx, op, ref)
	if err != nil {
		return SIM{}, err
	}
	sim, err := s.store.SIMByIMSI(ctx, sub.IMSI)
	if err != nil {
		return SIM{}, fault("find SIM", err)
	}
	return sim, nil
}

// result adds to a SIM what the store does not have. mapped is from before it was read.
func (s *Service) result(ctx context.Context, sim SIM, mapped unstoredTimes) SIMResult {
	r := SIMResult{SIM: sim}
	if at := mapped.at(sim.IMSI); at.After(r.PortMapped) {
		r.PortMapped = at
	}
	if at, err := s.dir.Lookup(ctx, sim.IMSI); err == nil {
		r.Attached = at
	}
	return r
}

// SIM returns one of the operator's SIMs. Errors: CodeUnknownSubscriber,
// CodeUnknownSIM, CodeInternal.
func (s *Service) SIM(ctx context.Context, op OperatorID, ref SIMRef) (SIMResult, error) {
	mapped := s.sims.mapped.unstored()
	sim, err := s.ownedSIM(ctx, op, ref)
	if err != nil {
		return SIMResult{}, err
	}
	return s.result(ctx, sim, mapped), nil
}

// SIMs lists an operator's SIMs. Errors: CodeUnknownGroup if q names a group that is not
// the operator's, CodeInternal.
func (s *Service) SIMs(ctx context.Context, q SIMQuery) ([]SIMResult, error) {
	if q.GroupID != "" {
		if _, err := s.Group(ctx, q.OperatorID, q.GroupID); err != nil {
			return nil, err
		}
	}
	mapped := s.sims.mapped.unstored()
	sims, err := s.store.SIMs(ctx, q)
	if err != nil {
		return nil, fault("list SIMs", err)
	}
	out := make([]SIMResult, len(sims))
	for i, sim := range sims {
		out[i] = s.result(ctx, sim, mapped)
	}
	return out, nil
}

// SIMsPerStatus counts an operator's SIMs; every status is there.
func (s *Service) SIMsPerStatus(ctx context.Context, op OperatorID) (map[SIMStatus]int, error) {
	counts, err := s.store.CountSIMs(ctx, op)
	if err != nil {
		return nil, fault("count SIMs", err)
	}
	for _, st := range simStatuses {
		counts[st] += 0
	}
	return counts, nil
}

// changeSIM changes one of the operator's SIMs, has the core do what follows and judges
// the rules that watch. The core may take longer, or be away: then the change stands,
// the SIM stays dirty and coreLoop goes on.
func (s *Service) changeSIM(ctx context.Context, op OperatorID, ref SIMRef, depth int, change func(*SIM) error) (SIMResult, error) {
	sub, err := s.owned(ctx, op, ref)
	if err != nil {
		return SIMResult{}, err
	}
	mapped := s.sims.mapped.unstored()
	before, after, err := s.store.UpdateSIM(ctx, sub.IMSI, func(sim *SIM) error {
		if sim.OperatorID != op {
			return ref.unknown()
		}
		if err := change(sim); err != nil {
			return err
		}
		sim.Modified = now()
		return nil
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return SIMResult{}, ref.unknown()
	case errors.Is(err, ErrNoGroup): // it was deleted since it was looked at
		return SIMResult{}, NewError(CodeUnknownGroup, string(after.GroupID))
	case err != nil:
		return SIMResult{}, fault("change SIM", err)
	}
	return s.result(ctx, s.simChanged(ctx, before, after, depth), mapped), nil
}

// simChanged does what follows from a change that is stored, and returns the SIM as it is
// then.
func (s *Service) simChanged(ctx context.Context, before, after SIM, depth int) SIM {
	// What is stored happens, whether or not the caller waits for it.
	ctx = context.WithoutCancel(ctx)
	if before.Status.Barred() != after.Status.Barred() {
		s.bar(after) // before the core is told, which may take its time
	}
	if before.Status != after.Status {
		s.log.Info("SIM status changed", "supi", after.IMSI.SUPI(), "from", before.Status, "to", after.Status)
	}
	if after.Dirty {
		callCtx, cancel := context.WithTimeout(ctx, s.cfg.SIMs.CoreTimeout)
		after.Dirty = s.syncCore(callCtx, after) != nil
		cancel()
		if after.Dirty {
			poke(s.sims.coreWake)
		}
	}
	s.happened(ctx, changes(before, after, depth)...)
	return after
}

// changes are the triggers of a change.
func changes(before, after SIM, depth int) []trigger {
	var ts []trigger
	if before.Status != after.Status {
		ts = append(ts, trigger{kind: onStatus, sim: after, from: string(before.Status), to: string(after.Status), depth: depth})
	}
	if before.SpeedClass != after.SpeedClass {
		ts = append(ts, trigger{kind: onSpeedClass, sim: after, from: string(before.SpeedClass), to: string(after.SpeedClass), depth: depth})
	}
	return ts
}

func (s *Service) setStatus(ctx context.Context, op OperatorID, ref SIMRef, to SIMStatus, depth int) (SIMResult, error) {
	return s.changeSIM(ctx, op, ref, depth, func(sim *SIM) error {
		if to == SIMTerminated && !sim.TerminationEnabled {
			return NewError(CodeTerminationProtected)
		}
		var err error
		sim.Status, err = sim.Status.to(to)
		return err
	})
}

// SetSIMStatus activates, deactivates, suspends, terminates or puts on standby. The core
// bars or admits the device before it returns, unless the core cannot be reached: the
// result is Dirty then. Errors: CodeUnknownSubscriber, CodeUnknownSIM, CodeSIMStatus,
// CodeTerminationProtected, CodeInternal.
func (s *Service) SetSIMStatus(ctx context.Context, op OperatorID, ref SIMRef, to SIMStatus) (SIMResult, error) {
	return s.setStatus(ctx, op, ref, to, 0)
}

// SetTerminationEnabled says whether a SIM may be terminated. Errors: as SIM.
func (s *Service) SetTerminationEnabled(ctx context.Context, op OperatorID, ref SIMRef, enabled bool) (SIMResult, error) {
	return s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error { sim.TerminationEnabled = enabled; return nil })
}

// SetSpeedClass changes how fast a SIM's sessions may be, those that exist too. Errors:
// as SIM, CodeBadSpeedClass.
func (s *Service) SetSpeedClass(ctx context.Context, op OperatorID, ref SIMRef, class SpeedClass) (SIMResult, error) {
	return s.setSpeedClass(ctx, op, ref, class, 0)
}

func (s *Service) setSpeedClass(ctx context.Context, op OperatorID, ref SIMRef, class SpeedClass, depth int) (SIMResult, error) {
	if _, ok := s.sims.classes[class]; !ok {
		return SIMResult{}, NewError(CodeBadSpeedClass, speedClassNames(s.sims.classes))
	}
	return s.changeSIM(ctx, op, ref, depth, func(sim *SIM) error {
		// What the core gave by itself is wanted again when the class sets no limit. A
		// session that was limited before may be reported with that limit for a moment
		// longer: what it had at first counts.
		limited := func(c SpeedClass) bool { return s.sims.classes[c] != ident.AMBR{} }
		switch st := sim.Session; {
		case st == nil || st.ID == sim.BaseOf:
		case !limited(sim.SpeedClass):
			sim.BaseAMBR, sim.BaseOf = st.AMBR, st.ID
		case !limited(class):
			sim.BaseOf = st.ID
		}
		sim.SpeedClass = class
		return nil
	})
}

// SetIMEILock ties a SIM to a device: lock has ParseIMEILock's form, and without an IMEI
// means the device of the session. Errors: as SIM, CodeBadIMEI, CodeNoIMEI.
func (s *Service) SetIMEILock(ctx context.Context, op OperatorID, ref SIMRef, lock string) (SIMResult, error) {
	return s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error {
		text := lock
		if text == "" || strings.HasPrefix(text, "|") {
			if sim.Session == nil || sim.Session.IMEI() == "" {
				return NewError(CodeNoIMEI)
			}
			text = sim.Session.IMEI() + text
		}
		l, err := ParseIMEILock(text)
		if err != nil {
			return err
		}
		sim.Lock = &l
		return nil
	})
}

// UnsetIMEILock lets a SIM be used in any device. Errors: as SIM.
func (s *Service) UnsetIMEILock(ctx context.Context, op OperatorID, ref SIMRef) (SIMResult, error) {
	return s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error { sim.Lock = nil; return nil })
}

// SetExpiry sets when a SIM expires and what happens then. A SIM that is protected from
// termination at this moment cannot be told to end itself; one that becomes protected
// later ends all the same, as in the API that clients know. Errors: as SIM, CodeBadExpiry,
// CodeTerminationProtected.
func (s *Service) SetExpiry(ctx context.Context, op OperatorID, ref SIMRef, at time.Time, action ExpiryAction) (SIMResult, error) {
	if !action.Valid() || at.UnixMilli() <= 0 || at.Year() > 9998 {
		return SIMResult{}, NewError(CodeBadExpiry)
	}
	r, err := s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error {
		if action == ExpireTerminate && !sim.TerminationEnabled {
			return NewError(CodeTerminationProtected)
		}
		sim.ExpiryTime, sim.ExpiryAction, sim.Expired = at.UTC().Truncate(time.Millisecond), action, false
		return nil
	})
	return r, err
}

// UnsetExpiry removes a SIM's expiry. Errors: as SIM, CodeNoExpiry.
func (s *Service) UnsetExpiry(ctx context.Context, op OperatorID, ref SIMRef) (SIMResult, error) {
	return s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error {
		if sim.ExpiryTime.IsZero() {
			return NewError(CodeNoExpiry)
		}
		sim.ExpiryTime, sim.ExpiryAction, sim.Expired = time.Time{}, "", false
		return nil
	})
}

// SetSIMGroup puts a SIM into a group of the operator, or with an empty group into none.
// Errors: as SIM, CodeUnknownGroup.
func (s *Service) SetSIMGroup(ctx context.Context, op OperatorID, ref SIMRef, group GroupID) (SIMResult, error) {
	if group != "" {
		if _, err := s.Group(ctx, op, group); err != nil {
			return SIMResult{}, err
		}
	}
	return s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error { sim.GroupID = group; return nil })
}

// PutSIMTags sets tags. Errors: as SIM, CodeBadTag.
func (s *Service) PutSIMTags(ctx context.Context, op OperatorID, ref SIMRef, tags map[string]string) (SIMResult, error) {
	return s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error {
		for k, v := range tags {
			sim.Tags[k] = v
		}
		return checkTags(sim.Tags)
	})
}

// DeleteSIMTag removes a tag; the name becomes empty. Errors: as SIM, CodeNoTag.
func (s *Service) DeleteSIMTag(ctx context.Context, op OperatorID, ref SIMRef, name string) error {
	_, err := s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error { return dropTag(sim.Tags, name) })
	return err
}

// PutBundles sets the bundles of a SIM, which the manager only keeps. Errors: as SIM,
// CodeBadTag.
func (s *Service) PutBundles(ctx context.Context, op OperatorID, ref SIMRef, bundles []string) (SIMResult, error) {
	if len(bundles) > maxTags || slices.ContainsFunc(bundles, func(b string) bool { return b == "" || len(b) > maxTag }) {
		return SIMResult{}, NewError(CodeBadTag, DetailBundles.Of(maxTags, maxTag))
	}
	return s.changeSIM(ctx, op, ref, 0, func(sim *SIM) error { sim.Bundles = bundles; return nil })
}

// RegisterSIM makes a SIM that nobody owns the operator's; once more, as clients repeat a
// request whose answer they did not get, changes nothing. Errors: CodeUnknownSubscriber
// and CodeUnknownSIM, also for a wrong secret and for SIMs that are another's;
// CodeUnknownGroup, CodeBadTag, CodeTooManyTries, CodeInternal. Who guesses secrets is
// slowed down, for each SIM by itself.
func (s *Service) RegisterSIM(ctx context.Context, op OperatorID, ref SIMRef, secret string, group GroupID, tags map[string]string) (SIMResult, error) {
	if group != "" {
		if _, err := s.Group(ctx, op, group); err != nil {
			return SIMResult{}, err
		}
	}
	sim, err := s.unowned(ctx, ref)
	if err != nil {
		return SIMResult{}, err
	}
	turn, err := s.tries(ctx, "r"+string(sim.IMSI))
	if err != nil {
		return SIMResult{}, err
	}
	hash, wrong := digest(secret), false
	mapped := s.sims.mapped.unstored()
	before, after, err := s.store.UpdateSIM(ctx, sim.IMSI, func(sim *SIM) error {
		mine := sim.OperatorID == op
		if wrong = sim.OperatorID != "" && !mine || sim.SecretHash == "" || !equalText(sim.SecretHash, hash); wrong {
			return ref.unknown()
		}
		if mine {
			return nil
		}
		sim.OperatorID, sim.GroupID, sim.Status = op, group, SIMReady
		sim.Registered, sim.Modified = now(), now()
		for k, v := range tags {
			sim.Tags[k] = v
		}
		return checkTags(sim.Tags)
	})
	switch {
	case wrong:
		turn.failed()
	case err != nil:
		turn.leave()
	default:
		turn.succeeded()
	}
	switch {
	case errors.Is(err, ErrNoGroup): // as in changeSIM
		return SIMResult{}, NewError(CodeUnknownGroup, string(group))
	case err != nil:
		return SIMResult{}, fault("register SIM", err)
	}
	return s.result(ctx, s.simChanged(ctx, before, after, 0), mapped), nil
}

func (s *Service) unowned(ctx context.Context, ref SIMRef) (SIM, error) {
	find := func() (SIM, error) {
		if ref.SIMID != "" {
			return s.store.SIMByID(ctx, ref.SIMID)
		}
		return s.store.SIMByIMSI(ctx, ref.IMSI)
	}
	sim, err := find()
	if errors.Is(err, ErrNotFound) {
		return SIM{}, ref.unknown()
	}
	if err != nil {
		return SIM{}, fault("find SIM", err)
	}
	return sim, nil
}

// StatusHistory lists changes of a SIM's status; q.IMSI is filled in. Errors: as SIM.
func (s *Service) StatusHistory(ctx context.Context, op OperatorID, ref SIMRef, q RecordQuery) ([]StatusRecord, error) {
	sub, err := s.owned(ctx, op, ref)
	if err != nil {
		return nil, err
	}
	q.IMSI = sub.IMSI
	records, err := s.store.StatusHistory(ctx, q)
	if err != nil {
		return nil, fault("list statuses", err)
	}
	return records, nil
}

// SessionRecords lists a SIM's session events; q.IMSI is filled in. Errors: as SIM.
func (s *Service) SessionRecords(ctx context.Context, op OperatorID, ref SIMRef, q RecordQuery) ([]SessionRecord, error) {
	sub, err := s.owned(ctx, op, ref)
	if err != nil {
		return nil, err
	}
	q.IMSI = sub.IMSI
	records, err := s.store.SessionRecords(ctx, q)
	if err != nil {
		return nil, fault("list session events", err)
	}
	return records, nil
}

// UsageOf lists a SIM's bins. Errors: as SIM.
func (s *Service) UsageOf(ctx context.Context, op OperatorID, ref SIMRef, p Period, from, to time.Time) ([]UsageBin, error) {
	sub, err := s.owned(ctx, op, ref)
	if err != nil {
		return nil, err
	}
	return s.usage(ctx, string(sub.IMSI), p, from, to)
}

// UsageOfGroup lists the bins of what SIMs used while in a group of the operator.
// Errors: CodeUnknownGroup, CodeInternal.
func (s *Service) UsageOfGroup(ctx context.Context, op OperatorID, id GroupID, p Period, from, to time.Time) ([]UsageBin, error) {
	if _, err := s.Group(ctx, op, id); err != nil {
		return nil, err
	}
	return s.usage(ctx, string(id), p, from, to)
}

// UsageOfOperator lists the bins of all of an operator's SIMs. The only error is
// CodeInternal.
func (s *Service) UsageOfOperator(ctx context.Context, op OperatorID, p Period, from, to time.Time) ([]UsageBin, error) {
	return s.usage(ctx, string(op), p, from, to)
}

func (s *Service) usage(ctx context.Context, subject string, p Period, from, to time.Time) ([]UsageBin, error) {
	bins, err := s.store.Usage(ctx, UsageQuery{Subject: subject, Period: p, From: p.Start(from), To: to})
	if err != nil {
		return nil, fault("list usage", err)
	}
	return bins, nil
}

// TrafficRanking returns the operator's SIMs by traffic in the days from one time to
// another. The only error is CodeInternal.
func (s *Service) TrafficRanking(ctx context.Context, op OperatorID, from, to time.Time, limit int, ascending bool) ([]Ranked, error) {
	out, err := s.store.TrafficRanking(ctx, op, PeriodDay.Start(from), to, limit, ascending)
	if err != nil {
		return nil, fault("rank SIMs", err)
	}
	return out, nil
}

// DeleteSession has the device establish its sessions anew. Errors: as SIM,
// CodeDeviceOffline, CodeCoreAway, CodeCoreRefused.
func (s *Service) DeleteSession(ctx context.Context, op OperatorID, ref SIMRef) (SIMResult, error) {
	sim, err := s.ownedSIM(ctx, op, ref)
	if err != nil {
		return SIMResult{}, err
	}
	if err := s.recreateSessions(ctx, sim.IMSI); err != nil {
		return SIMResult{}, err
	}
	return s.SIM(ctx, op, ref)
}
