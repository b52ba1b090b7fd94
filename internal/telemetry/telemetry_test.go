package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/simreach/simreach/internal/telemetry/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a Telemetry; stop returns what Run did.
func start(t *testing.T, cfg Config, d Deps) (tel *Telemetry, stop func() error) {
	t.Helper()
	if cfg.Listen != "" {
		l, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			t.Fatal(err)
		}
		d.Listener = l
	}
	tel, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tel.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	select {
	case <-tel.Ready():
	case err := <-done:
		done <- err
	}
	return tel, stop
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServesMetricsAndHealth(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	tel, stop := start(t, Config{Listen: "127.0.0.1:0"}, Deps{Service: "test"})
	base := "http://" + tel.listener.Addr().String()
	if code, _ := get(t, base+"/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("healthz answers %d before the role is ready; want 503", code)
	}
	tel.Healthy()
	if code, body := get(t, base+"/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz answers %d %q; want 200 ok", code, body)
	}
	code, body := get(t, base+"/metrics")
	for _, want := range []string{"go_goroutines ", "process_resident_memory_bytes ", "simreach_telemetry_spans_exported_total 0"} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("metrics: %d, without %q", code, want)
		}
	}
	if tel.Traces() != nil {
		t.Error("there are spans, and nobody asked for them")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// lines reads a trace file.
func lines(t *testing.T, path string) (out []Span) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var s Span
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, s)
	}
	return out
}

func TestTraceFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	if err := os.WriteFile(path, []byte(`{"name":"before"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tel, stop := start(t, Config{Traces: TracesConfig{File: path}}, Deps{Service: "relay-outer", Instance: "outer1"})
	if tel.Registerer() != nil {
		t.Error("there are metrics, and nobody asked for them")
	}
	tr := observe.NewTracer(tel.Traces(), "test")
	ctx, parent := tr.Start(t.Context(), "parent")
	_, child := tr.Start(ctx, "child", observe.LinkTo(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	child.Set(observe.EntryID.String("entry"), attribute.Int("n", 7))
	child.Fail("no <way>")
	child.End()
	parent.End()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := lines(t, path)
	if len(got) != 3 || got[0].Name != "before" {
		t.Fatalf("spans %+v; want two after what was there", got)
	}
	c, p := got[1], got[2]
	if c.Name != "child" || c.Trace != p.Trace || c.Parent != p.ID || c.Service != "relay-outer" || c.Instance != "outer1" || c.Kind != "internal" ||
		c.Failure != "no <way>" || c.Attributes["simreach.entry_id"] != "entry" || c.Attributes["n"] != 7.0 || c.Start.IsZero() ||
		len(c.Links) != 1 || c.Links[0].ID != "b7ad6b7169203331" || p.Parent != "" {
		t.Errorf("%+v below %+v", c, p)
	}
	if s := tel.Status(); s.Exported != 2 || s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestSampleRatio(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	tel, stop := start(t, Config{Traces: TracesConfig{File: path, SampleRatio: 1e-9}}, Deps{})
	tr := observe.NewTracer(tel.Traces(), "test")
	for range 100 {
		_, s := tr.Start(t.Context(), "rare")
		s.End()
	}
	_, s := tr.Start(observe.Join(t.Context(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "begun elsewhere")
	s.End()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); len(got) != 1 || !got[0].Remote || got[0].Parent != "b7ad6b7169203331" {
		t.Errorf("%+v; want only the span of a trace that is recorded elsewhere", got)
	}
}

func TestOTLP(t *testing.T) {
	names := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var in collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(b, &in); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		for _, rs := range in.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					names <- s.GetName()
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer srv.Close()
	tel, stop := start(t, Config{Traces: TracesConfig{OTLP: srv.URL + "/v1/traces"}}, Deps{Service: "manager"})
	_, s := observe.NewTracer(tel.Traces(), "test").Start(t.Context(), "sent")
	s.End()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := <-names; got != "sent" {
		t.Errorf("the collector got %q", got)
	}
}

// A collector that is not there costs spans, and one line of the log.
func TestCollectorAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	tel, stop := start(t, Config{Traces: TracesConfig{OTLP: "http://" + nobody}}, Deps{Log: slog.New(slog.NewTextHandler(&log, nil))})
	_, s := observe.NewTracer(tel.Traces(), "test").Start(t.Context(), "lost")
	s.End()
	begin := time.Now()
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if d := time.Since(begin); d > 2*exportTimeout {
		t.Errorf("it took %s to end", d)
	}
	if st := tel.Status(); st.Lost != 1 || strings.Count(log.String(), "spans lost") != 1 {
		t.Errorf("%+v, log %s", st, log.String())
	}
}

func TestTraceFileCannotBeOpened(t *testing.T) {
	_, stop := start(t, Config{Traces: TracesConfig{File: t.TempDir()}}, Deps{})
	if err := stop(); err == nil {
		t.Error("a folder was taken as a trace file")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"nothing", Config{}, true},
		{"all", Config{Listen: "[::1]:9100", Traces: TracesConfig{OTLP: "https://c.example/v1/traces", SampleRatio: 0.5}}, true},
		{"listen is no address", Config{Listen: "here"}, false},
		{"two places for spans", Config{Traces: TracesConfig{File: "x", OTLP: "http://c"}}, false},
		{"more than all", Config{Traces: TracesConfig{File: "x", SampleRatio: 1.5}}, false},
		{"no URL", Config{Traces: TracesConfig{OTLP: "127.0.0.1:4318"}}, false},
	} {
		if err := c.cfg.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v; want accepted %v", c.name, err, c.ok)
		}
	}
	if _, err := New(Config{Listen: "127.0.0.1:0"}, Deps{}); err == nil {
		t.Error("New took a Listen without a listener")
	}
}
