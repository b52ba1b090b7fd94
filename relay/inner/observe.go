package inner

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/relay"
)

// Spans of a relay.
const (
	spanConnect = "inner.connect" // from the outer relay's connection to the answer
	spanDial    = "inner.dial"    // connecting to the device
)

var attrDevice = attribute.Key("simreach.device")

// begun begins the span of a connection with an accepted ticket, below the outer
// relay's, from when the relay began to read the request.
func (r *Relay) begun(ctx context.Context, traceparent string, t ticket, at time.Time) (context.Context, observe.Span) {
	if !r.tracer.On() {
		return ctx, observe.Span{}
	}
	ctx, span := r.tracer.Start(observe.Join(ctx, traceparent), spanConnect, trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer))
	if span.Recording() {
		span.Set(observe.EntryID.String(t.Entry), observe.ConnectionID.String(t.Connection), observe.RelayID.String(r.cfg.ID),
			attrDevice.String(t.Device.String()))
	}
	return ctx, span
}

// end ends the span of what was refused for why; empty: it was not.
func end(s observe.Span, why relay.Refusal) {
	if why != "" && s.Recording() {
		s.Set(observe.Cause.String(string(why)))
		s.Fail(string(why))
	}
	s.End()
}

// metrics are counted per connection, never per byte or read.
type metrics struct {
	connected    prometheus.Counter
	refusedTotal *prometheus.CounterVec
	endedTotal   *prometheus.CounterVec
	dialed       prometheus.Histogram
	all          []prometheus.Collector
}

func newMetrics(r *Relay) *metrics {
	const ns, sub = "simreach", "inner_relay"
	labels := prometheus.Labels{"relay": r.cfg.ID}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: ns, Subsystem: sub, Name: name, Help: help, ConstLabels: labels}
	}
	m := &metrics{
		connected:    prometheus.NewCounter(prometheus.CounterOpts(opts("connected_total", "Connections that reached their device."))),
		refusedTotal: prometheus.NewCounterVec(prometheus.CounterOpts(opts("refused_total", "Connections refused, by reason.")), []string{"reason"}),
		endedTotal:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("ended_total", "Relayed connections that ended, by cause: a is the outer relay, b the device.")), []string{"cause"}),
		dialed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "device_connect_seconds", ConstLabels: labels,
			Help: "How long connecting to devices took, where it succeeded.", Buckets: observe.Latency(),
		}),
	}
	m.all = []prometheus.Collector{
		m.connected, m.refusedTotal, m.endedTotal, m.dialed,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("live_connections", "Connections relayed now.")), func() float64 { return float64(r.live.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("connections", "Connections in any state.")), func() float64 { return float64(r.all.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("waiting_connections", "Connections of outer relays that wait for another client.")), func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return float64(len(r.waiting))
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("up_bytes_total", "Bytes to devices.")), func() float64 { return float64(r.counters.AToB.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("down_bytes_total", "Bytes from devices.")), func() float64 { return float64(r.counters.BToA.Load()) }),
	}
	return m
}

func (m *metrics) refused(why relay.Refusal) { m.refusedTotal.WithLabelValues(string(why)).Inc() }
func (m *metrics) ended(c relay.Cause)       { m.endedTotal.WithLabelValues(c.String()).Inc() }
