// Package scenarios runs a scenario: it checks every step, has a backend build the
// topology, performs the steps one after another, each with a deadline, tears
// everything down and returns the result. Run owns all it starts.
package scenarios

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/report"
	"github.com/simreach/simreach/scenarios/scratch"
	"github.com/simreach/simreach/scenarios/spec"
	"github.com/simreach/simreach/scenarios/steps"
)

// teardownTimeout bounds Close, which also runs when the run's own context ended.
const teardownTimeout = 30 * time.Second

// Options go with Run.
type Options struct {
	Log      *slog.Logger    // nil discards
	Out      string          // directory for results, captures and logs; empty keeps none
	Progress report.Progress // W nil prints nothing
}

// Compile checks every step of s without running anything.
func Compile(s *spec.Spec) ([]steps.Action, error) {
	var out []steps.Action
	var names steps.Names
	for _, st := range s.Steps {
		a, err := steps.Compile(s, st)
		if err == nil {
			err = names.Check(s, st)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// Run runs s on b. The error is about the scenario itself (a wrong step) or about what it
// needs of the disk: a scratch directory, and room for the results. Whether the scenario
// passed is in the result.
func Run(ctx context.Context, s *spec.Spec, b lab.Backend, o Options) (*report.Result, error) {
	actions, err := Compile(s)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Out != "" {
		if err := os.MkdirAll(o.Out, 0o755); err != nil {
			return nil, fmt.Errorf("output directory: %w", err)
		}
		if err := report.Discard(o.Out); err != nil {
			return nil, err
		}
	}
	r := &report.Result{Scenario: s.Name, File: s.File, Backend: b.Name(), Covers: s.Covers, Started: time.Now()}
	if o.Progress.W != nil {
		o.Progress.Start(r, len(actions))
	}
	if err := b.Check(s); err != nil {
		r.Skipped = err.Error()
	} else if dir, err := scratch.New("run"); err != nil {
		return nil, fmt.Errorf("scratch directory in %s, where TMPDIR may name another: %w", os.TempDir(), err)
	} else if err := run(ctx, s, b, o, r, dir, actions); err != nil {
		r.Error = err.Error()
	}
	r.Duration = time.Since(r.Started)
	r.Passed = r.Error == "" && r.Skipped == "" && passed(r.Steps)
	if o.Progress.W != nil {
		o.Progress.End(r)
	}
	if o.Out != "" {
		if err := report.Write(o.Out, r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func passed(list []report.Step) bool {
	for _, st := range list {
		if st.Error != "" || st.NotRun {
			return false
		}
	}
	return true
}

func run(ctx context.Context, s *spec.Spec, b lab.Backend, o Options, r *report.Result, dir *scratch.Dir, actions []steps.Action) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout.Std(), fmt.Errorf("timeout of %s", s.Timeout.Std()))
	defer cancel()
	defer func() { err = errors.Join(err, dir.Remove()) }()
	if o.Progress.W != nil {
		o.Progress.Running("starting the topology")
	}
	l, err := b.Start(ctx, s, lab.Options{Log: o.Log, Dir: o.Out, Scratch: dir.Path, Capture: s.Captures()})
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (the run ended: %w)", err, context.Cause(ctx))
		}
		return fmt.Errorf("start the topology: %w", err)
	}
	env := steps.NewEnv(s, l, dir.Path)
	defer func() {
		if o.Progress.W != nil {
			o.Progress.Running("tearing down")
		}
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
		defer cancel()
		if cerr := errors.Join(env.Close(), l.Close(done)); cerr != nil {
			err = errors.Join(err, fmt.Errorf("tear down: %w", cerr))
		}
	}()
	failed := false
	for i, st := range s.Steps {
		x := report.Step{Name: st.Name, Verb: st.Verb, Line: st.Line, NotRun: failed}
		if !failed {
			if o.Progress.W != nil {
				o.Progress.Running(st.Name)
			}
			x.Duration, x.Error = perform(ctx, env, st, actions[i])
			failed = x.Error != ""
			if o.Progress.W != nil {
				o.Progress.Step(x)
			}
		}
		r.Steps = append(r.Steps, x)
	}
	return nil
}

// perform runs one step under its deadline.
func perform(ctx context.Context, env *steps.Env, st spec.Step, act steps.Action) (took time.Duration, failure string) {
	start := time.Now()
	stepCtx, cancel := context.WithTimeout(ctx, st.Timeout)
	defer cancel()
	if err := act(stepCtx, env); err != nil {
		failure = err.Error()
		switch {
		case ctx.Err() != nil:
			failure += fmt.Sprintf(" (the run ended: %v)", context.Cause(ctx))
		case stepCtx.Err() != nil:
			failure += fmt.Sprintf(" (step deadline of %s)", st.Timeout)
		}
	}
	return time.Since(start), failure
}

// Up builds the topology of s, registers every UE and keeps it until ctx ends. up
// is called once with where to reach each part.
func Up(ctx context.Context, s *spec.Spec, b lab.Backend, o lab.Options, up func([]lab.Place)) (err error) {
	l, err := b.Start(ctx, s, o)
	if err != nil {
		return fmt.Errorf("start the topology: %w", err)
	}
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTimeout)
		defer cancel()
		err = errors.Join(err, l.Close(done))
	}()
	for _, d := range s.Devices {
		u, ok := l.UE(d.Name)
		if !ok {
			continue
		}
		reg, cancel := context.WithTimeout(ctx, spec.DefaultStepTimeout)
		rerr := u.Register(reg, "")
		cancel()
		if rerr != nil && ctx.Err() == nil && o.Log != nil {
			// A UE that the network refuses is no reason to have no topology.
			o.Log.Warn("UE did not register", "ue", d.Name, "error", rerr)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	up(l.Describe())
	<-ctx.Done()
	return nil
}
