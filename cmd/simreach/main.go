// Command simreach runs scenarios of a simulated mobile core with its relay system,
// and every role of it as a process of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// errFailed ends the program with code 1 after the reason has been printed.
var errFailed = errors.New("failed")

func main() { os.Exit(run(os.Args[1:])) }

// run is main with its exit code as a value, so that a test can call it. Code 1 is
// a verdict (a scenario failed), 2 is a usage or environment error.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := rootCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFailed):
		return 1
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	fmt.Fprintln(os.Stderr, "simreach:", err)
	return 2
}

// exitCode passes on the exit code of a program run by exec.
type exitCode int

// Error implements error.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }
