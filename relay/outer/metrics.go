package outer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/manager"
)

// Stages of setting up a connection, as label values.
const (
	stageAdmit     = "admit"     // from accepting the client past the bounds on rates and numbers
	stageResolve   = "resolve"   // asking the manager
	stageHandshake = "handshake" // TLS with the client
	stageDevice    = "device"    // through the inner relay to the device
	stageTotal     = "total"     // from accepting the client to the device's answer
)

// metrics are counted per connection, never per byte or read.
type metrics struct {
	acceptedTotal prometheus.Counter
	deniedTotal   *prometheus.CounterVec
	endedTotal    *prometheus.CounterVec
	stages        map[string]prometheus.Observer
	all           []prometheus.Collector
}

func newMetrics(r *Relay) *metrics {
	const ns, sub = "simreach", "outer_relay"
	labels := prometheus.Labels{"relay": string(r.cfg.ID)}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: ns, Subsystem: sub, Name: name, Help: help, ConstLabels: labels}
	}
	m := &metrics{stages: map[string]prometheus.Observer{}}
	m.acceptedTotal = prometheus.NewCounter(prometheus.CounterOpts(opts("accepted_total", "Connections of clients.")))
	m.deniedTotal = prometheus.NewCounterVec(prometheus.CounterOpts(opts("denied_total", "Connections and streams turned away, by cause.")), []string{"cause"})
	m.endedTotal = prometheus.NewCounterVec(prometheus.CounterOpts(opts("ended_total", "Relayed connections that ended, by cause.")), []string{"cause"})
	setUp := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: ns, Subsystem: sub, Name: "setup_seconds", ConstLabels: labels,
		Help: "How long setting up took, by stage, where it succeeded.", Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
	}, []string{"stage"})
	for _, s := range []string{stageAdmit, stageResolve, stageHandshake, stageDevice, stageTotal} {
		m.stages[s] = setUp.WithLabelValues(s)
	}
	number := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), f)
	}
	m.all = []prometheus.Collector{
		m.acceptedTotal, m.deniedTotal, m.endedTotal, setUp,
		number("live_connections", "Connections relayed now.", func() float64 { return float64(r.live.Load()) }),
		number("connections", "Connections in any state.", func() float64 { return float64(r.all.Load()) }),
		number("waiting_connections", "Connections to inner relays that wait for another client.", func() float64 { return float64(r.relayer.Waiting()) }),
		number("draining", "1 while the relay takes no new connections.", func() float64 {
			if r.draining.Load() {
				return 1
			}
			return 0
		}),
		number("entries", "Open entries.", func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return float64(len(r.entries))
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("unaudited_total", "Audit records that were lost.")), func() float64 { return float64(r.unaudited()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("up_bytes_total", "Bytes from clients to devices.")), func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			up, _ := r.bytesLocked()
			return float64(up)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("down_bytes_total", "Bytes from devices to clients.")), func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			_, down := r.bytesLocked()
			return float64(down)
		}),
	}
	return m
}

// register hands the metrics to a registry, until the function it returns is called.
func (m *metrics) register(to prometheus.Registerer) (unregister func(), err error) {
	var done []prometheus.Collector
	unregister = func() {
		for _, c := range done {
			to.Unregister(c)
		}
	}
	if to == nil {
		return unregister, nil
	}
	for _, c := range m.all {
		if err := to.Register(c); err != nil {
			unregister()
			return nil, err
		}
		done = append(done, c)
	}
	return unregister, nil
}

func (m *metrics) accepted()                      { m.acceptedTotal.Inc() }
func (m *metrics) denied(c manager.Cause)         { m.deniedTotal.WithLabelValues(string(c)).Inc() }
func (m *metrics) ended(c manager.Cause)          { m.endedTotal.WithLabelValues(string(c)).Inc() }
func (m *metrics) stage(s string, from time.Time) { m.stages[s].Observe(time.Since(from).Seconds()) }
