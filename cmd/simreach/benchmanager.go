package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/bench/manager"
)

func benchManagerCommand() *cobra.Command {
	var o manager.Options
	var out benchOutput
	cmd := &cobra.Command{
		Use:   "manager",
		Short: "A manager with 50,000 entries and 100,000 subscribers: resolving, creating, logins, audit records, memory",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) }
			r, err := manager.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), cmd.ErrOrStderr(), r)
		},
	}
	cmd.Flags().IntVar(&o.Rounds, "rounds", 5, "rounds")
	cmd.Flags().BoolVar(&o.Quick, "quick", false, "short measurements with a tenth of the data: to see that it works, not to compare")
	cmd.Flags().StringVar(&o.Store, "store", "sqlite", "sqlite, or postgres: a server of its own")
	cmd.Flags().StringSliceVar(&o.Only, "only", nil, "only these cases")
	out.flags(cmd)
	return cmd
}
