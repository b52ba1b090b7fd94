package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/nf/upf"
)

// UPF is the configuration of the upf role.
type UPF struct {
	UPF upf.Config     `yaml:"upf"`
	N4  netip.AddrPort `yaml:"n4"` // PFCP; the port is 8805 as a rule
	N3  netip.AddrPort `yaml:"n3"` // GTP-U; the port is 2152 as a rule
	N6  []N6           `yaml:"n6"` // one for each network instance
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// N6 is a TUN towards a data network. The kernel routes between it and the rest of
// the namespace, which must forward.
type N6 struct {
	DNN       ident.DNN      `yaml:"dnn"`
	Interface string         `yaml:"interface"` // name of the TUN; at most 15 characters
	MTU       int            `yaml:"mtu"`       // bytes; 0 means 1400
	Pools     []netip.Prefix `yaml:"pools"`     // UE addresses, routed into the TUN
}

// Run implements Role.
func (c *UPF) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "upf", c.UPF.NodeID, log, ready, c.run)
}

func (c *UPF) run(ctx context.Context, log *slog.Logger, _ *telemetry.Telemetry, ready func()) error {
	u, err := c.open(ctx, log)
	if err != nil {
		return err
	}
	return serve(ctx, ready, u)
}

// open opens what the UPF needs, which the UPF's Run closes.
func (c *UPF) open(ctx context.Context, log *slog.Logger) (u *upf.UPF, err error) {
	var opened []io.Closer
	defer func() {
		if err == nil {
			return
		}
		for _, o := range opened {
			err = errors.Join(err, o.Close())
		}
	}()
	d := upf.Deps{Log: log, N6: map[ident.DNN]tun.Device{}}
	for _, n := range c.N6 {
		dev, err := openN6(n)
		if err != nil {
			return nil, err
		}
		opened = append(opened, dev)
		d.N6[n.DNN] = dev
	}
	n4, err := dgram.Listen(ctx, c.N4)
	if err != nil {
		return nil, fmt.Errorf("N4: %w", err)
	}
	opened = append(opened, n4)
	n3, err := dgram.Listen(ctx, c.N3)
	if err != nil {
		return nil, fmt.Errorf("N3: %w", err)
	}
	opened = append(opened, n3)
	d.N4, d.N3 = n4, n3
	return upf.New(c.UPF, d)
}

func openN6(n N6) (tun.Device, error) {
	if n.MTU == 0 {
		n.MTU = datapathMTU
	}
	ns, err := netns.Self()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var dev tun.Device
	err = ns.Do(func() error {
		dev, err = tun.Open(tun.Config{Name: n.Interface, MTU: n.MTU})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("N6 of %s: %w", n.DNN, err)
	}
	err = ns.Configure(dev.Name())
	for _, p := range n.Pools {
		if err == nil {
			err = ns.Route(p, netip.Addr{}, dev.Name())
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("N6 of %s: %w", n.DNN, err), dev.Close())
	}
	return dev, nil
}

// datapathMTU keeps the outer packet within 1500 bytes.
const datapathMTU = 1400
