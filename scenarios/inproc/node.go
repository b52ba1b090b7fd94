package inproc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/simreach/simreach/internal/program"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
)

// client is a loopback address that connections come from.
type client struct{ addr netip.Addr }

// Address implements lab.Client.
func (c client) Address() netip.Addr { return c.addr }

// Dial implements lab.Client.
func (c client) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return dialFrom(ctx, c.addr, to)
}

// labNode is one node of the topology.
type labNode struct {
	name string
	addr netip.Addr
	unit *unit // nil for clients and UEs
	exec bool  // programs of this machine may play it: a client
}

// Node implements lab.Lab.
func (t *topology) Node(name string) (lab.Node, bool) {
	if u, ok := t.units[name]; ok {
		n := labNode{name: name, unit: u}
		switch {
		case name == "manager", slices.ContainsFunc(t.spec.OuterRelays, func(r spec.OuterRelay) bool { return r.Name == name }):
			n.addr = t.links.host(t.spec, name, plan.Public)
		default:
			n.addr = plan.Addresses(t.spec, name)[0].Prefix.Addr()
		}
		return n, true
	}
	if c, ok := t.Client(name); ok {
		return labNode{name: name, addr: c.Address(), exec: true}, true
	}
	u, ok := t.parts.ues[name]
	if !ok {
		return nil, false
	}
	n := labNode{name: name}
	if s := u.Now(); len(s.Sessions) > 0 {
		n.addr = s.Sessions[0].Address
	}
	return n, true
}

// Name implements lab.Node.
func (n labNode) Name() string { return n.name }

// Address implements lab.Node.
func (n labNode) Address() netip.Addr { return n.addr }

// Kill implements lab.Node: the components end; within one process there is
// nothing more abrupt.
func (n labNode) Kill(ctx context.Context) error {
	if n.unit == nil {
		return fmt.Errorf("%s: %w", n.name, lab.ErrNoProcess)
	}
	if n.unit.called {
		return fmt.Errorf("%w: in one process others call the %s directly; use --backend netns", lab.ErrUnsupported, n.name)
	}
	return n.unit.end(ctx)
}

// Start implements lab.Node.
func (n labNode) Start(ctx context.Context) error {
	if n.unit == nil {
		return fmt.Errorf("%s: %w", n.name, lab.ErrNoProcess)
	}
	return n.unit.start(ctx)
}

// Exec implements lab.Node. A client's programs run on this machine as they are:
// to come from the client's address they must bind to it.
func (n labNode) Exec(ctx context.Context, c lab.Command) (lab.Process, error) {
	if !n.exec {
		return nil, fmt.Errorf("run a program on %s: %w: it has no namespace", n.name, lab.ErrUnsupported)
	}
	return program.Start(ctx, program.Spec{Args: c.Args, Env: c.Env, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr})
}
