// Package telemetry lets a process be watched: it serves Prometheus metrics and a health
// check over HTTP, and writes OpenTelemetry spans to a file or sends them to a collector.
//
// METRICS.md lists the metrics. Components know nothing of this package: they get a
// prometheus.Registerer and a trace.TracerProvider, both nil where nobody watches. There
// are no global registries or providers.
//
// Goroutines: Run owns all of them, those of the span exporter too.
package telemetry
