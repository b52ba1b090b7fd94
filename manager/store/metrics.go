package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/internal/telemetry/observe"
)

func newLatency() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "simreach", Subsystem: "store", Name: "seconds",
		Help:    "How long transactions took, by operation: read, or write, which includes the wait for others.",
		Buckets: observe.Latency(),
	}, []string{"operation"})
}

// Metrics returns the store's collectors, for whoever opened it to register.
func (s *Store) Metrics() []prometheus.Collector { return []prometheus.Collector{s.latency} }

func since(begin time.Time, o prometheus.Observer) { o.Observe(time.Since(begin).Seconds()) }
