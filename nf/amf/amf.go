package amf

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/nf/sbi"
)

// Deps is everything outside the AMF.
type Deps struct {
	Log            *slog.Logger       // nil discards
	N2             sctp.Listener      // Run closes it. Required
	Authentication sbi.Authentication // AUSF. Required
	SubscriberData sbi.SubscriberData // UDM. Required
	UEContext      sbi.UEContext      // UDM. Required
	Sessions       sbi.Sessions       // SMF. Required
	// Equipment is the EIR; nil means that devices are not checked.
	Equipment sbi.EquipmentIdentity
	Rand      io.Reader // source of 5G-TMSIs; nil means crypto/rand
}

// AMF is one access and mobility management function. All methods may be called
// from any goroutine. It implements sbi.Communication.
type AMF struct {
	cfg     Config
	log     *slog.Logger
	n2      sctp.Listener
	ausf    sbi.Authentication
	sdm     sbi.SubscriberData
	uecm    sbi.UEContext
	smf     sbi.Sessions
	eir     sbi.EquipmentIdentity // may be nil
	table   gmmTable
	reg     *registry
	tasks   tasks
	calls   callPool
	stats   counters
	ready   chan struct{}
	stopped chan struct{}
	ran     atomic.Bool
}

var _ sbi.Communication = (*AMF)(nil)

// New checks cfg and d. It opens and starts nothing. Errors wrap ErrConfig or
// ErrDeps.
func New(cfg Config, d Deps) (*AMF, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	switch {
	case d.N2 == nil:
		return nil, fmt.Errorf("%w: N2", ErrDeps)
	case d.Authentication == nil:
		return nil, fmt.Errorf("%w: Authentication", ErrDeps)
	case d.SubscriberData == nil:
		return nil, fmt.Errorf("%w: SubscriberData", ErrDeps)
	case d.UEContext == nil:
		return nil, fmt.Errorf("%w: UEContext", ErrDeps)
	case d.Sessions == nil:
		return nil, fmt.Errorf("%w: Sessions", ErrDeps)
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &AMF{
		cfg: cfg.withDefaults(), log: log.With("nf", "amf"),
		n2: d.N2, ausf: d.Authentication, sdm: d.SubscriberData, uecm: d.UEContext, smf: d.Sessions, eir: d.Equipment,
		table: newGMMTable(),
		ready: make(chan struct{}), stopped: make(chan struct{}),
	}
	a.reg = newRegistry(a.cfg.GUAMI, a.cfg.MaxUEs, d.Rand)
	a.calls.tasks, a.calls.max = &a.tasks, a.cfg.MaxCalls
	return a, nil
}

// Ready is closed once gNBs can connect.
func (a *AMF) Ready() <-chan struct{} { return a.ready }

// Run serves until ctx ends, then closes the NG associations (gracefully within
// DrainTimeout), joins every goroutine and returns nil. It returns an error if N2
// could not go on, and ErrRunning when called twice.
func (a *AMF) Run(ctx context.Context) error {
	if !a.ran.CompareAndSwap(false, true) {
		return ErrRunning
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	a.tasks.open(work)
	close(a.ready)
	var failure error
	for {
		conn, err := a.n2.Accept(work)
		if err != nil {
			if ctx.Err() == nil {
				failure = fmt.Errorf("amf: accept N2: %w", err)
			}
			break
		}
		g := a.reg.addGNB(conn)
		if !a.tasks.run(func(ctx context.Context) { a.serveGNB(ctx, g) }) {
			conn.Abort()
		}
	}
	close(a.stopped)
	if err := a.n2.Close(); err != nil && failure == nil && !errors.Is(err, sctp.ErrClosed) {
		failure = fmt.Errorf("amf: close N2: %w", err)
	}
	cancel()
	a.tasks.close()
	a.reg.stopTimers()
	return failure
}
