// Package observe is what components need to be watched: a Tracer that costs nothing
// where nobody traces, W3C trace context as a string for our own protocols, and
// Register for metrics.
//
// It starts no goroutines, exports nothing and keeps no state: internal/telemetry does.
package observe
