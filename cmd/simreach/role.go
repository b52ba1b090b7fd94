package main

import (
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/internal/node"
)

// roleCommands returns one command per role: simreach amf --config amf.yaml.
func roleCommands() []*cobra.Command {
	var names []string
	for n := range node.Roles() {
		names = append(names, n)
	}
	slices.Sort(names)
	var out []*cobra.Command
	for _, n := range names {
		out = append(out, roleCommand(n))
	}
	return out
}

func roleCommand(name string) *cobra.Command {
	var config, level string
	var readyFD int
	var lifeline bool
	cmd := &cobra.Command{
		Use:   name,
		Short: "Run the " + name + " role from its configuration file",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(level)
			if err != nil {
				return err
			}
			r, err := node.Load(name, config)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if lifeline {
				var cancel func()
				ctx, cancel = node.UntilEOF(ctx, os.Stdin)
				defer cancel()
			}
			ready := func() { log.Info("ready", "nf", name) }
			if readyFD > 0 {
				ready = node.ReadyOn(os.NewFile(uintptr(readyFD), "ready"), log)
			}
			return r.Run(ctx, log, ready)
		},
	}
	cmd.Flags().StringVar(&config, "config", name+".yaml", "configuration file")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().IntVar(&readyFD, "ready-fd", 0, "write the line 'ready' to this file descriptor once the role serves")
	cmd.Flags().BoolVar(&lifeline, "until-stdin-closes", false, "end when standard input does, so as not to outlive whoever started it")
	return cmd
}
