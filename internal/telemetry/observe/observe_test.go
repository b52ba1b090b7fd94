package observe

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// Where nobody traces, a span of a connection costs no memory.
func TestZeroTracerIsFree(t *testing.T) {
	tr := NewTracer(nil, "test")
	ctx := t.Context()
	n := testing.AllocsPerRun(100, func() {
		ctx, s := tr.Start(ctx, "connection")
		if s.Recording() || tr.On() || Traceparent(ctx) != "" {
			t.Error("something is recorded")
		}
		s.Set()
		s.Fail("why")
		s.End()
	})
	if n != 0 {
		t.Errorf("%v allocations for a span that nobody sees; want 0", n)
	}
}

func TestTraceparent(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(rec))
	tr := NewTracer(p, "test")
	ctx, parent := tr.Start(t.Context(), "parent")
	text := Traceparent(ctx)
	if len(text) != MaxTraceparent {
		t.Fatalf("traceparent %q", text)
	}
	// As another process does.
	_, child := tr.Start(Join(t.Context(), text), "child")
	child.Set(EntryID.String("e"))
	child.Fail("device-refused")
	child.End()
	_, linked := tr.Start(t.Context(), "linked", LinkTo(t.Context(), text))
	linked.End()
	_, alone := tr.Start(ctx, "malformed", LinkTo(ctx, "x"))
	alone.End()
	parent.End()
	got := rec.Ended()
	id := trace.SpanContextFromContext(ctx)
	if p := got[0].Parent(); p.TraceID() != id.TraceID() || p.SpanID() != id.SpanID() || !p.IsRemote() {
		t.Errorf("the child's parent is %v; want %v", p, id)
	}
	if got[0].Status().Description != "device-refused" || len(got[0].Attributes()) != 1 {
		t.Errorf("the child has %v and %v", got[0].Status(), got[0].Attributes())
	}
	if l := got[1].Links(); len(l) != 1 || l[0].SpanContext.SpanID() != id.SpanID() || got[1].Parent().IsValid() {
		t.Errorf("links %v, parent %v; want one link and a trace of its own", l, got[1].Parent())
	}
	if l := got[2].Links(); len(l) != 0 {
		t.Errorf("links %v from a malformed traceparent", l)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("00-00000000000000000000000000000000-b7ad6b7169203331-01")
	f.Add("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		ctx := Join(context.Background(), s)
		again := Traceparent(ctx)
		if again != "" && Traceparent(Join(context.Background(), again)) != again {
			t.Errorf("%q is read as %q, which is read differently", s, again)
		}
	})
}

func TestRegister(t *testing.T) {
	r := prometheus.NewRegistry()
	one := prometheus.NewCounter(prometheus.CounterOpts{Name: "one"})
	two := prometheus.NewCounter(prometheus.CounterOpts{Name: "two"})
	undo, err := Register(r, one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Register(r, two, one); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		t.Errorf("the same collector again: %v", err)
	}
	if ms, err := r.Gather(); err != nil || len(ms) != 1 {
		t.Errorf("%v metrics are registered after a failure, %v; want the first alone", ms, err)
	}
	undo()
	if ms, err := r.Gather(); err != nil || len(ms) != 0 {
		t.Errorf("%v are left, %v", ms, err)
	}
	if undo, err := Register(nil, one); err != nil {
		t.Error(err)
	} else {
		undo()
	}
}
