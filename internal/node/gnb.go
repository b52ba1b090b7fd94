package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/ue/airlink"
	"github.com/simreach/simreach/ue/gnb"
)

// GNB is the configuration of the gnb role.
type GNB struct {
	GNB  gnb.Config           `yaml:"gnb"`
	N2   sctp.Config          `yaml:"n2"`  // how to reach the AMFs
	Air  netip.AddrPort       `yaml:"air"` // where UE processes reach the simulated radio, over TCP and UDP
	Link airlink.ServerConfig `yaml:"link"`
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// Run implements Role.
func (c *GNB) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "gnb", c.GNB.Name, log, ready, c.run)
}

func (c *GNB) run(ctx context.Context, log *slog.Logger, _ *telemetry.Telemetry, ready func()) error {
	c.N2.Log = log
	n2, err := sctp.NewDialer(ctx, c.N2)
	if err != nil {
		return err
	}
	defer n2.Close()
	n3, err := dgram.Listen(ctx, c.GNB.N3)
	if err != nil {
		return err
	}
	g, err := gnb.New(c.GNB, gnb.Deps{Log: log, N2: n2, N3: n3})
	if err != nil {
		return errors.Join(err, n3.Close())
	}
	l, err := listen(ctx, c.Air)
	if err != nil {
		return errors.Join(err, n3.Close())
	}
	user, err := dgram.Listen(ctx, c.Air)
	if err != nil {
		return errors.Join(err, n3.Close(), l.Close())
	}
	s, err := airlink.NewServer(c.Link, airlink.ServerDeps{Log: log, Air: g, Listener: l, User: user})
	if err != nil {
		return errors.Join(err, n3.Close(), l.Close(), user.Close())
	}
	return serve(ctx, ready, g, s)
}
