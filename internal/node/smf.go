package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/nf/smf"
)

// SMF is the configuration of the smf role.
type SMF struct {
	SMF  smf.Config        `yaml:"smf"`
	SBI  netip.AddrPort    `yaml:"sbi"`  // where it serves Nsmf
	UDM  string            `yaml:"udm"`  // base URL of the UDM
	AMFs map[string]string `yaml:"amfs"` // base URLs by instance ID
	CHF  string            `yaml:"chf"`  // base URL of the charging function; empty means none
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// Run implements Role.
func (c *SMF) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "smf", string(c.SMF.NFID), log, ready, c.run)
}

func (c *SMF) run(ctx context.Context, log *slog.Logger, _ *telemetry.Telemetry, ready func()) error {
	o := sbi.ClientOptions{CallbackURL: "http://" + c.SBI.String()}
	u, err := sbi.NewClient(c.UDM, o)
	if err != nil {
		return err
	}
	defer u.Close()
	amfs := map[sbi.NFID]sbi.Communication{}
	for id, url := range c.AMFs {
		a, err := sbi.NewClient(url, o)
		if err != nil {
			return err
		}
		defer a.Close()
		amfs[sbi.NFID(id)] = a
	}
	var chf sbi.Charging
	if c.CHF != "" {
		// The SMF repeats what fails, in its own time.
		client, err := sbi.NewClient(c.CHF, sbi.ClientOptions{RetryFor: -1})
		if err != nil {
			return err
		}
		defer client.Close()
		chf = client
	}
	n4, err := dgram.Listen(ctx, c.SMF.N4)
	if err != nil {
		return err
	}
	s, err := smf.New(c.SMF, smf.Deps{
		Log: log, N4: n4, SubscriberData: u, UEContext: u, Rand: rand.Reader, Charging: chf,
		AMF: func(id sbi.NFID) (sbi.Communication, error) {
			a, ok := amfs[id]
			if !ok {
				return nil, fmt.Errorf("no AMF %s in the configuration", id)
			}
			return a, nil
		},
	})
	if err != nil {
		_ = n4.Close()
		return err
	}
	srv, err := serveSBI(ctx, c.SBI, sbi.Services{Sessions: s, SessionEvents: s, SessionControl: s, Log: log})
	if err != nil {
		_ = n4.Close()
		return err
	}
	return serve(ctx, ready, s, srv)
}
