//go:build linux

package relay_test

import (
	"errors"
	"os"
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/relay/ports"
)

func TestRootRestartsLoseNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Require(t, "ebpf", errors.New("root, to attach the program that steers connections"))
	}
	restartUnderLoad(t, ports.ModeSkLookup)
}
