//go:build linux

package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
	"github.com/simreach/simreach/relay/relaytest"
)

// The event loop between the kernel's TCP and a device behind a network that loses,
// doubles and reorders packets.
func TestRootSuiteOnBadNetwork(t *testing.T) {
	netnstest.Require(t)
	near, nearDevice := badEnd(t, "near", "10.61.0.1/24")
	far, farDevice := badEnd(t, "far", "10.61.0.7/24")
	network := relaytest.Impairment{Loss: 0.01, Duplicate: 0.01, Late: 0.1, Delay: time.Millisecond, Lateness: 5 * time.Millisecond}
	var wg sync.WaitGroup
	wg.Go(func() { relaytest.Join(nearDevice, farDevice, network, 1) })
	t.Cleanup(func() { nearDevice.Close(); farDevice.Close(); wg.Wait() })
	relaytest.Run(t, relaytest.Target{
		Lossy:  true,
		Bulk:   8 << 20,
		Listen: func() (net.Listener, error) { return far.Listen(t.Context(), netip.MustParseAddrPort("10.61.0.7:0")) },
		Open: func(t testing.TB, device netip.AddrPort) netip.AddrPort {
			second := hopBy(t, onLoop.relayer(t, Config{}), onLoop, func() (Conn, error) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				c, err := near.Dial(ctx, device)
				if err != nil {
					return nil, err
				}
				return c.(Conn), nil
			})
			return hop(t, onLoop.relayer(t, Config{}), onLoop, second)
		},
	})
}

// badEnd makes a namespace with a TUN that has an address.
func badEnd(t *testing.T, name, addr string) (*netns.NS, tun.Device) {
	t.Helper()
	ns, err := netns.Create(fmt.Sprintf("%srelay%d-%s", netns.Prefix, os.Getpid(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close(); netns.Remove(ns.Name()) })
	var d tun.Device
	err = ns.Do(func() (err error) {
		d, err = tun.Open(tun.Config{Name: "bad"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := ns.Configure("bad", netip.MustParsePrefix(addr)); err != nil {
		t.Fatal(err)
	}
	return ns, d
}
