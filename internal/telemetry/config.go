package telemetry

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
)

// Config says how a process can be watched. Its zero value: not at all, at no cost.
type Config struct {
	// Listen is "address:port" for GET /metrics and /healthz, which ask for no
	// credentials. Empty: no metrics.
	Listen string `yaml:"listen"`
	// Traces is where spans go.
	Traces TracesConfig `yaml:"traces"`
}

// TracesConfig says where spans go: at most one of File and OTLP is set. Neither: there
// are no spans.
type TracesConfig struct {
	// File gets a line of JSON for each span; "-" is standard output. What is in it
	// stays. Several processes may write to one file.
	File string `yaml:"file"`
	// OTLP is the URL of a collector, as "http://127.0.0.1:4318/v1/traces" (OTLP/HTTP
	// with protobuf, OpenTelemetry protocol 1.x).
	OTLP string `yaml:"otlp"`
	// SampleRatio is which part of the traces that begin in this process is recorded, up
	// to 1. 0: all. Those that began elsewhere are recorded if they were there.
	SampleRatio float64 `yaml:"sample_ratio"`
}

// Enabled reports whether there is anything to do.
func (c Config) Enabled() bool { return c.Listen != "" || c.Traces.enabled() }

func (c TracesConfig) enabled() bool { return c.File != "" || c.OTLP != "" }

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if c.Listen != "" {
		if _, err := netip.ParseAddrPort(c.Listen); err != nil {
			return fmt.Errorf("telemetry: listen: %w", err)
		}
	}
	t := c.Traces
	switch {
	case t.File != "" && t.OTLP != "":
		return errors.New("telemetry: traces: file and otlp are both set")
	case !(t.SampleRatio >= 0 && t.SampleRatio <= 1):
		return fmt.Errorf("telemetry: traces: sample_ratio %g: want 0 to 1", t.SampleRatio)
	}
	if t.OTLP != "" {
		u, err := url.Parse(t.OTLP)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("telemetry: traces: otlp %q: want http://host:port/v1/traces", t.OTLP)
		}
	}
	return nil
}
