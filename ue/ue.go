package ue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
)

// Host opens the IP interface of an established PDU session: a TUN in the UE's
// network namespace, or a userspace IP stack.
type Host interface {
	// Up opens the interface with the session's addresses. Closing the device takes
	// the interface down. It may block; ctx ends when the session does.
	Up(ctx context.Context, info SessionInfo) (tun.Device, error)
}

// Deps is the world outside a UE.
type Deps struct {
	Log  *slog.Logger                  // nil discards
	Air  func(gnb string) (Air, error) // the radio of a gNB by name; required
	Host Host                          // required
	Rand io.Reader                     // ephemeral keys of the SUCI; nil means crypto/rand
	// Trace, if set, sees every NAS PDU as it travels; it must not keep it or block.
	Trace func(uplink bool, pdu []byte)
}

// UE is one simulated user equipment. Its methods may be called from any
// goroutine; all protocol state belongs to the loop in Run.
type UE struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	board  board
	planes [16]plane
	inbox  chan func(*loop)
	ready  chan struct{}
	ended  chan struct{}
}

// New checks cfg and deps; it opens and starts nothing.
func New(cfg Config, deps Deps) (*UE, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Air == nil || deps.Host == nil {
		return nil, fmt.Errorf("ue %s: Deps.Air and Deps.Host are required", cfg.SUPI)
	}
	if deps.Rand == nil {
		deps.Rand = rand.Reader
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	u := &UE{
		cfg: cfg, deps: deps, log: deps.Log.With("supi", cfg.SUPI),
		inbox: make(chan func(*loop), 16), ready: make(chan struct{}), ended: make(chan struct{}),
	}
	u.board = board{changed: make(chan struct{}), status: Status{SUPI: cfg.SUPI}}
	return u, nil
}

// Ready is closed when Run takes commands.
func (u *UE) Ready() <-chan struct{} { return u.ready }

// SUPI is the UE's identity.
func (u *UE) SUPI() ident.SUPI { return u.cfg.SUPI }

// loop is what belongs to the goroutine in Run.
type loop struct {
	u       *UE
	m       *machine
	wg      *sync.WaitGroup
	waiters map[op][]chan result

	search context.CancelFunc // ends the running search
	camped Air                // of the machine's cell

	radio   Radio
	events  <-chan RadioEvent
	attempt int // number of the last connection attempt; results of older ones are stale
	connect context.CancelFunc

	ifaces map[ident.PDUSessionID]*iface
}

type result struct {
	info SessionInfo
	err  error
}

// Run is the UE's loop. It returns nil after ctx ends: a connected UE then sends a
// switch-off deregistration first. It must be called once.
func (u *UE) Run(ctx context.Context) error {
	runCtx, cancel := context.WithCancel(ctx)
	l := &loop{
		u: u, m: newMachine(u.cfg, u.log, u.deps.Rand), wg: &sync.WaitGroup{},
		waiters: map[op][]chan result{}, ifaces: map[ident.PDUSessionID]*iface{},
		search: func() {}, connect: func() {},
	}
	defer func() {
		l.shutdown(ctx)
		cancel()
		l.closeInterfaces()
		l.wg.Wait()
		l.drain()
		close(u.ended)
	}()
	close(u.ready)
	l.m.now = time.Now()
	if u.cfg.Autostart {
		l.m.commandRegister("")
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.perform(runCtx)
		if d, ok := l.m.timers.next(); ok {
			timer.Reset(time.Until(d))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case f := <-u.inbox:
			l.m.now = time.Now()
			f(l)
		case e, ok := <-l.events:
			l.m.now = time.Now()
			l.radioEvent(e, ok)
		case <-timer.C:
			l.m.now = time.Now()
			for _, id := range l.m.timers.expire(l.m.now) {
				l.m.timeout(id)
			}
		}
	}
}

// shutdown says goodbye, drops the radio and lets every waiter go.
func (l *loop) shutdown(ctx context.Context) {
	l.m.now = time.Now()
	if l.radio != nil && l.m.state == MMRegistered {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		l.m.commandDeregister(true)
		l.perform(bye)
		cancel()
	}
	l.dropRadio()
	l.search()
	for _, ws := range l.waiters {
		for _, w := range ws {
			w <- result{err: ErrStopped}
		}
	}
	l.m.state, l.m.cm = MMNull, cmIdle
	l.u.board.set(l.m.snapshot())
}

// drain runs what was posted too late, so that results nobody wants any more are
// closed. Commands among it are answered by ended.
func (l *loop) drain() {
	for {
		select {
		case f := <-l.u.inbox:
			f(l)
		default:
			return
		}
	}
}

// post runs f on the loop. It returns ErrStopped or ctx.Err() when that cannot be.
func (u *UE) post(ctx context.Context, f func(*loop)) error {
	select {
	case u.inbox <- f:
		return nil
	case <-u.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// perform carries out actions until the machine has none, then publishes. Results
// of commands come last: who has one sees a status that agrees with it.
func (l *loop) perform(ctx context.Context) {
	var ended []actDone
	for acts := l.m.take(); len(acts) > 0; acts = l.m.take() {
		for _, a := range acts {
			if d, ok := a.(actDone); ok {
				ended = append(ended, d)
				continue
			}
			l.do(ctx, a)
		}
	}
	l.u.board.set(l.m.snapshot())
	for _, d := range ended {
		for _, w := range l.waiters[d.op] {
			w <- result{d.info, d.err} // buffered for exactly this
		}
		delete(l.waiters, d.op)
	}
}

func (l *loop) do(ctx context.Context, a action) {
	switch a := a.(type) {
	case actSearch:
		l.startSearch(ctx, a)
	case actConnect:
		l.startConnect(ctx, a.req)
	case actSend:
		l.send(ctx, a.pdu)
	case actRelease:
		l.dropRadio()
	case actUp:
		l.openInterface(ctx, a.info)
	case actDown:
		l.closeInterface(a.id)
	case actBearer:
		p := &l.u.planes[a.id]
		if a.up && l.radio != nil {
			p.path.Store(&path{radio: l.radio, qfi: a.qfi})
		} else {
			p.path.Store(nil)
		}
	}
}

// startSearch asks the gNBs one after the other for their cell.
func (l *loop) startSearch(ctx context.Context, a actSearch) {
	l.search()
	ctx, cancel := context.WithCancel(ctx)
	l.search = cancel
	u, wait := l.u, l.m.t.CellAnswer
	l.wg.Go(func() {
		air, cell, err := u.findCell(ctx, u.cfg.order(a.prefer, a.avoid), wait)
		_ = u.post(ctx, func(l *loop) {
			if ctx.Err() != nil {
				return // a newer search replaced this one
			}
			cancel()
			if err != nil {
				l.m.noCell(err)
				return
			}
			l.camped = air
			l.m.campedOn(cell)
		})
	})
}

// order lists the gNBs to search: prefer first, avoid last.
func (c Config) order(prefer, avoid string) []string {
	var out []string
	if prefer != "" {
		out = append(out, prefer)
	}
	for _, g := range c.GNBs {
		if g != prefer && g != avoid {
			out = append(out, g)
		}
	}
	if avoid != "" && avoid != prefer {
		out = append(out, avoid)
	}
	return out
}

func (u *UE) findCell(ctx context.Context, gnbs []string, wait time.Duration) (Air, Cell, error) {
	var errs []error
	for _, g := range gnbs {
		air, err := u.deps.Air(g)
		var cell Cell
		if err == nil {
			one, cancel := context.WithTimeout(ctx, wait)
			cell, err = air.Cell(one)
			cancel()
		}
		if err == nil {
			cell.Name = g // as this UE's configuration calls it
			return air, cell, nil
		}
		errs = append(errs, fmt.Errorf("gnb %s: %w", g, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, Cell{}, fmt.Errorf("%w: %w", ErrNoCell, errors.Join(errs...))
}

func (l *loop) startConnect(ctx context.Context, req ConnectRequest) {
	l.attempt++
	attempt, air, u := l.attempt, l.camped, l.u
	ctx, cancel := context.WithCancel(ctx)
	l.connect = cancel
	u.trace(true, req.NAS)
	l.wg.Go(func() {
		radio, err := air.Connect(ctx, req)
		if err == nil {
			radio.SetReceiver(u.downlink)
		}
		f := func(l *loop) {
			if attempt != l.attempt {
				if err == nil {
					radio.Close()
				}
				return
			}
			cancel()
			if err != nil {
				l.m.connectFailed(fmt.Errorf("connect: %w", err))
				return
			}
			l.radio, l.events = radio, radio.Events()
			l.m.connected()
		}
		if u.post(ctx, f) != nil && err == nil {
			radio.Close()
		}
	})
}

// sendWait bounds how long one NAS message may wait for the radio.
const sendWait = 2 * time.Second

func (l *loop) send(ctx context.Context, pdu []byte) {
	if l.radio == nil {
		return // released meanwhile; timers repeat what matters
	}
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	l.u.trace(true, pdu)
	if err := l.radio.SendNAS(ctx, pdu); err != nil {
		// The connection's own Released event, if one comes, says why.
		l.dropRadio()
		l.m.released(fmt.Errorf("%w: send NAS: %w", ErrRadioLinkFailure, err))
	}
}

// dropRadio closes the RRC connection, or gives up setting one up.
func (l *loop) dropRadio() {
	l.attempt++
	l.connect()
	if l.radio == nil {
		return
	}
	for i := range l.u.planes {
		l.u.planes[i].path.Store(nil)
	}
	l.radio.Close()
	l.radio, l.events = nil, nil
}

func (l *loop) radioEvent(e RadioEvent, ok bool) {
	if !ok { // a Radio must say Released first; be safe against one that does not
		e = Released{Err: ErrRadioLinkFailure}
	}
	switch e := e.(type) {
	case DownlinkNAS:
		l.u.trace(false, e.NAS)
		l.m.receive(e.NAS)
	case BearerUp:
		if len(e.QFIs) > 0 {
			l.m.bearer(e.Session, true, e.QFIs[0])
		}
	case BearerDown:
		l.m.bearer(e.Session, false, 0)
	case Released:
		l.dropRadio()
		l.m.released(e.Err)
	}
}

func (u *UE) trace(uplink bool, pdu []byte) {
	if u.deps.Trace != nil {
		u.deps.Trace(uplink, pdu)
	}
}
