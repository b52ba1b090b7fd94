package faulttest_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/node"
)

// What makes this test binary a role of simreach: its name and its configuration file.
const (
	roleVariable   = "SIMREACH_FAULTTEST_ROLE"
	configVariable = "SIMREACH_FAULTTEST_CONFIG"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := runRole(role, os.Getenv(configVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// A failure says how to repeat it; a file would be left behind. What the command line
	// says comes later and counts.
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.steps": "60", "rapid.shrinktime": "15s"} {
		if err := flag.Set(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// runRole runs a role until standard input ends. It says "ready" on descriptor 3.
func runRole(role, config string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	r, err := node.Load(role, config)
	if err != nil {
		return err
	}
	ctx, cancel := node.UntilEOF(context.Background(), os.Stdin)
	defer cancel()
	return r.Run(ctx, log, node.ReadyOn(os.NewFile(3, "ready"), log))
}
