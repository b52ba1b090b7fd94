package netns

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// CongestionControl has TCP use an algorithm ("cubic") on every IPv4 route that the
// namespace has now, towards the peers of these routes. The machine's default, which
// namespaces inherit, may be one that suits no virtual link, and a namespace may not
// choose another as its own default.
func (n *NS) CongestionControl(algorithm string) error {
	err := n.Do(func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, r := range routes {
			r.Congctl = algorithm
			if err := netlink.RouteReplace(&r); err != nil {
				return fmt.Errorf("route to %s: %w", r.Dst, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("congestion control %s in %s: %w", algorithm, n.name, err)
	}
	return nil
}
