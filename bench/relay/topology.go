package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/simreach/simreach/netns"
)

// The four hosts stand in a row, each joined to the next by a bridge of its own in a
// fifth namespace.
const (
	client = iota
	outerHost
	innerHost
	server
	hosts
)

var hostNames = [hosts]string{"client", "outer", "inner", "server"}

// settings are those of a host, the same for every variant. A closed connection keeps its
// port for a second, and connect looks in every other port of the range first: half as many
// connections a second as there are ports is the most that one host can open to one address.
// The client, where nobody listens, has them all; the others leave out what listens there, and
// the range of the entries.
func settings(host int) map[string]string {
	ports := "10000 39999"
	if host == client {
		ports = "1024 65535"
	}
	return map[string]string{
		"/proc/sys/net/ipv4/tcp_tw_reuse":        "1",
		"/proc/sys/net/ipv4/ip_local_port_range": ports,
	}
}

// congestion is the same everywhere, too. A machine's default may be BBR, which halves
// one stream over veth.
const congestion = "cubic"

// topology is the namespaces of a run.
type topology struct {
	prefix string
	ns     [hosts]*netns.NS
	sw     *netns.NS
}

// address returns a host's address towards the next host, or towards the one before.
func address(host int, next bool) netip.Addr {
	link, end := host, byte(1)
	if !next {
		link, end = host-1, 2
	}
	return netip.AddrFrom4([4]byte{198, 18, byte(100 + link), end})
}

// newTopology makes the namespaces. On error nothing is left.
func newTopology() (t *topology, err error) {
	t = &topology{prefix: fmt.Sprintf("simreach-bench-%d-", os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if t.sw, err = netns.Create(t.prefix + "sw"); err != nil {
		return t, err
	}
	for i, name := range hostNames {
		if t.ns[i], err = netns.Create(t.prefix + name); err != nil {
			return t, err
		}
		for file, value := range settings(i) {
			err := t.ns[i].Do(func() error { return os.WriteFile(file, []byte(value), 0) })
			if err != nil {
				return t, fmt.Errorf("bench namespace %s: %w", name, err)
			}
		}
	}
	for link := range server {
		bridge := fmt.Sprintf("br%d", link)
		if err = t.sw.AddBridge(bridge); err != nil {
			return t, err
		}
		for _, end := range []struct {
			host int
			next bool
		}{{link, true}, {link + 1, false}} {
			err = t.ns[end.host].Join(netns.Port{
				Name: fmt.Sprintf("eth%d", link), Addresses: []netip.Prefix{netip.PrefixFrom(address(end.host, end.next), 24)},
				Switch: t.sw, Bridge: bridge, PortName: fmt.Sprintf("p%d%s", link, hostNames[end.host]),
			})
			if err != nil {
				return t, err
			}
		}
	}
	return t, t.route()
}

// route makes the server reachable without relays: the base of the comparison.
func (t *topology) route() error {
	for i := range hosts {
		if i == outerHost || i == innerHost {
			if err := t.ns[i].Forward(); err != nil {
				return err
			}
		}
		for link := range server {
			dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(100 + link), 0}), 24)
			switch {
			case link > i: // towards the server
				if err := t.ns[i].Route(dst, address(i+1, false), fmt.Sprintf("eth%d", i)); err != nil {
					return err
				}
			case link < i-1:
				if err := t.ns[i].Route(dst, address(i-1, true), fmt.Sprintf("eth%d", i-1)); err != nil {
					return err
				}
			}
		}
		if err := t.ns[i].CongestionControl(congestion); err != nil {
			return err
		}
	}
	return nil
}

func (t *topology) close() error {
	var errs []error
	for _, n := range append(t.ns[:], t.sw) {
		if n != nil {
			errs = append(errs, n.Close(), netns.Remove(n.Name()))
		}
	}
	return errors.Join(errs...)
}
