package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/bench/relay"
	"github.com/simreach/simreach/bench/result"
	"github.com/simreach/simreach/internal/node"
)

// benchCommand is `simreach bench NAME`. What a bench runs as processes of its own are
// hidden commands beside it.
func benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure, side by side with peers, in interleaved rounds"}
	cmd.AddCommand(benchRelayCommand(), benchSoakCommand(), benchManagerCommand(), loadServerCommand(), plainPeerCommand(), loadClientCommand(), copyRelayCommand())
	return cmd
}

// benchOutput is what every bench can do with its result.
type benchOutput struct {
	json bool
	plot string
}

func (o *benchOutput) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object, and the table on standard error")
	cmd.Flags().StringVar(&o.plot, "plot", "", "write an SVG plot of the ratios to this file")
}

// write prints the result to w; with --json, which programs read, the table goes to people.
func (o *benchOutput) write(w, people io.Writer, r result.Report) error {
	if o.plot != "" {
		f, err := os.Create(o.plot)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := r.WritePlot(f); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if o.json {
		return errors.Join(r.WriteJSON(w), r.WriteTable(people))
	}
	return r.WriteTable(w)
}

func benchRelayCommand() *cobra.Command {
	var o relay.Options
	var out benchOutput
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Two relays of ours beside HAProxy, nginx, Go's io.Copy and no relay (needs root)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) }
			r, err := relay.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return out.write(cmd.OutOrStdout(), cmd.ErrOrStderr(), r)
		},
	}
	cmd.Flags().IntVar(&o.Rounds, "rounds", 5, "interleaved rounds")
	cmd.Flags().BoolVar(&o.Quick, "quick", false, "short measurements: to see that it works, not to compare")
	cmd.Flags().StringSliceVar(&o.Only, "only", nil, "only these cases")
	cmd.Flags().StringSliceVar(&o.Variants, "variants", nil, "only these of routed, haproxy, nginx, io.Copy and ours")
	out.flags(cmd)
	return cmd
}

func loadServerCommand() *cobra.Command {
	var at string
	var readyFD int
	cmd := &cobra.Command{
		Use: "load-server", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := netip.ParseAddr(at)
			if err != nil {
				return err
			}
			ctx, cancel := node.UntilEOF(cmd.Context(), os.Stdin)
			defer cancel()
			return relay.ServeLoad(ctx, a, readyOn(readyFD))
		},
	}
	cmd.Flags().StringVar(&at, "address", "127.0.0.1", "where to listen")
	cmd.Flags().IntVar(&readyFD, "ready-fd", 0, "write the line 'ready' to this file descriptor once it serves")
	return cmd
}

func copyRelayCommand() *cobra.Command {
	var forwards []string
	var readyFD int
	cmd := &cobra.Command{
		Use: "copy-relay", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := node.UntilEOF(cmd.Context(), os.Stdin)
			defer cancel()
			return relay.CopyRelay(ctx, forwards, readyOn(readyFD))
		},
	}
	cmd.Flags().StringSliceVar(&forwards, "forward", nil, "listen=to, or listen=to=certificate")
	cmd.Flags().IntVar(&readyFD, "ready-fd", 0, "write the line 'ready' to this file descriptor once it serves")
	return cmd
}

func loadClientCommand() *cobra.Command {
	var l relay.Load
	cmd := &cobra.Command{
		Use: "load-client", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := node.UntilEOF(cmd.Context(), os.Stdin)
			defer cancel()
			e := json.NewEncoder(cmd.OutOrStdout())
			f, err := l.Run(cmd.Context(), func() { _ = e.Encode(map[string]bool{"opened": true}) }, ctx.Done())
			if err != nil {
				return err
			}
			return e.Encode(f)
		},
	}
	cmd.Flags().StringVar(&l.Kind, "kind", "", "bulk-up, bulk-down, connect, handshake, pingpong or idle")
	cmd.Flags().StringVar(&l.To, "to", "", "address:port")
	cmd.Flags().IntVar(&l.Streams, "streams", 1, "connections at one time")
	cmd.Flags().DurationVar(&l.For, "for", time.Second, "how long")
	cmd.Flags().StringVar(&l.TLS, "tls", "", "server name; empty: plain TCP")
	cmd.Flags().BoolVar(&l.Resume, "resume", false, "resume TLS sessions")
	return cmd
}

// readyOn returns what tells the starter on a descriptor; 0: nobody waits.
func readyOn(fd int) func() {
	if fd == 0 {
		return func() {}
	}
	return node.ReadyOn(os.NewFile(uintptr(fd), "ready"), slog.New(slog.DiscardHandler))
}
