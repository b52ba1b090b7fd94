package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

// Manager is the configuration of the manager role.
type Manager struct {
	Manager   manager.Config          `yaml:"manager"`
	Directory manager.DirectoryConfig `yaml:"directory"`
	Store     store.Config            `yaml:"store"`
	API       api.Config              `yaml:"api"`    // REST
	RPC       rpc.ServerConfig        `yaml:"rpc"`    // relays
	Events    sbi.EventsConfig        `yaml:"events"` // the SMF
	// Notify is where the SMF delivers events.
	Notify netip.AddrPort `yaml:"notify"`
	// SMF takes the place of Events where the SMF is in the same process.
	SMF sbi.SessionEvents `yaml:"-"`
}

// Run implements Role.
func (c *Manager) Run(ctx context.Context, log *slog.Logger, ready func()) (err error) {
	st, err := store.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	// What is open before Run takes it over is closed here if a later step fails.
	var open []net.Listener
	listenOn := func(what, at string) (net.Listener, error) {
		addr, err := netip.ParseAddrPort(at)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		l, err := listen(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		open = append(open, l)
		return l, nil
	}
	parts, err := c.assemble(log, st, listenOn)
	if err != nil {
		for _, l := range open {
			_ = l.Close()
		}
		return err
	}
	return serve(ctx, ready, parts...)
}

func (c *Manager) assemble(log *slog.Logger, st *store.Store, listenOn func(what, at string) (net.Listener, error)) ([]component, error) {
	var parts []component
	smf := c.SMF
	if smf == nil {
		l, err := listenOn("SMF events", c.Notify.String())
		if err != nil {
			return nil, err
		}
		e, err := sbi.NewEventsClient(c.Events, sbi.EventsDeps{Log: log, Listener: l})
		if err != nil {
			return nil, err
		}
		smf = e
		parts = append(parts, e)
	}
	dir, err := manager.NewSessionDirectory(c.Directory, manager.DirectoryDeps{Log: log, SMF: smf})
	if err != nil {
		return nil, err
	}
	m, err := manager.New(c.Manager, manager.Deps{Log: log, Store: st, Directory: dir})
	if err != nil {
		return nil, err
	}
	l, err := listenOn("relay control", c.RPC.Listen)
	if err != nil {
		return nil, err
	}
	relays, err := rpc.NewServer(c.RPC, rpc.ServerDeps{Log: log, Listener: l, Manager: m})
	if err != nil {
		return nil, err
	}
	if l, err = listenOn("REST", c.API.Listen); err != nil {
		return nil, err
	}
	rest, err := api.New(c.API, api.Deps{Log: log, Listener: l, Manager: m})
	if err != nil {
		return nil, err
	}
	return append(parts, dir, m, relays, rest), nil
}
