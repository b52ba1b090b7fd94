package relay

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/relay/relaytest"
)

// hop listens and relays to an address in this process.
func hop(t testing.TB, r *Relayer, as carrier, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	return hopBy(t, r, as, func() (Conn, error) {
		c, err := net.DialTimeout("tcp", to.String(), time.Second)
		if err != nil {
			return nil, err
		}
		return as.conn(c.(*net.TCPConn)), nil
	})
}

// hopBy is hop with a dialer.
func hopBy(t testing.TB, r *Relayer, as carrier, dial func() (Conn, error)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				b, err := dial()
				if err != nil {
					Abort(a)
					return
				}
				r.Start(as.conn(a.(*net.TCPConn)), b, nil, func(Result) {})
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// Two relays in a chain do what one connection between client and device would.
func TestSuite(t *testing.T) {
	for _, as := range []carrier{onLoop, onGoroutines} {
		idle := 1000
		if !as.loop {
			idle = 200
		}
		t.Run(as.name, func(t *testing.T) {
			relaytest.Run(t, relaytest.Target{
				Idle:    idle,
				Silent:  testenv.SilentAddress(t),
				GivesUp: time.Second,
				// No TCP goes to a group: the kernel says at once that there is no way.
				Unreachable: netip.MustParseAddrPort("224.0.0.1:9"),
				Open: func(t testing.TB, device netip.AddrPort) netip.AddrPort {
					return hop(t, as.relayer(t, Config{}), as, hop(t, as.relayer(t, Config{}), as, device))
				},
			})
		})
	}
}

// The same with each relay in a process of its own, and many idle connections.
func TestSuiteOnProcesses(t *testing.T) {
	relaytest.Run(t, relaytest.Target{Open: func(t testing.TB, device netip.AddrPort) netip.AddrPort {
		first := startRelay(t, onLoop.name, device.String())
		return netip.MustParseAddrPort(startRelay(t, onLoop.name, first))
	}})
}

// The suite is right about relays that we did not write, too: HAProxy passes a reset of
// the server on as FIN, does not look at a side that has sent FIN or whose bytes the other
// side does not take, and closes with a reset at times while its last bytes travel.
func TestRootRelaySuiteHAProxy(t *testing.T) {
	relaytest.Run(t, relaytest.Target{
		Open: func(t testing.TB, device netip.AddrPort) netip.AddrPort {
			first := startRelay(t, "haproxy", device.String())
			return netip.MustParseAddrPort(startRelay(t, "haproxy", first))
		},
		Cannot: map[string]string{
			"reset/device":               "a server's reset becomes FIN",
			"reset-after-fin/client":     "a side that has ended is not watched",
			"reset-after-fin/device":     "a side that has ended is not watched",
			"reset-while-stalled/client": "a side that is not read is not watched",
			"reset-while-stalled/device": "a side that is not read is not watched",
		},
		Unsure: map[string]string{
			"bulk-both-ways": "the last bytes may be overtaken by a reset",
			"empty":          "a connection that ends at once may become a reset",
		},
	})
}
