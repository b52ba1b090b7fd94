package node

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/nf/udm"
)

// UDM is the configuration of the udm role: AUSF, UDM, UDR and EIR in one.
type UDM struct {
	UDM udm.Config     `yaml:"udm"`
	SBI netip.AddrPort `yaml:"sbi"` // where it serves Nausf, Nudm, N5g-eir and the operator
	// EquipmentEvents is the base URL of who wants to hear of devices; empty means
	// nobody does.
	EquipmentEvents string `yaml:"equipment_events"`
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// Run implements Role.
func (c *UDM) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "udm", "", log, ready, c.run)
}

func (c *UDM) run(ctx context.Context, log *slog.Logger, _ *telemetry.Telemetry, ready func()) error {
	amfs := amfClients{clients: map[string]*sbi.Client{}}
	defer amfs.close()
	d := udm.Deps{Log: log, AMF: amfs.find}
	var parts []component
	if c.EquipmentEvents != "" {
		to, err := sbi.NewClient(c.EquipmentEvents, sbi.ClientOptions{RetryFor: -1})
		if err != nil {
			return err
		}
		defer to.Close()
		f, err := sbi.NewForwarder(to, log)
		if err != nil {
			return err
		}
		d.Equipment = f.Forward
		parts = append(parts, f)
	}
	u, err := udm.New(c.UDM, d)
	if err != nil {
		return err
	}
	srv, err := serveSBI(ctx, c.SBI, sbi.Services{
		Authentication: u, SubscriberData: u, UEContext: u, Provisioning: u, EquipmentIdentity: u, Log: log,
	})
	if err != nil {
		return err
	}
	return serve(ctx, ready, append(parts, srv)...)
}

// amfClients reach AMFs where these asked to be called back.
type amfClients struct {
	mu      sync.Mutex
	clients map[string]*sbi.Client // by base URL; guarded by mu
}

func (a *amfClients) find(r sbi.AMFRegistration) (sbi.Communication, error) {
	base, err := sbi.CallbackBase(r.Callback)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.clients[base]
	if !ok {
		if c, err = sbi.NewClient(base, sbi.ClientOptions{}); err != nil {
			return nil, err
		}
		a.clients[base] = c
	}
	return c, nil
}

func (a *amfClients) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.clients {
		c.Close()
	}
}
