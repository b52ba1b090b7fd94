// Package plan turns a Spec into what each component is told: its Config and its
// addresses. Both backends build from the same plan, so a scenario means the same
// on either. It opens nothing and starts nothing.
package plan

import (
	"cmp"
	"net/netip"

	"github.com/simreach/simreach/scenarios/spec"
)

// Networks of a topology. Each is one link: a bridge on the netns backend, a
// memory network or loopback on inproc.
const (
	Public = "public" // clients, outer relays, the manager's REST API
	SBI    = "sbi"    // AMF, SMF, UDM, manager
	N2     = "n2"     // AMF, gNBs
	N3     = "n3"     // gNBs, UPFs
	N4     = "n4"     // SMF, UPFs
	Core   = "core"   // manager, outer and inner relays
	Air    = "air"    // UEs, gNBs: the simulated radio
	// N6 networks are one per UPF: N6Of.
)

// N6Of names the network between a UPF and its inner relay.
func N6Of(upf string) string { return "n6-" + upf }

// Ports that are not 3GPP's own.
const (
	PortSBI   = 8000
	PortCHF   = 8002 // where the manager takes the core's reports
	PortREST  = 8080
	PortRPC   = 8090
	PortInner = 8100
	PortAir   = 9000
)

// Host numbers within a network's /24. Lists start at their base and count up;
// spec.MaxPeers keeps them apart.
const (
	hostAMF     = 1
	hostSMF     = 2
	hostUDM     = 3
	hostManager = 4
	hostUEs     = 5
	HostRunner  = 6 // the host's own end, for up
	hostRelay   = 7 // the inner relay on an N6 network
	hostUPF     = 8 // the UPF on an N6 network
	baseList    = 10
	baseSecond  = 120
	baseInner   = 220 // inner relays on the public network
)

// Address is a node's place on a network.
type Address struct {
	Network string
	Prefix  netip.Prefix // the address with the network's length
}

// network returns the /24 of a network. All come out of spec.Reserved.
func network(s *spec.Spec, name string) (third [3]byte) {
	for i, n := range []string{Public, SBI, N2, N3, N4, Core, Air} {
		if n == name {
			return [3]byte{198, 18, byte(i)}
		}
	}
	for i, u := range s.UPFs {
		if N6Of(u.Name) == name {
			return [3]byte{198, 19, byte(i)}
		}
	}
	return [3]byte{198, 19, 255}
}

func at(s *spec.Spec, net string, host int) Address {
	n := network(s, net)
	return Address{Network: net, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{n[0], n[1], n[2], byte(host)}), 24)}
}

// Networks lists the networks of a scenario in a fixed order.
func Networks(s *spec.Spec) []string {
	out := []string{Public, SBI, N2, N3, N4, Core, Air}
	for _, u := range s.UPFs {
		out = append(out, N6Of(u.Name))
	}
	return out
}

// Runner returns the host's own address on the public network.
func Runner(s *spec.Spec) netip.Prefix { return at(s, Public, HostRunner).Prefix }

// UEs is the name of the node whose process carries all UEs.
const UEs = "ue"

// Nodes lists the names of the nodes with addresses, in start order: whoever
// serves comes before whoever calls.
func Nodes(s *spec.Spec) []string {
	out := []string{"udm"}
	for _, u := range s.UPFs {
		out = append(out, u.Name)
	}
	// The SMF is ready once it has tried its UPFs.
	out = append(out, "smf", "amf", "manager")
	for _, r := range s.InnerRelays {
		out = append(out, r.Name)
	}
	for _, r := range s.OuterRelays {
		out = append(out, r.Name)
	}
	for _, g := range s.GNBs {
		out = append(out, g.Name)
	}
	out = append(out, UEs)
	for _, c := range s.Clients {
		out = append(out, c.Name)
	}
	return out
}

// Addresses returns where a node stands, one entry per network it is on.
func Addresses(s *spec.Spec, node string) []Address {
	switch node {
	case "amf":
		return []Address{at(s, SBI, hostAMF), at(s, N2, hostAMF)}
	case "smf":
		return []Address{at(s, SBI, hostSMF), at(s, N4, hostSMF)}
	case "udm":
		return []Address{at(s, SBI, hostUDM)}
	case "manager":
		out := []Address{at(s, SBI, hostManager), at(s, Public, hostManager)}
		if boundary(s) == spec.OuterToUE || boundary(s) == spec.InnerAndManager {
			out = append(out, at(s, Core, hostManager))
		}
		return out
	case UEs:
		return []Address{at(s, Air, hostUEs)}
	}
	for i, u := range s.UPFs {
		if u.Name == node {
			return []Address{at(s, N3, baseSecond+i), at(s, N4, baseList+i), at(s, N6Of(node), hostUPF)}
		}
	}
	for i, g := range s.GNBs {
		if g.Name == node {
			return []Address{at(s, N2, baseList+i), at(s, N3, baseList+i), at(s, Air, baseList+i)}
		}
	}
	for i, r := range s.InnerRelays {
		if r.Name == node {
			var out []Address
			if boundary(s) != spec.RelaysAlone {
				out = append(out, at(s, Core, baseList+i))
			}
			if boundary(s) != spec.OuterToUE {
				out = append(out, at(s, Public, baseInner+i))
			}
			for _, u := range r.UPFs {
				out = append(out, at(s, N6Of(u), hostRelay))
			}
			return out
		}
	}
	for i, r := range s.OuterRelays {
		if r.Name == node {
			out := []Address{at(s, Public, baseSecond+i)}
			if boundary(s) == spec.OuterToUE || boundary(s) == spec.OuterToInner {
				out = append(out, at(s, Core, baseSecond+i))
			}
			return out
		}
	}
	for i, c := range s.Clients {
		if c.Name == node {
			return []Address{at(s, Public, baseList+i)}
		}
	}
	return nil
}

// boundary is the scenario's, also of a Spec that was not loaded from a file.
func boundary(s *spec.Spec) spec.Boundary { return cmp.Or(s.Boundary, spec.OuterToUE) }

// ControlNetwork is where a relay, outer or inner, reaches the manager.
func ControlNetwork(s *spec.Spec, outer bool) string {
	if boundary(s) == spec.OuterToUE || boundary(s) == spec.InnerAndManager && !outer {
		return Core
	}
	return Public
}

// HopNetwork is where outer relays reach inner ones, and whether that is outside the
// closed network: then the hop has TLS.
func HopNetwork(s *spec.Spec) (network string, outside bool) {
	if boundary(s) == spec.OuterToUE || boundary(s) == spec.OuterToInner {
		return Core, false
	}
	return Public, true
}

// On returns a node's address on a network; invalid if it is not on it.
func On(s *spec.Spec, node, network string) netip.Addr {
	for _, a := range Addresses(s, node) {
		if a.Network == network {
			return a.Prefix.Addr()
		}
	}
	return netip.Addr{}
}
