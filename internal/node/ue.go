package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/ue"
	"github.com/simreach/simreach/ue/airlink"
	"github.com/simreach/simreach/ue/device"
)

// UE is the configuration of the ue role: any number of UEs in one process.
type UE struct {
	Air  netip.Addr             `yaml:"air"`  // local address of the simulated radio
	GNBs []airlink.ClientConfig `yaml:"gnbs"` // the gNBs in reach, by name
	UEs  []UEDevice             `yaml:"ues"`
	// Control is the path of a Unix socket on which the UEs are commanded; empty:
	// none, and UEs with autostart act by themselves.
	Control string `yaml:"control"`
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// UEDevice is one UE with what runs on it.
type UEDevice struct {
	Name string    `yaml:"name"`
	UE   ue.Config `yaml:"ue"`
	// Namespace is the network namespace of the UE's interfaces and services, by
	// name; empty means the process's own.
	Namespace string           `yaml:"namespace"`
	Services  []device.Service `yaml:"services"`
}

// Run implements Role.
func (c *UE) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "ue", "", log, ready, c.run)
}

func (c *UE) run(ctx context.Context, log *slog.Logger, _ *telemetry.Telemetry, ready func()) error {
	g, ctx := errgroup.WithContext(ctx)
	airs := map[string]ue.Air{}
	air := func(name string) (ue.Air, error) {
		a, ok := airs[name]
		if !ok {
			return nil, fmt.Errorf("no gNB %q in the configuration", name)
		}
		return a, nil
	}
	commanded := map[string]lab.UE{}
	var opened []*netns.NS
	start := func() error {
		for _, cfg := range c.GNBs {
			user, err := dgram.Listen(ctx, netip.AddrPortFrom(c.Air, 0))
			if err != nil {
				return fmt.Errorf("air of %s: %w", cfg.Name, err)
			}
			a, err := airlink.NewClient(cfg, airlink.ClientDeps{Log: log, User: user})
			if err != nil {
				return errors.Join(err, user.Close())
			}
			airs[cfg.Name] = a
			g.Go(func() error { return a.Run(ctx) })
		}
		for _, d := range c.UEs {
			u, err := d.start(ctx, g, log, air, func(ns *netns.NS) { opened = append(opened, ns) })
			if err != nil {
				return fmt.Errorf("UE %s: %w", d.Name, err)
			}
			commanded[d.Name] = plan.Device{UE: u, Sessions: d.UE.Sessions}
		}
		if c.Control == "" {
			return nil
		}
		// A predecessor that was killed left its socket behind.
		if err := os.Remove(c.Control); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "unix", c.Control)
		if err != nil {
			return err
		}
		g.Go(func() error { return serveControl(ctx, l, controlHandler(commanded), log) })
		return nil
	}
	g.Go(func() error {
		err := start()
		if err == nil {
			ready()
		}
		return err
	})
	err := g.Wait()
	for _, ns := range opened { // only now does nobody use them any more
		err = errors.Join(err, ns.Close())
	}
	return err
}

// start opens what the UE needs and runs it in g. open is told of the namespace,
// which the caller closes once g has ended.
func (d UEDevice) start(ctx context.Context, g *errgroup.Group, log *slog.Logger, air func(string) (ue.Air, error), open func(*netns.NS)) (*ue.UE, error) {
	ns, err := d.namespace()
	if err != nil {
		return nil, err
	}
	open(ns)
	for _, s := range d.Services {
		if err := s.Validate(); err != nil {
			return nil, err
		}
		l, err := ns.Listen(ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), s.Port))
		if err != nil {
			return nil, err
		}
		g.Go(func() error { return s.Serve(ctx, l, d.UE.SUPI.IMSI()) })
	}
	u, err := ue.New(d.UE, ue.Deps{Log: log, Air: air, Host: host{ns}})
	if err != nil {
		return nil, err
	}
	g.Go(func() error { return u.Run(ctx) })
	select {
	case <-u.Ready():
		return u, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d UEDevice) namespace() (*netns.NS, error) {
	if d.Namespace == "" {
		return netns.Self()
	}
	return netns.Open(d.Namespace)
}

// host gives a UE's PDU sessions an interface each, in its namespace.
type host struct{ ns *netns.NS }

// Up implements ue.Host: a TUN "pdu<ID>" with the session's address. What is sent
// from the address leaves through it; the first session also takes the default route.
func (h host) Up(_ context.Context, s ue.SessionInfo) (tun.Device, error) {
	d := &sessionDevice{ns: h.ns, addr: s.Address.Reach(), table: firstTable + int(s.ID)}
	name := "pdu" + strconv.Itoa(int(s.ID))
	err := h.ns.Do(func() (err error) {
		d.Device, err = tun.Open(tun.Config{Name: name, MTU: s.MTU})
		return err
	})
	if err != nil {
		return nil, err
	}
	err = h.ns.Configure(name, netip.PrefixFrom(d.addr, d.addr.BitLen()))
	if err == nil {
		err = h.ns.RouteFrom(d.addr, name, d.table)
	}
	if err == nil && s.ID == 1 {
		err = h.ns.Route(netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.Addr{}, name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("interface of %s: %w", s.SUPI, err), d.Close())
	}
	return d, nil
}

// firstTable and the PDU session IDs after it number the routing tables.
const firstTable = 100

// sessionDevice is a session's TUN with its routing rule.
type sessionDevice struct {
	tun.Device
	ns    *netns.NS
	addr  netip.Addr
	table int
}

// Close implements tun.Device.
func (d *sessionDevice) Close() error {
	return errors.Join(d.Device.Close(), d.ns.RemoveRouteFrom(d.addr, d.table))
}

// Link says where the gNB of a name serves its air.
func Link(name string, at netip.AddrPort) airlink.ClientConfig {
	return airlink.ClientConfig{Name: name, Server: at}
}
