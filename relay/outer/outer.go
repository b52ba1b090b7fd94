package outer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/internal/workers"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// unlimitedConnections is MaxConnections where descriptors are not counted.
const unlimitedConnections = math.MaxInt32

// Relay is an outer relay.
type Relay struct {
	cfg     Config
	log     *slog.Logger
	deps    Deps
	ports   Ports
	asker   Asker
	relayer *relay.Relayer
	onLoop  bool // inner relays are connected to on event loops
	metrics *metrics
	tracer  observe.Tracer
	ready   chan struct{}
	slots   chan struct{} // connections that are being set up

	sources     *sources
	credentials *credentials
	server      *tlsServer // nil: no certificate
	inner       *innerTLS  // nil: plain TCP to inner relays
	many        *manyServer
	buffers     *sync.Pool // of wires

	setups *workers.Group // set connections up
	giveUp func()         // has those end that ask for nobody any more
	tasks  sync.WaitGroup // pending acknowledgements, cuts
	conns  sync.WaitGroup // connections in any state

	// byPort is the table of open ports as acceptors see it; the loop alone writes it.
	byPort [math.MaxUint16 + 1]atomic.Pointer[port]

	all      atomic.Int64 // connections in any state
	live     atomic.Int64 // connections relayed now
	opened   atomic.Uint64
	accepted atomic.Uint64
	draining atomic.Bool

	mu       sync.Mutex // guards the rest; the loop alone changes entries
	entries  map[manager.EntryID]*port
	closing  map[*port]struct{} // their last connections are ending
	denied   map[string]uint64
	ended    map[string]uint64
	up, down uint64 // bytes of entries that are gone
}

// New checks cfg and deps.
func New(cfg Config, d Deps) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d, err := d.withDefaults(cfg)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	r := &Relay{
		cfg: cfg, log: d.Log.With("nf", "relay-outer", "relay", cfg.ID), deps: d,
		ready: make(chan struct{}), slots: make(chan struct{}, cfg.MaxHandshakes),
		buffers: &sync.Pool{}, setups: workers.New(), giveUp: func() {}, sources: newSources(cfg.SourceRate, cfg.SourceBurst), credentials: newCredentials(d.Resolver),
		entries: map[manager.EntryID]*port{}, closing: map[*port]struct{}{}, denied: map[string]uint64{}, ended: map[string]uint64{},
	}
	if r.relayer, err = relay.NewRelayer(relay.Config{IdleTimeout: cfg.IdleTimeout, Kept: cfg.KeptInner}); err != nil {
		return nil, fmt.Errorf("outer relay: %w", err)
	}
	if r.onLoop = d.DialInner == nil && d.InnerTLS == nil && r.relayer.HasLoops(); d.DialInner == nil {
		r.deps.DialInner = dialTCP
	}
	if a, ok := d.Resolver.(Asker); ok {
		r.asker = a
	} else {
		var life context.Context
		life, r.giveUp = context.WithCancel(context.Background())
		r.asker = askOnWorkers{d.Resolver, r.setups, life}
	}
	if d.Certificate != nil {
		r.server = newTLSServer(d.Certificate)
	}
	if d.InnerTLS != nil {
		r.inner = newInnerTLS(d.InnerTLS, r.buffers)
	}
	r.metrics, r.tracer = newMetrics(r), observe.NewTracer(d.Traces, "relay/outer")
	r.many = newManyServer(r)
	if r.ports, err = d.Ports(r.handle); err != nil {
		return nil, fmt.Errorf("outer relay: %w", err)
	}
	return r, nil
}

// Ready is closed once the first snapshot of the manager has been carried out.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Status is a snapshot of a Relay.
type Status struct {
	Live     int    // connections relayed now
	Accepted uint64 // connections of clients
	Opened   uint64 // connections, and streams of entries for several devices, that reached their device
	Up, Down uint64 // bytes from and to clients, of live connections too
	Denied   map[string]uint64
	Ended    map[string]uint64 // of those opened, by cause
	Draining bool
	Entries  []EntryStatus // in the order of their ports
}

// EntryStatus is one open port.
type EntryStatus struct {
	ID       manager.EntryID
	Address  netip.AddrPort
	Expires  time.Time
	Live     int
	Up, Down uint64 // bytes from and to clients, of live connections too
}

// Status returns a copy of the relay's state.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Live: int(r.live.Load()), Accepted: r.accepted.Load(), Opened: r.opened.Load(), Draining: r.draining.Load(),
		Denied: maps.Clone(r.denied), Ended: maps.Clone(r.ended),
	}
	s.Up, s.Down = r.bytesLocked()
	for _, p := range r.entries {
		s.Entries = append(s.Entries, EntryStatus{
			ID: p.opening.EntryID, Address: p.opening.Address, Expires: p.opening.Expires,
			Live: int(p.live.Load()), Up: p.counters.AToB.Load(), Down: p.counters.BToA.Load(),
		})
	}
	slices.SortFunc(s.Entries, func(a, b EntryStatus) int {
		if c := a.Address.Compare(b.Address); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return s
}

func (r *Relay) bytesLocked() (up, down uint64) {
	up, down = r.up, r.down
	add := func(p *port) {
		up += p.counters.AToB.Load()
		down += p.counters.BToA.Load()
	}
	for _, p := range r.entries {
		add(p)
	}
	for p := range r.closing {
		add(p)
	}
	return up, down
}

func (r *Relay) tally(m map[string]uint64, cause manager.Cause) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m[string(cause)]++
}
