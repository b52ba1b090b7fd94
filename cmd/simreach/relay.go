package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/manager/api"
)

func relayCommand() *cobra.Command {
	o := &accessOptions{}
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Look after the relays: see how they fare, and drain one",
		Long: "Look after the relays: see how they fare, and drain one.\n\n" +
			"It takes an operator of the platform: one of the manager's platform_operators or, if none is\n" +
			"configured, the only operator. Its users need the permission Simreach:listRelays or\n" +
			"Simreach:drainRelay. The manager's address and the login are given as for access.",
	}
	o.register(cmd.PersistentFlags())
	cmd.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	cmd.AddCommand(relayStatus(o), relayDrain(o))
	return cmd
}

func relayStatus(o *accessOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Print the relays that are attached to any of the managers",
		Args:  cobra.NoArgs,
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return o.withSession(ctx, shortLogin, func(s *session) error {
				relays, err := s.Relays(ctx)
				if err != nil {
					return err
				}
				if o.json {
					return printJSON(cmd.OutOrStdout(), relays)
				}
				return table(cmd.OutOrStdout(), "RELAY KIND ADDRESS STATE SINCE LIVE ACCEPTED OPENED UP DOWN BYTES/S ENTRIES MANAGER DENIED", relayRows(relays))
			})
		}),
	}
}

func relayRows(relays []api.Relay) (rows [][]string) {
	for _, r := range relays {
		state := "serving"
		if r.Draining {
			state = "draining"
		}
		entries := "-" // inner relays have none
		if r.Kind == "outer" {
			entries = strconv.Itoa(r.Entries)
		}
		rows = append(rows, []string{
			r.ID, r.Kind, r.Address, state, time.UnixMilli(r.AttachedTime).Local().Format(time.DateTime), strconv.Itoa(r.Live), fmt.Sprint(r.Accepted), fmt.Sprint(r.Opened),
			fmt.Sprint(r.Up), fmt.Sprint(r.Down), fmt.Sprint(r.Rate), entries, r.Manager, byCause(r.Denied),
		})
	}
	return rows
}

// byCause prints counts, the largest first: "3 (device-offline 2, rate-limited 1)".
func byCause(denied map[string]uint64) string {
	causes := slices.SortedFunc(maps.Keys(denied), func(a, b string) int {
		if d := int64(denied[b]) - int64(denied[a]); d != 0 {
			return int(min(max(d, -1), 1))
		}
		return strings.Compare(a, b)
	})
	var all uint64
	var parts []string
	for _, c := range causes {
		all += denied[c]
		parts = append(parts, fmt.Sprintf("%s %d", c, denied[c]))
	}
	if all == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", all, strings.Join(parts, ", "))
}

func relayDrain(o *accessOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "drain ID",
		Short: "Have an outer relay finish its connections and take no new ones, until it is restarted",
		Args:  cobra.ExactArgs(1),
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return o.withSession(ctx, shortLogin, func(s *session) error {
				if err := s.DrainRelay(ctx, args[0]); err != nil {
					return err
				}
				if !o.json {
					fmt.Fprintf(cmd.OutOrStdout(), "%s drains\n", args[0])
				}
				return nil
			})
		}),
	}
}
