package plan

import (
	"context"
	"errors"
	"fmt"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/ue"
)

// Device controls a UE of this process as a scenario sees it.
type Device struct {
	UE       *ue.UE
	Sessions []ue.SessionConfig // what Register establishes
}

var _ lab.UE = Device{}

// Register implements lab.UE: it returns once every session's interface is up.
func (d Device) Register(ctx context.Context, gnb string) error {
	if err := d.UE.Register(ctx, gnb); err != nil {
		return refusal(err)
	}
	for _, s := range d.Sessions {
		if _, err := d.UE.EstablishSession(ctx, s); err != nil {
			return refusal(err)
		}
	}
	// The interface is up before the radio bearer is: wait for both.
	err := d.UE.Wait(ctx, func(s ue.Status) bool {
		for _, v := range s.Sessions {
			if !v.Bearer {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("wait for the radio bearers: %w", err)
	}
	return nil
}

// Deregister implements lab.UE.
func (d Device) Deregister(ctx context.Context, switchOff bool) error {
	return d.UE.Deregister(ctx, switchOff)
}

// Status implements lab.UE.
func (d Device) Status(context.Context) (lab.UEStatus, error) { return d.Now(), nil }

// Now is Status, which is always at hand where the UE is in this process.
func (d Device) Now() lab.UEStatus { return status(d.UE.Status()) }

// Await implements lab.UE.
func (d Device) Await(ctx context.Context, ok func(lab.UEStatus) bool) (lab.UEStatus, error) {
	var last lab.UEStatus
	err := d.UE.Wait(ctx, func(s ue.Status) bool {
		last = status(s)
		return ok(last)
	})
	return last, err
}

func status(s ue.Status) lab.UEStatus {
	out := lab.UEStatus{IMSI: s.SUPI.IMSI(), Registered: s.Registered(), Connected: s.Connected, GNB: s.GNB}
	for _, v := range s.Sessions {
		if v.Info.Address.Reach().IsValid() && v.State == ue.SMActive {
			out.Sessions = append(out.Sessions, lab.SessionStatus{ID: v.Info.ID, DNN: string(v.Info.DNN), Address: v.Info.Address.Reach()})
		}
	}
	return out
}

// refusal turns the UE's typed refusals into the scenario's.
func refusal(err error) error {
	if e, ok := errors.AsType[*ue.RegistrationRejected](err); ok {
		return &lab.Rejected{Procedure: "registration", Cause: int(e.Cause), Text: err.Error()}
	}
	if e, ok := errors.AsType[*ue.AuthenticationFailed](err); ok {
		return &lab.Rejected{Procedure: "authentication", Cause: int(e.Cause), Text: err.Error()}
	}
	if e, ok := errors.AsType[*ue.SessionRejected](err); ok {
		return &lab.Rejected{Procedure: "session", Cause: int(e.Cause), Text: err.Error()}
	}
	if e, ok := errors.AsType[*ue.NotForwarded](err); ok {
		return &lab.Rejected{Procedure: "session", Cause: int(e.Cause), Text: err.Error()}
	}
	if e, ok := errors.AsType[*ue.ServiceRejected](err); ok {
		return &lab.Rejected{Procedure: "service", Cause: int(e.Cause), Text: err.Error()}
	}
	return err
}
