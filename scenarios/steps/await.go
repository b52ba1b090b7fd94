package steps

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// awaitArgs: UEs reach a state. Only the fields given count.
type awaitArgs struct {
	UE         string `yaml:"ue"`
	Registered *bool  `yaml:"registered"`
	Connected  *bool  `yaml:"connected"` // CM-CONNECTED
	GNB        string `yaml:"gnb"`       // where it camps
	Address    string `yaml:"address"`   // of a session, as the UE knows it
	UPF        string `yaml:"upf"`       // where the manager's directory has it
}

func compileAwait(s *spec.Spec, st spec.Step) (Action, error) {
	var a awaitArgs
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
	if a.UPF != "" && !slices.ContainsFunc(s.UPFs, func(u spec.UPF) bool { return u.Name == a.UPF }) {
		return nil, st.Errorf("name one of the upfs", "no UPF is called %q", a.UPF)
	}
	var want netip.Addr
	if a.Address != "" {
		if want, err = netip.ParseAddr(a.Address); err != nil {
			return nil, st.Errorf("an IP address", "%q is not an address", a.Address)
		}
	}
	ok := func(x lab.UEStatus) bool {
		if a.Registered != nil && x.Registered != *a.Registered ||
			a.Connected != nil && x.Connected != *a.Connected ||
			a.GNB != "" && x.GNB != a.GNB {
			return false
		}
		if !want.IsValid() {
			return true
		}
		for _, p := range x.Sessions {
			if p.Address == want {
				return true
			}
		}
		return false
	}
	return func(ctx context.Context, e *Env) error {
		return each(ctx, ds, func(ctx context.Context, d spec.Device) error {
			u, err := e.ue(d.Name)
			if err != nil {
				return err
			}
			if last, err := u.Await(ctx, ok); err != nil {
				return fmt.Errorf("await %s: last seen %+v: %w", d.Name, last, err)
			}
			if a.UPF == "" {
				return nil
			}
			// The directory hears of a session a moment after the UE does, and of
			// several one after the other.
			return retry(ctx, func(ctx context.Context) error {
				at, err := e.Lab.Manager().AwaitDirectory(ctx, d.IMSI, true)
				if err != nil {
					return fmt.Errorf("await %s: directory: %w", d.Name, err)
				}
				if at.UPF != a.UPF || (want.IsValid() && at.Address != want) {
					return fmt.Errorf("the directory has %s at %s behind %s", d.Name, at.Address, at.UPF)
				}
				return nil
			})
		})
	}, nil
}
