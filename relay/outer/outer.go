package outer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// Relay is an outer relay.
type Relay struct {
	cfg     Config
	log     *slog.Logger
	deps    Deps
	relayer relay.Relayer
	ready   chan struct{}
	slots   chan struct{}  // handshakes
	tasks   sync.WaitGroup // pending acknowledgements

	// acceptors has one member for each port, which stays until the last of the
	// port's connections has ended.
	acceptors sync.WaitGroup

	live     atomic.Int64 // connections relayed now
	opened   atomic.Uint64
	accepted atomic.Uint64

	mu     sync.Mutex // guards the rest, for Status; the loop alone changes ports
	ports  map[manager.EntryID]*port
	denied map[string]uint64
	ended  map[string]uint64
}

// New checks cfg and deps.
func New(cfg Config, d Deps) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Control == nil || d.Resolver == nil {
		return nil, errors.New("outer relay: Control and Resolver are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Listen == nil {
		d.Listen = listenTCP
	}
	if d.DialInner == nil {
		d.DialInner = dialTCP
	}
	cfg = cfg.withDefaults()
	if cfg.MaxEntries == 0 {
		cfg.MaxEntries = defaultMaxEntries()
	}
	return &Relay{
		cfg: cfg, log: d.Log.With("nf", "relay-outer", "relay", cfg.ID), deps: d,
		ready: make(chan struct{}), slots: make(chan struct{}, cfg.MaxHandshakes),
		ports: map[manager.EntryID]*port{}, denied: map[string]uint64{}, ended: map[string]uint64{},
	}, nil
}

// Ready is closed once the first snapshot of the manager has been carried out.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Status is a snapshot of a Relay.
type Status struct {
	Live     int    // connections relayed now
	Accepted uint64 // connections of clients
	Opened   uint64 // of those, how many reached their device
	Denied   map[string]uint64
	Ended    map[string]uint64 // of those opened, by cause
	Entries  []EntryStatus     // in the order of their ports
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
		Live: int(r.live.Load()), Accepted: r.accepted.Load(), Opened: r.opened.Load(),
		Denied: maps.Clone(r.denied), Ended: maps.Clone(r.ended),
	}
	for _, p := range r.ports {
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

// Why a connection or a port ended, as cause of its context.
var (
	errExpired = errors.New("expired")
	errRevoked = errors.New("revoked")
	errStopped = errors.New("stopped")
)

// errFull is why an entry beyond MaxEntries is not opened.
var errFull = errors.New("all entries that this relay may have are open")

// port is an open entry. Its fields do not change; the listener is closed and the
// context of its connections cancelled by the loop.
type port struct {
	opening  manager.Opening
	listener net.Listener
	end      context.CancelCauseFunc // cuts its connections
	gone     chan struct{}           // closed when it accepts no more and its last connection has ended
	live     atomic.Int64
	counters relay.Counters
}

// Run carries out the manager's commands and relays until ctx ends. It then accepts
// nothing new and gives live connections DrainTimeout, during which they still
// expire. It returns an error if the stream of commands breaks for good.
func (r *Relay) Run(ctx context.Context) error {
	// Connections outlive ctx by the drain time.
	life, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	receiving, stopReceiving := context.WithCancel(ctx)
	defer stopReceiving()
	commands, failed := make(chan manager.Command), make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { failed <- r.receive(receiving, commands) })
	loop := loop{Relay: r}
	err := loop.serve(ctx, life, commands, failed)
	stopReceiving()
	loop.drain(cut)
	r.tasks.Wait()
	wg.Wait()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("outer relay %s: %w", r.cfg.ID, err)
	}
	return nil
}

// receive passes commands on until ctx ends or the stream breaks.
func (r *Relay) receive(ctx context.Context, to chan<- manager.Command) error {
	for {
		c, err := r.deps.Control.Next(ctx)
		if err != nil {
			return err
		}
		select {
		case to <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
