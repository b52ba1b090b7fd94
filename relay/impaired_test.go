package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/tun/netstack"
	"github.com/simreach/simreach/relay/relaytest"
)

// The device stands on a network that loses and doubles packets, as the air does; the
// second relay reaches it through a userspace stack. That stack cannot bear packets
// that overtake others while both sides send, with no relay in between either: the
// kernel's is tested with those.
func TestSuiteOnBadNetwork(t *testing.T) {
	near, far := stack(t, "10.60.0.1/24"), stack(t, "10.60.0.7/24")
	var wg sync.WaitGroup
	wg.Go(func() {
		relaytest.Join(near, far, relaytest.Impairment{Loss: 0.01, Duplicate: 0.01, Delay: time.Millisecond}, 1)
	})
	t.Cleanup(func() { near.Close(); far.Close(); wg.Wait() })
	relaytest.Run(t, relaytest.Target{
		Lossy:  true,
		Listen: func() (net.Listener, error) { return far.Listen("tcp", "10.60.0.7:0") },
		Open: func(t testing.TB, device netip.AddrPort) netip.AddrPort {
			second := hopBy(t, onLoop.relayer(t, Config{}), onLoop, func() (Conn, error) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				c, err := near.DialContext(ctx, "tcp", device.String())
				if err != nil {
					return nil, err
				}
				return c.(Conn), nil
			})
			return hop(t, onLoop.relayer(t, Config{}), onLoop, second)
		},
	})
}

func stack(t *testing.T, addr string) *netstack.Stack {
	t.Helper()
	s, err := netstack.New(netstack.Config{Addresses: []netip.Prefix{netip.MustParsePrefix(addr)}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
