package outer

import (
	"cmp"
	"errors"
	"net/netip"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/ports"
)

// Config configures an outer relay. The defaults are meant for an address that
// anybody on the internet can reach.
type Config struct {
	// ID is the relay's name. Required.
	ID manager.RelayID `yaml:"id"`
	// Address is what clients are told to connect to. Required.
	Address netip.Addr `yaml:"address"`
	// Listen is where ports are opened. Zero: Address.
	Listen netip.Addr `yaml:"listen"`
	// Ports is the range from which the manager draws. Zero: 40000 to 65000.
	Ports manager.PortRange `yaml:"ports"`
	// Mode is how ports are opened: "auto", "sk_lookup" or "listen", as
	// ports.Config.Mode says. Empty: auto.
	Mode string `yaml:"mode"`
	// Backlog is how many connections may wait to be accepted. 0: as many as the
	// kernel allows.
	Backlog int `yaml:"backlog"`
	// Region is told to the manager. Empty: none.
	Region string `yaml:"region"`
	// MaxEntries bounds the open ports; more are refused. 0: with one listener for
	// each port half of the descriptors that the process may have, else no bound.
	MaxEntries int `yaml:"max_entries"`
	// MaxConnections bounds the connections of clients in any state; more are
	// refused. Each takes two descriptors. 0: a third of the descriptors that the
	// process may have.
	MaxConnections int `yaml:"max_connections"`
	// MaxEntryConnections bounds those of one entry. 0: 1000. Negative: no bound of
	// its own.
	MaxEntryConnections int `yaml:"max_entry_connections"`
	// MaxHandshakes bounds the connections that are being set up at one time; more
	// are refused. 0: 1024.
	MaxHandshakes int `yaml:"max_handshakes"`
	// MaxStreams bounds the devices that a client may be connected to over one
	// connection to an entry for several of them. 0: 250.
	MaxStreams int `yaml:"max_streams"`
	// EntryRate and SourceRate bound how many connections in a second one entry and
	// one source address (of IPv6: one /64 network) may make in the long run;
	// EntryBurst and SourceBurst how many at one time. More are refused. Rates 0: 100
	// and 50; negative: no bound. Bursts 0: 4 times the rate.
	EntryRate   float64 `yaml:"entry_rate"`
	EntryBurst  int     `yaml:"entry_burst"`
	SourceRate  float64 `yaml:"source_rate"`
	SourceBurst int     `yaml:"source_burst"`
	// KeptInner bounds the connections to one inner relay that wait, on each event loop,
	// for another client when theirs has gone. Each takes a descriptor. Connections over
	// InnerTLS never wait. 0: 32. Negative: none.
	KeptInner int `yaml:"kept_inner"`
	// ResolveTimeout bounds asking the manager. 0: 5 s.
	ResolveTimeout time.Duration `yaml:"resolve_timeout"`
	// HandshakeTimeout bounds the TLS handshake, and on an entry for several devices
	// also the wait for the first request. 0: 10 s.
	HandshakeTimeout time.Duration `yaml:"handshake_timeout"`
	// DeviceTimeout bounds reaching the device through the inner relay. 0: 10 s.
	DeviceTimeout time.Duration `yaml:"device_timeout"`
	// IdleTimeout ends a connection over which no byte went either way for that
	// long. 0: 2 h. Negative: never.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// DrainTimeout is how long live connections may go on when the relay stops.
	// 0: they are cut at once.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Defaults of Config.
const (
	defaultEntryConnections = 1000
	defaultHandshakes       = 1024
	defaultStreams          = 250
	defaultEntryRate        = 100
	defaultSourceRate       = 50
	burstFactor             = 4
)

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.ID == "":
		return errors.New("outer relay: id is required")
	case !c.Address.IsValid() || c.Address.IsUnspecified():
		return errors.New("outer relay: address is required, and clients must be able to connect to it")
	case c.Ports != (manager.PortRange{}) && c.Ports.Size() == 0:
		return errors.New("outer relay: ports: want 1 <= first <= last")
	case c.MaxEntries < 0 || c.MaxConnections < 0 || c.MaxHandshakes < 0 || c.MaxStreams < 0 || c.EntryBurst < 0 || c.SourceBurst < 0:
		return errors.New("outer relay: limits must not be negative")
	case c.ResolveTimeout < 0 || c.HandshakeTimeout < 0 || c.DeviceTimeout < 0 || c.DrainTimeout < 0:
		return errors.New("outer relay: timeouts must not be negative")
	}
	return c.ports().Validate()
}

func (c Config) withDefaults() Config {
	if !c.Listen.IsValid() {
		c.Listen = c.Address
	}
	if c.Ports == (manager.PortRange{}) {
		c.Ports = manager.DefaultPorts()
	}
	c.MaxConnections = cmp.Or(c.MaxConnections, defaultMaxConnections())
	c.MaxEntryConnections = cmp.Or(c.MaxEntryConnections, defaultEntryConnections)
	if c.MaxEntryConnections < 0 {
		c.MaxEntryConnections = c.MaxConnections
	}
	c.MaxHandshakes = cmp.Or(c.MaxHandshakes, defaultHandshakes)
	c.MaxStreams = cmp.Or(c.MaxStreams, defaultStreams)
	c.EntryRate = cmp.Or(c.EntryRate, defaultEntryRate)
	c.EntryBurst = cmp.Or(c.EntryBurst, max(int(c.EntryRate*burstFactor), 1))
	c.SourceRate = cmp.Or(c.SourceRate, defaultSourceRate)
	c.SourceBurst = cmp.Or(c.SourceBurst, max(int(c.SourceRate*burstFactor), 1))
	c.ResolveTimeout = cmp.Or(c.ResolveTimeout, 5*time.Second)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 10*time.Second)
	c.DeviceTimeout = cmp.Or(c.DeviceTimeout, 10*time.Second)
	c.IdleTimeout = max(cmp.Or(c.IdleTimeout, 2*time.Hour), 0)
	return c
}

// ports is the part of c that is about ports. Openings may be outside the range: it
// has been another one when they were made.
func (c Config) ports() ports.Config {
	c = c.withDefaults()
	return ports.Config{Address: c.Listen, Mode: c.Mode, Backlog: c.Backlog, MaxOpen: c.MaxEntries}
}

// Relay returns what the relay tells the manager about itself.
func (c Config) Relay() manager.Relay {
	c = c.withDefaults()
	return manager.Relay{
		ID: c.ID, Kind: manager.OuterRelay, Address: netip.AddrPortFrom(c.Address, 0), Ports: c.Ports, Region: c.Region,
	}
}
