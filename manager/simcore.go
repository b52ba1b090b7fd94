package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// simState is what the service holds for SIMs.
type simState struct {
	cache    *subscriberCache
	core     Core
	web      WebRequester
	classes  map[SpeedClass]ident.AMBR
	mapped   *mappedTimes
	charging chan chargingJob
	stopped  chan struct{} // closed when nobody takes from charging any longer
	coreWake chan struct{} // capacity 1; there may be dirty SIMs
	actWake  chan struct{} // capacity 1; there may be actions
}

func newSIMState(c SIMConfig, core Core, web WebRequester) *simState {
	return &simState{
		cache: newSubscriberCache(), core: core, web: web, classes: c.speedClasses(),
		mapped: newMappedTimes(), charging: make(chan chargingJob), stopped: make(chan struct{}),
		coreWake: make(chan struct{}, 1), actWake: make(chan struct{}, 1),
	}
}

// runSIMs starts the loops about SIMs in wg; they end with ctx.
func (s *Service) runSIMs(ctx context.Context, wg *sync.WaitGroup) {
	for _, loop := range []func(context.Context){s.chargingLoop, s.coreLoop, s.actionLoop, s.simExpiryLoop, s.mappedLoop} {
		wg.Go(func() { loop(ctx) })
	}
}

// errNoCore says that there is no core to command.
var errNoCore = errors.New("no core is configured")

// syncCore has the core do what a SIM's state demands, and says so to the store. The
// SIM stays dirty if it returns an error.
func (s *Service) syncCore(ctx context.Context, sim SIM) error {
	core := s.sims.core
	if core.Provisioning == nil {
		return errNoCore
	}
	supi, barred, ambr := sim.IMSI.SUPI(), sim.Status.Barred(), s.sims.classes[sim.SpeedClass]
	var lock sbi.PEILock
	if sim.Lock != nil {
		lock = sbi.PEILock{PEI: sim.Lock.pei(), Anonymous: sim.Lock.Anonymous}
	}
	_, err := core.Provisioning.Provision(ctx, supi, sbi.SubscriptionChange{Barred: &barred, Lock: &lock, SessionAMBR: &ambr})
	if p, ok := errors.AsType[*sbi.Problem](err); ok && p.Cause == sbi.CauseUserNotFound {
		// The core has no such subscriber: it serves nobody by that name, and there is
		// nothing to repeat.
		err = nil
	} else if err == nil && !barred {
		err = s.limitSessions(ctx, sim, ambr)
	}
	if err != nil {
		return fmt.Errorf("core: %s: %w", supi, err)
	}
	return s.store.MarkSynced(ctx, sim.IMSI, sim.Version)
}

// limitSessions gives the sessions that exist their AMBR.
func (s *Service) limitSessions(ctx context.Context, sim SIM, ambr ident.AMBR) error {
	if ambr == (ident.AMBR{}) {
		ambr = sim.BaseAMBR
	}
	control := s.sims.core.Control
	if control == nil || ambr == (ident.AMBR{}) {
		return nil
	}
	sessions, err := control.SessionsOf(ctx, sim.IMSI.SUPI())
	if err != nil {
		return err
	}
	for _, one := range sessions {
		if one.AMBR == ambr || one.State == "releasing" {
			continue
		}
		if err := control.SetAMBR(ctx, one.SUPI, one.Session, ambr); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// gone reports whether the core answers that there is no such session.
func gone(err error) bool {
	p, ok := errors.AsType[*sbi.Problem](err)
	return ok && p.Cause == sbi.CauseContextNotFound
}

// recreateSessions releases a device's sessions such that it establishes them again.
func (s *Service) recreateSessions(ctx context.Context, imsi ident.IMSI) error {
	control := s.sims.core.Control
	if control == nil {
		if _, err := s.dir.Lookup(ctx, imsi); errors.Is(err, ErrNotAttached) {
			return NewError(CodeDeviceOffline)
		}
		return &Error{Code: CodeCoreAway, Err: errNoCore}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SIMs.CoreTimeout)
	defer cancel()
	sessions, err := control.SessionsOf(ctx, imsi.SUPI())
	if err != nil {
		return coreError(err)
	}
	found := false
	for _, one := range sessions {
		err := control.Recreate(ctx, one.SUPI, one.Session)
		if err != nil && !gone(err) {
			return coreError(err)
		}
		found = found || err == nil
	}
	if !found {
		return NewError(CodeDeviceOffline)
	}
	return nil
}

func coreError(err error) error {
	if _, ok := errors.AsType[*sbi.Problem](err); ok {
		return &Error{Code: CodeCoreRefused, Err: err}
	}
	return &Error{Code: CodeCoreAway, Err: err}
}

const (
	coreBatch = 200
	// coreFaults ends a round in which the core does not answer: it is away.
	coreFaults = 3
	// staleAfter is how long a session may be silent before the SMF is asked whether it
	// still exists.
	staleAfter = 2 * time.Minute
	staleBatch = 500
)

// coreLoop brings the core to what is stored: at once what changed, and from time to
// time all that a restart of the core may have lost.
func (s *Service) coreLoop(ctx context.Context) {
	if s.sims.core.Provisioning == nil {
		return
	}
	retry := time.NewTimer(0)
	defer retry.Stop()
	compare := time.NewTicker(s.cfg.SIMs.ReconcileInterval)
	defer compare.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.sims.coreWake: // somebody just failed: not at once again
			retry.Reset(s.cfg.SIMs.RetryInterval)
			continue
		case <-retry.C:
		case <-compare.C:
			s.compareCore(ctx)
			s.endStale(ctx)
		}
		err := s.syncDirty(ctx)
		if err != nil && ctx.Err() == nil {
			if !failing {
				s.log.Warn("the core does not take changes; trying again", "error", err)
			}
			retry.Reset(s.cfg.SIMs.RetryInterval)
		}
		failing = err != nil
	}
}

// syncDirty tries every dirty SIM and returns the first failure.
func (s *Service) syncDirty(ctx context.Context) error {
	var first error
	faults := 0
	for after := ident.IMSI(""); ; {
		dirty, err := s.store.DirtySIMs(ctx, after, coreBatch)
		if err != nil {
			return err
		}
		for _, sim := range dirty {
			callCtx, cancel := context.WithTimeout(ctx, s.cfg.SIMs.CoreTimeout)
			err := s.syncCore(callCtx, sim)
			cancel()
			if err == nil {
				continue
			}
			if first == nil {
				first = err
			}
			if faults++; faults >= coreFaults || ctx.Err() != nil {
				return first
			}
		}
		if len(dirty) < coreBatch {
			return first
		}
		after = dirty[len(dirty)-1].IMSI
	}
}

// compareCore marks what the core does not have as it should be. SIMs of whom the core
// would know all by itself are not looked at.
func (s *Service) compareCore(ctx context.Context) {
	for after := ident.IMSI(""); ; {
		sims, err := s.store.SupervisedSIMs(ctx, after, coreBatch)
		if err != nil {
			return // the store is away, which others log
		}
		for _, sim := range sims {
			if sim.Dirty {
				continue
			}
			callCtx, cancel := context.WithTimeout(ctx, s.cfg.SIMs.CoreTimeout)
			has, err := s.sims.core.Provisioning.Subscription(callCtx, sim.IMSI.SUPI())
			cancel()
			if _, problem := errors.AsType[*sbi.Problem](err); problem {
				continue
			}
			if err != nil {
				return // away; whoever changes something says so
			}
			var lock sbi.PEILock
			if sim.Lock != nil {
				lock = sbi.PEILock{PEI: sim.Lock.pei(), Anonymous: sim.Lock.Anonymous}
			}
			if has.Barred != sim.Status.Barred() || has.Lock != lock || has.SessionAMBR != s.sims.classes[sim.SpeedClass] {
				s.log.Info("the core lost a SIM's state; telling it again", "supi", sim.IMSI.SUPI())
				if err := s.store.MarkDirty(ctx, sim.IMSI); err != nil {
					return
				}
			}
		}
		if len(sims) < coreBatch {
			return
		}
		after = sims[len(sims)-1].IMSI
	}
}

// endStale ends sessions that have been silent and that the SMF no longer knows: it was
// killed before it could report their release.
func (s *Service) endStale(ctx context.Context) {
	control := s.sims.core.Control
	if control == nil {
		return
	}
	stale, err := s.store.StaleSessions(ctx, time.Now().Add(-staleAfter), staleBatch)
	if err != nil {
		return
	}
	for _, l := range stale {
		callCtx, cancel := context.WithTimeout(ctx, s.cfg.SIMs.CoreTimeout)
		sessions, err := control.SessionsOf(callCtx, l.IMSI.SUPI())
		cancel()
		if err != nil {
			return
		}
		alive := false
		for _, one := range sessions {
			alive = alive || one.Session == l.Session
		}
		if alive {
			err = s.store.TouchSession(ctx, l.ID, now())
		} else {
			var o ChargingOutcome
			if o, err = s.store.EndSession(ctx, l.ID, now()); err == nil {
				s.happened(ctx, sessionTriggers(o, l.ID)...)
			}
		}
		if err != nil {
			return
		}
	}
}

const (
	expiryPoll  = time.Second
	purgePeriod = time.Hour
	// Session events and 5-minute bins are kept for 32 days, bins of days for 18 months.
	keepFine, keepCoarse = 32 * 24 * time.Hour, 18 * 31 * 24 * time.Hour
)

// simExpiryLoop takes the expiry actions of SIMs.
func (s *Service) simExpiryLoop(ctx context.Context) {
	tick := time.NewTicker(expiryPoll)
	defer tick.Stop()
	purge := time.NewTicker(purgePeriod)
	defer purge.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-purge.C:
			t := time.Now()
			if err := s.store.PurgeUsage(ctx, t.Add(-keepFine), t.Add(-keepCoarse)); err != nil && ctx.Err() == nil {
				s.log.Error("old usage not purged", "error", err)
			}
		case <-tick.C:
			due, err := s.store.ExpiringSIMs(ctx, time.Now(), coreBatch)
			if err != nil {
				if ctx.Err() == nil {
					s.log.Error("expired SIMs not read", "error", err)
				}
				continue
			}
			for _, sim := range due {
				s.expireSIM(ctx, sim)
			}
		}
	}
}

// errTaken says that another manager was faster.
var errTaken = errors.New("taken")

// expireSIM takes one SIM's expiry action; of several managers one does.
func (s *Service) expireSIM(ctx context.Context, sim SIM) {
	to := map[ExpiryAction]SIMStatus{ExpireDeactivate: SIMInactive, ExpireSuspend: SIMSuspended, ExpireTerminate: SIMTerminated}[sim.ExpiryAction]
	before, after, err := s.store.UpdateSIM(ctx, sim.IMSI, func(one *SIM) error {
		if one.Expired || !one.ExpiryTime.Equal(sim.ExpiryTime) || one.ExpiryAction != sim.ExpiryAction {
			return errTaken
		}
		one.Expired, one.Modified = true, now()
		if st, err := one.Status.to(to); err == nil && to != "" {
			one.Status = st
		}
		return nil
	})
	if errors.Is(err, errTaken) {
		return
	}
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("SIM not expired", "supi", sim.IMSI.SUPI(), "error", err)
		}
		return
	}
	s.log.Info("SIM expired", "supi", sim.IMSI.SUPI(), "action", sim.ExpiryAction)
	s.simChanged(ctx, before, after, 0)
	if sim.ExpiryAction == ExpireDeleteSession {
		if err := s.recreateSessions(ctx, sim.IMSI); err != nil && !errors.Is(err, CodeDeviceOffline) {
			s.log.Warn("session of an expired SIM not deleted", "supi", sim.IMSI.SUPI(), "error", err)
		}
	}
	s.happened(ctx, trigger{kind: onExpiry, sim: after})
}

// seedSIMs stores what the configuration has and the store has not.
func (s *Service) seedSIMs(ctx context.Context) error {
	sims := make([]SIM, 0, len(s.cfg.Subscribers))
	at := now()
	for _, c := range s.cfg.Subscribers {
		sim, err := c.seed(at)
		if err != nil {
			return err
		}
		sims = append(sims, sim)
	}
	n, err := s.store.SeedSIMs(ctx, sims)
	if n > 0 {
		s.log.Info("SIMs of the configuration stored", "sims", n)
	}
	return err
}
