// Package gnb simulates a gNB: an NGAP client towards the AMF, a GTP-U end towards
// the UPF and, in place of the radio, ue.Air in the same process (package airlink
// carries it to others). RRC, PDCP, RLC, MAC and PHY are not simulated; there is no
// handover, no paging and no Xn. A GNB owns one loop goroutine, one reader of its
// N2 association, one N3 reader and, where the air is impaired, one goroutine per
// direction. Run joins them.
package gnb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

const ngapPort = sctp.PortNGAP

// Deps is the world outside a gNB.
type Deps struct {
	Log *slog.Logger // nil discards
	N2  sctp.Dialer  // required
	N3  dgram.Conn   // required; Run closes it
}

// GNB is one simulated gNB. Its methods may be called from any goroutine.
type GNB struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	inbox chan func(*loop)
	ready chan struct{}
	ended chan struct{}

	teids    *teidTable
	up, down *impairer
	tx       sync.Pool // *txBatch
	stats    stats
	serving  atomic.Bool // NG setup has succeeded; written by the loop

	mu     sync.Mutex // guards status and changed
	status Status
	change chan struct{}
}

var _ ue.Air = (*GNB)(nil)

// New checks cfg and deps; it opens and starts nothing.
func New(cfg Config, deps Deps) (*GNB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.N2 == nil || deps.N3 == nil {
		return nil, fmt.Errorf("gnb %s: Deps.N2 and Deps.N3 are required", cfg.Name)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	g := &GNB{
		cfg: cfg.withDefaults(), deps: deps, log: deps.Log.With("gnb", cfg.Name),
		inbox: make(chan func(*loop), 256), ready: make(chan struct{}), ended: make(chan struct{}),
		teids: &teidTable{}, change: make(chan struct{}),
	}
	g.tx.New = func() any { return newTxBatch() }
	g.up = newImpairer(cfg.Uplink, &g.stats.uplinkImpaired)
	g.down = newImpairer(cfg.Downlink, &g.stats.downlinkImpaired)
	g.status.Name = cfg.Name
	return g, nil
}

// Ready is closed when the first NG setup has succeeded.
func (g *GNB) Ready() <-chan struct{} { return g.ready }

// loop is what belongs to the goroutine in Run.
type loop struct {
	g    *GNB
	c    *core
	wg   sync.WaitGroup
	conn sctp.Conn
	gen  int // of the association; news of older ones is stale
	stop context.CancelFunc
}

// Run serves until ctx ends and then returns nil; every RRC connection ends with
// ue.ErrRadioLinkFailure. It returns an error if N3 fails. It must be called once.
func (g *GNB) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	l := &loop{g: g, c: newCore(g), stop: func() {}}
	l.wg.Go(func() {
		if err := g.readN3(ctx); err != nil {
			cancel(fmt.Errorf("gnb %s: N3: %w", g.cfg.Name, err))
		}
	})
	if g.up != nil {
		l.wg.Go(func() { g.up.run(ctx) })
	}
	if g.down != nil {
		l.wg.Go(func() { g.down.run(ctx) })
	}
	l.c.now = time.Now()
	l.c.startDial()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		l.perform(ctx)
		if d, ok := l.c.nextTimer(); ok {
			timer.Reset(time.Until(d))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
		case f := <-g.inbox:
			l.c.now = time.Now()
			f(l)
		case <-timer.C:
			l.c.now = time.Now()
			l.c.expire()
		}
	}
	l.c.enter(n2Down)
	l.c.releaseAll(ue.ErrRadioLinkFailure)
	l.perform(ctx)
	close(g.ended)
	if l.conn != nil {
		bye, done := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.Timers.Goodbye)
		_ = l.conn.Close(bye)
		done()
	}
	l.stop()
	g.deps.N3.Close()
	cancel(nil)
	l.wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// post runs f on the loop, or returns ErrStopped or ctx.Err().
func (g *GNB) post(ctx context.Context, f func(*loop)) error {
	select {
	case <-g.ended:
		return ErrStopped
	default:
	}
	select {
	case g.inbox <- f:
		return nil
	case <-g.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// perform carries out actions until the core has none, then publishes.
func (l *loop) perform(ctx context.Context) {
	for acts := l.c.take(); len(acts) > 0; acts = l.c.take() {
		for _, a := range acts {
			l.do(ctx, a)
		}
	}
	l.g.publish(l.c.snapshot())
	for _, f := range l.c.ended {
		f()
	}
	l.c.ended = nil
}

func (l *loop) do(ctx context.Context, a action) {
	switch a := a.(type) {
	case actDial:
		l.dial(ctx, a.addr)
	case actHangUp:
		l.hangUp()
	case actSend:
		l.send(ctx, a.msg)
	case actReady:
		select {
		case <-l.g.ready:
		default:
			close(l.g.ready)
		}
	}
}

// dial opens an association off the loop and reads it until it ends.
func (l *loop) dial(ctx context.Context, addr netip.AddrPort) {
	l.gen++
	gen, g := l.gen, l.g
	// Run's end must not abort the association: it says goodbye first, then stops us.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = cancel
	l.wg.Go(func() {
		dialCtx, done := context.WithTimeout(ctx, g.cfg.Timers.Dial)
		conn, err := g.deps.N2.Dial(dialCtx, addr)
		done()
		if err != nil {
			_ = g.post(ctx, func(l *loop) {
				if gen == l.gen {
					l.c.dialFailed(err)
				}
			})
			return
		}
		err = g.post(ctx, func(l *loop) {
			if gen == l.gen {
				l.conn = conn
				l.c.dialed()
			}
		})
		if err != nil {
			conn.Abort()
			return
		}
		for {
			m, err := conn.Recv(ctx)
			// After Run's end nobody takes it: the goodbye is under way then, and
			// reading goes on until it is over.
			_ = g.post(ctx, func(l *loop) {
				switch {
				case gen != l.gen:
				case err != nil:
					l.conn = nil
					l.c.associationLost(err)
				case m.PPID == sctp.PPIDNGAP:
					l.c.receive(m.Data)
				default:
					l.c.counters.Malformed++
				}
			})
			if err != nil {
				switch {
				case errors.Is(err, sctp.ErrClosed): // our own goodbye must be left to end
				case errors.Is(err, io.EOF): // the AMF's, which wants an answer
					bye, done := context.WithTimeout(ctx, g.cfg.Timers.Goodbye)
					if conn.Close(bye) != nil {
						conn.Abort()
					}
					done()
				default:
					conn.Abort()
				}
				return
			}
		}
	})
}

// hangUp drops the association at once.
func (l *loop) hangUp() {
	l.gen++
	l.stop()
	if l.conn != nil {
		l.conn.Abort()
		l.conn = nil
	}
}

// Streams of the association (TS 38.412 clause 7): one for non-UE-associated
// signalling, another for UEs.
const (
	streamNode = 0
	streamUE   = 1
)

func (l *loop) send(ctx context.Context, msg ngap.Message) {
	if l.conn == nil {
		return
	}
	b, err := ngap.Encode(msg)
	if err != nil {
		l.g.log.Error("NGAP message not sent", "error", fmt.Errorf("encode %T: %w", msg, err))
		return
	}
	m := sctp.Message{Stream: streamUE, PPID: sctp.PPIDNGAP, Data: b}
	switch v := msg.(type) {
	case *ngap.NGSetupRequest, *ngap.NGReset, *ngap.NGResetAcknowledge:
		m.Stream = streamNode
	case *ngap.ErrorIndication:
		if v.IDs.AMF == nil && v.IDs.RAN == nil {
			m.Stream = streamNode
		}
	}
	if err := l.conn.Send(ctx, m); err != nil && ctx.Err() == nil {
		l.hangUp()
		l.c.associationLost(err)
	}
}

// Reset runs an NG reset of the whole interface (TS 38.413 clause 8.7.4.2.2), as
// operation and maintenance would: every UE is released. It returns when the AMF
// has acknowledged, ErrNotServing, ErrStopped or ctx.Err().
func (g *GNB) Reset(ctx context.Context) error {
	done := make(chan error, 1)
	if err := g.post(ctx, func(l *loop) { l.c.commandReset(done) }); err != nil {
		return fmt.Errorf("gnb %s: reset: %w", g.cfg.Name, err)
	}
	var err error
	select {
	case err = <-done:
	case <-g.ended:
		err = ErrStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("gnb %s: reset: %w", g.cfg.Name, err)
	}
	return nil
}

// Status is a copy of what a gNB is doing.
type Status struct {
	Name     string
	Serving  bool // NG setup has succeeded
	AMF      string
	AMFAddr  netip.AddrPort
	UEs      int   // UE contexts
	Sessions int   // PDU session resources
	Err      error // why the last N2 attempt failed; nil while serving
	Counters Counters
}

// UEStatus is one UE context.
type UEStatus struct {
	RAN      uint32
	AMF      int64 // -1: not known yet
	Sessions []ident.PDUSessionID
}

// Counters of a gNB. Those of packets count since New.
type Counters struct {
	Malformed        uint64 // NGAP messages that did not decode
	WrongState       uint64 // NGAP messages not compatible with the state
	UnknownID        uint64 // NGAP messages for unknown or inconsistent UE IDs
	ErrorIndications uint64 // NGAP Error Indications received
	Associations     uint64 // NG setups that succeeded

	UplinkPackets, UplinkBytes     uint64
	DownlinkPackets, DownlinkBytes uint64
	UplinkNoBearer                 uint64 // dropped: no bearer for the session
	UplinkFailed                   uint64 // dropped: the socket refused
	DownlinkNoReceiver             uint64 // dropped: the UE is not listening
	UnknownTEID                    uint64 // G-PDUs answered with Error Indication
	GTPMalformed                   uint64
	EndMarkers                     uint64
	GTPErrors                      uint64 // GTP-U Error Indications received
	UplinkImpaired                 uint64 // lost by the simulated air
	DownlinkImpaired               uint64
}

// stats are the counters of the packet path.
type stats struct {
	uplinkPackets, uplinkBytes, downlinkPackets, downlinkBytes atomic.Uint64
	uplinkNoBearer, uplinkFailed, downlinkNoReceiver           atomic.Uint64
	unknownTEID, gtpMalformed, endMarkers, gtpErrors           atomic.Uint64
	uplinkImpaired, downlinkImpaired                           atomic.Uint64
}

func (s *stats) fill(c *Counters) {
	c.UplinkPackets, c.UplinkBytes = s.uplinkPackets.Load(), s.uplinkBytes.Load()
	c.DownlinkPackets, c.DownlinkBytes = s.downlinkPackets.Load(), s.downlinkBytes.Load()
	c.UplinkNoBearer, c.UplinkFailed = s.uplinkNoBearer.Load(), s.uplinkFailed.Load()
	c.DownlinkNoReceiver = s.downlinkNoReceiver.Load()
	c.UnknownTEID, c.GTPMalformed = s.unknownTEID.Load(), s.gtpMalformed.Load()
	c.EndMarkers, c.GTPErrors = s.endMarkers.Load(), s.gtpErrors.Load()
	c.UplinkImpaired, c.DownlinkImpaired = s.uplinkImpaired.Load(), s.downlinkImpaired.Load()
}

func (g *GNB) publish(s Status) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = s
	close(g.change)
	g.change = make(chan struct{})
}

func (g *GNB) look() (Status, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.status, g.change
}

// Status returns a copy.
func (g *GNB) Status() Status {
	s, _ := g.look()
	g.stats.fill(&s.Counters)
	return s
}

// Wait blocks until ok says true of the gNB's status, which it is asked at once and
// after every change other than of packet counters. It returns ctx.Err() or
// ErrStopped.
func (g *GNB) Wait(ctx context.Context, ok func(Status) bool) error {
	for {
		_, changed := g.look()
		if ok(g.Status()) {
			return nil
		}
		select {
		case <-changed:
		case <-g.ended:
			if ok(g.Status()) {
				return nil
			}
			return ErrStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *core) snapshot() Status {
	return Status{
		Name: c.cfg.Name, Serving: c.n2 == n2Up, AMF: c.amfName, AMFAddr: c.amfAddr,
		UEs: len(c.ues), Sessions: c.bearers, Err: c.lastErr, Counters: c.counters,
	}
}

// Contexts lists the UE contexts by RAN UE NGAP ID. It returns ErrStopped or
// ctx.Err().
func (g *GNB) Contexts(ctx context.Context) ([]UEStatus, error) {
	out := make(chan []UEStatus, 1)
	if err := g.post(ctx, func(l *loop) { out <- l.c.contexts() }); err != nil {
		return nil, err
	}
	select {
	case s := <-out:
		return s, nil
	case <-g.ended:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *core) contexts() (out []UEStatus) {
	for _, ran := range slices.Sorted(maps.Keys(c.ues)) {
		u := c.ues[ran]
		v := UEStatus{RAN: ran, AMF: -1, Sessions: slices.Sorted(maps.Keys(u.bearers))}
		if u.hasAMF {
			v.AMF = u.amf
		}
		out = append(out, v)
	}
	return out
}
