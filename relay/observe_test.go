package relay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/relay/audit"
)

// traced has a chain write its spans to one file, as processes that share it do. The
// function that it returns ends the chain and returns the spans.
func traced(t *testing.T) (change func(*chain), spans func(*chain) []telemetry.Span) {
	path := filepath.Join(t.TempDir(), "trace.jsonl")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	all := map[string]*telemetry.Telemetry{}
	for _, service := range []string{"manager", "relay-inner", "relay-outer"} {
		tel := must[*telemetry.Telemetry](t)(telemetry.New(telemetry.Config{Traces: telemetry.TracesConfig{File: path}}, telemetry.Deps{Service: service}))
		all[service] = tel
		wg.Go(func() {
			if err := tel.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		ready(t, tel)
	}
	change = func(c *chain) {
		c.traces = func(service string) trace.TracerProvider { return all[service].Traces() }
	}
	spans = func(c *chain) (out []telemetry.Span) {
		c.out.stop()
		for _, in := range c.in {
			in.stop()
		}
		c.mgr.stop()
		stop()
		f := must[*os.File](t)(os.Open(path))
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var s telemetry.Span
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				t.Fatalf("%s: %v", lines.Bytes(), err)
			}
			out = append(out, s)
		}
		return out
	}
	return change, spans
}

// named returns the only span of a name.
func named(t *testing.T, all []telemetry.Span, name string) telemetry.Span {
	t.Helper()
	var found []telemetry.Span
	for _, s := range all {
		if s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		var names []string
		for _, s := range all {
			names = append(names, s.Name)
		}
		t.Fatalf("%d spans are named %s, of %v", len(found), name, names)
	}
	return found[0]
}

// One access is two traces in one file: that of the entry's creation, from the request
// to the open port, and that of the connection, through all three processes. The second
// is linked to the first, and the entry's ID is on both.
func TestTraceOfAnAccess(t *testing.T) {
	change, spans := traced(t)
	c := newChain(t, change)
	m := c.create()
	client, _ := c.connect(m)
	client.Close()
	all := spans(c)

	below := func(parent telemetry.Span, service string, names ...string) telemetry.Span {
		t.Helper()
		for _, name := range names {
			s := named(t, all, name)
			if s.Parent != parent.ID || s.Trace != parent.Trace || s.Service != service || s.Failure != "" {
				t.Errorf("%+v; want it below %s, in the %s", s, parent.Name, service)
			}
			if s.Remote != (s.Service != parent.Service) {
				t.Errorf("%s is remote: %v", s.Name, s.Remote)
			}
			if s.Start.Before(parent.Start) || s.Micros > parent.Micros+1000 {
				t.Errorf("%s began at %s for %d µs, outside of %s", s.Name, s.Start, s.Micros, parent.Name)
			}
			parent = s
		}
		return parent
	}
	request := named(t, all, "POST /v1/port_mappings")
	if request.Parent != "" || request.Service != "manager" || request.Attributes["http.response.status_code"] != 201.0 {
		t.Errorf("%+v; want a trace of its own", request)
	}
	command := below(request, "manager", "manager.create_entry", "manager.open")
	opened := below(command, "relay-outer", "outer.open")

	access := named(t, all, "outer.access")
	if access.Parent != "" || access.Trace == request.Trace || len(access.Links) != 1 || access.Links[0].ID != command.ID || access.Links[0].Trace != request.Trace {
		t.Errorf("%+v; want a trace of its own, linked to %s", access, command.ID)
	}
	resolve := below(below(access, "relay-outer", "outer.resolve"), "manager", "manager.resolve")
	reached := below(below(access, "relay-outer", "outer.inner_connect"), "relay-inner", "inner.connect", "inner.dial")
	if reached.Kind != "internal" || access.Kind != "server" {
		t.Errorf("kinds %s and %s", reached.Kind, access.Kind)
	}
	entry, conn := access.Attributes["simreach.entry_id"], access.Attributes["simreach.connection_id"]
	if entry == nil || entry == "" || conn == nil || conn == "" {
		t.Fatalf("%+v has no IDs", access)
	}
	for _, s := range []telemetry.Span{named(t, all, "manager.create_entry"), opened, resolve, named(t, all, "inner.connect")} {
		if s.Attributes["simreach.entry_id"] != entry {
			t.Errorf("%s is about entry %v; want %v", s.Name, s.Attributes["simreach.entry_id"], entry)
		}
	}
	for _, s := range []telemetry.Span{resolve, named(t, all, "inner.connect")} {
		if s.Attributes["simreach.connection_id"] != conn {
			t.Errorf("%s is about connection %v; want %v", s.Name, s.Attributes["simreach.connection_id"], conn)
		}
	}
}

// A span says where a connection failed, in the words of the audit log.
func TestTraceOfADeniedAccess(t *testing.T) {
	change, spans := traced(t)
	c := newChain(t, change)
	m := c.create()
	c.dir.put(imsi, "", "")
	c.expectDenied(m, "device-offline")
	c.dir.put(imsi, "upf1", "127.0.3.1")
	c.device.Close()
	c.expectDenied(m, "device-refused")
	all := spans(c)
	var offline, refused telemetry.Span
	for _, s := range all {
		if s.Name == "outer.access" {
			switch s.Failure {
			case "device-offline":
				offline = s
			case "device-refused":
				refused = s
			}
		}
	}
	for name, want := range map[string]struct {
		trace   telemetry.Span
		failure string
	}{
		"manager.resolve": {offline, string(manager.CodeDeviceOffline)}, "outer.resolve": {offline, "device-offline"},
		"outer.inner_connect": {refused, "device-refused"}, "inner.connect": {refused, "device-refused"}, "inner.dial": {refused, "device-refused"},
	} {
		var got []string
		for _, s := range all {
			if s.Name == name && s.Trace == want.trace.Trace {
				got = append(got, s.Failure)
			}
		}
		if !slices.Equal(got, []string{want.failure}) {
			t.Errorf("%s of %q failed with %q; want %q", name, want.trace.Failure, got, want.failure)
		}
	}
}

// described is a registerer that notes what is registered.
type described struct {
	mu      sync.Mutex
	metrics map[string]string // labels by name
}

var descriptor = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "([^"]+)", (?:unit: "[^"]*", )?constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

func (d *described) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	d.mu.Lock()
	defer d.mu.Unlock()
	for desc := range descs {
		m := descriptor.FindStringSubmatch(desc.String())
		if m == nil {
			d.metrics[desc.String()] = "unreadable, or without help"
			continue
		}
		var labels []string
		for l := range strings.SplitSeq(m[3]+","+m[4], ",") {
			if name, _, _ := strings.Cut(l, "="); name != "" {
				labels = append(labels, name)
			}
		}
		slices.Sort(labels)
		d.metrics[m[1]] = strings.Join(labels, ", ")
	}
	return nil
}
func (d *described) MustRegister(...prometheus.Collector) { panic("components do not panic") }
func (d *described) Unregister(prometheus.Collector) bool { return true }

// METRICS.md lists what all components register, with their labels, and nothing else.
func TestMetricsAreDocumented(t *testing.T) {
	d := &described{metrics: map[string]string{}}
	c := newChain(t, func(c *chain) { c.metrics = d })
	p := newProcess(t)
	spool := must[*audit.Spool](t)(audit.New(audit.Config{Dir: t.TempDir()}, audit.Deps{
		Relay: "outer1", Metrics: d, Sink: audit.SinkFunc(func(context.Context, []manager.AuditRecord) error { return nil }),
	}))
	p.run(spool)
	ready(t, spool)
	st := must[*store.Store](t)(store.Open(t.Context(), store.Config{Path: ":memory:"}))
	defer st.Close()
	for _, m := range st.Metrics() {
		_ = d.Register(m) // it never fails
	}
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	tel := must[*telemetry.Telemetry](t)(telemetry.New(telemetry.Config{Listen: l.Addr().String()}, telemetry.Deps{Listener: l}))
	for _, name := range []string{"exported", "lost"} { // its own registry holds them
		families, err := tel.Registry().Gather()
		if err != nil || !strings.Contains(toText(families), "simreach_telemetry_spans_"+name+"_total") {
			t.Errorf("telemetry does not count %s spans: %v", name, err)
		}
		d.metrics["simreach_telemetry_spans_"+name+"_total"] = ""
	}
	l.Close()
	c.connect(c.create())

	documented := map[string]string{}
	text := string(must[[]byte](t)(os.ReadFile("../internal/telemetry/METRICS.md")))
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || !strings.Contains(cells[1], "`simreach_") {
			continue
		}
		var labels []string
		for l := range strings.SplitSeq(cells[3], ",") {
			if l = strings.Trim(l, " `"); l != "" {
				labels = append(labels, l)
			}
		}
		slices.Sort(labels)
		documented[strings.Trim(cells[1], " `")] = strings.Join(labels, ", ")
	}
	for name, labels := range d.metrics {
		if got, ok := documented[name]; !ok || got != labels {
			t.Errorf("%s with labels %q is documented with %q", name, labels, got)
		}
	}
	for name := range documented {
		if _, ok := d.metrics[name]; !ok {
			t.Errorf("%s is documented and not registered", name)
		}
	}
}

func toText[T interface{ String() string }](all []T) string {
	var b strings.Builder
	for _, f := range all {
		b.WriteString(f.String())
	}
	return b.String()
}
