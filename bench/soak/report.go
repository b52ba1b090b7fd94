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

	Created, Revoked, Expired int64 // entries beside the load
	Connections               int64 // that clients made
	Audited, Complete         int64 // that the audit log has; with all three records
}

// KindReport is one kind of connections.
type KindReport struct {
	Name     string
	Most     float64 // a second, without a brake
	Rate     float64 // a second, under the load; 0 of those that are held
	Done     int64
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
		}
	}
	if r.Created == 0 || r.Revoked == 0 || r.Expired == 0 {
		say("entries: %d created, %d revoked, %d expired; want some of each", r.Created, r.Revoked, r.Expired)
	}
	if r.Audited != r.Connections || r.Complete != r.Audited {
		say("the audit log has %d connections, %d of them complete; clients made %d", r.Audited, r.Complete, r.Connections)
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
	fmt.Fprintf(&b, "%-12s %10s %10s %10s %8s %10s\n", "connections", "most/s", "rate/s", "done", "failed", "MB")
	for _, k := range r.Kinds {
		fmt.Fprintf(&b, "%-12s %10.1f %10.1f %10d %8d %10.1f\n", k.Name, k.Most, k.Rate, k.Done, k.Failed, k.Megabyte)
	}
	fmt.Fprintf(&b, "\nentries beside them: %d created, %d revoked, %d expired\n", r.Created, r.Revoked, r.Expired)
	fmt.Fprintf(&b, "audit log: %d connections of %d, %d complete\n\n", r.Audited, r.Connections, r.Complete)
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
// exactly one record of each of the three types that a connection which was let in has.
func audit(ctx context.Context, path string) (all, complete int64, err error) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return 0, 0, fmt.Errorf("audit log: %w", err)
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(n = 3 AND a = 1 AND c = 1 AND e = 1), 0) FROM (
		SELECT COUNT(*) AS n, SUM(type = ?) AS a, SUM(type = ?) AS c, SUM(type = ?) AS e FROM audit WHERE connection_id <> '' GROUP BY connection_id)`,
		manager.AuditAccess, manager.AuditConnected, manager.AuditClosed).Scan(&all, &complete)
	if err != nil {
		return 0, 0, fmt.Errorf("audit log: %w", err)
	}
	return all, complete, nil
}
