package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/scenarios"
	"github.com/simreach/simreach/scenarios/inproc"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/netnsrun"
	"github.com/simreach/simreach/scenarios/report"
	"github.com/simreach/simreach/scenarios/scratch"
	"github.com/simreach/simreach/scenarios/spec"
)

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "simreach",
		Short:         "A mobile-core testbed: simulated UEs in a real 5G core, and the relays that reach them",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(), upCommand(), execCommand(), cleanCommand(), checkCommand(), benchCommand(), accessCommand(), relayCommand())
	root.AddCommand(roleCommands()...)
	for _, c := range root.Commands() {
		refuseUnknown(c)
	}
	return root
}

// refuseUnknown makes a command that only has others below it refuse a name that none of
// them has. Cobra would print the help and end with code 0, as if it had been done.
func refuseUnknown(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		refuseUnknown(c)
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.NoArgs
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// backends returns the backends for a scenario, of which --backend says which.
func backends(name string, s *spec.Spec) ([]lab.Backend, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ns, in := netnsrun.New(binary), inproc.New()
	if s.Needs.Backend != "" && (name == "auto" || name == "all") {
		name = s.Needs.Backend
	}
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

// load reads and checks scenario files, all of them before any is used, so that a
// typing error in the last one does not wait for the first. The error names every
// file that is wrong.
func load(files []string) ([]*spec.Spec, error) {
	var specs []*spec.Spec
	var errs []error
	for _, f := range files {
		s, err := spec.Load(f)
		if err == nil {
			_, err = scenarios.Compile(s)
		}
		specs, errs = append(specs, s), append(errs, err)
	}
	return specs, errors.Join(errs...)
}

func logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
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
			"one process without privileges; all runs each file on every backend that the file and the\n" +
			"machine allow. After Ctrl-C everything is torn down and the exit code is 130.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			log, err := logger(level)
			if err != nil {
				return err
			}
			specs, err := load(files)
			if err != nil {
				return err
			}
			if out != "" {
				if err := oneNameEach(specs); err != nil {
					return err
				}
			}
			defer outliveReaders()()
			w := cmd.OutOrStdout()
			o := scenarios.Options{Log: log, Progress: report.Progress{W: w, Terminal: isTerminal(w)}}
			ran, passed := 0, 0
			var refused []error
			for _, s := range specs {
				bs, err := backends(backend, s)
				if err != nil {
					return err
				}
				before, why := ran, ""
				for _, b := range bs {
					if out != "" {
						o.Out = filepath.Join(out, s.Name, b.Name())
					}
					r, err := scenarios.Run(cmd.Context(), s, b, o)
					if err != nil {
						return err
					}
					if cmd.Context().Err() != nil {
						return errFailed
					}
					if r.Skipped != "" {
						why = r.Skipped
						continue
					}
					ran++
					if r.Passed {
						passed++
					}
				}
				if ran == before {
					refused = append(refused, fmt.Errorf("%s: %s", s.File, why))
				}
			}
			if ran > 1 {
				fmt.Fprintf(w, "%d of %d runs passed\n", passed, ran)
			}
			if passed < ran {
				return errFailed
			}
			return errors.Join(refused...)
		},
	}
	cmd.Flags().StringVar(&backend, "backend", "auto", "auto, netns, inproc or all")
	cmd.Flags().StringVar(&out, "out", "", "directory for results JSON, JUnit XML, a pcap per link, traces and the logs")
	cmd.Flags().StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

// oneNameEach wants scenarios that have a directory for results each, which is called
// after their name.
func oneNameEach(specs []*spec.Spec) error {
	by := map[string]string{}
	for _, s := range specs {
		if first, taken := by[s.Name]; taken {
			return fmt.Errorf("%s and %s are both called %q, and their results would be in one place: rename one, or run them with an --out each", first, s.File, s.Name)
		}
		by[s.Name] = s.File
	}
	return nil
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
			specs, err := load(files)
			if err != nil {
				return err
			}
			for i, s := range specs {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d UEs, %d steps: ok\n", files[i], len(s.Devices), len(s.Steps))
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
			s, err := spec.Load(files[0])
			if err != nil {
				return err
			}
			if backend == "all" {
				return errors.New("up takes one backend: auto, netns or inproc")
			}
			bs, err := backends(backend, s)
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
			defer outliveReaders()()
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
	cmd.Flags().StringVar(&out, "out", "", "directory for a pcap per link, traces and the logs")
	cmd.Flags().StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

func execCommand() *cobra.Command {
	var run string
	cmd := &cobra.Command{
		Use:   "exec NODE -- CMD...",
		Short: "Run a program in the namespace of a node of a topology that is up",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := exec.LookPath(args[1])
			if err != nil {
				return err
			}
			ns, err := netnsrun.Enter(run, args[0])
			if err != nil {
				return err
			}
			defer ns.Close()
			// The program takes this one's place: the terminal, signals and the exit
			// code are its own.
			return ns.Do(func() error { return syscall.Exec(path, args[1:], os.Environ()) })
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "run ID, when several topologies are up")
	return cmd
}

func cleanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Remove the namespaces, links, processes and directories of runs that crashed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			removed, alive, err := netnsrun.Clean()
			dirs, derr := scratch.Clean()
			err = errors.Join(err, derr)
			for _, r := range removed {
				fmt.Fprintf(cmd.OutOrStdout(), "removed run %s\n", r)
			}
			for _, d := range dirs {
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", d)
			}
			for _, r := range alive {
				fmt.Fprintf(cmd.OutOrStdout(), "run %s is alive: left alone\n", r)
			}
			if len(removed)+len(alive)+len(dirs) == 0 && err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to remove")
			}
			return err
		},
	}
}
