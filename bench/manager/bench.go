package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/simreach/simreach/bench/process"
	"github.com/simreach/simreach/bench/result"
	"github.com/simreach/simreach/internal/pgserver"
	"github.com/simreach/simreach/manager/store"
)

// Options are those of the command.
type Options struct {
	Rounds int    // at least 1
	Quick  bool   // short measurements with a fiftieth of the data, to see that everything works
	Store  string // store.SQLite or store.Postgres: a server of its own. Empty: SQLite
	// Only measures these cases (resolve-1000, resolve-10000, resolve-max, create, login, audit).
	// Empty: all. Memory is always measured.
	Only []string
	// Progress is told what is measured now. nil: nobody.
	Progress func(what string)
}

var (
	rate = result.Metric{Name: "rate", Unit: "/s", Better: result.Higher}
	p50  = result.Metric{Name: "p50", Unit: "us", Better: result.Lower}
	p99  = result.Metric{Name: "p99", Unit: "us", Better: result.Lower}
	rss  = result.Metric{Name: "RSS of the manager", Unit: "MB", Better: result.Lower}
	cpu  = result.Metric{Name: "manager CPU", Unit: "us each", Better: result.Lower}
)

// size is how much a manager has to know.
type size struct{ entries, subscribers int }

var (
	full  = size{50_000, 100_000}
	small = size{1_000, 2_000}
)

// measure is one case.
type measure struct {
	name string
	run  func(*bench, context.Context, time.Duration) (figures, error)
	pace int // questions a second, if so many are asked however long the answers take
	// metrics that say something of it
	rate, latency bool
}

var measures = []measure{
	{name: "resolve-1000", pace: 1000, latency: true},
	{name: "resolve-10000", pace: 10_000, latency: true},
	{name: "resolve-max", run: (*bench).resolveMax, rate: true, latency: true},
	{name: "create", run: (*bench).create, rate: true, latency: true},
	{name: "login", run: (*bench).login, rate: true, latency: true},
	{name: "audit", run: (*bench).audit, rate: true},
}

// bench is one run.
type bench struct {
	Options
	size
	dir     string
	config  store.Config
	manager *process.Process
	plain   *plain
	fleet   *fleet
	clients *clients
	entries []known
}

// Run fills a store, starts a manager on it and measures. Everything is gone when it
// returns.
func Run(ctx context.Context, o Options) (r result.Report, err error) {
	if o.Store == "" {
		o.Store = store.SQLite
	}
	switch {
	case o.Rounds < 1:
		return r, fmt.Errorf("%d rounds: want at least 1", o.Rounds)
	case o.Store != store.SQLite && o.Store != store.Postgres:
		return r, fmt.Errorf("store %q: want %s or %s", o.Store, store.SQLite, store.Postgres)
	}
	for _, name := range o.Only {
		if !slices.ContainsFunc(measures, func(m measure) bool { return m.name == name }) {
			return r, fmt.Errorf("unknown case %q", name)
		}
	}
	b := &bench{Options: o, size: full}
	if o.Quick {
		b.size = small
	}
	if b.dir, err = os.MkdirTemp("", "simreach-bench-"); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.config = store.Config{Path: filepath.Join(b.dir, "manager.db")}
	if o.Store == store.Postgres {
		server, err := pgserver.Start()
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, server.Close()) }()
		url, err := server.Database()
		if err != nil {
			return r, err
		}
		b.config = store.Config{URL: url}
	}
	r = result.Report{Bench: "manager", Machine: result.ThisMachine(), Date: time.Now().UTC().Truncate(time.Second), Rounds: o.Rounds, Absent: []string{}}
	return r, b.run(ctx, &r)
}

func (b *bench) say(format string, args ...any) {
	if b.Progress != nil {
		b.Progress(fmt.Sprintf(format, args...))
	}
}

func (b *bench) run(ctx context.Context, r *result.Report) (err error) {
	b.say("filling the store: %d entries, %d subscribers", b.size.entries, b.size.subscribers)
	if err := b.fill(ctx); err != nil {
		return err
	}
	b.say("starting the manager")
	if err := b.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	samples := result.NewSamples()
	length := 3 * time.Second
	if b.Quick {
		length = 300 * time.Millisecond
	}
	for round := range b.Rounds {
		add := func(name string, m result.Metric, v float64) { samples.Add(round, name, m, b.Store, v) }
		if round == 0 {
			if err := b.memory(func(v float64) { add("at rest", rss, v) }); err != nil {
				return err
			}
		}
		for _, m := range measures {
			if len(b.Only) > 0 && !slices.Contains(b.Only, m.name) {
				continue
			}
			b.say("round %d of %d: %s", round+1, b.Rounds, m.name)
			if m.pace > 0 {
				f, err := b.plain.ask(ctx, m.pace, length)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", m.name, plainTCP, err)
				}
				f.latencies(func(x result.Metric, v float64) { samples.Add(round, m.name, x, plainTCP, v) })
			}
			if err := b.one(ctx, m, length, r, func(x result.Metric, v float64) { add(m.name, x, v) }); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		if err := b.memory(func(v float64) { add("after a round", rss, v) }); err != nil {
			return err
		}
	}
	r.Rows = samples.Rows([]string{plainTCP, b.Store}, plainTCP, "")
	r.Notes = append(r.Notes,
		fmt.Sprintf("%d entries and %d subscribers in the store", b.size.entries, b.size.subscribers),
		"the relays and clients that ask share the machine with the manager",
		plainTCP+": messages as long as questions and answers, between two processes, with nothing to look up")
	return nil
}

// one measures one case once.
func (b *bench) one(ctx context.Context, m measure, length time.Duration, r *result.Report, add func(result.Metric, float64)) error {
	before, err := process.CostOf(b.manager)
	if err != nil {
		return err
	}
	var f figures
	if m.pace > 0 {
		f, err = b.resolveAt(ctx, m.pace, length)
	} else {
		f, err = m.run(b, ctx, length)
	}
	if err != nil {
		return err
	}
	after, err := process.CostOf(b.manager)
	if err != nil {
		return err
	}
	if f.failed > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: %d failed in one round, the first: %v", m.name, f.failed, f.first))
	}
	if f.done == 0 {
		return fmt.Errorf("nothing was answered: %w", f.first)
	}
	if m.rate {
		add(rate, float64(f.done)/f.took.Seconds())
	}
	if m.latency {
		f.latencies(add)
	}
	add(cpu, float64((after.CPU-before.CPU).Microseconds())/float64(f.done))
	return nil
}

func (f *figures) latencies(add func(result.Metric, float64)) {
	add(p50, float64(f.latency.ValueAtQuantile(50)))
	add(p99, float64(f.latency.ValueAtQuantile(99)))
}

func (b *bench) memory(add func(float64)) error {
	c, err := process.CostOf(b.manager)
	if err == nil {
		add(float64(c.RSS) / (1 << 20))
	}
	return err
}
