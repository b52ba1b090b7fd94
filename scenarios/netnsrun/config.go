package netnsrun

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/plan/relaying"
	"github.com/simreach/simreach/scenarios/spec"
)

const (
	portNGAP = 38412
	portPFCP = 8805
	portGTPU = 2152
	// portNotify is where the manager receives the SMF's events.
	portNotify = plan.PortSBI + 1
)

func (r *running) at(name, network string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(plan.On(r.spec, name, network), port)
}

func (r *running) sbiURL(name string) string {
	return "http://" + r.at(name, plan.SBI, plan.PortSBI).String()
}

// reportsURL is where the core's reports to the manager go.
func (r *running) reportsURL() string {
	return "http://" + r.at("manager", plan.SBI, plan.PortCHF).String()
}

// config returns a node's role and its configuration file; no role for a client.
func (r *running) config(name string) (role string, text []byte, err error) {
	role, c, err := r.role(name)
	if err != nil || role == "" {
		return role, nil, err
	}
	text, err = node.Marshal(c)
	return role, text, err
}

func (r *running) role(name string) (string, node.Role, error) {
	s := r.spec
	switch name {
	case "udm":
		return "udm", &node.UDM{UDM: plan.UDM(s), SBI: r.at("udm", plan.SBI, plan.PortSBI), EquipmentEvents: r.reportsURL()}, nil
	case "smf":
		return "smf", r.smf(), nil
	case "amf":
		c := &node.AMF{AMF: plan.AMF(s), SBI: r.at("amf", plan.SBI, plan.PortSBI), UDM: r.sbiURL("udm"), SMF: r.sbiURL("smf")}
		c.N2.Local = r.at("amf", plan.N2, portNGAP)
		return "amf", c, nil
	case "manager":
		c, err := r.managerRole()
		return "manager", c, err
	case plan.UEs:
		c, err := r.ues()
		return "ue", c, err
	}
	for _, u := range s.UPFs {
		if u.Name == name {
			return "upf", r.upf(u), nil
		}
	}
	for _, x := range s.InnerRelays {
		if x.Name == name {
			c, err := r.relaying().Inner(x)
			return "relay-inner", c, err
		}
	}
	for _, x := range s.OuterRelays {
		if x.Name == name {
			c, err := r.relaying().Outer(x)
			return "relay-outer", c, err
		}
	}
	for i, g := range s.GNBs {
		if g.Name == name {
			c := &node.GNB{GNB: plan.GNB(s, i, r.at(name, plan.N3, portGTPU), r.at("amf", plan.N2, portNGAP)), Air: r.at(name, plan.Air, plan.PortAir)}
			c.N2.Local = netip.AddrPortFrom(plan.On(s, name, plan.N2), 0)
			return "gnb", c, nil
		}
	}
	return "", nil, nil
}

func (r *running) smf() *node.SMF {
	return &node.SMF{
		SMF:  plan.SMF(r.spec, r.at("smf", plan.N4, portPFCP), func(u string) netip.AddrPort { return r.at(u, plan.N4, portPFCP) }),
		SBI:  r.at("smf", plan.SBI, plan.PortSBI),
		UDM:  r.sbiURL("udm"),
		AMFs: map[string]string{string(plan.AMFID()): r.sbiURL("amf")},
		CHF:  r.reportsURL(),
	}
}

func (r *running) upf(u spec.UPF) *node.UPF {
	n3, n4 := r.at(u.Name, plan.N3, portGTPU), r.at(u.Name, plan.N4, portPFCP)
	c := &node.UPF{UPF: plan.UPF(u, n3.Addr(), n4.Addr()), N3: n3, N4: n4}
	for i, d := range c.UPF.NetworkInstances {
		n := node.N6{DNN: d, Interface: "dn" + strconv.Itoa(i), MTU: spec.DefaultMTU}
		for _, p := range u.Pools {
			if ident.DNN(p.DNN) == d {
				n.Pools = append(n.Pools, p.Prefix())
			}
		}
		c.N6 = append(c.N6, n)
	}
	return c
}

// relaying builds the relay system's roles.
func (r *running) relaying() relaying.Plan {
	return relaying.Plan{
		Spec: r.spec, Secrets: r.secrets, Dir: r.dir, Results: r.results,
		At: func(node, network string) netip.Addr { return plan.On(r.spec, node, network) },
	}
}

func (r *running) managerRole() (*node.Manager, error) {
	c, err := r.relaying().Manager()
	if err != nil {
		return nil, err
	}
	c.Notify = r.at("manager", plan.SBI, portNotify)
	c.Events.SMF = r.sbiURL("smf")
	c.UDM, c.SMF, c.Charging = r.sbiURL("udm"), r.sbiURL("smf"), r.at("manager", plan.SBI, plan.PortCHF)
	return c, nil
}

func (r *running) ues() (*node.UE, error) {
	c := &node.UE{Air: plan.On(r.spec, plan.UEs, plan.Air), Control: r.socket()}
	for _, g := range r.spec.GNBs {
		c.GNBs = append(c.GNBs, node.Link(g.Name, r.at(g.Name, plan.Air, plan.PortAir)))
	}
	for _, d := range r.spec.Devices {
		cfg, err := plan.UE(r.spec, d)
		if err != nil {
			return nil, fmt.Errorf("UE %s: %w", d.Name, err)
		}
		c.UEs = append(c.UEs, node.UEDevice{Name: d.Name, UE: cfg, Namespace: nsName(r.run, d.Name), Services: plan.Services(d)})
	}
	return c, nil
}
