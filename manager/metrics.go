package manager

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
)

// Spans of the manager.
const (
	spanCreate  = "manager.create_entry"
	spanOpen    = "manager.open" // until the relay has opened the port
	spanResolve = "manager.resolve"
)

// Outcomes as label values: outcomeOK, a Code, or outcomeGone when the asker gave up.
const (
	outcomeOK   = "ok"
	outcomeGone = "gone"
)

func outcome(err error) string {
	switch {
	case err == nil:
		return outcomeOK
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return outcomeGone
	}
	return string(AsError(err).Code)
}

// endSpan ends the span of what ended with err.
func endSpan(s observe.Span, err error) {
	if err != nil && s.Recording() {
		why := outcome(err)
		s.Set(observe.Code.String(why))
		s.Fail(why)
	}
	s.End()
}

// begun begins a span.
func (s *Service) begun(ctx context.Context, name string, kind trace.SpanKind) (context.Context, observe.Span) {
	if !s.tracer.On() {
		return ctx, observe.Span{}
	}
	return s.tracer.Start(ctx, name, trace.WithSpanKind(kind))
}

// metrics are the manager's. Labels are codes and words of this package: their values
// are bounded.
type metrics struct {
	resolve *prometheus.HistogramVec
	created *prometheus.CounterVec
	logins  *prometheus.CounterVec
	all     []prometheus.Collector
}

func newMetrics(s *Service) *metrics {
	const ns, sub = "simreach", "manager"
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: ns, Subsystem: sub, Name: name, Help: help}
	}
	m := &metrics{
		resolve: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "resolve_seconds", Help: "How long answering relays about connections took, by outcome: ok, or the code of the refusal.",
			Buckets: observe.Latency(),
		}, []string{"outcome"}),
		created: prometheus.NewCounterVec(prometheus.CounterOpts(opts("entries_created_total", "Requests for an entry, by outcome.")), []string{"outcome"}),
		logins:  prometheus.NewCounterVec(prometheus.CounterOpts(opts("logins_total", "Requests for a token, by what they show and outcome.")), []string{"with", "outcome"}),
	}
	gauge := func(name, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), func() float64 { return float64(f()) })
	}
	counter := func(name, help string, f func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts(name, help)), func() float64 { return float64(f()) })
	}
	relays := func(kind RelayKind) prometheus.Collector {
		o := opts("relays", "Relays attached to this manager, those that drain too.")
		o.ConstLabels = prometheus.Labels{"kind": kind.String()}
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(o), func() float64 { return float64(s.fleet.count(kind)) })
	}
	m.all = []prometheus.Collector{
		m.resolve, m.created, m.logins, relays(OuterRelay), relays(InnerRelay),
		gauge("entries", "Entries that the manager knows without asking the store: all, unless changes in it do not arrive.", s.table.size),
		gauge("devices", "Devices attached to the core.", s.dir.Size),
		counter("entries_expired_total", "Entries that this manager ended because their time was over.", s.expired.Load),
		counter("audit_records_total", "Audit records taken from relays, repeated ones included.", s.audit.stored.Load),
		counter("audit_refused_total", "Audit records of which the relay may not speak.", s.audit.refused.Load),
		counter("audit_purged_total", "Audit records removed because their time was over.", s.audit.purged.Load),
	}
	return m
}

func (m *metrics) resolved(from time.Time, err error) {
	m.resolve.WithLabelValues(outcome(err)).Observe(time.Since(from).Seconds())
}

func (m *metrics) entryCreated(err error) { m.created.WithLabelValues(outcome(err)).Inc() }

func (m *metrics) loggedIn(l Login, err error) {
	with := "password"
	if l.AuthKeyID != "" {
		with = "auth-key"
	}
	m.logins.WithLabelValues(with, outcome(err)).Inc()
}

// size returns how many entries are in t.
func (t *entryTable) size() (n int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, h := range t.hosts {
		n += len(h.entries)
	}
	return n
}

// count returns how many relays of a kind have a session here.
func (f *fleet) count(kind RelayKind) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rs := range f.sessions {
		if rs.relay.Kind == kind {
			n++
		}
	}
	return n
}
