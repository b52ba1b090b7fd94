package observe

import "github.com/prometheus/client_golang/prometheus"

// Latency returns the buckets of histograms of durations in seconds: from 50 µs to 6.5 s,
// each twice the one before.
func Latency() []float64 { return prometheus.ExponentialBuckets(50e-6, 2, 18) }

// Register hands collectors to a registry, until the function it returns is called. nil:
// nobody wants them. The errors are of prometheus.Registerer; then none is registered.
func Register(to prometheus.Registerer, all ...prometheus.Collector) (unregister func(), err error) {
	var done []prometheus.Collector
	unregister = func() {
		for _, c := range done {
			to.Unregister(c)
		}
	}
	if to == nil {
		return unregister, nil
	}
	for _, c := range all {
		if err := to.Register(c); err != nil {
			unregister()
			return func() {}, err
		}
		done = append(done, c)
	}
	return unregister, nil
}
