package steps

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// execArgs: a program runs on a node. Arguments, environment and input may hold the
// values that knownValues lists.
type execArgs struct {
	Node   string            `yaml:"node"`
	Run    []string          `yaml:"run"`
	Env    map[string]string `yaml:"env"`
	Stdin  string            `yaml:"stdin"`
	Exit   int               `yaml:"exit"`   // wanted exit code
	Stdout string            `yaml:"stdout"` // regular expression that the output must match; empty: anything
	// As keeps the program running in the background under this name, until a stop
	// step or the end. Ready is then the text that its output must show first.
	As    string `yaml:"as"`
	Ready string `yaml:"ready"`
}

func compileExec(s *spec.Spec, st spec.Step) (Action, error) {
	var a execArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	if err := checkNode(s, st, a.Node); err != nil {
		return nil, err
	}
	if len(a.Run) == 0 {
		return nil, st.Errorf("add 'run: [curl, ...]'", "nothing to run")
	}
	want, err := regexp.Compile(a.Stdout)
	if err != nil {
		return nil, st.Errorf("a regular expression", "stdout: %v", err)
	}
	for _, t := range slices.Concat(a.Run, slices.Collect(maps.Values(a.Env)), []string{a.Stdin}) {
		if err := checkTemplate(st, t); err != nil {
			return nil, err
		}
	}
	if a.As != "" && (a.Exit != 0 || a.Stdout != "") {
		return nil, st.Errorf("leave exit and stdout out, or as", "exit or stdout of a program in the background")
	}
	if a.Ready != "" && a.As == "" {
		return nil, st.Errorf("add 'as: NAME' or leave ready out", "ready without as")
	}
	return func(ctx context.Context, e *Env) error {
		n, err := e.node(a.Node)
		if err != nil {
			return err
		}
		cmd := lab.Command{}
		for _, t := range a.Run {
			x, err := e.expand(t)
			if err != nil {
				return err
			}
			cmd.Args = append(cmd.Args, x)
		}
		for _, k := range slices.Sorted(maps.Keys(a.Env)) {
			x, err := e.expand(a.Env[k])
			if err != nil {
				return err
			}
			cmd.Env = append(cmd.Env, k+"="+x)
		}
		in, err := e.expand(a.Stdin)
		if err != nil {
			return err
		}
		cmd.Stdin = strings.NewReader(in)
		if a.As != "" {
			return a.background(ctx, e, n, cmd)
		}
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		p, err := n.Exec(ctx, cmd)
		if err != nil {
			return fmt.Errorf("exec %s: %w", a.Run[0], err)
		}
		code, err := p.Wait()
		if err != nil {
			return fmt.Errorf("exec %s: %w (stderr: %s)", a.Run[0], err, tail(errOut.String()))
		}
		if code != a.Exit {
			return fmt.Errorf("exec %s: want exit code %d, got %d (stderr: %s)", a.Run[0], a.Exit, code, tail(errOut.String()))
		}
		if !want.MatchString(out.String()) {
			return fmt.Errorf("exec %s: output %q does not match %q", a.Run[0], tail(out.String()), a.Stdout)
		}
		return nil
	}, nil
}

// background starts the program and waits for its ready text.
func (a execArgs) background(ctx context.Context, e *Env, n lab.Node, cmd lab.Command) error {
	w := &watcher{text: a.Ready, seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = w, w
	// The program outlives the step: its life ends with Env.Close or a stop step.
	p, err := n.Exec(context.WithoutCancel(ctx), cmd)
	if err != nil {
		return fmt.Errorf("exec %s: %w", a.Run[0], err)
	}
	e.mu.Lock()
	if _, taken := e.programs[a.As]; taken {
		e.mu.Unlock()
		_ = p.Stop()
		_, _ = p.Wait()
		return fmt.Errorf("a program called %q already runs", a.As)
	}
	b := watch(p)
	e.programs[a.As] = b
	e.mu.Unlock()
	if a.Ready == "" {
		return nil
	}
	select {
	case <-w.seen:
		return nil
	case <-b.ended:
		if w.ready() {
			return nil
		}
		if b.err != nil {
			return fmt.Errorf("exec %s: it ended before %q appeared in its output: %q: %w", a.Run[0], a.Ready, w.tail(), b.err)
		}
		return fmt.Errorf("exec %s: it ended with exit code %d before %q appeared in its output: %q", a.Run[0], b.code, a.Ready, w.tail())
	case <-ctx.Done():
		return fmt.Errorf("exec %s: %q did not appear in its output: %q: %w", a.Run[0], a.Ready, w.tail(), ctx.Err())
	}
}

// program is a program in the background.
type program struct {
	lab.Process
	ended chan struct{} // closed when it has been waited for
	code  int           // valid once ended is closed
	err   error         // the same
}

// watch waits for p, until stop at the latest.
func watch(p lab.Process) *program {
	b := &program{Process: p, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		b.code, b.err = p.Wait()
	}()
	return b
}

// stop ends the program, if it has not ended by itself, and joins its waiter. How it
// ends after a signal does not matter.
func (b *program) stop() error {
	err := b.Stop()
	<-b.ended
	return err
}

// watcher closes seen once text has gone by. It keeps the first 64 KiB.
type watcher struct {
	mu   sync.Mutex // the program's two outputs are copied by two goroutines
	buf  []byte
	text string
	seen chan struct{}
	done bool
}

// Write implements io.Writer.
func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if room := 64<<10 - len(w.buf); room > 0 {
		w.buf = append(w.buf, p[:min(room, len(p))]...)
	}
	if !w.done && bytes.Contains(w.buf, []byte(w.text)) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}

func (w *watcher) ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

func (w *watcher) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return tail(string(w.buf))
}

func tail(s string) string {
	const most = 400
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// stopArgs: a background program ends.
type stopArgs struct {
	Program string `yaml:"program"`
}

func compileStop(_ *spec.Spec, st spec.Step) (Action, error) {
	var a stopArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	return func(_ context.Context, e *Env) error {
		e.mu.Lock()
		p, ok := e.programs[a.Program]
		delete(e.programs, a.Program)
		e.mu.Unlock()
		if !ok {
			return fmt.Errorf("no program is called %q", a.Program)
		}
		if err := p.stop(); err != nil {
			return fmt.Errorf("stop %s: %w", a.Program, err)
		}
		return nil
	}, nil
}
