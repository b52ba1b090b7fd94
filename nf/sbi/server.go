package sbi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/httpserve"
)

// DefaultDrain is how long a server lets requests finish when it stops.
const DefaultDrain = 2 * time.Second

// ServerConfig is a Server's configuration; the zero value is usable.
type ServerConfig struct {
	// Drain is how long requests in progress may go on after the end of Run's
	// context. Zero means DefaultDrain.
	Drain time.Duration `yaml:"drain"`
}

// Validate reports what is wrong with c; errors wrap ErrConfig.
func (c ServerConfig) Validate() error {
	if c.Drain < 0 {
		return fmt.Errorf("%w: drain: %s: want a positive duration, or 0 for the default", ErrConfig, c.Drain)
	}
	return nil
}

// ServerDeps is what a Server needs from outside.
type ServerDeps struct {
	Log      *slog.Logger // nil discards
	Listener net.Listener // Run closes it
	Services Services     // its Log, if nil, is Log
}

// Server serves Services on a listener, over HTTP/2 without TLS (prior knowledge);
// HTTP/1.1 is understood too, for people with curl.
type Server struct {
	cfg   ServerConfig
	deps  ServerDeps
	log   *slog.Logger
	ready chan struct{}
	count atomic.Uint64
}

// ServerStatus is a copy of a Server's state.
type ServerStatus struct {
	Address  string
	Requests uint64 // answered or being answered
}

// NewServer checks its arguments. Errors wrap ErrConfig.
func NewServer(cfg ServerConfig, d ServerDeps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Listener == nil {
		return nil, fmt.Errorf("%w: a Server needs a Listener", ErrConfig)
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Services.Log == nil {
		d.Services.Log = d.Log
	}
	return &Server{cfg: cfg, deps: d, log: d.Log, ready: make(chan struct{})}, nil
}

// Ready is closed when requests are accepted. The listener queues earlier ones.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Status returns a copy of the state.
func (s *Server) Status() ServerStatus {
	return ServerStatus{Address: s.deps.Listener.Addr().String(), Requests: s.count.Load()}
}

// Run serves until ctx ends, then nil, or until the listener fails. It may be
// called once.
func (s *Server) Run(ctx context.Context) error {
	h := NewHandler(s.deps.Services)
	defer h.Close()
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count.Add(1)
		h.ServeHTTP(w, r)
	})
	close(s.ready)
	return serve(ctx, s.deps.Listener, counted, s.cfg.Drain, s.log)
}

// serve runs an HTTP server on l until ctx ends, and joins its goroutines.
func serve(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration, log *slog.Logger) error {
	if err := httpserve.Run(ctx, newHTTPServer(h, log), l, drain, log); err != nil {
		return fmt.Errorf("sbi: %w", err)
	}
	return nil
}

func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         p,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1024, SendPingTimeout: 30 * time.Second, PingTimeout: 5 * time.Second},
	}
}
