package node

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/nf/amf"
	"github.com/simreach/simreach/nf/sbi"
)

// AMF is the configuration of the amf role.
type AMF struct {
	AMF amf.Config     `yaml:"amf"`
	N2  sctp.Config    `yaml:"n2"`  // where gNBs associate; the port is 38412 as a rule
	SBI netip.AddrPort `yaml:"sbi"` // where it serves Namf
	UDM string         `yaml:"udm"` // base URL of the AUSF and UDM
	SMF string         `yaml:"smf"` // base URL of the SMF
	EIR string         `yaml:"eir"` // base URL of the EIR; empty means the UDM
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// Run implements Role.
func (c *AMF) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "amf", string(c.AMF.NFID), log, ready, c.run)
}

func (c *AMF) run(ctx context.Context, log *slog.Logger, _ *telemetry.Telemetry, ready func()) error {
	o := sbi.ClientOptions{CallbackURL: "http://" + c.SBI.String()}
	u, err := sbi.NewClient(c.UDM, o)
	if err != nil {
		return err
	}
	defer u.Close()
	s, err := sbi.NewClient(c.SMF, o)
	if err != nil {
		return err
	}
	defer s.Close()
	eir := u
	if c.EIR != "" {
		if eir, err = sbi.NewClient(c.EIR, o); err != nil {
			return err
		}
		defer eir.Close()
	}
	n2, err := sctp.Listen(ctx, c.N2)
	if err != nil {
		return err
	}
	a, err := amf.New(c.AMF, amf.Deps{
		Log: log, N2: n2, Authentication: u, SubscriberData: u, UEContext: u, Sessions: s, Equipment: eir,
	})
	if err != nil {
		_ = n2.Close()
		return err
	}
	srv, err := serveSBI(ctx, c.SBI, sbi.Services{Communication: a, Log: log})
	if err != nil {
		_ = n2.Close()
		return err
	}
	return serve(ctx, ready, a, srv)
}
