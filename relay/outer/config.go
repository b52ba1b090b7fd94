package outer

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/simreach/simreach/manager"
)

// Config configures an outer relay.
type Config struct {
	// ID is the relay's name. Required.
	ID manager.RelayID `yaml:"id"`
	// Address is what clients are told to connect to. Required.
	Address netip.Addr `yaml:"address"`
	// Listen is where ports are opened. Zero: Address.
	Listen netip.Addr `yaml:"listen"`
	// Ports is the range from which the manager draws. Zero: 40000 to 65000.
	Ports manager.PortRange `yaml:"ports"`
	// Region is told to the manager. Empty: none.
	Region string `yaml:"region"`
	// MaxEntries bounds the open ports; more are refused. Each takes a file
	// descriptor. 0: half of the descriptors that the process may have.
	MaxEntries int `yaml:"max_entries"`
	// MaxHandshakes bounds the connections that are being set up at one time; more
	// are reset. 0: 1024.
	MaxHandshakes int `yaml:"max_handshakes"`
	// HandshakeTimeout bounds setting up one connection, from accepting it to the
	// device's answer. 0: 10 s.
	HandshakeTimeout time.Duration `yaml:"handshake_timeout"`
	// DrainTimeout is how long live connections may go on when the relay stops.
	// 0: they are cut at once.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.ID == "":
		return errors.New("outer relay: id is required")
	case !c.Address.IsValid() || c.Address.IsUnspecified():
		return errors.New("outer relay: address is required, and clients must be able to connect to it")
	case c.Ports != (manager.PortRange{}) && c.Ports.Size() == 0:
		return errors.New("outer relay: ports: want 1 <= first <= last")
	case c.MaxEntries < 0 || c.MaxHandshakes < 0:
		return errors.New("outer relay: limits must not be negative")
	case c.HandshakeTimeout < 0 || c.DrainTimeout < 0:
		return errors.New("outer relay: timeouts must not be negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if !c.Listen.IsValid() {
		c.Listen = c.Address
	}
	if c.Ports == (manager.PortRange{}) {
		c.Ports = manager.DefaultPorts()
	}
	c.MaxHandshakes = cmp.Or(c.MaxHandshakes, 1024)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 10*time.Second)
	return c
}

// Relay returns what the relay tells the manager about itself.
func (c Config) Relay() manager.Relay {
	c = c.withDefaults()
	return manager.Relay{
		ID: c.ID, Kind: manager.OuterRelay, Address: netip.AddrPortFrom(c.Address, 0), Ports: c.Ports, Region: c.Region,
	}
}

// Control is the manager's stream of commands. manager/rpc.Client is one, and
// within one process a manager.RelaySession.
type Control interface {
	// Next blocks for the next command; the first after every attachment is a
	// snapshot. An error other than ctx's ends the relay.
	Next(ctx context.Context) (manager.Command, error)
	// Acknowledge answers a command.
	Acknowledge(manager.Acknowledgement)
	// Report tells about a connection; it must not block for long.
	Report(manager.ConnectionEvent)
}

// Resolver answers about connections (R11, R12): the address and port that were
// hit and the client's address give the conditions and the way.
type Resolver interface {
	Resolve(ctx context.Context, q manager.ResolveRequest) (manager.Route, error)
}

// Deps is what a Relay needs of the world.
type Deps struct {
	Log      *slog.Logger // nil discards
	Control  Control
	Resolver Resolver
	// Listen opens a TCP port. nil: the operating system's network.
	Listen func(netip.AddrPort) (net.Listener, error)
	// DialInner connects to an inner relay; the connection must be a relay.Conn.
	// nil: the operating system's network.
	DialInner func(context.Context, netip.AddrPort) (net.Conn, error)
}

func listenTCP(a netip.AddrPort) (net.Listener, error) {
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(a))
}

// dialTCP connects with SO_REUSEADDR: the kernel picks local ports from the range
// that entries are drawn from, too, and without the option a connection that is
// ending would hold its port against the listener of an entry for a minute.
func dialTCP(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: reuseAddress}
	return d.DialContext(ctx, "tcp", a.String())
}
