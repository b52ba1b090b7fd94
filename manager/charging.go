package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simreach/simreach/nf/sbi"
)

// The manager is the CHF (TS 32.240 clause 4.3.3.1.3) that the SMF reports to, and who
// hears of devices from the UDM.
var (
	_ sbi.Charging        = (*Service)(nil)
	_ sbi.EquipmentEvents = (*Service)(nil)
)

// maxCharging bounds how many reports are stored at one time.
const maxCharging = 256

// chargingJob is a report that waits to be stored.
type chargingJob struct {
	report ChargingReport
	done   chan chargingAnswer // capacity 1
}

type chargingAnswer struct {
	outcome ChargingOutcome
	err     error
}

// CreateCharging implements sbi.Charging: a session exists.
func (s *Service) CreateCharging(ctx context.Context, d sbi.ChargingData) (sbi.ChargingRef, error) {
	o, err := s.charge(ctx, ChargingCreate, newID(time.Now()), d)
	return sbi.ChargingRef(o.Ref), err
}

// UpdateCharging implements sbi.Charging: a session was used.
func (s *Service) UpdateCharging(ctx context.Context, ref sbi.ChargingRef, d sbi.ChargingData) error {
	_, err := s.charge(ctx, ChargingUpdate, string(ref), d)
	return err
}

// ReleaseCharging implements sbi.Charging: a session has ended.
func (s *Service) ReleaseCharging(ctx context.Context, ref sbi.ChargingRef, d sbi.ChargingData) error {
	_, err := s.charge(ctx, ChargingRelease, string(ref), d)
	return err
}

// charge has a report stored and returns when it is.
func (s *Service) charge(ctx context.Context, kind ReportKind, ref string, d sbi.ChargingData) (ChargingOutcome, error) {
	job := chargingJob{report: chargingReport(kind, ref, d), done: make(chan chargingAnswer, 1)}
	select {
	case s.sims.charging <- job:
	case <-s.sims.stopped:
		return ChargingOutcome{}, sbi.ErrStopped
	case <-ctx.Done():
		return ChargingOutcome{}, ctx.Err()
	}
	select {
	case a := <-job.done:
		switch {
		case a.err != nil:
			return ChargingOutcome{}, fmt.Errorf("charge %s: %w", d.SUPI, a.err)
		case a.outcome.Ref == "":
			return ChargingOutcome{}, &sbi.Problem{Status: 404, Cause: sbi.CauseContextNotFound, Detail: "no such charging session"}
		}
		return a.outcome, nil
	case <-ctx.Done(): // it may be stored all the same; the repeat is recognised
		return ChargingOutcome{}, ctx.Err()
	}
}

func chargingReport(kind ReportKind, ref string, d sbi.ChargingData) ChargingReport {
	t := now()
	r := ChargingReport{
		Kind: kind, Ref: ref, ChargingID: d.ChargingID, Sequence: d.Sequence, IMSI: d.SUPI.IMSI(), At: t,
		Status: SessionStatus{
			Session: d.Session, DNN: d.DNN, UPF: d.UPF, Address: d.Address, PEI: d.PEI, Location: d.Location, AMBR: d.AMBR,
			Created: d.Started.UTC().Truncate(time.Millisecond), Updated: t, Deleted: d.Stopped.UTC().Truncate(time.Millisecond),
		},
	}
	if r.Status.Created.IsZero() {
		r.Status.Created = t
	}
	if kind != ChargingRelease {
		r.Status.Deleted = time.Time{}
	}
	if u := d.Used; u != nil {
		r.Used = Usage{Up: u.UplinkOctets, Down: u.DownlinkOctets, UpPackets: u.UplinkPackets, DownPackets: u.DownlinkPackets}
		// Late reports count when they were measured; a clock that is wrong does not.
		if to := u.To.UTC().Truncate(time.Millisecond); to.After(t.Add(-24*time.Hour)) && to.Before(t.Add(time.Minute)) {
			r.At = to
		}
	}
	return r
}

// chargingLoop stores reports: while one batch is written the next gathers. It ends with
// ctx; what waits then is refused, and the SMF sends it again.
func (s *Service) chargingLoop(ctx context.Context) {
	defer close(s.sims.stopped)
	for {
		var batch []chargingJob
		select {
		case <-ctx.Done():
			return
		case job := <-s.sims.charging:
			batch = append(batch, job)
		}
	gather:
		for len(batch) < maxCharging {
			select {
			case job := <-s.sims.charging:
				batch = append(batch, job)
			default:
				break gather
			}
		}
		s.storeCharging(ctx, batch)
	}
}

func (s *Service) storeCharging(ctx context.Context, batch []chargingJob) {
	reports := make([]ChargingReport, len(batch))
	for i, job := range batch {
		reports[i] = job.report
	}
	outcomes, err := s.store.ApplyCharging(ctx, reports)
	if err != nil && len(batch) > 1 && ctx.Err() == nil {
		// One report that cannot be stored must not hold up the others for ever.
		for i := range batch {
			s.storeCharging(ctx, batch[i:i+1])
		}
		return
	}
	var triggers []trigger
	for i, job := range batch {
		if err != nil {
			job.done <- chargingAnswer{err: err}
			continue
		}
		o := outcomes[i]
		job.done <- chargingAnswer{outcome: o}
		triggers = append(triggers, sessionTriggers(o, job.report.Ref)...)
		if o.Known && o.After.Dirty && !o.Before.Dirty {
			poke(s.sims.coreWake)
		}
	}
	s.happened(ctx, triggers...)
}

// sessionTriggers are what a report or the end of a session may set off.
func sessionTriggers(o ChargingOutcome, ref string) []trigger {
	if !o.Known || o.Repeat {
		return nil
	}
	ts := changes(o.Before, o.After, 0)
	if o.Counted.Total() > 0 {
		ts = append(ts, trigger{kind: onUsage, sim: o.After})
	}
	if o.Event == SessionCreated || o.Event == SessionDeleted {
		ts = append(ts, trigger{kind: onSession, sim: o.After, to: string(o.Event), mark: ref + string(o.Event)})
	}
	return ts
}

// EquipmentEvent implements sbi.EquipmentEvents: a lock refused a device, or a SIM moved
// to another one. The event's ID keeps repeats from being judged again.
func (s *Service) EquipmentEvent(ctx context.Context, e sbi.EquipmentEvent) error {
	if e.Type != sbi.EquipmentRefused {
		return nil // the device shows with its session
	}
	sim, err := s.store.SIMByIMSI(ctx, e.SUPI.IMSI())
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("equipment event %s: %w", e.ID, err)
	}
	s.log.Info("the core refused a device", "supi", e.SUPI, "pei", e.PEI, "lock", e.Old)
	s.happened(context.WithoutCancel(ctx), trigger{kind: onIMEI, sim: sim, from: imeiOf(e.Old), to: imeiOf(e.PEI), mark: e.ID})
	return nil
}
