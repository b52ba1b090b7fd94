package outer

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/ports"
)

// Control is the manager's stream of commands. manager/rpc.Client is one, and
// within one process a manager.RelaySession.
//
// While the relay drains, what has expired is cut in any case; what is revoked
// meanwhile only if Next goes on working until Relay.Run has returned.
type Control interface {
	// Next blocks for the next command; the first after every attachment is a
	// snapshot. An error other than ctx's ends the relay.
	Next(ctx context.Context) (manager.Command, error)
	// Acknowledge answers a command.
	Acknowledge(manager.Acknowledgement)
	// Load tells how the relay is doing, a few times in a second at most. It must
	// not block, and owns what it is given.
	Load(manager.RelayLoad)
}

// Resolver answers about connections. Its errors carry a manager.Code.
type Resolver interface {
	// Resolve finds the conditions and the way of one connection (R11, R12).
	Resolve(ctx context.Context, q manager.ResolveRequest) (manager.Route, error)
	// Credential returns what client certificates are checked with (R14).
	Credential(ctx context.Context, id manager.CredentialID) (manager.Credential, error)
}

// Auditor takes the records of the audit log (N7). Both methods may be called from
// any goroutine and must not block. One that can lose records may also have a method
// Lost() uint64, their number, which the manager is told.
type Auditor interface {
	Record(manager.AuditRecord)
	// Accepting is false while connections shall be refused because a record of
	// them could not be kept.
	Accepting() bool
}

// Ports are the TCP ports of the relay's address; *ports.Ports is what it says
// about every method.
type Ports interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Open(port uint16) error
	Close(port uint16)
	Drain(ctx context.Context) error
}

// Deps is what a Relay needs of the world.
type Deps struct {
	Log      *slog.Logger // nil discards
	Control  Control
	Resolver Resolver
	// Auditor takes the audit log. nil: there is none.
	Auditor Auditor
	// Ports makes what opens ports; handle has the contract of ports.Deps.Handle.
	// nil: relay/ports, as Config says.
	Ports func(handle func(c net.Conn, port uint16)) (Ports, error)
	// Certificate returns the relay's certificate for a handshake (R18); it is asked
	// every time, so that a new one needs no restart. nil: entries that require TLS
	// cannot be opened here.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// DialInner connects to an inner relay; the connection must be a relay.Conn.
	// nil: the operating system's network.
	DialInner func(context.Context, netip.AddrPort) (net.Conn, error)
	// InnerTLS has the relay speak TLS to inner relays, whose certificates must come
	// from RootCAs and name the relay with the URI simreach://relay/inner/<ID>. Only
	// RootCAs, Certificates and GetClientCertificate are used. nil: plain TCP.
	InnerTLS *tls.Config
	// Metrics gets the relay's metrics for as long as Run runs. nil: none.
	Metrics prometheus.Registerer
	// Traces makes the spans of connections being set up. nil: none.
	Traces trace.TracerProvider
}

func (d Deps) withDefaults(cfg Config) (Deps, error) {
	if d.Control == nil || d.Resolver == nil {
		return d, errors.New("outer relay: Control and Resolver are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Auditor == nil {
		d.Auditor = noAuditor{}
	}
	if d.DialInner == nil {
		d.DialInner = dialTCP
	}
	if d.Ports == nil {
		log := d.Log
		d.Ports = func(handle func(net.Conn, uint16)) (Ports, error) {
			return ports.New(cfg.ports(), ports.Deps{Log: log, Handle: handle})
		}
	}
	return d, nil
}

type noAuditor struct{}

func (noAuditor) Record(manager.AuditRecord) {}
func (noAuditor) Accepting() bool            { return true }

// dialTCP connects with SO_REUSEADDR: the kernel picks local ports from the range
// that entries are drawn from, too, and without the option a connection that is
// ending would hold its port against the listener of an entry for a minute.
func dialTCP(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: reuseAddress}
	return d.DialContext(ctx, "tcp", a.String())
}
