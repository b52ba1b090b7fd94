package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/simreach/simreach/bench/process"
	"github.com/simreach/simreach/bench/result"
	"github.com/simreach/simreach/netns"
)

// Options are those of the command.
type Options struct {
	Rounds int  // interleaved rounds; at least 1
	Quick  bool // short measurements, to see that everything works
	// Only measures these cases (bulk-1, bulk-16, connect, pingpong, idle, tls-up,
	// tls-down, tls-handshake, tls-resumed, tls-idle). Empty: all.
	Only []string
	// Variants takes only these (routed, haproxy, nginx, io.Copy, ours). Empty: all.
	Variants []string
	// Progress is told what is measured now. nil: nobody.
	Progress func(what string)
}

// Cases and metrics.
var (
	rate     = result.Metric{Name: "rate", Unit: "Gbit/s", Better: result.Higher}
	cpu      = result.Metric{Name: "relay CPU", Unit: "s/GB", Better: result.Lower}
	cpuEach  = result.Metric{Name: "CPU", Unit: "us each", Better: result.Lower} // of relays, and of a manager
	connects = result.Metric{Name: "connections", Unit: "/s", Better: result.Higher}
	p50      = result.Metric{Name: "p50", Unit: "us", Better: result.Lower}
	p99      = result.Metric{Name: "p99", Unit: "us", Better: result.Lower}
	rss      = result.Metric{Name: "RSS per connection and tier", Unit: "KB", Better: result.Lower}
	fds      = result.Metric{Name: "descriptors per connection and tier", Unit: "", Better: result.Lower}
	setups   = result.Metric{Name: "handshakes", Unit: "/s", Better: result.Higher}
)

// measure is one case.
type measure struct {
	name    string
	tls     bool
	port    uint16
	load    Load
	collect func(f Figures, used, idle process.Cost, add func(result.Metric, float64))
}

func byBulk(f Figures, used, _ process.Cost, add func(result.Metric, float64)) {
	add(rate, f.BitsPerSecond/1e9)
	if used.CPU > 0 {
		add(cpu, used.CPU.Seconds()/(float64(f.Bytes)/1e9))
	}
}

func byRate(m result.Metric) func(Figures, process.Cost, process.Cost, func(result.Metric, float64)) {
	return func(f Figures, used, _ process.Cost, add func(result.Metric, float64)) {
		add(m, f.PerSecond)
		if used.CPU > 0 && f.Done > 0 {
			add(cpuEach, used.CPU.Seconds()*1e6/float64(f.Done))
		}
	}
}

// Idle connections are counted on top of the first ones, for which every program has room,
// or makes it, and after others that came and went: what those leave behind is not theirs.
const (
	firstConnections = 1000
	idleConnections  = 2000
)

func byOpen(_ Figures, _, idle process.Cost, add func(result.Metric, float64)) {
	add(rss, float64(idle.RSS)/1024/idleConnections/2)
	add(fds, float64(idle.Files)/idleConnections/2)
}

var measures = []measure{
	{name: "bulk-1", port: portSink, load: Load{Kind: "bulk-up", Streams: 1}, collect: byBulk},
	{name: "bulk-16", port: portSink, load: Load{Kind: "bulk-up", Streams: 16}, collect: byBulk},
	{name: "connect", port: portEcho, load: Load{Kind: "connect", Streams: 16}, collect: byRate(connects)},
	{name: "pingpong", port: portEcho, load: Load{Kind: "pingpong", Streams: 1}, collect: func(f Figures, _, _ process.Cost, add func(result.Metric, float64)) {
		add(p50, float64(f.P50)/1e3)
		add(p99, float64(f.P99)/1e3)
	}},
	{name: "idle", port: portEcho, load: Load{Kind: "idle", Streams: idleConnections}, collect: byOpen},
	{name: "tls-up", tls: true, port: portSink, load: Load{Kind: "bulk-up", Streams: 1}, collect: byBulk},
	{name: "tls-down", tls: true, port: portSource, load: Load{Kind: "bulk-down", Streams: 1}, collect: byBulk},
	{name: "tls-handshake", tls: true, port: portEcho, load: Load{Kind: "handshake", Streams: 16}, collect: byRate(setups)},
	{name: "tls-resumed", tls: true, port: portEcho, load: Load{Kind: "handshake", Streams: 16, Resume: true}, collect: byRate(setups)},
	{name: "tls-idle", tls: true, port: portEcho, load: Load{Kind: "idle", Streams: idleConnections}, collect: byOpen},
}

// Validate reports what is wrong with o, and what there is instead.
func (o Options) Validate() error {
	if o.Rounds < 1 {
		return fmt.Errorf("%d rounds: want at least 1", o.Rounds)
	}
	var cases []string
	for _, m := range measures {
		cases = append(cases, m.name)
	}
	variants := []string{"routed"}
	for _, p := range peers {
		variants = append(variants, p.name)
	}
	variants = append(variants, "ours")
	for _, list := range []struct {
		what        string
		asked, have []string
	}{{"case", o.Only, cases}, {"variant", o.Variants, variants}} {
		for _, name := range list.asked {
			if !slices.Contains(list.have, name) {
				return fmt.Errorf("unknown %s %q: want some of %s", list.what, name, strings.Join(list.have, ", "))
			}
		}
	}
	return nil
}

// Run makes the namespaces, starts all variants and measures them in turns. Everything
// is gone when it returns.
func Run(ctx context.Context, o Options) (r result.Report, err error) {
	if err := o.Validate(); err != nil {
		return r, err
	}
	if err := netns.Available(); err != nil {
		return r, fmt.Errorf("bench relay needs network namespaces: %w; run it as root", err)
	}
	dir, err := os.MkdirTemp("", "simreach-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t, err := newTopology()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	run := &run{Options: o, topology: t, dir: dir, report: &r}
	defer func() { err = errors.Join(err, run.stop()) }()
	r = result.Report{Bench: "relay", Machine: result.ThisMachine(), Date: time.Now().UTC().Truncate(time.Second), Rounds: o.Rounds, Absent: []string{}}
	if err := run.startAll(ctx); err != nil {
		return r, err
	}
	return r, run.measureAll(ctx)
}

// run is one run of the bench.
type run struct {
	Options
	*topology
	dir      string
	report   *result.Report
	variants []*variant
	server   *process.Process
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		r.Progress(fmt.Sprintf(format, args...))
	}
}

func (r *run) startAll(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.server, err = process.Start(ctx, process.Spec{
		Args: []string{self, "bench", "load-server", "--ready-fd", "3", "--address", address(server, false).String()},
		Log:  filepath.Join(r.dir, "server.log"), Start: r.ns[server].Start,
	})
	if err != nil {
		return err
	}
	cert, err := certificate(r.dir)
	if err != nil {
		return err
	}
	wanted := func(name string) bool { return len(r.Variants) == 0 || slices.Contains(r.Variants, name) }
	if wanted("routed") {
		r.variants = append(r.variants, routed())
	}
	for _, p := range peers {
		if !wanted(p.name) {
			continue
		}
		if _, err := p.find(); err != nil {
			r.report.Absent = append(r.report.Absent, p.name)
			continue
		}
		r.say("starting %s", p.name)
		if err := r.start(func(dir string) (*variant, error) { return p.start(ctx, r.topology, dir, cert) }); err != nil {
			return err
		}
	}
	if !wanted("ours") {
		return nil
	}
	r.say("starting ours")
	return r.start(func(dir string) (*variant, error) { return ours(ctx, r.topology, dir, self, cert) })
}

// start adds a variant that begin starts, in a directory of its own, each time that it is
// called.
func (r *run) start(begin func(dir string) (*variant, error)) error {
	again := func() (*variant, error) {
		dir, err := os.MkdirTemp(r.dir, "")
		if err != nil {
			return nil, err
		}
		return begin(dir)
	}
	v, err := again()
	if err != nil {
		return err
	}
	v.again = again
	r.variants = append(r.variants, v)
	return nil
}

// restart has a variant's processes begin anew: those that have served many connections
// have room for others.
func (v *variant) restart() error {
	if v.again == nil { // it has none
		return nil
	}
	err := v.stop()
	v.processes, v.others = nil, nil
	if err != nil {
		return err
	}
	fresh, err := v.again()
	if err != nil {
		return err
	}
	fresh.again = v.again
	*v = *fresh
	return nil
}

func (r *run) stop() error {
	var errs []error
	for _, v := range r.variants {
		errs = append(errs, v.stop())
	}
	if r.server != nil {
		errs = append(errs, r.server.Stop())
	}
	return errors.Join(errs...)
}

// eachTurn calls f for each case of each round and each variant that can do it, until f
// fails.
func (r *run) eachTurn(f func(round int, m measure, v *variant) error) error {
	for round := range r.Rounds {
		for _, m := range measures {
			if len(r.Only) > 0 && !slices.Contains(r.Only, m.name) {
				continue
			}
			// Whoever is first in one round is last in the next.
			turn := slices.Concat(r.variants[round%len(r.variants):], r.variants[:round%len(r.variants)])
			for _, v := range turn {
				if m.tls && v.secure == nil {
					continue
				}
				if err := f(round, m, v); err != nil {
					return fmt.Errorf("%s with %s: %w", m.name, v.name, err)
				}
			}
		}
	}
	return nil
}

func (r *run) measureAll(ctx context.Context) error {
	if len(r.variants) == 0 {
		return fmt.Errorf("nothing to measure: not installed: %s", strings.Join(r.report.Absent, ", "))
	}
	plain, secure := result.NewSamples(), result.NewSamples()
	err := r.eachTurn(func(round int, m measure, v *variant) error {
		r.say("round %d of %d: %s %s", round+1, r.Rounds, m.name, v.name)
		into := plain
		if m.tls {
			into = secure
		}
		return r.one(ctx, m, v, func(x result.Metric, value float64) { into.Add(round, m.name, x, v.name, value) })
	})
	if err != nil {
		return err
	}
	var names, others []string
	for _, v := range r.variants {
		names = append(names, v.name)
		if v.name != "routed" && v.name != "ours" {
			others = append(others, v.name)
		}
	}
	r.report.Rows = append(plain.Rows(names, "routed", "ours", others...), secure.Rows(names, "haproxy", "ours", others...)...)
	r.report.Notes = append(r.report.Notes,
		"cases without TLS are relative to routed, those with TLS to haproxy",
		"ours asks a manager about every connection and writes audit records; the peers do neither")
	return nil
}

// one measures one case of one variant once.
func (r *run) one(ctx context.Context, m measure, v *variant, add func(result.Metric, float64)) error {
	l := m.load
	l.For = 3 * time.Second
	if r.Quick {
		l.For = 500 * time.Millisecond
	}
	if m.tls {
		l.TLS = certificateName
	}
	l.To = v.at(m).String()
	if l.Kind == "idle" {
		return r.idle(ctx, m, v, l, add)
	}
	before, err := process.CostOf(v.processes...)
	if err != nil {
		return err
	}
	othersBefore, err := process.CostOf(v.others...)
	if err != nil {
		return err
	}
	f, err := r.client(ctx, l, nil)
	if err != nil {
		return err
	}
	after, err := process.CostOf(v.processes...)
	if err != nil {
		return err
	}
	others, err := process.CostOf(v.others...)
	if err != nil {
		return err
	}
	if f.Failed > 0 {
		r.report.Notes = append(r.report.Notes, fmt.Sprintf("%s with %s: %d connections failed in one round", m.name, v.name, f.Failed))
	}
	m.collect(f, process.Cost{CPU: after.CPU - before.CPU + others.CPU - othersBefore.CPU}, process.Cost{}, add)
	return nil
}

// idle measures what open connections cost that carry nothing.
func (r *run) idle(ctx context.Context, m measure, v *variant, l Load, add func(result.Metric, float64)) error {
	if v.name == "routed" {
		return nil
	}
	if err := v.restart(); err != nil {
		return err
	}
	l.To = v.at(m).String() // which is new
	churn, first := l, l
	churn.Kind, churn.Streams = "connect", 16
	if _, err := r.client(ctx, churn, nil); err != nil {
		return err
	}
	first.Streams = firstConnections
	_, err := r.client(ctx, first, func() error {
		before, err := process.CostOf(v.processes...)
		if err != nil {
			return err
		}
		_, err = r.client(ctx, l, func() error {
			now, err := process.CostOf(v.processes...)
			m.collect(Figures{}, process.Cost{}, process.Cost{RSS: now.RSS - min(before.RSS, now.RSS), Files: now.Files - before.Files}, add)
			return err
		})
		return err
	})
	return err
}

// client runs a load as a process in the client's namespace. opened is called while
// idle connections are open.
func (r *run) client(ctx context.Context, l Load, opened func() error) (f Figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	args := []string{"bench", "load-client", "--kind", l.Kind, "--to", l.To, "--streams", strconv.Itoa(l.Streams), "--for", l.For.String(), "--tls", l.TLS}
	if l.Resume {
		args = append(args, "--resume")
	}
	cmd := exec.Command(self, args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	feed, err := cmd.StdinPipe()
	if err != nil {
		return f, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return f, err
	}
	if err := r.ns[client].Start(cmd); err != nil {
		return f, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	var hookErr error
	d := json.NewDecoder(stdout)
	for {
		var line struct {
			Opened bool `json:"opened"`
			Figures
		}
		if err := d.Decode(&line); err != nil {
			break // it has ended; Wait says how
		}
		if line.Opened {
			hookErr = opened()
			_ = feed.Close()
			continue
		}
		f = line.Figures
	}
	_ = feed.Close()
	if err := cmd.Wait(); err != nil {
		return f, fmt.Errorf("load %s: %w: %s", l.Kind, err, log.String())
	}
	return f, hookErr
}
