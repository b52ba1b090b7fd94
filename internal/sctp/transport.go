package sctp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Mode says which transport carries associations. Kernel and raw speak the same
// on the wire; udp does not, so both sides of an association must be udp or both
// be not.
type Mode string

// The modes.
const (
	ModeAuto   Mode = "auto"   // kernel if this machine has it, else raw if permitted, else udp
	ModeKernel Mode = "kernel" // the kernel's SCTP
	ModeRaw    Mode = "raw"    // userspace over IP protocol 132; needs CAP_NET_RAW
	ModeUDP    Mode = "udp"    // userspace over UDP (RFC 6951); needs no privilege
)

// Config describes one endpoint.
type Config struct {
	Mode Mode `yaml:"mode"` // empty: auto
	// Local is where to bind. Listen: the address may be unspecified or absent
	// (every IPv4 address), port zero means 38412. NewDialer: both may be absent;
	// the port is chosen per association whatever it says.
	Local netip.AddrPort `yaml:"local"`
	// UDPPort is the local port of ModeUDP; zero: 9899 for Listen, any free one for
	// NewDialer.
	UDPPort uint16 `yaml:"udp_port"`
	// RemoteUDPPort is where NewDialer's ModeUDP sends; zero: 9899.
	RemoteUDPPort uint16 `yaml:"remote_udp_port"`

	Heartbeat  time.Duration `yaml:"heartbeat"`   // idle time after which the peer is asked for a sign of life; zero: 30 s; negative: never
	MaxRetrans int           `yaml:"max_retrans"` // unanswered tries before an association is lost; zero: 10
	RTOMax     time.Duration `yaml:"rto_max"`     // cap of the doubling retransmission timeout, which starts at 1 s; zero: 60 s
	Streams    int           `yaml:"streams"`     // outbound streams to ask for; zero: 64
	MTU        int           `yaml:"mtu"`         // largest SCTP packet that userspace sends, in bytes; zero: 1400

	Log *slog.Logger `yaml:"-"` // nil discards
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	switch c.Mode {
	case "", ModeAuto, ModeKernel, ModeRaw, ModeUDP:
	default:
		return fmt.Errorf("sctp: unknown mode %q, want auto, kernel, raw or udp", c.Mode)
	}
	return c.stack().Validate()
}

func (c Config) stack() StackConfig {
	return StackConfig{
		Heartbeat: c.Heartbeat, MaxRetrans: c.MaxRetrans, RTOMax: c.RTOMax,
		Streams: c.Streams, MTU: c.MTU, Log: c.Log,
	}
}

func (c Config) normal() Config {
	if c.Mode == "" {
		c.Mode = ModeAuto
	}
	ip := c.Local.Addr().Unmap()
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	c.Local = netip.AddrPortFrom(ip, c.Local.Port())
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// DialCloser is a Dialer that holds a socket. Close leaves associations alone and
// gives the socket back after the last of them.
type DialCloser interface {
	Dialer
	Close() error
}

// Listen opens the transport that cfg names and says in one Info line which it
// is. The socket stays in the network namespace of the calling thread.
func Listen(ctx context.Context, cfg Config) (Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.normal()
	if cfg.Local.Port() == 0 {
		cfg.Local = netip.AddrPortFrom(cfg.Local.Addr(), PortNGAP)
	}
	if cfg.UDPPort == 0 {
		cfg.UDPPort = PortUDP
	}
	var l Listener
	err := choose(ctx, cfg, "listen", func(m Mode) error {
		if m == ModeKernel {
			var err error
			l, err = listenKernel(cfg)
			return err
		}
		st, err := openStack(ctx, cfg, m)
		if err != nil {
			return err
		}
		sl, err := st.Listen(cfg.Local.Port())
		if err != nil {
			return errors.Join(err, st.Close())
		}
		if own, ok := sl.(*listener); ok {
			own.owner = true
		}
		l = sl
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sctp: listen %s: %w", cfg.Local, err)
	}
	return l, nil
}

// NewDialer opens the transport that cfg names and says in one Info line which
// it is. The socket stays in the network namespace of the calling thread, and so
// do those that a kernel dialer opens later.
func NewDialer(ctx context.Context, cfg Config) (DialCloser, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.normal()
	if cfg.RemoteUDPPort == 0 {
		cfg.RemoteUDPPort = PortUDP
	}
	var d DialCloser
	err := choose(ctx, cfg, "dial", func(m Mode) error {
		if m == ModeKernel {
			var err error
			d, err = newKernelDialer(cfg)
			return err
		}
		st, err := openStack(ctx, cfg, m)
		if err != nil {
			return err
		}
		sd := &stackDialer{st: st}
		if m == ModeUDP {
			sd.port = cfg.RemoteUDPPort
		}
		d = sd
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sctp: dialer: %w", err)
	}
	return d, nil
}

// choose runs open with the mode of cfg, or with each that auto tries until one
// is available, and logs the choice with what was wrong with those before it.
func choose(_ context.Context, cfg Config, use string, open func(Mode) error) error {
	modes := []Mode{cfg.Mode}
	why := "configured"
	if cfg.Mode == ModeAuto {
		modes = []Mode{ModeKernel, ModeRaw, ModeUDP}
		why = "first available of kernel, raw, udp"
	}
	var missing []error
	for _, m := range modes {
		err := open(m)
		if err == nil {
			args := []any{"transport", string(m), "use", use, "local", cfg.Local, "why", why}
			if len(missing) > 0 {
				args = append(args, "unavailable", errors.Join(missing...))
			}
			cfg.Log.Info("sctp transport chosen", args...)
			return nil
		}
		missing = append(missing, err)
		if !errors.Is(err, ErrUnavailable) {
			break
		}
	}
	return errors.Join(missing...)
}

func openStack(ctx context.Context, cfg Config, m Mode) (*Stack, error) {
	var c Carrier
	var err error
	switch m {
	case ModeRaw:
		c, err = openRaw(ctx, cfg.Local.Addr())
	default:
		c, err = openUDP(ctx, cfg.Local.Addr(), cfg.UDPPort)
	}
	if err != nil {
		return nil, err
	}
	return NewStack(c, cfg.stack())
}

// stackDialer dials from a Stack of its own.
type stackDialer struct {
	st   *Stack
	port uint16 // UDP port of peers; zero for raw IP
}

func (d *stackDialer) Dial(ctx context.Context, addr netip.AddrPort) (Conn, error) {
	return d.st.Dial(ctx, addr, d.port)
}

func (d *stackDialer) Close() error {
	d.st.closeWhenIdle()
	return nil
}
