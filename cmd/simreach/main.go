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
// failed), 2 is a usage or environment error. The first Ctrl-C, SIGTERM or SIGHUP (the
// terminal is gone) ends what runs in order; a second one ends the program at once.
func run(args []string) int {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
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

// outliveReaders keeps a reader of the output that goes away, as in "| head -1", from
// ending the program before it has removed what it made. The function returned undoes it.
func outliveReaders() (undo func()) {
	// Nobody reads the channel: it is enough that the signal is asked for.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	return func() { signal.Stop(pipes) }
}
