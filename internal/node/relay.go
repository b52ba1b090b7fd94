package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/relay/audit"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
	"github.com/simreach/simreach/relay/ports"
)

// Inner is the configuration of the relay-inner role.
type Inner struct {
	Relay   inner.Config     `yaml:"relay"`
	Control rpc.ClientConfig `yaml:"control"` // the manager
	// TLS has outer relays connect with TLS: it takes a certificate with this relay's
	// name, and the CA of theirs. Empty: plain TCP.
	TLS pki.Config `yaml:"tls"`
	// Dial connects to devices; nil means the kernel's network. A starter in the
	// same process may put a userspace stack here.
	Dial func(ctx context.Context, device netip.AddrPort) (net.Conn, error) `yaml:"-"`
	// Ping reaches devices with ICMP echo requests as Dial does with TCP; nil means the
	// kernel's network.
	Ping func(ctx context.Context, q inner.PingRequest) (inner.PingResult, error) `yaml:"-"`
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// Run implements Role.
func (c *Inner) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "relay-inner", c.Relay.ID, log, ready, c.run)
}

func (c *Inner) run(ctx context.Context, log *slog.Logger, tel *telemetry.Telemetry, ready func()) error {
	published, err := c.Relay.Published()
	if err != nil {
		return err
	}
	control, err := c.control(log, manager.Relay{ID: manager.RelayID(c.Relay.ID), Kind: manager.InnerRelay, Address: published})
	if err != nil {
		return err
	}
	var secure *tls.Config
	if c.TLS.Enabled() {
		if err := c.TLS.Mutual(); err != nil {
			return fmt.Errorf("inner relay: tls: %w", err)
		}
		src, err := pki.NewSource(c.TLS, log)
		if err != nil {
			return err
		}
		secure = src.Serve(&tls.Config{MinVersion: tls.VersionTLS13, ClientCAs: src.Pool()})
	}
	at, err := netip.ParseAddrPort(c.Relay.Listen)
	if err != nil {
		return err
	}
	l, err := ports.ListenShared(ctx, at) // a next process may take over
	if err != nil {
		return err
	}
	ping := c.Ping
	if ping == nil {
		ping = inner.KernelPing
	}
	r, err := inner.New(c.Relay, inner.Deps{
		Log: log, Listener: l, Attached: control.Ready(), Dial: c.Dial, Ping: ping, Control: control, TLS: secure, Metrics: tel.Registerer(), Traces: tel.Traces(),
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	// While the relay drains, the manager still has its say.
	return serveInOrder(ctx, ready, r, newInnerOrders(log, control, r), reporter{r, control}, control)
}

func (c *Inner) control(log *slog.Logger, r manager.Relay) (*rpc.Client, error) {
	src, err := source(c.Control.TLS, log)
	if err != nil {
		return nil, err
	}
	return rpc.NewClient(c.Control, rpc.ClientDeps{Log: log, Relay: r, TLS: src})
}

// source reads certificates; nil if none are configured.
func source(c pki.Config, log *slog.Logger) (*pki.Source, error) {
	if !c.Enabled() {
		return nil, nil
	}
	return pki.NewSource(c, log)
}

// Outer is the configuration of the relay-outer role.
type Outer struct {
	Relay   outer.Config     `yaml:"relay"`
	Control rpc.ClientConfig `yaml:"control"` // the manager
	// TLS is the certificate that clients of entries with TLS see. Empty: the relay
	// cannot open such entries.
	TLS pki.Config `yaml:"tls"`
	// InnerTLS has the relay speak TLS to inner relays: it takes the certificate to
	// show and the CA of theirs. Empty: plain TCP.
	InnerTLS pki.Config `yaml:"inner_tls"`
	// Audit is the log of what the manager has not stored yet.
	Audit audit.Config `yaml:"audit"`
	// Telemetry is how the process can be watched. Empty: not at all.
	Telemetry telemetry.Config `yaml:"telemetry"`
}

// Run implements Role.
func (c *Outer) Run(ctx context.Context, log *slog.Logger, ready func()) error {
	return watched(ctx, c.Telemetry, "relay-outer", string(c.Relay.ID), log, ready, c.run)
}

func (c *Outer) run(ctx context.Context, log *slog.Logger, tel *telemetry.Telemetry, ready func()) error {
	deps := outer.Deps{Log: log, Metrics: tel.Registerer(), Traces: tel.Traces()}
	if c.TLS.Enabled() {
		src, err := pki.NewSource(c.TLS, log)
		if err != nil {
			return err
		}
		deps.Certificate = src.GetCertificate
	}
	if c.InnerTLS.Enabled() {
		secure, err := c.innerTLS(log)
		if err != nil {
			return err
		}
		deps.InnerTLS = secure
	}
	src, err := source(c.Control.TLS, log)
	if err != nil {
		return err
	}
	control, err := rpc.NewClient(c.Control, rpc.ClientDeps{Log: log, Relay: c.Relay.Relay(), TLS: src})
	if err != nil {
		return err
	}
	spool, err := audit.New(c.Audit, audit.Deps{Log: log, Sink: control, Relay: c.Relay.ID, Metrics: tel.Registerer()})
	if err != nil {
		return err
	}
	deps.Control, deps.Resolver, deps.Auditor = control, control, spool
	r, err := outer.New(c.Relay, deps)
	if err != nil {
		return err
	}
	// The relay ends its connections first, then the spool hands over what they left,
	// for which it needs the manager.
	return serveInOrder(ctx, ready, r, spool, control)
}

func (c *Outer) innerTLS(log *slog.Logger) (*tls.Config, error) {
	if err := c.InnerTLS.Mutual(); err != nil {
		return nil, fmt.Errorf("outer relay: inner_tls: %w", err)
	}
	src, err := pki.NewSource(c.InnerTLS, log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		RootCAs:              src.Pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return src.Certificate(), nil },
	}, nil
}
