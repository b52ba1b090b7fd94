package manager

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
)

// Deps is what a Service needs of the world.
type Deps struct {
	Log       *slog.Logger // nil discards
	Store     Store        // the owner closes it after Run returned
	Directory Directory
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
	fleet    fleet
	signer   atomic.Pointer[signer] // set once by Run
	logins   chan struct{}          // bounds the logins that hash at one time
	wake     chan struct{}          // tells the expiry loop to look again; capacity 1
	ready    chan struct{}
	expired  atomic.Uint64
}

// New checks cfg and deps. Secrets given in clear are hashed here.
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
	reg, err := newRegistry(cfg)
	if err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	policy, err := newPolicy(cfg.Policy)
	if err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	return &Service{
		cfg:      cfg.withDefaults(),
		log:      d.Log.With("nf", "manager"),
		store:    d.Store,
		dir:      d.Directory,
		registry: reg,
		policy:   policy,
		fleet:    fleet{sessions: map[string]*RelaySession{}, byRelay: map[relayKey]*RelaySession{}},
		logins:   make(chan struct{}, maxLogins),
		wake:     make(chan struct{}, 1),
		ready:    make(chan struct{}),
	}, nil
}

// Run loads the signing key, then removes entries as they expire until ctx ends.
// On return every relay session has ended. It returns an error only if the store
// fails at the start.
func (s *Service) Run(ctx context.Context) error {
	key, err := s.signingKey(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("manager: signing key: %w", err)
	}
	s.signer.Store(newSigner(key))
	close(s.ready)
	s.expireLoop(ctx)
	s.fleet.endAll()
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
	Entries  int // in the store, of all operators
	Expired  uint64
	Attached int // devices in the directory
	Relays   []RelayStatus
}

// Status returns a copy of the service's state. It asks the store for the number
// of entries.
func (s *Service) Status(ctx context.Context) (Status, error) {
	n, err := s.store.CountEntries(ctx)
	if err != nil {
		return Status{}, &Error{Code: CodeInternal, Err: fmt.Errorf("count entries: %w", err)}
	}
	return Status{Entries: n, Expired: s.expired.Load(), Attached: s.dir.Size(), Relays: s.fleet.status()}, nil
}

// now is the time as the store keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// newID returns a fresh ULID: sortable by time, 80 bits of it unpredictable.
func newID(t time.Time) string { return ulid.MustNew(ulid.Timestamp(t), rand.Reader).String() }
