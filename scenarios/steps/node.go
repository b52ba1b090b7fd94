package steps

import (
	"context"
	"fmt"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// nodeArgs names the node of a kill or start step.
type nodeArgs struct {
	Node string `yaml:"node"`
}

func compileKill(s *spec.Spec, st spec.Step) (Action, error) {
	return onNode(s, st, "kill", func(ctx context.Context, n lab.Node) error { return n.Kill(ctx) })
}

func compileStart(s *spec.Spec, st spec.Step) (Action, error) {
	return onNode(s, st, "start", func(ctx context.Context, n lab.Node) error { return n.Start(ctx) })
}

func onNode(s *spec.Spec, st spec.Step, what string, do func(context.Context, lab.Node) error) (Action, error) {
	var a nodeArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	if err := checkNode(s, st, a.Node); err != nil {
		return nil, err
	}
	if !s.HasProcess(a.Node) {
		return nil, st.Errorf("name amf, smf, udm, manager, ue, which is that of all UEs, or one of the upfs, inner_relays, outer_relays and gnbs",
			"%s has no process of its own to %s", a.Node, what)
	}
	return func(ctx context.Context, e *Env) error {
		n, err := e.node(a.Node)
		if err != nil {
			return err
		}
		if err := do(ctx, n); err != nil {
			return fmt.Errorf("%s %s: %w", what, a.Node, err)
		}
		return nil
	}, nil
}
