package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"

	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/webhook"
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
	// StaticDirectory takes the place of the SMF's events: the devices are there unless
	// their SIM is barred.
	StaticDirectory []manager.StaticAttachment `yaml:"static_directory"`
	// Charging is where the manager, as charging function, takes the SMF's reports, and
	// the UDM's events about equipment. Zero: nowhere.
	Charging netip.AddrPort `yaml:"charging"`
	// UDM is the base URL of the UDM, and SMF of the SMF, which the manager commands.
	// Empty: what is asked of a SIM stays in the manager.
	UDM string `yaml:"udm"`
	SMF string `yaml:"smf"`

	// Webhooks says where the web requests of event handlers may go.
	Webhooks webhook.Config `yaml:"webhooks"`

	// Sessions and Core take the place of Events, UDM and SMF where the core is in the
	// same process.
	Sessions sbi.SessionEvents `yaml:"-"`
	Core     manager.Core      `yaml:"-"`
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// Run implements Role.
func (c *Manager) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "manager", "", log, ready, c.run)
}

func (c *Manager) run(ctx context.Context, log *slog.Logger, tel *telemetry.Telemetry, ready func()) (err error) {
	st, err := store.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	unregister, err := observe.Register(tel.Registerer(), st.Metrics()...)
	if err != nil {
		return fmt.Errorf("store: metrics: %w", err)
	}
	defer unregister()

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
	parts, err := c.assemble(log, tel, st, listenOn)
	if err != nil {
		for _, l := range open {
			_ = l.Close()
		}
		return err
	}
	return serve(ctx, func() {
		// What reading the store and the directory left behind would stay for long.
		debug.FreeOSMemory()
		ready()
	}, parts...)
}

func (c *Manager) assemble(log *slog.Logger, tel *telemetry.Telemetry, st *store.Store, open func(what, at string) (net.Listener, error)) ([]component, error) {
	core, err := c.core()
	if err != nil {
		return nil, err
	}
	if err := c.Webhooks.Validate(); err != nil {
		return nil, err
	}
	web := webhook.New(c.Webhooks)
	listenOn := func(what, at string) (net.Listener, error) {
		l, err := open(what, at)
		if err == nil {
			web.Refuse(l.Addr())
		}
		return l, err
	}
	if a, err := netip.ParseAddrPort(c.Telemetry.Listen); err == nil { // empty: there is none
		web.Refuse(net.TCPAddrFromAddrPort(a))
	}
	dir, parts, err := c.directory(log, listenOn)
	if err != nil {
		return nil, err
	}
	m, err := manager.New(c.Manager, manager.Deps{Log: log, Store: st, Directory: dir, Core: core, Web: web, Metrics: tel.Registerer(), Traces: tel.Traces()})
	if err != nil {
		return nil, err
	}
	if c.Charging.IsValid() {
		l, err := listenOn("charging", c.Charging.String())
		if err != nil {
			return nil, err
		}
		srv, err := sbi.NewServer(sbi.ServerConfig{Drain: sbiDrain}, sbi.ServerDeps{
			Log: log, Listener: l, Services: sbi.Services{Charging: m, EquipmentEvents: m, Log: log},
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, srv)
	}
	src, err := source(c.RPC.TLS, log)
	if err != nil {
		return nil, err
	}
	l, err := listenOn("relay control", c.RPC.Listen)
	if err != nil {
		return nil, err
	}
	relays, err := rpc.NewServer(c.RPC, rpc.ServerDeps{Log: log, Listener: l, Manager: m, TLS: src})
	if err != nil {
		return nil, err
	}
	if l, err = listenOn("REST", c.API.Listen); err != nil {
		return nil, err
	}
	restTLS, err := source(c.API.TLS, log)
	if err != nil {
		return nil, err
	}
	rest, err := api.New(c.API, api.Deps{Log: log, Listener: l, Manager: m, TLS: restTLS, Metrics: tel.Registerer(), Traces: tel.Traces()})
	if err != nil {
		return nil, err
	}
	return append(parts, web, m, relays, rest), nil
}

// directory returns where devices are found, and what has to run for it.
func (c *Manager) directory(log *slog.Logger, listenOn func(what, at string) (net.Listener, error)) (manager.Directory, []component, error) {
	if len(c.StaticDirectory) > 0 {
		d, err := manager.NewStaticDirectory(c.StaticDirectory)
		return d, nil, err
	}
	var parts []component
	events := c.Sessions
	if events == nil {
		l, err := listenOn("SMF events", c.Notify.String())
		if err != nil {
			return nil, nil, err
		}
		e, err := sbi.NewEventsClient(c.Events, sbi.EventsDeps{Log: log, Listener: l})
		if err != nil {
			return nil, nil, err
		}
		events = e
		parts = append(parts, e)
	}
	d, err := manager.NewSessionDirectory(c.Directory, manager.DirectoryDeps{Log: log, SMF: events})
	if err != nil {
		return nil, nil, err
	}
	return d, append(parts, d), nil
}

// core returns what the manager commands. Its clients hold nothing but idle connections.
func (c *Manager) core() (manager.Core, error) {
	core := c.Core
	if c.UDM != "" {
		u, err := sbi.NewClient(c.UDM, sbi.ClientOptions{})
		if err != nil {
			return core, fmt.Errorf("UDM: %w", err)
		}
		core.Provisioning = u
	}
	if c.SMF != "" {
		s, err := sbi.NewClient(c.SMF, sbi.ClientOptions{})
		if err != nil {
			return core, fmt.Errorf("SMF: %w", err)
		}
		core.Control = s
	}
	return core, nil
}
