package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/manager/api"
)

// accessOptions are the flags that every command of access has.
type accessOptions struct {
	apiFlags
	json bool
}

func accessCommand() *cobra.Command {
	o := &accessOptions{}
	cmd := &cobra.Command{
		Use:   "access",
		Short: "Reach devices: ask the manager for access, use it, and read its logs",
		Long: "Reach devices: ask the manager for access, use it, and read its logs.\n\n" +
			"The manager's address and the login may come from the environment: SIMREACH_API, SIMREACH_CA,\n" +
			"SIMREACH_AUTH_KEY_ID with SIMREACH_AUTH_KEY, or SIMREACH_EMAIL (or SIMREACH_OPERATOR_ID and\n" +
			"SIMREACH_USER_NAME) with SIMREACH_PASSWORD. Secrets come from there or from files, never from the\n" +
			"command line, which other users of the machine can read.\n\n" +
			"The exit code is 0 when it was done, 1 when the manager or a relay refused, with a stable code on\n" +
			"standard error, and 2 when nobody could be asked. With --json results and refusals are JSON.",
	}
	o.register(cmd.PersistentFlags())
	cmd.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	cmd.AddCommand(createAccess(o), listAccess(o), deleteAccess(o), accessLog(o), accessErrors(o), connectAccess(o), credentialCommand(o))
	return cmd
}

// refusal is an answer of the manager or of a relay that something is not to be.
type refusal struct {
	Code    string `json:"code"` // stable; empty when the relay tells no more than that it refused
	Message string `json:"message"`
	Status  int    `json:"status,omitempty"` // of HTTP
	err     error
}

// Error implements error.
func (r *refusal) Error() string {
	if r.Code == "" {
		return r.Message
	}
	return r.Code + ": " + r.Message
}

// Unwrap returns what lies beneath.
func (r *refusal) Unwrap() error { return r.err }

// asRefusal returns err as a refusal; nil if it is something else.
func asRefusal(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	// An answer without a code is not the manager's.
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code != "" {
		return &refusal{Code: e.Code, Message: e.Message, Status: e.Status, err: err}
	}
	return nil
}

// runs makes the body of a command: refusals are printed and end the program with
// code 1.
func (o *accessOptions) runs(run func(context.Context, *cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(cmd.Context(), cmd, args)
		r := asRefusal(err)
		if r == nil {
			return err
		}
		if o.json {
			return errors.Join(printJSON(cmd.ErrOrStderr(), r), errFailed)
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "simreach:", r)
		return errFailed
	}
}

// withSession logs in for the time of one call.
func (o *accessOptions) withSession(ctx context.Context, lifetime time.Duration, do func(*session) error) error {
	s, err := o.login(ctx, lifetime)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	return do(s)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints rows under a head, in columns.
func table(w io.Writer, head string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.ReplaceAll(head, " ", "\t"))
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

// clock is how times are printed, in the local time zone.
const clock = "2006-01-02 15:04:05"

func localTime(ms int64, layout string) string { return time.UnixMilli(ms).Local().Format(layout) }

// endpoint reads "address:port".
func endpoint(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return a, fmt.Errorf("%q: want ADDRESS:PORT, as access create prints it", s)
	}
	return a, nil
}
