package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager/api"
)

// overlap is how far back a log is read again while it is followed: relays hand in
// records in batches, those of one later than those of another.
const overlap = time.Minute

// logReader reads one of the logs, whose entries are E. Entries that are the same as
// JSON are one.
type logReader[E any] struct {
	page func(context.Context, api.LogQuery) ([]E, string, error)
	time func(E) int64 // milliseconds since 1970
	line func(E) string
}

// logFlags say what of a log is shown.
type logFlags struct {
	since    time.Duration
	limit    int
	follow   bool
	interval time.Duration
}

func logCommand[E any](o *accessOptions, cmd *cobra.Command, reader func(*session) logReader[E]) *cobra.Command {
	f := &logFlags{}
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = o.runs(func(ctx context.Context, cmd *cobra.Command, args []string) error {
		imsi, err := ident.ParseIMSI(args[0])
		if err != nil {
			return err
		}
		if f.limit < 1 || f.interval <= 0 || f.since < 0 {
			return errors.New("--limit and --interval must be positive, --since must not be negative")
		}
		q := api.LogQuery{IMSI: string(imsi)}
		if f.since > 0 {
			q.From = time.Now().Add(-f.since)
		}
		life := shortLogin
		if f.follow {
			life = longLogin
		}
		return o.withSession(ctx, life, func(s *session) error {
			r := reader(s)
			es, err := r.newest(ctx, q, f.limit)
			if err != nil {
				return err
			}
			if !f.follow {
				return r.print(cmd, o.json, es)
			}
			return r.follow(ctx, cmd, o.json, q, f.interval, es)
		})
	})
	cmd.Flags().DurationVar(&f.since, "since", 0, "only entries of the last time, such as 2h; 0: all that are kept")
	cmd.Flags().IntVar(&f.limit, "limit", 100, "the newest so many entries")
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with what comes, until Ctrl-C; with --json one entry on a line")
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, "with --follow: how often the manager is asked")
	return cmd
}

// newest returns the newest entries of q, at most limit, the oldest of them first.
func (r logReader[E]) newest(ctx context.Context, q api.LogQuery, limit int) ([]E, error) {
	var out []E
	for q.After = ""; len(out) < limit; {
		q.Limit = min(limit-len(out), 1000)
		page, next, err := r.page(ctx, q)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if next == "" || next == q.After {
			break
		}
		q.After = next
	}
	slices.Reverse(out)
	return out, nil
}

func (r logReader[E]) print(cmd *cobra.Command, asJSON bool, es []E) error {
	w := cmd.OutOrStdout()
	if asJSON {
		if es == nil {
			es = []E{}
		}
		return printJSON(w, es)
	}
	for _, e := range es {
		if _, err := fmt.Fprintln(w, r.line(e)); err != nil {
			return err
		}
	}
	return nil
}

// follow prints es and then what comes until ctx ends, which is no error.
func (r logReader[E]) follow(ctx context.Context, cmd *cobra.Command, asJSON bool, q api.LogQuery, interval time.Duration, es []E) error {
	seen := map[string]int64{} // JSON to time
	latest := int64(0)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		for _, e := range es {
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if _, ok := seen[string(b)]; ok {
				continue
			}
			seen[string(b)] = r.time(e)
			latest = max(latest, r.time(e))
			line := string(b)
			if !asJSON {
				line = r.line(e)
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
				return err
			}
		}
		from := time.UnixMilli(latest).Add(-overlap)
		for b, t := range seen {
			if t < from.UnixMilli() {
				delete(seen, b)
			}
		}
		if latest > 0 && from.After(q.From) {
			q.From = from
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		var err error
		if es, err = r.newest(ctx, q, maxFollowed); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// maxFollowed bounds what is read at one time of a log that is followed, in entries.
const maxFollowed = 100_000

// millis is how times of logs are printed.
const millis = clock + ".000"

func accessLog(o *accessOptions) *cobra.Command {
	return logCommand(o, &cobra.Command{
		Use:   "log IMSI",
		Short: "Show the audit log of a device's accesses, the newest last (root user only)",
	}, func(s *session) logReader[api.AuditRecord] {
		return logReader[api.AuditRecord]{
			page: s.AuditLog,
			time: func(r api.AuditRecord) int64 { return r.CreatedAt },
			line: func(r api.AuditRecord) string {
				text := fmt.Sprintf("%s %-9s", localTime(r.CreatedAt, millis), r.Type)
				if r.Direction == nil {
					return text
				}
				return text + " " + ends(r.Direction) + " " + r.ConnectionID
			},
		}
	})
}

func accessErrors(o *accessOptions) *cobra.Command {
	return logCommand(o, &cobra.Command{
		Use:   "errors IMSI",
		Short: "Show why accesses to a device failed, the newest last",
	}, func(s *session) logReader[api.LogEntry] {
		return logReader[api.LogEntry]{
			page: s.ErrorLog,
			time: func(e api.LogEntry) int64 { return e.Time },
			line: func(e api.LogEntry) string {
				b := e.Body
				return fmt.Sprintf("%s %-9s %s %s %s (%s)", localTime(e.Time, millis), b.Type, b.Code, ends(b.Direction), b.Message, b.Cause)
			},
		}
	})
}

// ends prints "client -> device".
func ends(d *api.Direction) string {
	if d == nil {
		return "-"
	}
	return hostPort(d.SourceIPAddress, d.SourcePort) + " -> " + hostPort(d.DestinationIPAddress, d.DestinationPort)
}

// hostPort prints "address:port", with a star for an address that is not known.
func hostPort(address string, port int) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return fmt.Sprintf("*:%d", port)
	}
	return netip.AddrPortFrom(a, uint16(port)).String()
}
