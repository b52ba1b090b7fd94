package inner

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
)

// The loopback answers; an address that no host has does not, and that is no error.
func TestRootKernelPing(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Require(t, "netns", errors.New("root, for a raw socket"))
	}
	res, err := KernelPing(t.Context(), PingRequest{Device: netip.MustParseAddr("127.0.0.1"), Count: 3, Timeout: time.Second})
	if err != nil || res.Sent != 3 || res.Received != 3 || res.RTT <= 0 {
		t.Errorf("ping of the loopback = %+v, %v; want 3 of 3", res, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := KernelPing(ctx, PingRequest{Device: netip.MustParseAddr("127.0.0.1"), Count: 1, Timeout: time.Second}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
