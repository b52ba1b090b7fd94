package manager

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
)

// Deps is what a Service needs of the world.
type Deps struct {
	Log       *slog.Logger // nil discards
	Store     Store        // the owner closes it after Run returned
	Directory Directory
	Core      Core         // the mobile core; its zero value: none
	Web       WebRequester // nil: event handlers make no web requests
	// Metrics gets the manager's metrics for as long as Run runs. nil: none.
	Metrics prometheus.Registerer
	// Traces makes the spans of requests and of relays' questions. nil: none.
	Traces trace.TracerProvider
}

// Service is the manager. Its methods may be called from any goroutine, and
// while Run runs: before Ready those that need the signing key return
// CodeNotReady.
type Service struct {
	cfg      Config
	log      *slog.Logger
	store    Store
	dir      Directory
	registry *registry
	policy   Policy
	instance string // of this manager among those on the store
	fleet    fleet
	peers    *peers
	table    *entryTable
	// heartbeat is how often the attachments go into the store; 0: never, for there is
	// no other manager.
	heartbeat time.Duration
	listeners []func(context.Context, Change) // get every change from the goroutine that watches; set by New
	signer    atomic.Pointer[signer]          // set once by Run
	accounts  *accounts
	wake      chan struct{} // tells the expiry loop to look again; capacity 1
	nextLook  atomic.Int64  // when it looks by itself, in milliseconds since 1970
	ready     chan struct{}
	expired   atomic.Uint64

	audit       auditState
	credentials credentialCache
	sims        *simState
	bars        bars

	register prometheus.Registerer
	metrics  *metrics
	tracer   observe.Tracer
}

// New checks cfg and deps.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	if d.Store == nil || d.Directory == nil {
		return nil, errors.New("manager: Store and Directory are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	policy, err := newPolicy(cfg)
	if err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	users, err := newAccounts(d.Log.With("nf", "manager"), d.Store, cfg.Operators)
	if err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	cfg = cfg.withDefaults()
	heartbeat := cfg.Heartbeat
	if heartbeat == 0 && d.Store.Shared() {
		heartbeat = defaultHeartbeat
	}
	s := &Service{
		listeners: []func(context.Context, Change){func(_ context.Context, c Change) { users.changed(c) }},
		cfg:       cfg,
		log:       d.Log.With("nf", "manager"),
		store:     d.Store,
		dir:       d.Directory,
		registry:  newRegistry(cfg),
		policy:    policy,
		instance:  newID(time.Now()),
		fleet:     newFleet(),
		peers:     newPeers(),
		table:     &entryTable{store: d.Store},
		heartbeat: heartbeat,
		accounts:  users,
		wake:      make(chan struct{}, 1),
		ready:     make(chan struct{}),
		sims:      newSIMState(cfg.SIMs, d.Core, d.Web),
		bars:      newBars(),
		register:  d.Metrics,
		tracer:    observe.NewTracer(d.Traces, "manager"),
	}
	s.metrics = newMetrics(s)
	return s, nil
}

// Run loads the signing key and the entries, follows the store's changes, and removes
// entries as they expire, until ctx ends. On return every relay session has ended. It
// returns an error only if the store fails at the start.
func (s *Service) Run(ctx context.Context) error {
	unregister, err := observe.Register(s.register, s.metrics.all...)
	if err != nil {
		return fmt.Errorf("manager: metrics: %w", err)
	}
	defer unregister()
	key, err := s.signingKey(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("manager: signing key: %w", err)
	}
	if err := s.accounts.seed(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("manager: seed accounts: %w", err)
	}
	if err := s.seedSIMs(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("manager: seed SIMs: %w", err)
	}
	var wg sync.WaitGroup
	s.runSIMs(ctx, &wg)
	defer s.watchDepartures()()
	wg.Go(func() { s.accounts.run(ctx) })
	wg.Go(func() { s.purgeLoop(ctx) })
	wg.Go(func() { s.barLoop(ctx) })
	wg.Go(func() {
		if err := s.store.Watch(ctx, func(c Change) { s.follow(ctx, c) }); err != nil {
			s.log.Error("changes in the store are not followed any more", "error", err)
			s.table.lost()
			s.bars.lose()
		}
	})
	select {
	case <-s.peers.synced:
		s.signer.Store(newSigner(key))
		close(s.ready)
		if s.heartbeat > 0 {
			wg.Go(func() { s.attachLoop(ctx) })
		}
		s.expireLoop(ctx)
	case <-ctx.Done():
	}
	s.fleet.endAll()
	wg.Wait() // then nobody begins anything that watched counts
	s.peers.watched.Wait()
	return nil
}

// Ready is closed once the service answers.
func (s *Service) Ready() <-chan struct{} { return s.ready }

func (s *Service) signingKey(ctx context.Context) (SigningKey, error) {
	keys, err := s.store.SigningKeys(ctx)
	if err != nil {
		return SigningKey{}, err
	}
	if len(keys) > 0 {
		return keys[0], nil
	}
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return s.store.AddSigningKey(ctx, SigningKey{ID: newID(time.Now()), Seed: seed, Created: now()})
}

// Status is a snapshot for people and tests.
type Status struct {
	Instance string // names this manager among those on the store
	Entries  int    // in the store, of all operators
	Expired  uint64
	Attached int           // devices in the directory
	Relays   []RelayStatus // attached to any manager on the store
}

// Status returns a copy of the service's state. It asks the store for the number
// of entries.
func (s *Service) Status(ctx context.Context) (Status, error) {
	n, err := s.store.CountEntries(ctx)
	if err != nil {
		return Status{}, AsError(fmt.Errorf("count entries: %w", err))
	}
	return Status{Instance: s.instance, Entries: n, Expired: s.expired.Load(), Attached: s.dir.Size(), Relays: s.fleet.status()}, nil
}

// now is the time as the store keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// newID returns a fresh ULID: sortable by time, 80 bits of it unpredictable.
func newID(t time.Time) string { return ulid.MustNew(ulid.Timestamp(t), rand.Reader).String() }
