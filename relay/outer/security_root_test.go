package outer

import (
	"errors"
	"os"
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/relay/ports"
)

func TestRootClosedPortsLookAlike(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Require(t, "ebpf", errors.New("root, to attach the program that steers connections"))
	}
	closedPortsLookAlike(t, ports.ModeSkLookup)
}
