package node

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/nf/udm"
)

// UDM is the configuration of the udm role: AUSF, UDM and UDR in one.
type UDM struct {
	UDM udm.Config     `yaml:"udm"`
	SBI netip.AddrPort `yaml:"sbi"` // where it serves Nausf and Nudm
}

// Run implements Role.
func (c *UDM) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	u, err := udm.New(c.UDM, udm.Deps{Log: log})
	if err != nil {
		return err
	}
	srv, err := serveSBI(ctx, c.SBI, sbi.Services{Authentication: u, SubscriberData: u, UEContext: u, Log: log})
	if err != nil {
		return err
	}
	return serve(ctx, ready, srv)
}
