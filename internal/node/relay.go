package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

// Inner is the configuration of the relay-inner role.
type Inner struct {
	Relay   inner.Config     `yaml:"relay"`
	Control rpc.ClientConfig `yaml:"control"` // the manager
	// Dial connects to devices; nil means the kernel's network. A starter in the
	// same process may put a userspace stack here.
	Dial func(ctx context.Context, device netip.AddrPort) (net.Conn, error) `yaml:"-"`
}

// Run implements Role.
func (c *Inner) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	published, err := c.Relay.Published()
	if err != nil {
		return err
	}
	control, err := rpc.NewClient(c.Control, rpc.ClientDeps{Log: log, Relay: manager.Relay{
		ID: manager.RelayID(c.Relay.ID), Kind: manager.InnerRelay, Address: published,
	}})
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(c.Relay.Listen)
	if err != nil {
		return err
	}
	l, err := listen(ctx, at)
	if err != nil {
		return err
	}
	dial := c.Dial
	if dial == nil {
		dial = func(ctx context.Context, device netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", device.String())
		}
	}
	r, err := inner.New(c.Relay, inner.Deps{Log: log, Listener: l, Dial: dial, Control: control})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return serve(ctx, ready, control, r)
}

// Outer is the configuration of the relay-outer role.
type Outer struct {
	Relay   outer.Config     `yaml:"relay"`
	Control rpc.ClientConfig `yaml:"control"` // the manager
}

// Run implements Role.
func (c *Outer) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	control, err := rpc.NewClient(c.Control, rpc.ClientDeps{Log: log, Relay: c.Relay.Relay()})
	if err != nil {
		return err
	}
	r, err := outer.New(c.Relay, outer.Deps{Log: log, Control: control, Resolver: control})
	if err != nil {
		return err
	}
	return serve(ctx, ready, control, r)
}
