package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/scenarios"
	"github.com/simreach/simreach/scenarios/inproc"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/netnsrun"
	"github.com/simreach/simreach/scenarios/report"
	"github.com/simreach/simreach/scenarios/spec"
)

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "simreach",
		Short:         "A mobile-core testbed: simulated UEs in a real 5G core, and the relays that reach them",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(), upCommand(), execCommand(), cleanCommand(), checkCommand())
	root.AddCommand(roleCommands()...)
	return root
}

// backends returns the backends that --backend names.
func backends(name string) ([]lab.Backend, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ns, in := netnsrun.New(binary), inproc.New()
	switch name {
	case "netns":
		return []lab.Backend{ns}, nil
	case "inproc":
		return []lab.Backend{in}, nil
	case "all":
		return []lab.Backend{ns, in}, nil
	case "auto":
		if netns.Available() == nil {
			return []lab.Backend{ns}, nil
		}
		return []lab.Backend{in}, nil
	}
	return nil, fmt.Errorf("unknown backend %q: want auto, netns, inproc or all", name)
}

func logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

func runCommand() *cobra.Command {
	var backend, out, level string
	cmd := &cobra.Command{
		Use:   "run FILE...",
		Short: "Run scenario files; the exit code is the verdict",
		Long: "Run scenario files one after another. The exit code is 0 when all passed, 1 when one failed\n" +
			"and 2 when one could not be run. Backend auto takes network namespaces when privileged, else\n" +
			"one process without privileges; all runs each file on every backend that the file allows.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			log, err := logger(level)
			if err != nil {
				return err
			}
			bs, err := backends(backend)
			if err != nil {
				return err
			}
			var specs []*spec.Spec
			for _, f := range files {
				s, err := spec.Load(f)
				if err != nil {
					return err
				}
				specs = append(specs, s)
			}
			w := cmd.OutOrStdout()
			o := scenarios.Options{Log: log, Progress: report.Progress{W: w, Terminal: isTerminal(w)}}
			ran, passed := 0, 0
			for _, s := range specs {
				for _, b := range bs {
					if backend == "all" && s.Needs.Backend != "" && s.Needs.Backend != b.Name() {
						continue
					}
					if out != "" {
						o.Out = filepath.Join(out, s.Name, b.Name())
					}
					r, err := scenarios.Run(cmd.Context(), s, b, o)
					if err != nil {
						return err
					}
					ran++
					if r.Passed {
						passed++
					}
					if cmd.Context().Err() != nil {
						return errFailed
					}
				}
			}
			if ran > 1 {
				fmt.Fprintf(w, "%d of %d runs passed\n", passed, ran)
			}
			if passed < ran {
				return errFailed
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&backend, "backend", "auto", "auto, netns, inproc or all")
	cmd.Flags().StringVar(&out, "out", "", "directory for results JSON, JUnit XML, a pcap per link and the logs")
	cmd.Flags().StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Check scenario files without running them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			for _, f := range files {
				s, err := spec.Load(f)
				if err == nil {
					_, err = scenarios.Compile(s)
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d UEs, %d steps: ok\n", f, len(s.Devices), len(s.Steps))
			}
			return nil
		},
	}
}

func upCommand() *cobra.Command {
	var backend, out, level string
	cmd := &cobra.Command{
		Use:   "up FILE",
		Short: "Build a scenario's topology, register its UEs and keep it until Ctrl-C",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, files []string) (err error) {
			log, err := logger(level)
			if err != nil {
				return err
			}
			bs, err := backends(backend)
			if err != nil {
				return err
			}
			if len(bs) != 1 {
				return errors.New("up takes one backend")
			}
			s, err := spec.Load(files[0])
			if err != nil {
				return err
			}
			if err := bs[0].Check(s); err != nil {
				return err
			}
			if out != "" {
				if err := os.MkdirAll(out, 0o755); err != nil {
					return err
				}
			}
			w := cmd.OutOrStdout()
			return scenarios.Up(cmd.Context(), s, bs[0], lab.Options{Log: log, Dir: out, HostAccess: true}, func(places []lab.Place) {
				fmt.Fprintf(w, "%s is up on %s\n", s.Name, bs[0].Name())
				tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, p := range places {
					fmt.Fprintf(tw, "  %s\t%s\n", p.What, p.Where)
				}
				tw.Flush()
				fmt.Fprintln(w, "Ctrl-C ends it")
			})
		},
	}
	cmd.Flags().StringVar(&backend, "backend", "auto", "auto, netns or inproc")
	cmd.Flags().StringVar(&out, "out", "", "directory for a pcap per link and the logs")
	cmd.Flags().StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

func execCommand() *cobra.Command {
	var run string
	cmd := &cobra.Command{
		Use:   "exec NODE -- CMD...",
		Short: "Run a program in the namespace of a node of a topology that is up",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ns, err := netnsrun.Enter(run, args[0])
			if err != nil {
				return err
			}
			defer ns.Close()
			c := exec.CommandContext(cmd.Context(), args[1], args[2:]...)
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			if err := ns.Start(c); err != nil {
				return err
			}
			err = c.Wait()
			if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() >= 0 {
				return exitCode(e.ExitCode())
			}
			return err
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "run ID, when several topologies are up")
	return cmd
}

func cleanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Remove the namespaces, links and processes of runs that crashed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			removed, alive, err := netnsrun.Clean()
			for _, r := range removed {
				fmt.Fprintf(cmd.OutOrStdout(), "removed run %s\n", r)
			}
			for _, r := range alive {
				fmt.Fprintf(cmd.OutOrStdout(), "run %s is alive: left alone\n", r)
			}
			return err
		},
	}
}
