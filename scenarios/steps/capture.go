package steps

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/simreach/simreach/scenarios/spec"
)

// captureArgs: what has crossed a network so far. An IP address is looked for as its
// bytes and as text. Something must be awaited first, so that nothing that was sent
// before is missed.
type captureArgs struct {
	Network string   `yaml:"network"` // public, sbi, n2, n3, n4, core, air or n6-UPF
	Has     []string `yaml:"has"`     // awaited, all of them
	Lacks   []string `yaml:"lacks"`   // must not have crossed it
}

func compileCapture(s *spec.Spec, st spec.Step) (Action, error) {
	var a captureArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	if a.Network == "" || len(a.Has) == 0 {
		return nil, st.Errorf("add 'network: public' and 'has: [TEXT]'", "capture without a network, or without anything to await")
	}
	if all := networks(s); !slices.Contains(all, a.Network) {
		return nil, st.Errorf("one of "+strings.Join(all, ", "), "no network is called %q", a.Network)
	}
	for _, t := range slices.Concat(a.Has, a.Lacks) {
		if err := checkTemplate(st, t); err != nil {
			return nil, err
		}
		if t == "" {
			return nil, st.Errorf("a text or an address", "nothing to look for")
		}
	}
	return func(ctx context.Context, e *Env) error {
		err := retry(ctx, func(ctx context.Context) error {
			missing, err := e.inCapture(ctx, a.Network, a.Has, false)
			return errors.Join(err, missing)
		})
		if err != nil {
			return fmt.Errorf("network %s: %w", a.Network, err)
		}
		crossed, err := e.inCapture(ctx, a.Network, a.Lacks, true)
		if err = errors.Join(err, crossed); err != nil {
			return fmt.Errorf("network %s: %w", a.Network, err)
		}
		return nil
	}, nil
}

// networks lists what a topology's networks are called, N6 ones after their UPF.
func networks(s *spec.Spec) []string {
	out := []string{"public", "sbi", "n2", "n3", "n4", "core", "air"}
	for _, u := range s.UPFs {
		out = append(out, "n6-"+u.Name)
	}
	return out
}

// inCapture looks for texts and returns, as found, an error about the first that is
// there if bad says that it must not be, or is not there if it must.
func (e *Env) inCapture(ctx context.Context, network string, texts []string, bad bool) (found, err error) {
	for _, t := range texts {
		x, err := e.expand(t)
		if err != nil {
			return nil, err
		}
		needles := [][]byte{[]byte(x)}
		if a, aerr := netip.ParseAddr(x); aerr == nil {
			needles = append(needles, a.AsSlice())
		}
		hits, err := e.Lab.Captured(ctx, network, needles)
		if err != nil {
			return nil, err
		}
		if there := slices.Contains(hits, true); there == bad {
			if bad {
				return fmt.Errorf("%q has crossed it", x), nil
			}
			return fmt.Errorf("%q has not crossed it", x), nil
		}
	}
	return nil, nil
}
