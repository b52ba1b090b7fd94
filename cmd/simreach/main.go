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

// codeInterrupted is the exit code after Ctrl-C, as shells have it: 128+SIGINT.
const codeInterrupted = 130

// run is main with its exit code as a value. Code 1 is a verdict (a scenario
// failed), 2 is a usage or environment error. The first Ctrl-C or SIGTERM ends what
// runs in order; a second one ends the program at once.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	cmd := rootCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFailed) && ctx.Err() == nil:
		return 1
	case ctx.Err() != nil:
		fmt.Fprintf(os.Stderr, "simreach: %v: %v\n", context.Cause(ctx), err)
		return codeInterrupted
	}
	fmt.Fprintln(os.Stderr, "simreach:", err)
	return 2
}
