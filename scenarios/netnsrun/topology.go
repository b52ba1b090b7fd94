package netnsrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/simreach/simreach/internal/capture"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
)

// topology is the namespaces and links of one run.
type topology struct {
	run      string // run ID, part of every name
	sw       *netns.NS
	nodes    map[string]*netns.NS     // by node name, UEs included
	captures map[string]*capture.Live // by network; empty: nothing is captured
	ports    int                      // bridge ports made so far
	host     io.Closer                // the claim on the host's link; nil without one
}

// nsName is the name of a node's namespace.
func nsName(run, node string) string { return netns.Prefix + run + "-" + node }

// hostLink is the prefix of the links that a run adds to the host's namespace.
func hostLink(run string) string { return "sr" + run }

// bridgeName is the bridge of a network in the switch namespace. Names of UPFs may
// be longer than an interface's.
func bridgeName(s *spec.Spec, network string) string {
	for i, u := range s.UPFs {
		if plan.N6Of(u.Name) == network {
			return "n6-" + strconv.Itoa(i)
		}
	}
	return network
}

// build makes the whole topology. On error the caller still calls remove.
func (t *topology) build(ctx context.Context, s *spec.Spec, dir string, hostAccess bool) error {
	sw, err := netns.Create(nsName(t.run, "switch"))
	if err != nil {
		return err
	}
	t.sw = sw
	t.nodes = map[string]*netns.NS{}
	for _, n := range plan.Networks(s) {
		if err := sw.AddBridge(bridgeName(s, n)); err != nil {
			return err
		}
	}
	if dir != "" {
		if err := t.capture(s, dir); err != nil {
			return err
		}
	}
	for _, node := range plan.Nodes(s) {
		if err := t.addNode(s, node); err != nil {
			return err
		}
	}
	if err := t.addUEs(ctx, s); err != nil {
		return err
	}
	for i, e := range s.External {
		network := e.Network
		if network == "n6" {
			network = plan.N6Of(e.UPF)
		}
		link := fmt.Sprintf("%sx%d", hostLink(t.run), i)
		if err := netns.JoinExternal(sw, bridgeName(s, network), t.port(), link, e.Interface); err != nil {
			return err
		}
	}
	if hostAccess {
		if t.host, err = claimHost(ctx, plan.Runner(s)); err != nil {
			return err
		}
		return netns.JoinHost(sw, bridgeName(s, plan.Public), t.port(), hostLink(t.run)+"h", plan.Runner(s))
	}
	return nil
}

func (t *topology) port() string {
	t.ports++
	return "p" + strconv.Itoa(t.ports)
}

func (t *topology) addNode(s *spec.Spec, node string) error {
	ns, err := netns.Create(nsName(t.run, node))
	if err != nil {
		return err
	}
	t.nodes[node] = ns
	for _, a := range plan.Addresses(s, node) {
		port := t.port()
		err := ns.Join(netns.Port{
			Name: bridgeName(s, a.Network), Addresses: []netip.Prefix{a.Prefix},
			Switch: t.sw, Bridge: bridgeName(s, a.Network), PortName: port,
		})
		if err == nil && a.Network == plan.N2 {
			// A peer with kernel SCTP may join N2, and ours may be userspace SCTP.
			err = t.sw.FillChecksums(port)
		}
		if err != nil {
			return err
		}
	}
	for _, u := range s.UPFs {
		if u.Name == node {
			// Between N6 and the UEs' TUN a UPF is a router.
			if err := ns.Forward(); err != nil {
				return err
			}
		}
	}
	for _, r := range s.InnerRelays {
		if r.Name != node {
			continue
		}
		for _, upf := range r.UPFs {
			gw := plan.On(s, upf, plan.N6Of(upf))
			for _, p := range pools(s, upf) {
				if err := ns.Route(p.Prefix(), gw, ""); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func pools(s *spec.Spec, upf string) []spec.Pool {
	for _, u := range s.UPFs {
		if u.Name == upf {
			return u.Pools
		}
	}
	return nil
}

// addUEs makes a namespace for every UE: it has nothing in it until a PDU session
// brings an interface.
func (t *topology) addUEs(ctx context.Context, s *spec.Spec) error {
	made := make([]*netns.NS, len(s.Devices))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, d := range s.Devices {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			ns, err := netns.Create(nsName(t.run, d.Name))
			made[i] = ns
			return err
		})
	}
	err := g.Wait()
	for i, ns := range made {
		if ns != nil {
			t.nodes[s.Devices[i].Name] = ns
		}
	}
	return err
}

// capture records every network's bridge.
func (t *topology) capture(s *spec.Spec, dir string) error {
	t.captures = map[string]*capture.Live{}
	for _, n := range plan.Networks(s) {
		f, err := capture.CreateEthernet(filepath.Join(dir, n+".pcap"))
		if err != nil {
			return err
		}
		err = t.sw.Do(func() error {
			i, err := net.InterfaceByName(bridgeName(s, n))
			if err != nil {
				return err
			}
			l, err := capture.Interface(i.Index, f)
			if err == nil {
				t.captures[n] = l
			}
			return err
		})
		if err != nil {
			return errors.Join(fmt.Errorf("capture %s: %w", n, err), f.Close())
		}
	}
	return nil
}

// remove takes everything away again.
func (t *topology) remove() error {
	var errs []error
	for _, l := range t.captures {
		errs = append(errs, l.Close())
	}
	for _, ns := range t.nodes {
		errs = append(errs, endProcesses(ns), ns.Close(), netns.Remove(ns.Name()))
	}
	if t.sw != nil {
		errs = append(errs, t.sw.Close(), netns.Remove(t.sw.Name()))
	}
	// The kernel removes a veth with the namespace of its other end, but a moment
	// later; a run that ended leaves nothing.
	links, err := netns.HostLinks(hostLink(t.run))
	errs = append(errs, err)
	for _, l := range links {
		errs = append(errs, netns.RemoveHostLink(l))
	}
	if t.host != nil {
		errs = append(errs, t.host.Close())
	}
	return errors.Join(errs...)
}
