package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MaxInterfaceName is the longest interface name that Linux takes.
const MaxInterfaceName = unix.IFNAMSIZ - 1

// AddBridge makes a bridge that forwards at once (no spanning tree) and brings it up.
func (n *NS) AddBridge(name string) error {
	err := n.Do(func() error {
		la := netlink.NewLinkAttrs()
		la.Name = name
		br := &netlink.Bridge{LinkAttrs: la}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		return netlink.LinkSetUp(br)
	})
	if err != nil {
		return fmt.Errorf("bridge %s in %s: %w", name, n.name, err)
	}
	return nil
}

// Port describes how a node joins a bridge: an interface in the node's namespace
// with addresses, its other end a port of the bridge.
type Port struct {
	Name      string         // of the node's interface
	Addresses []netip.Prefix // of the node's interface
	MTU       int            // bytes; 0 means 1500
	Switch    *NS            // where the bridge is
	Bridge    string
	PortName  string // of the end at the bridge
}

// Join adds an interface to the namespace as p says and brings both ends up. Names
// already taken by an earlier, unfinished attempt are replaced.
func (n *NS) Join(p Port) error {
	if p.MTU == 0 {
		p.MTU = 1500
	}
	err := p.Switch.Do(func() error {
		if old, err := netlink.LinkByName(p.PortName); err == nil {
			if err := netlink.LinkDel(old); err != nil {
				return err
			}
		}
		la := netlink.NewLinkAttrs()
		la.Name = p.PortName
		la.MTU = p.MTU
		v := &netlink.Veth{LinkAttrs: la, PeerName: p.Name, PeerNamespace: netlink.NsFd(int(n.fd)), PeerMTU: uint32(p.MTU)}
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		br, err := netlink.LinkByName(p.Bridge)
		if err != nil {
			return fmt.Errorf("bridge %s: %w", p.Bridge, err)
		}
		if err := netlink.LinkSetMaster(v, br); err != nil {
			return fmt.Errorf("join bridge %s: %w", p.Bridge, err)
		}
		return netlink.LinkSetUp(v)
	})
	if err == nil {
		err = n.Configure(p.Name, p.Addresses...)
	}
	if err != nil {
		return fmt.Errorf("link %s of %s: %w", p.Name, n.name, err)
	}
	return nil
}

// Configure gives an interface of the namespace addresses (those it has already
// are kept) and brings it up.
func (n *NS) Configure(ifname string, addresses ...netip.Prefix) error {
	return n.Do(func() error {
		l, err := netlink.LinkByName(ifname)
		if err != nil {
			return fmt.Errorf("interface %s: %w", ifname, err)
		}
		for _, a := range addresses {
			if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: ipNet(a)}); err != nil {
				return fmt.Errorf("address %s on %s: %w", a, ifname, err)
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("bring %s up: %w", ifname, err)
		}
		return nil
	})
}

// Route adds a route to dst: through the gateway via if it is valid, and out of
// the interface ifname if that is not empty.
func (n *NS) Route(dst netip.Prefix, via netip.Addr, ifname string) error {
	err := n.Do(func() error {
		r := &netlink.Route{Dst: ipNet(dst)}
		if via.IsValid() {
			r.Gw = net.IP(via.AsSlice())
		}
		if ifname != "" {
			l, err := netlink.LinkByName(ifname)
			if err != nil {
				return fmt.Errorf("interface %s: %w", ifname, err)
			}
			r.LinkIndex = l.Attrs().Index
			if !via.IsValid() {
				r.Scope = netlink.SCOPE_LINK
			}
		}
		return netlink.RouteReplace(r)
	})
	if err != nil {
		return fmt.Errorf("route to %s in %s: %w", dst, n.name, err)
	}
	return nil
}

// Forward turns IPv4 forwarding on in the namespace.
func (n *NS) Forward() error {
	err := n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
	if err != nil {
		return fmt.Errorf("forwarding in %s: %w", n.name, err)
	}
	return nil
}

// JoinHost connects a bridge of the namespace sw with the host's own namespace: a
// veth whose host end is called hostName and gets the address addr. Removing sw
// removes both ends.
func JoinHost(sw *NS, bridge, portName, hostName string, addr netip.Prefix) error {
	if err := hostVeth(sw, bridge, portName, hostName); err != nil {
		return err
	}
	l, err := netlink.LinkByName(hostName)
	if err != nil {
		return fmt.Errorf("host link %s: %w", hostName, err)
	}
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("address %s on host link %s: %w", addr, hostName, err)
	}
	return nil
}

// JoinExternal connects a bridge of the namespace sw with an interface that the
// host has: if that is a bridge, a veth called hostName becomes one more port of
// it; otherwise a macvlan on it becomes a port of our bridge. The host's
// interface keeps its addresses. Removing sw undoes it.
func JoinExternal(sw *NS, bridge, portName, hostName, external string) error {
	ext, err := netlink.LinkByName(external)
	if err != nil {
		return fmt.Errorf("external interface %s: %w", external, err)
	}
	if _, isBridge := ext.(*netlink.Bridge); isBridge {
		if err := hostVeth(sw, bridge, portName, hostName); err != nil {
			return err
		}
		l, err := netlink.LinkByName(hostName)
		if err != nil {
			return fmt.Errorf("host link %s: %w", hostName, err)
		}
		// A bridge takes the lowest address among its ports as its own, unless it was
		// given one. The host's bridge must not change its address because of us.
		mac := slices.Clone(l.Attrs().HardwareAddr)
		if len(mac) > 0 {
			mac[0] = 0xfe
		}
		if err := netlink.LinkSetHardwareAddr(l, mac); err != nil {
			return fmt.Errorf("address of %s: %w", hostName, err)
		}
		if err := netlink.LinkSetMaster(l, ext); err != nil {
			return fmt.Errorf("join host bridge %s: %w", external, err)
		}
		return nil
	}
	la := netlink.NewLinkAttrs()
	la.Name = portName
	la.ParentIndex = ext.Attrs().Index
	la.Namespace = netlink.NsFd(int(sw.fd))
	// Pass-through hands every frame of the interface to our bridge, whatever its
	// address: the peers of a bridge are many.
	m := &netlink.Macvlan{LinkAttrs: la, Mode: netlink.MACVLAN_MODE_PASSTHRU}
	if err := netlink.LinkAdd(m); err != nil {
		return fmt.Errorf("macvlan on %s: %w", external, err)
	}
	return enslave(sw, portName, bridge)
}

func hostVeth(sw *NS, bridge, portName, hostName string) error {
	if old, err := netlink.LinkByName(hostName); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("replace host link %s: %w", hostName, err)
		}
	}
	la := netlink.NewLinkAttrs()
	la.Name = hostName
	v := &netlink.Veth{LinkAttrs: la, PeerName: portName, PeerNamespace: netlink.NsFd(int(sw.fd))}
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("host link %s: %w", hostName, err)
	}
	if err := netlink.LinkSetUp(v); err != nil {
		return fmt.Errorf("bring %s up: %w", hostName, err)
	}
	return enslave(sw, portName, bridge)
}

func enslave(sw *NS, portName, bridge string) error {
	err := sw.Do(func() error {
		port, err := netlink.LinkByName(portName)
		if err != nil {
			return err
		}
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		// Up first: a macvlan passes the bridge's wish for all multicast on to the
		// interface below only while it is up, and takes it back when it leaves.
		if err := netlink.LinkSetUp(port); err != nil {
			return err
		}
		return netlink.LinkSetMaster(port, br)
	})
	if err != nil {
		return fmt.Errorf("port %s of bridge %s: %w", portName, bridge, err)
	}
	return nil
}

// HostLinks returns the names of the host's own links that start with prefix.
func HostLinks(prefix string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list host links: %w", err)
	}
	var out []string
	for _, l := range links {
		if name := l.Attrs().Name; len(name) >= len(prefix) && name[:len(prefix)] == prefix {
			out = append(out, name)
		}
	}
	return out, nil
}

// RemoveHostLink deletes a link of the host's own namespace. A missing one is no
// error.
func RemoveHostLink(name string) error {
	l, err := netlink.LinkByName(name)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil {
		return fmt.Errorf("remove host link %s: %w", name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// RouteFrom makes everything that is sent from an address leave through an
// interface: a rule for the address, and a table with that one default route. The
// table's number, 1 to 252, is the caller's to choose. A rule that is there already
// stays.
func (n *NS) RouteFrom(src netip.Addr, ifname string, table int) error {
	err := n.Do(func() error {
		l, err := netlink.LinkByName(ifname)
		if err != nil {
			return fmt.Errorf("interface %s: %w", ifname, err)
		}
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if src.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		r := &netlink.Route{Dst: ipNet(all), LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Table: table}
		if err := netlink.RouteReplace(r); err != nil {
			return err
		}
		err = netlink.RuleAdd(ruleFrom(src, table))
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("route from %s in %s: %w", src, n.name, err)
	}
	return nil
}

// RemoveRouteFrom takes the rule of RouteFrom away; the route went with its
// interface. A missing rule is no error.
func (n *NS) RemoveRouteFrom(src netip.Addr, table int) error {
	err := n.Do(func() error {
		err := netlink.RuleDel(ruleFrom(src, table))
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("route from %s in %s: %w", src, n.name, err)
	}
	return nil
}

func ruleFrom(src netip.Addr, table int) *netlink.Rule {
	r := netlink.NewRule()
	r.Src = ipNet(netip.PrefixFrom(src, src.BitLen()))
	r.Table = table
	r.Family = unix.AF_INET
	if src.Is6() {
		r.Family = unix.AF_INET6
	}
	return r
}
