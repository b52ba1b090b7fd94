package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/bench/manager"
	"github.com/simreach/simreach/internal/node"
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
	cmd.Flags().BoolVar(&o.Quick, "quick", false, "short measurements with a fiftieth of the data: to see that it works, not to compare")
	cmd.Flags().StringVar(&o.Store, "store", "sqlite", "sqlite, or postgres: a server of its own")
	cmd.Flags().StringSliceVar(&o.Only, "only", nil, "only these cases")
	out.flags(cmd)
	return cmd
}

func plainPeerCommand() *cobra.Command {
	var to string
	var readyFD int
	cmd := &cobra.Command{
		Use: "plain-peer", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := node.UntilEOF(cmd.Context(), os.Stdin)
			defer cancel()
			return manager.ReplyPlainly(ctx, to, readyOn(readyFD))
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "where those wait to whom it replies")
	cmd.Flags().IntVar(&readyFD, "ready-fd", 0, "write the line 'ready' to this file descriptor once it replies")
	return cmd
}
