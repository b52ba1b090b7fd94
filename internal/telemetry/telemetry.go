package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/httpserve"
)

const (
	// batchEvery is how long a span waits for others before it is exported.
	batchEvery = time.Second
	// spanQueue bounds the spans that wait; more are lost.
	spanQueue = 8192
	// exportTimeout bounds one export, and with it how long Run takes to end.
	exportTimeout = 3 * time.Second
	drainTimeout  = time.Second
)

// Deps is what a Telemetry needs of the world.
type Deps struct {
	Log *slog.Logger // nil discards
	// Service is the role, and Instance which of them, on every span. Instance may be
	// empty.
	Service, Instance string
	// Listener serves Config.Listen; Run closes it. Required if and only if that is set.
	Listener net.Listener
}

// Telemetry is how a process is watched.
type Telemetry struct {
	cfg               Config
	log               *slog.Logger
	service, instance string
	listener          net.Listener
	registry          *prometheus.Registry // nil: no metrics
	provider          *sdk.TracerProvider  // nil: no spans
	exporter          counted
	healthy           atomic.Bool
	ready             chan struct{}
}

// New checks cfg and deps.
func New(cfg Config, d Deps) (*Telemetry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if (cfg.Listen != "") != (d.Listener != nil) {
		return nil, errors.New("telemetry: the configuration's listen and the listener go together")
	}
	t := &Telemetry{
		cfg: cfg, log: d.Log, service: cmp.Or(d.Service, "simreach"), instance: d.Instance, listener: d.Listener, ready: make(chan struct{}),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.exporter.log = t.log
	if cfg.Listen != "" {
		t.registry = prometheus.NewRegistry()
		t.registry.MustRegister( // on a fresh registry it cannot fail
			collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), t.spanCounter("exported", "Spans handed over.", &t.exporter.exported),
			t.spanCounter("lost", "Spans that could not be handed over.", &t.exporter.lost),
		)
	}
	if cfg.Traces.enabled() {
		// Without a processor it drops what it is given: Run adds one.
		t.provider = sdk.NewTracerProvider(
			sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(cmp.Or(cfg.Traces.SampleRatio, 1)))),
			sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", t.service), attribute.String("service.instance.id", t.instance))),
		)
	}
	return t, nil
}

func (t *Telemetry) spanCounter(name, help string, n *atomic.Uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "simreach", Subsystem: "telemetry", Name: "spans_" + name + "_total", Help: help},
		func() float64 { return float64(n.Load()) })
}

// Registry returns where metrics are registered; nil if nobody asks for them.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Registerer returns Registry as components take it.
func (t *Telemetry) Registerer() prometheus.Registerer {
	if t.registry == nil {
		return nil // not an interface that holds nil
	}
	return t.registry
}

// Traces returns what spans are begun with; nil if there are none.
func (t *Telemetry) Traces() trace.TracerProvider {
	if t.provider == nil {
		return nil
	}
	return t.provider
}

// Ready is closed once metrics are served and spans are recorded.
func (t *Telemetry) Ready() <-chan struct{} { return t.ready }

// Healthy has /healthz answer 200 from now on; it answers 503 before.
func (t *Telemetry) Healthy() { t.healthy.Store(true) }

// Status is a snapshot of a Telemetry.
type Status struct {
	Exported uint64 // spans handed over
	Lost     uint64 // spans that could not be
}

// Status returns a copy of the counters.
func (t *Telemetry) Status() Status {
	return Status{Exported: t.exporter.exported.Load(), Lost: t.exporter.lost.Load()}
}

// Run serves and exports until ctx ends, and then hands over the spans that are left. It
// returns an error if the trace file cannot be opened or the listener fails.
func (t *Telemetry) Run(ctx context.Context) (err error) {
	if t.listener != nil {
		defer t.listener.Close() // httpserve closes it, where it is reached
	}
	if t.provider != nil {
		e, err := t.openExporter(ctx)
		if err != nil {
			return fmt.Errorf("telemetry: traces: %w", err)
		}
		t.exporter.SpanExporter = e
		t.provider.RegisterSpanProcessor(sdk.NewBatchSpanProcessor(&t.exporter, sdk.WithBatchTimeout(batchEvery),
			sdk.WithMaxQueueSize(spanQueue), sdk.WithExportTimeout(exportTimeout)))
		defer func() {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
			defer cancel()
			if serr := t.provider.Shutdown(last); serr != nil {
				err = errors.Join(err, fmt.Errorf("telemetry: traces: %w", serr))
			}
		}()
	}
	close(t.ready)
	if t.listener == nil {
		<-ctx.Done()
		return nil
	}
	srv := &http.Server{
		Handler: t.handler(), ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(t.log.Handler(), slog.LevelDebug),
	}
	if err := httpserve.Run(ctx, srv, t.listener, drainTimeout, t.log); err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	return nil
}

func (t *Telemetry) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !t.healthy.Load() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n")) // who asked may have gone
	})
	return mux
}
