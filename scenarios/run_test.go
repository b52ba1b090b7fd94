package scenarios_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/scenarios"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/report"
	"github.com/simreach/simreach/scenarios/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is a topology of names: killing a node does what the test says.
type backend struct {
	check, start, close error
	kill                func(ctx context.Context, node string) error
	register            func(ctx context.Context, ue string) error
	log                 []string
	options             lab.Options
}

func (b *backend) Name() string           { return "fake" }
func (b *backend) Check(*spec.Spec) error { return b.check }
func (b *backend) Start(_ context.Context, _ *spec.Spec, o lab.Options) (lab.Lab, error) {
	b.log, b.options = append(b.log, "start"), o
	if b.start != nil {
		return nil, b.start
	}
	return fakeLab{b: b}, nil
}

// fakeLab has what the tests' steps use; the rest would be a fault of theirs.
type fakeLab struct {
	lab.Lab
	b *backend
}

func (l fakeLab) Node(name string) (lab.Node, bool) { return fakeNode{b: l.b, name: name}, true }
func (l fakeLab) UE(name string) (lab.UE, bool)     { return fakeUE{b: l.b, name: name}, name != "ghost" }
func (l fakeLab) Describe() []lab.Place             { return []lab.Place{{What: "REST API", Where: "192.0.2.1"}} }
func (l fakeLab) Close(ctx context.Context) error {
	l.b.log = append(l.b.log, "close")
	return errors.Join(l.b.close, ctx.Err())
}

type fakeNode struct {
	lab.Node
	b    *backend
	name string
}

func (n fakeNode) Kill(ctx context.Context) error {
	n.b.log = append(n.b.log, "kill "+n.name)
	if n.b.kill != nil {
		return n.b.kill(ctx, n.name)
	}
	return nil
}

type fakeUE struct {
	lab.UE
	b    *backend
	name string
}

func (u fakeUE) Register(ctx context.Context, _ string) error {
	u.b.log = append(u.b.log, "register "+u.name)
	if u.b.register != nil {
		return u.b.register(ctx, u.name)
	}
	return nil
}

func scenario(t *testing.T, more string) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("f.yaml", []byte(`name: demo
covers: [R6]
upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}]
gnbs: [{name: gnb1}]
ues: [{name: ue1, imsi: "001010000000001"}, {name: ghost, imsi: "001010000000002"}, {name: ue3, imsi: "001010000000003"}]
`+more))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const threeSteps = `steps:
  - kill: {node: amf}
    name: first
  - kill: {node: smf}
    timeout: 20ms
  - kill: {node: udm}
    name: last
`

// scrub takes out of a text what differs from run to run.
func scrub(s string) string {
	for _, r := range [][2]string{
		{`"(started|timestamp)": "[^"]*"`, `"$1": "NOW"`}, {`timestamp="[^"]*"`, `timestamp="NOW"`},
		{`"duration_ns": [0-9]+`, `"duration_ns": 1`}, {` time="[0-9.]+"`, ` time="0.001"`}, {`[0-9]+m?s\b`, "1ms"},
	} {
		s = regexp.MustCompile(r[0]).ReplaceAllString(s, r[1])
	}
	return s
}

// TestRun: what becomes of a run, in the result and on the screen; every topology
// that stood is torn down.
func TestRun(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		b      backend
		more   string
		passed bool
		log    string
		error  string   // of the result
		steps  []string // errors; "-" is not run
		screen string
	}{
		"passes": {more: threeSteps, passed: true, log: "start, kill amf, kill smf, kill udm, close", steps: []string{"", "", ""},
			screen: "demo on fake: 3 steps\n  ok   first (1ms)\n  ok   kill (1ms)\n  ok   last (1ms)\ndemo on fake: PASSED in 1ms\n"},
		"a step fails": {more: threeSteps, log: "start, kill amf, kill smf, close", steps: []string{"", "kill smf: broken", "-"},
			b:      backend{kill: func(_ context.Context, n string) error { return map[string]error{"smf": broken}[n] }},
			screen: "demo on fake: 3 steps\n  ok   first (1ms)\n  FAIL kill (1ms)\n       line 9: kill smf: broken\ndemo on fake: FAILED in 1ms\n"},
		"a step exceeds its deadline": {more: threeSteps, log: "start, kill amf, kill smf, close", steps: []string{"", "kill smf: context deadline exceeded (step deadline of 20ms)", "-"},
			b: backend{kill: func(ctx context.Context, n string) error {
				if n == "smf" {
					<-ctx.Done()
				}
				return ctx.Err()
			}}},
		"the run exceeds its own": {more: threeSteps + "timeout: 30ms\n", log: "start, kill amf, close", steps: []string{"kill amf: context deadline exceeded (the run ended: timeout of 30ms)", "-", "-"},
			b: backend{kill: func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }}},
		"the machine cannot": {more: threeSteps, b: backend{check: errors.New("no curl")},
			screen: "demo on fake: 3 steps\ndemo on fake: SKIPPED: no curl\n"},
		"no topology": {more: threeSteps, b: backend{start: broken}, log: "start", error: "start the topology: broken",
			screen: "demo on fake: 3 steps\n  FAIL start the topology: broken\ndemo on fake: FAILED in 1ms\n"},
		"teardown fails": {more: threeSteps, b: backend{close: broken}, log: "start, kill amf, kill smf, kill udm, close", steps: []string{"", "", ""}, error: "tear down: broken"},
		"no steps":       {passed: true, log: "start, close"},
	} {
		t.Run(name, func(t *testing.T) {
			var screen bytes.Buffer
			r, err := scenarios.Run(t.Context(), scenario(t, c.more), &c.b, scenarios.Options{Progress: report.Progress{W: &screen}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range r.Steps {
				if x.NotRun {
					x.Error = "-"
				}
				got = append(got, x.Error)
			}
			if r.Passed != c.passed || r.Error != c.error || !slices.Equal(got, c.steps) {
				t.Errorf("passed %v, error %q, steps %q", r.Passed, r.Error, got)
			}
			if log := strings.Join(c.b.log, ", "); log != c.log {
				t.Errorf("did %q, want %q", log, c.log)
			}
			if c.screen != "" {
				if diff := cmp.Diff(c.screen, scrub(screen.String())); diff != "" {
					t.Errorf("screen: %s", diff)
				}
			}
			if d := c.b.options.Scratch; d != "" {
				if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the scratch directory %s is left behind", d)
				}
			}
		})
	}
}

// TestCancelTearsDown: Ctrl-C in a step fails it, runs no other and tears down.
func TestCancelTearsDown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &backend{kill: func(ctx context.Context, _ string) error { cancel(); <-ctx.Done(); return ctx.Err() }}
	r, err := scenarios.Run(ctx, scenario(t, threeSteps), b, scenarios.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "kill amf: context canceled (the run ended: context canceled)"; r.Passed || r.Error != "" || r.Steps[0].Error != want || !r.Steps[1].NotRun {
		t.Errorf("got %+v", r)
	}
	if log := strings.Join(b.log, ", "); log != "start, kill amf, close" {
		t.Errorf("did %q", log)
	}
}

func TestAWrongStepStartsNothing(t *testing.T) {
	b := &backend{}
	_, err := scenarios.Run(t.Context(), scenario(t, threeSteps+"  - dance: {}\n"), b, scenarios.Options{})
	if err == nil || !strings.HasPrefix(err.Error(), `f.yaml:13:5: unknown step "dance"`) || len(b.log) != 0 {
		t.Errorf("did %q, error %v", b.log, err)
	}
}

// TestOutDirectory: the results are written, also of a run that failed.
func TestOutDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	b := &backend{kill: func(_ context.Context, n string) error { return map[string]error{"smf": errors.New("broken")}[n] }}
	if _, err := scenarios.Run(t.Context(), scenario(t, threeSteps), b, scenarios.Options{Out: dir}); err != nil {
		t.Fatal(err)
	}
	if b.options.Dir != dir {
		t.Errorf("the backend was told %q", b.options.Dir)
	}
	for _, name := range []string{"results.json", "junit.xml"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), scrub(string(got))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var r report.Result
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || time.Since(r.Started) > time.Hour || len(r.Steps) != 3 {
		t.Errorf("the results do not read back: %v, %+v", err, r)
	}
	file := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := scenarios.Run(t.Context(), scenario(t, ""), &backend{}, scenarios.Options{Out: file}); err == nil {
		t.Error("results were written into a file that is no directory")
	}
}

// TestEarlierVerdictIsGone: while a run is at work, and when it ends without a word, the
// results of the run before do not pass for its own. What is not a verdict stays.
func TestEarlierVerdictIsGone(t *testing.T) {
	dir := t.TempDir()
	if _, err := scenarios.Run(t.Context(), scenario(t, threeSteps), &backend{}, scenarios.Options{Out: dir}); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var during []string
	b := &backend{kill: func(context.Context, string) error {
		list, err := filepath.Glob(filepath.Join(dir, "*"))
		during = list
		return err
	}}
	if _, err := scenarios.Run(t.Context(), scenario(t, threeSteps), b, scenarios.Options{Out: dir}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(during, []string{mine}) {
		t.Errorf("during the second run there are %v, want %s alone", during, mine)
	}
}

// TestUp registers every UE, whatever becomes of one, and keeps the topology until
// it is told to stop.
func TestUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &backend{register: func(_ context.Context, ue string) error {
		if ue == "ue1" {
			return &lab.Rejected{Procedure: "registration", Cause: 11}
		}
		return nil
	}}
	var places []lab.Place
	err := scenarios.Up(ctx, scenario(t, ""), b, lab.Options{HostAccess: true}, func(p []lab.Place) {
		if slices.Contains(b.log, "close") {
			t.Error("torn down before it was told to stop")
		}
		places = p
		cancel()
	})
	if err != nil || len(places) != 1 || !b.options.HostAccess {
		t.Errorf("error %v, places %v", err, places)
	}
	if log := strings.Join(b.log, ", "); log != "start, register ue1, register ue3, close" {
		t.Errorf("did %q", log)
	}
}

func TestUpFails(t *testing.T) {
	broken := errors.New("broken")
	never := func([]lab.Place) { t.Error("said to be up") }
	if err := scenarios.Up(t.Context(), scenario(t, ""), &backend{start: broken}, lab.Options{}, never); !errors.Is(err, broken) {
		t.Errorf("want Start's error, got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b := &backend{close: broken, register: func(ctx context.Context, _ string) error { cancel(); return ctx.Err() }}
	if err := scenarios.Up(ctx, scenario(t, ""), b, lab.Options{}, never); !errors.Is(err, broken) {
		t.Errorf("want Close's error, got %v", err)
	}
}
