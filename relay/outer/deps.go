package outer

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/internal/workers"
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

// Asker is a Resolver that can be asked without a goroutine that waits; one that is not
// is asked on goroutines.
type Asker interface {
	// Ask is Resolve without waiting: answer is called once, on any goroutine, and does not
	// block. After deadline the answer is context.DeadlineExceeded. traceparent (W3C Trace
	// Context) is empty if the access is not traced.
	Ask(q manager.ResolveRequest, traceparent string, deadline time.Time, answer func(manager.Route, error))
}

// askOnWorkers makes a Resolver an Asker. Its answers end with life: of a relay that has
// stopped nobody waits for them.
type askOnWorkers struct {
	Resolver
	workers *workers.Group
	life    context.Context
}

func (a askOnWorkers) Ask(q manager.ResolveRequest, traceparent string, deadline time.Time, answer func(manager.Route, error)) {
	a.workers.Go(func() {
		ctx, cancel := context.WithDeadline(observe.Join(a.life, traceparent), deadline)
		defer cancel()
		answer(a.Resolve(ctx, q))
	})
}

// Departures is a Resolver that knows which devices have left; of one that does not, the
// relay cuts what a manager.CommandCut says, and nothing else.
type Departures interface {
	// Departed returns those of the places that their devices have left.
	Departed(ctx context.Context, places []manager.Place) ([]manager.Place, error)
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
	// nil: the operating system's network; without InnerTLS, setting a connection up then
	// takes no goroutine where the system has event loops.
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
