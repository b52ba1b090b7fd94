package outer

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
)

// Spans of a relay. An access is a trace of its own, for an entry's creation may be
// hours old and have thousands of them: it is linked to the trace of the creation for
// as long as the relay knows that, and the entry's ID is on both in any case.
const (
	spanAccess  = "outer.access"  // setting up a connection, from accepting the client to the device's answer
	spanCarrier = "outer.carrier" // taking a client of an entry for several devices as far as HTTP/2
	spanResolve = "outer.resolve"
	spanTLS     = "outer.tls"
	spanInner   = "outer.inner_connect"
	spanOpen    = "outer.open" // opening the port of a new entry
)

var attrClient = attribute.Key("client.address")

// begun begins the span of c, whose client came at a time.
func (r *Relay) begun(ctx context.Context, c *conn, name string, at time.Time) context.Context {
	if !r.tracer.On() {
		return ctx
	}
	o := &c.port.opening
	ctx, c.span = r.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer), observe.LinkTo(ctx, o.Trace))
	if c.span.Recording() {
		c.span.Set(observe.EntryID.String(string(o.EntryID)), observe.ConnectionID.String(c.id),
			observe.RelayID.String(string(r.cfg.ID)), attrClient.String(c.client.String()))
	}
	return ctx
}

// step begins the span of a step that another process takes part in.
func (r *Relay) step(ctx context.Context, name string) (context.Context, observe.Span) {
	if !r.tracer.On() {
		return ctx, observe.Span{}
	}
	return r.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
}

// endSpan ends the span of what ended with err.
func endSpan(s observe.Span, err error) {
	if err != nil && s.Recording() {
		why := err.Error()
		if d, ok := errors.AsType[*denial](err); ok {
			why = string(d.cause)
			s.Set(observe.Cause.String(why))
		}
		s.Fail(why)
	}
	s.End()
}

// opened begins the span of opening an entry, below that of the manager's command.
func (l *loop) opened(life context.Context, o manager.Opening) observe.Span {
	if !l.tracer.On() || o.Trace == "" {
		return observe.Span{}
	}
	_, s := l.tracer.Start(observe.Join(life, o.Trace), spanOpen, trace.WithSpanKind(trace.SpanKindServer))
	s.Set(observe.EntryID.String(string(o.EntryID)), observe.RelayID.String(string(l.cfg.ID)))
	return s
}
