// Package smf is the Session Management Function (TS 23.501 clause 6.2.2, Release
// 17): it makes, changes and releases PDU sessions, gives UEs their addresses,
// controls user plane functions over N4 and keeps the directory of which UE is
// reachable where.
//
// Run owns every goroutine: one reads N4, one per UPF keeps its association, one
// per session owns that session's state, one per subscriber delivers events. A
// session's machine (machine.go) performs no I/O; its goroutine does, and blocking
// calls run beside it and come back as events.
//
// Traffic that a UPF reports goes to the CHF, if there is one (charging.go). What the
// CHF has not taken when Run ends is lost.
//
// It does not offer IPv6 yet, nor SSC modes 2 and 3 or paging. When Run
// ends, UPFs keep their sessions: traffic goes on until an SMF associates again.
package smf

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

// Deps is what an SMF needs from outside.
type Deps struct {
	Log            *slog.Logger                              // nil discards
	N4             dgram.Conn                                // Run closes it. Required
	SubscriberData sbi.SubscriberData                        // the UDM. Required
	UEContext      sbi.UEContext                             // the UDM. Required
	AMF            func(sbi.NFID) (sbi.Communication, error) // finds the AMF of a UE. Required
	Rand           io.Reader                                 // for SEIDs and sequence numbers. Required
	Charging       sbi.Charging                              // the CHF; nil: traffic is counted in Status only
}

// SMF implements sbi.Sessions, sbi.SessionEvents and sbi.SessionControl. All its
// methods may be called from any goroutine, before, while and after Run runs.
type SMF struct {
	cfg       Config
	deps      Deps
	log       *slog.Logger
	upfs      *upfTable
	n4        *n4
	local     netip.Addr // of our F-SEIDs
	directory *directory
	counters  counters
	charger   *charger
	instance  string // makes charging IDs unique across restarts

	tasks chan func(context.Context) // run by Run
	ended chan struct{}              // closed when Run takes no more tasks
	ready chan struct{}

	mu     sync.Mutex // guards what follows
	next   ident.SEID
	byRef  map[sbi.SMContextRef]*session
	byKey  map[sessionKey]*session
	bySEID map[ident.SEID]*session // also sessions that only their UPF still knows
}

type counters struct {
	established, refused, released, modified              atomic.Uint64
	malformedN1, unexpectedN1, malformedN2, unexpectedN2  atomic.Uint64
	n4Failures, transferFailures, unencodable, superseded atomic.Uint64
	orphans, chargingSent, chargingFailures, chargingLost atomic.Uint64
}

// Interfaces that the SMF serves.
var (
	_ sbi.Sessions       = (*SMF)(nil)
	_ sbi.SessionEvents  = (*SMF)(nil)
	_ sbi.SessionControl = (*SMF)(nil)
)

// New checks cfg and d. It opens nothing and starts nothing.
func New(cfg Config, d Deps) (*SMF, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for name, missing := range map[string]bool{
		"N4": d.N4 == nil, "SubscriberData": d.SubscriberData == nil, "UEContext": d.UEContext == nil,
		"AMF": d.AMF == nil, "Rand": d.Rand == nil,
	} {
		if missing {
			return nil, fmt.Errorf("smf: Deps.%s is nil", name)
		}
	}
	local := d.N4.LocalAddr().Addr().Unmap()
	if local.IsUnspecified() || !local.IsValid() {
		local = cfg.N4.Addr()
	}
	if !local.IsValid() || local.IsUnspecified() {
		return nil, errors.New("smf: n4 has no address: bind the N4 socket to one, or set n4, such as 10.0.4.1:8805")
	}
	var seed [24]byte
	if _, err := io.ReadFull(d.Rand, seed[:]); err != nil {
		return nil, fmt.Errorf("smf: read random numbers: %w", err)
	}
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("nf", "smf", "smf_id", string(cfg.NFID))
	cfg = cfg.withDefaults()
	node := pfcp.NodeID{Addr: local}
	if cfg.Node != "" {
		if a, err := netip.ParseAddr(cfg.Node); err == nil {
			node.Addr = a
		} else {
			node = pfcp.NodeID{FQDN: cfg.Node}
		}
	}
	recovery := time.Now().UTC().Truncate(time.Second)
	a := &SMF{
		cfg: cfg, deps: d, log: log, local: local,
		upfs:      newUPFTable(cfg, ident.TEID(binary.BigEndian.Uint32(seed[12:]))),
		n4:        newN4(d.N4, cfg.Timers, log, node, recovery, binary.BigEndian.Uint32(seed[8:])&0xffffff),
		directory: newDirectory(cfg.EventQueue, time.Now),
		tasks:     make(chan func(context.Context)),
		ended:     make(chan struct{}),
		ready:     make(chan struct{}),
		next:      ident.SEID(binary.BigEndian.Uint64(seed[:])),
		byRef:     map[sbi.SMContextRef]*session{},
		byKey:     map[sessionKey]*session{},
		bySEID:    map[ident.SEID]*session{},
		instance:  hex.EncodeToString(seed[16:]),
	}
	a.charger = &charger{
		chf: d.Charging, spawn: a.spawn, log: log, timeout: cfg.Timers.SBI, keep: cfg.Usage.Keep,
		window: make(chan struct{}, chargingWindow), counters: &a.counters,
	}
	return a, nil
}

// Run serves until ctx is done, and then returns nil; or until N4 fails. It may be
// called once.
func (a *SMF) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	defer close(a.ended)

	failed := make(chan error, 1)
	all.Go(func() {
		failed <- a.n4.read(func(t transaction, h pfcp.Header, m pfcp.Message) { a.request(ctx, t, h, m) })
	})
	all.Go(func() {
		<-ctx.Done()
		if err := a.deps.N4.Close(); err != nil {
			a.log.Debug("n4 close failed", "error", err)
		}
	})

	var tried sync.WaitGroup
	for _, u := range a.upfs.list {
		tried.Add(1)
		as := &association{u: u, table: a.upfs, n4: a.n4, t: a.cfg.Timers, log: a.log, tried: sync.OnceFunc(tried.Done)}
		all.Go(func() {
			defer as.tried()
			as.run(ctx)
		})
	}
	all.Go(func() {
		tried.Wait()
		close(a.ready)
	})

	a.log.Info("smf started", "n4", a.deps.N4.LocalAddr())
	for {
		select {
		case f := <-a.tasks:
			all.Go(func() { f(ctx) })
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("smf: n4: %w", err)
		case <-ctx.Done():
			return nil
		}
	}
}

// Ready is closed once the SMF serves and has tried each UPF: those that answered
// are associated.
func (a *SMF) Ready() <-chan struct{} { return a.ready }

// spawn has Run run f, and waits for Run to begin.
func (a *SMF) spawn(ctx context.Context, f func(context.Context)) error {
	select {
	case a.tasks <- f:
		return nil
	case <-a.ended:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrStopped, ctx.Err())
	}
}
