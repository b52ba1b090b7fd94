package steps

import (
	"context"
	"errors"
	"fmt"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// registerArgs: UEs register and establish their sessions.
type registerArgs struct {
	UE     string  `yaml:"ue"`     // name or pattern
	GNB    string  `yaml:"gnb"`    // where to camp; empty: the UE's preference
	Reject *reject `yaml:"reject"` // the network must refuse
}

// reject is the refusal that a step wants to see.
type reject struct {
	Procedure string `yaml:"procedure"` // empty: any
	Cause     int    `yaml:"cause"`     // 5GMM or 5GSM cause number; 0: none or any
}

func (r *reject) check(err error) error {
	if r == nil {
		return err
	}
	if err == nil {
		return errors.New("the network accepted what it had to refuse")
	}
	got, ok := errors.AsType[*lab.Rejected](err)
	if !ok {
		return fmt.Errorf("want a refusal by the network: %w", err)
	}
	if (r.Procedure != "" && r.Procedure != got.Procedure) || (r.Cause != 0 && r.Cause != got.Cause) {
		return fmt.Errorf("want a refusal of %s with cause #%d: %w", r.Procedure, r.Cause, err)
	}
	return nil
}

func compileRegister(s *spec.Spec, st spec.Step) (Action, error) {
	var a registerArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	ds, err := devices(s, st, a.UE)
	if err != nil {
		return nil, err
	}
	if err := checkGNB(s, st, a.GNB); err != nil {
		return nil, err
	}
	return func(ctx context.Context, e *Env) error {
		return each(ctx, ds, func(ctx context.Context, d spec.Device) error {
			u, err := e.ue(d.Name)
			if err != nil {
				return err
			}
			if err := a.Reject.check(u.Register(ctx, a.GNB)); err != nil {
				return fmt.Errorf("register %s: %w", d.Name, err)
			}
			if a.Reject != nil {
				return nil
			}
			// The directory learns of a session by notification, a moment after
			// the UE does; from here on the manager can reach it.
			if _, err := e.Lab.Manager().AwaitDirectory(ctx, d.IMSI, true); err != nil {
				return fmt.Errorf("register %s: directory: %w", d.Name, err)
			}
			return nil
		})
	}, nil
}

// deregisterArgs: UEs deregister and release everything.
type deregisterArgs struct {
	UE        string `yaml:"ue"`
	SwitchOff bool   `yaml:"switch_off"`
}

func compileDeregister(s *spec.Spec, st spec.Step) (Action, error) {
	var a deregisterArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	ds, err := devices(s, st, a.UE)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e *Env) error {
		return each(ctx, ds, func(ctx context.Context, d spec.Device) error {
			u, err := e.ue(d.Name)
			if err != nil {
				return err
			}
			if err := u.Deregister(ctx, a.SwitchOff); err != nil {
				return fmt.Errorf("deregister %s: %w", d.Name, err)
			}
			if _, err := e.Lab.Manager().AwaitDirectory(ctx, d.IMSI, false); err != nil {
				return fmt.Errorf("deregister %s: directory: %w", d.Name, err)
			}
			return nil
		})
	}, nil
}
