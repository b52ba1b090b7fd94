package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
)

// Attributes of spans, named as OpenTelemetry's conventions for HTTP have it.
const (
	attrStatus   = attribute.Key("http.response.status_code")
	attrOperator = attribute.Key("simreach.operator_id")
)

// metrics are those of requests.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	all      []prometheus.Collector
}

func newMetrics() *metrics {
	const ns, sub = "simreach", "api"
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "requests_total", Help: "Requests to operations of the API, by permission and HTTP status.",
		}, []string{"permission", "status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "request_seconds", Help: "How long answering them took, waiting for a device's attachment included.", Buckets: observe.Latency(),
		}),
	}
	m.all = []prometheus.Collector{m.requests, m.seconds}
	return m
}

// begun begins the span of a request. It is a trace of its own, linked to the one that
// the client names: clients do not decide what is recorded.
func (h *handler) begun(rt route, r *http.Request) (*http.Request, observe.Span) {
	if !h.tracer.On() {
		return r, observe.Span{}
	}
	ctx, span := h.tracer.Start(r.Context(), rt.method+" "+rt.path, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		observe.LinkTo(r.Context(), r.Header.Get("Traceparent")))
	return r.WithContext(ctx), span
}

// answered counts a request, and ends its span.
func (h *handler) answered(rt route, r *request, span observe.Span, status int, from time.Time) {
	h.metrics.requests.WithLabelValues(rt.permission, strconv.Itoa(status)).Inc()
	h.metrics.seconds.Observe(time.Since(from).Seconds())
	if span.Recording() {
		span.Set(attrStatus.Int(status), attrOperator.String(string(r.principal.OperatorID)))
		if status >= http.StatusInternalServerError {
			span.Fail(http.StatusText(status))
		}
	}
	span.End()
}
