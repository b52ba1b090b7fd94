package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/simreach/simreach/internal/telemetry/observe"
)

// A request is counted under its permission, never its path, and is a trace of its own
// that names the client's.
func TestRequestsAreObserved(t *testing.T) {
	h, err := newHandler(slog.New(slog.DiscardHandler), nil, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewSpanRecorder()
	h.tracer = observe.NewTracer(sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)), "test")
	reg := prometheus.NewRegistry()
	if _, err := observe.Register(reg, h.metrics.all...); err != nil {
		t.Fatal(err)
	}
	const theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	mux := h.mux()
	for _, path := range []string{"/v1/simreach/openapi.json", "/v1/simreach/openapi.json?x=1", "/v1/what/ever"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Traceparent", theirs)
		mux.ServeHTTP(httptest.NewRecorder(), r)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if f.GetName() == "simreach_api_requests_total" {
			for _, m := range f.Metric {
				text.WriteString(m.Label[0].GetValue() + " " + m.Label[1].GetValue() + "\n")
				if n := m.GetCounter().GetValue(); n != 2 {
					t.Errorf("%v requests; want 2", n)
				}
			}
		}
	}
	if text.String() != "Simreach:getOpenAPI 200\n" {
		t.Errorf("counted as %q", text.String())
	}
	got := spans.Ended()
	if len(got) != 2 {
		t.Fatalf("%d spans; want one for each request to an operation", len(got))
	}
	s := got[0]
	if s.Name() != "GET /v1/simreach/openapi.json" || s.Parent().IsValid() || len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("span %s below %v, linked to %v", s.Name(), s.Parent(), s.Links())
	}
}
