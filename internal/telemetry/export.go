package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Span is a line of a trace file.
type Span struct {
	Service    string         `json:"service"` // the role
	Instance   string         `json:"instance,omitempty"`
	Name       string         `json:"name"`
	Kind       string         `json:"kind"` // internal, server or client
	Trace      string         `json:"trace"`
	ID         string         `json:"span"`
	Parent     string         `json:"parent,omitempty"`
	Remote     bool           `json:"remote,omitempty"` // the parent is of another process
	Start      time.Time      `json:"start"`
	Micros     int64          `json:"us"` // how long it took, in microseconds
	Failure    string         `json:"failure,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
	Links      []Link         `json:"links,omitempty"`
}

// Link names a span of another trace.
type Link struct {
	Trace string `json:"trace"`
	ID    string `json:"span"`
}

func spanOf(s sdk.ReadOnlySpan, service, instance string) Span {
	out := Span{
		Service: service, Instance: instance, Name: s.Name(), Kind: s.SpanKind().String(),
		Trace: s.SpanContext().TraceID().String(), ID: s.SpanContext().SpanID().String(),
		Start: s.StartTime().UTC(), Micros: s.EndTime().Sub(s.StartTime()).Microseconds(),
	}
	if p := s.Parent(); p.HasSpanID() {
		out.Parent, out.Remote = p.SpanID().String(), p.IsRemote()
	}
	if st := s.Status(); st.Code == codes.Error {
		if out.Failure = st.Description; out.Failure == "" {
			out.Failure = "failed"
		}
	}
	for _, kv := range s.Attributes() {
		if out.Attributes == nil {
			out.Attributes = map[string]any{}
		}
		out.Attributes[string(kv.Key)] = kv.Value.AsInterface()
	}
	for _, l := range s.Links() {
		out.Links = append(out.Links, Link{l.SpanContext.TraceID().String(), l.SpanContext.SpanID().String()})
	}
	return out
}

// fileExporter writes spans as lines of JSON.
type fileExporter struct {
	service, instance string

	mu sync.Mutex // guards w
	w  io.WriteCloser
}

// openFile opens a trace file for more lines.
func openFile(path, service, instance string) (*fileExporter, error) {
	if path == "-" {
		return &fileExporter{service: service, instance: instance, w: keepOpen{os.Stdout}}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &fileExporter{service: service, instance: instance, w: f}, nil
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// ExportSpans implements sdk.SpanExporter. A batch is one write, so that the lines of
// processes that share a file do not mix.
func (e *fileExporter) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for _, s := range spans {
		if err := enc.Encode(spanOf(s, e.service, e.instance)); err != nil {
			return fmt.Errorf("span %s: %w", s.Name(), err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.w.Write(buf.Bytes())
	return err
}

// Shutdown implements sdk.SpanExporter.
func (e *fileExporter) Shutdown(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.w.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// openExporter opens what a configuration names.
func (t *Telemetry) openExporter(ctx context.Context) (sdk.SpanExporter, error) {
	c := t.cfg.Traces
	if c.File != "" {
		return openFile(c.File, t.service, t.instance)
	}
	return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.OTLP), otlptracehttp.WithTimeout(exportTimeout))
}

// counted is an exporter whose errors are counted, and logged when they begin: the SDK
// would hand them to a global handler.
type counted struct {
	sdk.SpanExporter
	log            *slog.Logger
	exported, lost atomic.Uint64
	failing        atomic.Bool
}

// ExportSpans implements sdk.SpanExporter.
func (c *counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		c.exported.Add(uint64(len(spans)))
		c.failing.Store(false)
		return nil
	}
	c.lost.Add(uint64(len(spans)))
	if !c.failing.Swap(true) {
		c.log.Warn("spans lost; further ones are only counted", "spans", len(spans), "error", err)
	}
	return nil
}
