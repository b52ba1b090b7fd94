package inproc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
)

func worldSpec(t *testing.T) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("robustness.yaml", []byte(worldYAML))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tempDir has the backend make its directories where the returned function can see
// whether any is left. Goroutines are goleak's concern.
func tempDir(t *testing.T) (check func()) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return func() {
		t.Helper()
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// TestStartThatIsCancelledLeavesNothing, whichever unit it is that has come.
func TestStartThatIsCancelledLeavesNothing(t *testing.T) {
	check := tempDir(t)
	for after := time.Duration(0); after < 100*time.Millisecond; after += 4 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		l, err := New().Start(ctx, worldSpec(t), lab.Options{})
		if err == nil {
			err = l.Close(t.Context()) // it was fast
		} else if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
		cancel()
		if err != nil {
			t.Errorf("cancelled after %v: %v", after, err)
		}
		check()
	}
}

// TestStartOnTakenPortLeavesNothing: each unit that listens on loopback, one after
// the other.
func TestStartOnTakenPortLeavesNothing(t *testing.T) {
	check := tempDir(t)
	for _, taken := range []struct {
		node, network string
		port          uint16
	}{
		{"manager", plan.Public, plan.PortRPC}, {"manager", plan.Public, plan.PortREST}, {"inner1", plan.Core, plan.PortInner},
	} {
		s := worldSpec(t)
		top, err := newTopology(s, lab.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		at := netip.AddrPortFrom(top.links.host(s, taken.node, taken.network), taken.port)
		l, err := net.Listen("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := top.start(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: want EADDRINUSE, got %v", at, err)
		}
		if err := errors.Join(top.Close(t.Context()), l.Close()); err != nil {
			t.Error(err)
		}
		check()
	}
}

func TestStartWithoutOutputDirectoryLeavesNothing(t *testing.T) {
	check := tempDir(t)
	if _, err := New().Start(t.Context(), worldSpec(t), lab.Options{Dir: t.TempDir() + "/not-there"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want ErrNotExist, got %v", err)
	}
	check()
}

// TestKillTellsWhatItCannot: others hold on to the UDM and the SMF, so that killing
// those would be a lie; a UE has no process.
func TestKillTellsWhatItCannot(t *testing.T) {
	w := newWorld(t)
	for name, want := range map[string]error{"udm": lab.ErrUnsupported, "smf": lab.ErrUnsupported, "witness": lab.ErrNoProcess, "client1": lab.ErrNoProcess} {
		n, ok := w.Node(name)
		if !ok {
			t.Fatalf("no node %s", name)
		}
		if err := n.Kill(t.Context()); !errors.Is(err, want) {
			t.Errorf("kill %s: want %v, got %v", name, want, err)
		}
	}
	w.alive(t)
}

// stuck is a component that does not end.
type stuck struct {
	idle
	release chan struct{}
}

func (s stuck) Run(context.Context) error { <-s.release; return nil }

// TestUnitThatDoesNotEndIsNamed instead of waited for.
func TestUnitThatDoesNotEndIsNamed(t *testing.T) {
	s := stuck{newIdle(), make(chan struct{})}
	defer close(s.release)
	u := &unit{name: "smf", open: func() ([]component, error) { return []component{s}, nil }}
	if err := u.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.end(ctx); !errors.Is(err, context.Canceled) || err.Error() != "smf does not end: context canceled" {
		t.Errorf("got %v", err)
	}
}
