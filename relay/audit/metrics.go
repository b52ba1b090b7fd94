package audit

import "github.com/prometheus/client_golang/prometheus"

// collectors are the spool's metrics.
func (s *Spool) collectors() []prometheus.Collector {
	labels := prometheus.Labels{"relay": string(s.relay)}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "simreach", Subsystem: "audit_spool", Name: name, Help: help, ConstLabels: labels}
	}
	gauge := func(name, help string, f func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), func() float64 { return float64(f()) })
	}
	counter := func(name, help string, f func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts(name, help)), func() float64 { return float64(f()) })
	}
	return []prometheus.Collector{
		gauge("records", "Records that are not handed over.", s.waiting.Load),
		gauge("bytes", "Their size.", s.pending.Load),
		counter("handed_total", "Records handed over.", s.handed.Load),
		counter("lost_total", "Records that could not be kept.", s.lost.Load),
		counter("damaged_total", "Entries of the log that could not be read.", s.damaged.Load),
		gauge("failing", "1 while the disk does not take records.", func() int64 {
			if s.failing.Load() {
				return 1
			}
			return 0
		}),
	}
}
