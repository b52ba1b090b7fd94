package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/bench/soak"
)

func benchSoakCommand() *cobra.Command {
	var o soak.Options
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Run our relays for long under a part of what they can carry, and look for what is lost or left behind",
		Long: `Run a manager, an inner and an outer relay as processes on loopback addresses under a mix of bulk, short, half-closed, idle and TLS
connections, with client certificates, resumed and with wrong ones, too, while entries are created, expire and are deleted and
credentials are revoked. At the end no byte and no audit record may be missing, and no process may hold more descriptors, goroutines
or memory than before. It says how soon connections were cut; half of them must have been as soon as is promised, for the machine
has other work, too. Code 1 says that something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) }
			r, err := soak.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := r.Write(cmd.OutOrStdout()); err != nil {
				return err
			}
			if len(r.Problems()) > 0 {
				return errFailed
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&o.For, "for", 10*time.Minute, "how long")
	cmd.Flags().Float64Var(&o.Load, "load", 0.8, "part of the most that was measured")
	return cmd
}
