package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/httpserve"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
)

// Config configures the REST interface.
type Config struct {
	// Listen is "address:port"; whoever builds the Server opens it.
	Listen string `yaml:"listen"`
	// HostnameSuffix ends the host names of port mappings. Empty:
	// DefaultHostnameSuffix.
	HostnameSuffix string `yaml:"hostname_suffix"`
	// DrainTimeout is how long requests may take to end on stopping; those that wait
	// for the directory are answered at once. 0: 5 s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// TLS makes it HTTPS. With a CA clients must show a certificate, besides logging in.
	// The zero value: plain HTTP.
	TLS pki.Config `yaml:"tls"`
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if c.DrainTimeout < 0 {
		return fmt.Errorf("manager API: drain_timeout %s: must not be negative", c.DrainTimeout)
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("manager API: tls: %w", err)
	}
	return nil
}

// Deps is what a Server needs of the world.
type Deps struct {
	Log      *slog.Logger // nil discards
	Listener net.Listener // Run closes it
	Manager  *manager.Service
	TLS      *pki.Source // of Config.TLS; required if that is set
	// Metrics gets the server's metrics for as long as Run runs. nil: none.
	Metrics prometheus.Registerer
	// Traces makes a span for every request. nil: none.
	Traces trace.TracerProvider
}

// Server serves the REST interface.
type Server struct {
	cfg     Config
	log     *slog.Logger
	ln      net.Listener
	handler *handler
	ready   chan struct{}

	register prometheus.Registerer
}

// New checks cfg and deps.
func New(cfg Config, d Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Listener == nil || d.Manager == nil {
		return nil, errors.New("manager API: Listener and Manager are required")
	}
	if cfg.TLS.Enabled() != (d.TLS != nil) {
		return nil, errors.New("manager API: tls and its Source go together")
	}
	if d.TLS != nil {
		d.Listener = tls.NewListener(d.Listener, d.TLS.Serve(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}))
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, 5*time.Second)
	log := d.Log.With("nf", "manager")
	h, err := newHandler(log, d.Manager, cfg.HostnameSuffix, make(chan struct{}))
	if err != nil {
		return nil, err
	}
	h.tracer = observe.NewTracer(d.Traces, "manager/api")
	return &Server{register: d.Metrics, cfg: cfg, log: log, ln: d.Listener, ready: make(chan struct{}), handler: h}, nil
}

// Handler returns the REST interface alone, for another server. nil log discards;
// an empty suffix is DefaultHostnameSuffix.
func Handler(log *slog.Logger, m *manager.Service, hostnameSuffix string) (http.Handler, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h, err := newHandler(log, m, hostnameSuffix, nil)
	if err != nil {
		return nil, err
	}
	return h.mux(), nil
}

// Ready is closed once requests are taken.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// ServerStatus is a snapshot of a Server's counters.
type ServerStatus struct{ Requests, Failures uint64 }

// Status returns a copy of the counters.
func (s *Server) Status() ServerStatus {
	return ServerStatus{Requests: s.handler.requests.Load(), Failures: s.handler.failures.Load()}
}

// Run serves until ctx ends; requests that are under way then get DrainTimeout.
func (s *Server) Run(ctx context.Context) error {
	unregister, err := observe.Register(s.register, s.handler.metrics.all...)
	if err != nil {
		return fmt.Errorf("manager API: metrics: %w", errors.Join(err, s.ln.Close()))
	}
	defer unregister()
	srv := &http.Server{
		Handler:           s.handler.mux(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { close(s.handler.stopping) })()
	close(s.ready)
	if err := httpserve.Run(ctx, srv, s.ln, s.cfg.DrainTimeout, s.log); err != nil {
		return fmt.Errorf("manager API: %w", err)
	}
	return nil
}
