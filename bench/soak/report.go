package soak

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	_ "github.com/simreach/simreach/manager/store" // the driver of its database

	"github.com/simreach/simreach/manager"
)

// Bounds of what counts as no growth: pools, caches and the database's pages take some
// time to find their size.
const (
	moreFiles      = 12
	moreGoroutines = 12
	moreRSS        = 24 << 20 // bytes, and
	rssPart        = 0.15     // of what there was
)

// Report is what a run found.
type Report struct {
	For    time.Duration // of the load
	Load   float64
	Kinds  []KindReport
	Roles  []RoleReport
	Faults map[string]int // what failed, and how often

	Created                   int64       // entries beside the load
	Cuts                      []CutReport // of their connections
	Connections, TurnedAway   int64       // that clients made; of these, that were told that they are not let in
	Audited, Complete, Denied int64       // that the audit log has; with all three records of those let in, of those denied
}

// CutReport is how long after one cause clients saw that their connection was cut.
type CutReport struct {
	Name     string
	Times    int
	Within   time.Duration // what is promised where nothing else is at work
	P50, Max time.Duration
	Late     int // of Times, beyond Within
}

func (c *cut) report() CutReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := CutReport{Name: c.name, Times: len(c.late), Within: c.within}
	if r.Times == 0 {
		return r
	}
	late := slices.Sorted(slices.Values(c.late))
	r.P50, r.Max = late[len(late)/2], late[len(late)-1]
	for _, d := range late {
		if d > c.within {
			r.Late++
		}
	}
	return r
}

// KindReport is one kind of connections.
type KindReport struct {
	Name     string
	Most     float64 // a second, without a brake
	Rate     float64 // a second, under the load; 0 of those that are held
	Done     int64
	Resumed  int64 // of Done, with a TLS session that was resumed
	Failed   int64
	Megabyte float64 // payload
}

// RoleReport is what one process held before the load and after it, and the growth of
// its resident memory over the second half of the load as a line through the samples has
// it.
type RoleReport struct {
	Name                             string
	FilesBefore, FilesAfter          int
	GoroutinesBefore, GoroutineAfter int
	RSSBefore, RSSAfter, RSSGrowth   float64 // bytes
}

// Problems returns what is wrong, in the order of the report; none: the run is passed.
func (r Report) Problems() (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	keys := make([]string, 0, len(r.Faults))
	for k := range r.Faults {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		say("%d times: %s", r.Faults[k], k)
	}
	for _, k := range r.Kinds {
		if k.Done == 0 {
			say("no %s connection", k.Name)
		} else if k.Name == resumedKind && k.Resumed < k.Done/2 {
			say("%d TLS sessions of %d were resumed", k.Resumed, k.Done)
		}
	}
	for _, c := range r.Cuts {
		if c.Times == 0 {
			say("%s: never", c.Name)
		} else if c.P50 > c.Within {
			say("%s: half of %d connections were cut after %s or later; want %s", c.Name, c.Times, c.P50, c.Within)
		}
	}
	if r.Audited != r.Connections || r.Complete+r.Denied != r.Audited || r.Denied != r.TurnedAway {
		say("the audit log has %d connections, all records of %d let in and of %d denied; clients made %d, of which %d were turned away",
			r.Audited, r.Complete, r.Denied, r.Connections, r.TurnedAway)
	}
	for _, p := range r.Roles {
		if p.FilesAfter > p.FilesBefore+moreFiles {
			say("%s: %d descriptors, %d before", p.Name, p.FilesAfter, p.FilesBefore)
		}
		if p.GoroutineAfter > p.GoroutinesBefore+moreGoroutines {
			say("%s: %d goroutines, %d before", p.Name, p.GoroutineAfter, p.GoroutinesBefore)
		}
		if p.RSSGrowth > moreRSS+rssPart*p.RSSBefore {
			say("%s: its memory grows: %.1f MiB over the second half", p.Name, p.RSSGrowth/(1<<20))
		}
	}
	return out
}

// Write prints the report and its verdict.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "load %.0f %% of the most, for %s\n\n", 100*r.Load, r.For)
	fmt.Fprintf(&b, "%-12s %10s %10s %10s %8s %8s %10s\n", "connections", "most/s", "rate/s", "done", "resumed", "failed", "MB")
	for _, k := range r.Kinds {
		fmt.Fprintf(&b, "%-12s %10.1f %10.1f %10d %8d %8d %10.1f\n", k.Name, k.Most, k.Rate, k.Done, k.Resumed, k.Failed, k.Megabyte)
	}
	fmt.Fprintf(&b, "\n%d entries beside them; a live connection of each was cut, at the client after\n\n", r.Created)
	fmt.Fprintf(&b, "%-20s %8s %10s %10s %10s %8s\n", "cause", "times", "p50", "max", "promised", "later")
	for _, c := range r.Cuts {
		fmt.Fprintf(&b, "%-20s %8d %10s %10s %10s %8d\n", c.Name, c.Times, c.P50.Round(100*time.Microsecond), c.Max.Round(100*time.Microsecond), c.Within, c.Late)
	}
	fmt.Fprintf(&b, "\naudit log: %d connections of %d, all records of %d let in and of %d denied\n\n", r.Audited, r.Connections, r.Complete, r.Denied)
	fmt.Fprintf(&b, "%-12s %16s %16s %22s %14s\n", "process", "descriptors", "goroutines", "resident, MiB", "growth, MiB")
	for _, p := range r.Roles {
		fmt.Fprintf(&b, "%-12s %16s %16s %22s %14.1f\n", p.Name, fmt.Sprintf("%d -> %d", p.FilesBefore, p.FilesAfter),
			fmt.Sprintf("%d -> %d", p.GoroutinesBefore, p.GoroutineAfter), fmt.Sprintf("%.1f -> %.1f", p.RSSBefore/(1<<20), p.RSSAfter/(1<<20)), p.RSSGrowth/(1<<20))
	}
	problems := r.Problems()
	for _, p := range problems {
		fmt.Fprintf(&b, "\nPROBLEM %s", p)
	}
	verdict := "PASSED: nothing was lost and nothing is left"
	if len(problems) > 0 {
		verdict = fmt.Sprintf("FAILED: %d problems", len(problems))
	}
	fmt.Fprintf(&b, "\n%s\n", verdict)
	_, err := io.WriteString(w, b.String())
	return err
}

// growth returns the slope of the resident memory over the second half of samples, times
// its length: least squares, because a garbage collector's saw hides the trend from two
// samples.
func growth(samples []sample) float64 {
	s := samples[len(samples)/2:]
	if len(s) < 3 {
		return 0
	}
	var sx, sy, sxx, sxy float64
	for _, p := range s {
		x := p.at.Sub(s[0].at).Seconds()
		sx, sy, sxx, sxy = sx+x, sy+p.rss, sxx+x*x, sxy+x*p.rss
	}
	n := float64(len(s))
	d := n*sxx - sx*sx
	if d == 0 {
		return 0
	}
	return (n*sxy - sx*sy) / d * s[len(s)-1].at.Sub(s[0].at).Seconds()
}

// audit counts, in the manager's database, the connections, and those of which there is
// exactly one record of each of the three types that a connection has which was let in, or
// was denied.
func audit(ctx context.Context, path string) (all, complete, denied int64, err error) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("audit log: %w", err)
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(n = 3 AND a = 1 AND c = 1 AND e = 1), 0), COALESCE(SUM(n = 3 AND a = 1 AND d = 1 AND e = 1), 0) FROM (
		SELECT COUNT(*) AS n, SUM(type = ?) AS a, SUM(type = ?) AS c, SUM(type = ?) AS d, SUM(type = ?) AS e FROM audit WHERE connection_id <> '' GROUP BY connection_id)`,
		manager.AuditAccess, manager.AuditConnected, manager.AuditDenied, manager.AuditClosed).Scan(&all, &complete, &denied)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("audit log: %w", err)
	}
	return all, complete, denied, nil
}
