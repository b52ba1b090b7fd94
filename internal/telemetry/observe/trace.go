package observe

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Attributes that spans of several components have. By the first two, traces are found
// again in the audit log, and the traces of an entry's connections from that of its
// creation.
const (
	EntryID      = attribute.Key("simreach.entry_id")
	ConnectionID = attribute.Key("simreach.connection_id")
	RelayID      = attribute.Key("simreach.relay_id")
	// Cause is why a connection was denied, a word of manager.Cause or relay.Refusal.
	Cause = attribute.Key("simreach.cause")
	// Code is the manager.Code of an error.
	Code = attribute.Key("simreach.code")
)

// MaxTraceparent is the length of a traceparent of version 00, in bytes (W3C Trace
// Context, clause 3.2). Longer ones are of versions that do not exist yet.
const MaxTraceparent = 55

// Tracer begins spans. The zero Tracer records nothing. It may be used from any
// goroutine.
type Tracer struct{ t trace.Tracer }

// NewTracer returns the tracer of a component; of no provider, the zero Tracer.
func NewTracer(p trace.TracerProvider, component string) Tracer {
	if p == nil {
		return Tracer{}
	}
	return Tracer{p.Tracer("github.com/simreach/simreach/" + component)}
}

// On reports whether spans may be recorded: what makes options for Start asks first.
func (t Tracer) On() bool { return t.t != nil }

// Start begins a span below that of ctx, which the returned context then has. The zero
// Tracer returns ctx and the zero Span.
func (t Tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, Span) {
	if t.t == nil {
		return ctx, Span{}
	}
	ctx, s := t.t.Start(ctx, name, opts...)
	return ctx, Span{s}
}

// Span is a part of a trace. The zero Span records nothing.
type Span struct{ s trace.Span }

// Recording reports whether anything that is set will be seen: attributes are made only
// then.
func (s Span) Recording() bool { return s.s != nil && s.s.IsRecording() }

// Set adds attributes.
func (s Span) Set(kv ...attribute.KeyValue) {
	if s.s != nil {
		s.s.SetAttributes(kv...)
	}
}

// Fail marks the span as failed, for a reason in a stable word or sentence.
func (s Span) Fail(why string) {
	if s.s != nil {
		s.s.SetStatus(codes.Error, why)
	}
}

// End ends the span. Only the first call counts.
func (s Span) End() {
	if s.s != nil {
		s.s.End()
	}
}

// propagator reads and writes W3C Trace Context. It never changes.
var propagator propagation.TraceContext

const header = "traceparent"

// Traceparent returns the trace context of ctx for another process; empty if it has none.
func Traceparent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	c := propagation.MapCarrier{}
	propagator.Inject(ctx, c)
	return c[header]
}

// Join returns ctx with the trace context that another process sent: spans begin below
// it. What is empty or malformed changes nothing.
func Join(ctx context.Context, traceparent string) context.Context {
	if len(traceparent) != MaxTraceparent {
		return ctx
	}
	return propagator.Extract(ctx, propagation.MapCarrier{header: traceparent})
}

// LinkTo is an option for Start in ctx: the span has to do with another trace without
// being part of it. What is empty or malformed changes nothing.
func LinkTo(ctx context.Context, traceparent string) trace.SpanStartOption {
	sc := trace.SpanContextFromContext(Join(ctx, traceparent))
	if len(traceparent) != MaxTraceparent || !sc.IsRemote() {
		return trace.WithLinks()
	}
	return trace.WithLinks(trace.Link{SpanContext: sc})
}
