// Package relaying builds the roles of the relay system (manager, outer and inner relays)
// for a run of a scenario, certificates included. Both backends start what it returns. It
// opens nothing and starts nothing.
package relaying

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
)

// Plan builds the roles for one run.
type Plan struct {
	Spec    *spec.Spec
	Secrets plan.Secrets
	// At returns a node's address on a network, as the backend has it.
	At func(node, network string) netip.Addr
	// Dir is a directory of the run, for the manager's database and the relays' spools.
	Dir string
	// OneAddress says that the manager takes relays at its public address only: on a
	// backend whose networks are one anyway.
	OneAddress bool
	// Results is the directory for what a run leaves behind; empty: it leaves nothing.
	// Each role adds its spans to a file there, which TraceFile names.
	Results string
}

// TraceFile names the file that takes a node's spans, a line of JSON each, in a
// directory of results.
func TraceFile(results, node string) string {
	return filepath.Join(results, "traces-"+node+".jsonl")
}

// TraceFiles lists the files that the roles add their spans to. What an earlier run
// left in them is for the backend to remove.
func (r Plan) TraceFiles() []string {
	if r.Results == "" {
		return nil
	}
	out := []string{TraceFile(r.Results, "manager")}
	for _, x := range r.Spec.InnerRelays {
		out = append(out, TraceFile(r.Results, x.Name))
	}
	for _, x := range r.Spec.OuterRelays {
		out = append(out, TraceFile(r.Results, x.Name))
	}
	return out
}

// telemetry is how a node is watched: all its spans are kept with the results.
func (r Plan) telemetry(node string) telemetry.Config {
	var c telemetry.Config
	if r.Results != "" {
		c.Traces.File = TraceFile(r.Results, node)
	}
	return c
}

// control is where a relay, outer or inner, reaches the manager.
func (r Plan) control(outer bool) netip.AddrPort {
	network := plan.ControlNetwork(r.Spec, outer)
	if r.OneAddress {
		network = plan.Public
	}
	return netip.AddrPortFrom(r.At("manager", network), plan.PortRPC)
}

// issue makes a certificate of the run's CA, with what it is shown to.
func (r Plan) issue(q pki.Request) (pki.Config, error) {
	p, err := r.Secrets.CA.Issue(q)
	if err != nil {
		return pki.Config{}, fmt.Errorf("certificate of %s: %w", q.Name, err)
	}
	return pki.Config{Cert: string(p.Cert), Key: p.Key, CA: string(r.Secrets.CA.PEM())}, nil
}

// Manager returns the manager's role, without what it needs of the core.
func (r Plan) Manager() (*node.Manager, error) {
	listen := netip.AddrPortFrom(r.At("manager", plan.Public), plan.PortRPC)
	hosts := []string{listen.Addr().String()}
	if !r.OneAddress {
		for _, a := range plan.Addresses(r.Spec, "manager") {
			hosts = append(hosts, a.Prefix.Addr().String())
		}
		listen = netip.AddrPortFrom(netip.IPv4Unspecified(), plan.PortRPC)
	}
	cert, err := r.issue(pki.Manager(hosts...))
	if err != nil {
		return nil, err
	}
	c := &node.Manager{
		Manager: plan.Manager(r.Spec, r.Secrets),
		RPC:     rpc.ServerConfig{Listen: listen.String(), TLS: cert},

		Telemetry: r.telemetry("manager"),
	}
	c.Store.Path = filepath.Join(r.Dir, "manager.db")
	c.API.Listen = netip.AddrPortFrom(r.At("manager", plan.Public), plan.PortREST).String()
	if a := r.At("manager", plan.Public); a.IsLoopback() { // every host is there
		c.Webhooks.Allow = []netip.Prefix{netip.PrefixFrom(a, 8).Masked()}
	}
	c.Manager.Policy = r.Spec.Policy
	c.Manager.Regions, c.Manager.Carriers = r.origins()
	return c, nil
}

// origins are the tables by which the manager knows where a client comes from.
func (r Plan) origins() (regions []manager.RegionConfig, carriers []manager.CarrierConfig) {
	prefixes := map[string][]netip.Prefix{}
	var names []string
	for _, c := range r.Spec.Clients {
		if c.Region == "" {
			continue
		}
		if prefixes[c.Region] == nil {
			names = append(names, c.Region)
		}
		a := r.At(c.Name, plan.Public)
		prefixes[c.Region] = append(prefixes[c.Region], netip.PrefixFrom(a, a.BitLen()))
	}
	for _, n := range names {
		regions = append(regions, manager.RegionConfig{Region: n, Prefixes: prefixes[n]})
		var relays []manager.RelayID
		for _, o := range r.Spec.OuterRelays {
			if o.Region == n {
				relays = append(relays, manager.RelayID(o.Name))
			}
		}
		carriers = append(carriers, manager.CarrierConfig{Name: n, Prefixes: prefixes[n], Relays: relays})
	}
	return regions, carriers
}

// Inner returns an inner relay's role.
func (r Plan) Inner(x spec.InnerRelay) (*node.Inner, error) {
	network, outside := plan.HopNetwork(r.Spec)
	at := netip.AddrPortFrom(r.At(x.Name, network), plan.PortInner)
	cert, err := r.issue(pki.Relay("inner", x.Name, at.Addr().String()))
	if err != nil {
		return nil, err
	}
	c := &node.Inner{
		Relay:     plan.Inner(x, at),
		Control:   rpc.ClientConfig{Manager: r.control(false).String(), TLS: cert},
		Telemetry: r.telemetry(x.Name),
	}
	if outside {
		c.TLS = cert
	}
	return c, nil
}

// Outer returns an outer relay's role.
func (r Plan) Outer(x spec.OuterRelay) (*node.Outer, error) {
	at := r.At(x.Name, plan.Public)
	cert, err := r.issue(pki.Relay("outer", x.Name))
	if err != nil {
		return nil, err
	}
	front, err := r.issue(pki.Server("*"+api.DefaultHostnameSuffix, at.String()))
	if err != nil {
		return nil, err
	}
	front.CA = "" // clients come from anywhere
	c := &node.Outer{
		Relay:     plan.Outer(x, at),
		Control:   rpc.ClientConfig{Manager: r.control(true).String(), TLS: cert},
		TLS:       front,
		Telemetry: r.telemetry(x.Name),
	}
	if _, outside := plan.HopNetwork(r.Spec); outside {
		c.InnerTLS = cert
	}
	c.Audit.Dir = filepath.Join(r.Dir, "audit-"+x.Name)
	return c, nil
}
