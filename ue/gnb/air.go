package gnb

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/ue"
)

// Cell answers while the gNB serves: without N2 the cell is barred, and the error
// wraps ErrNotServing or ErrStopped.
func (g *GNB) Cell(ctx context.Context) (ue.Cell, error) {
	select {
	case <-g.ended:
		return ue.Cell{}, fmt.Errorf("gnb %s: %w", g.cfg.Name, ErrStopped)
	default:
	}
	if err := ctx.Err(); err != nil {
		return ue.Cell{}, err
	}
	if !g.serving.Load() {
		return ue.Cell{}, fmt.Errorf("gnb %s: %w", g.cfg.Name, ErrNotServing)
	}
	return ue.Cell{Name: g.cfg.Name, Location: g.cfg.location()}, nil
}

// Connect sets up an RRC connection. The error wraps ErrNotServing, ErrStopped or
// ctx.Err().
func (g *GNB) Connect(ctx context.Context, req ue.ConnectRequest) (ue.Radio, error) {
	r := &radio{g: g, events: make(chan ue.RadioEvent, radioQueue), ended: make(chan struct{})}
	req.NAS = slices.Clone(req.NAS)
	done := make(chan error, 1)
	err := g.post(ctx, func(l *loop) {
		if err := ctx.Err(); err != nil {
			done <- err
			return
		}
		done <- l.c.connect(r, req)
	})
	if err == nil {
		select {
		case err = <-done:
		case <-g.ended:
			err = ErrStopped
		}
	}
	if err != nil {
		return nil, fmt.Errorf("gnb %s: connect: %w", g.cfg.Name, err)
	}
	return r, nil
}

// radioQueue is how many events may wait for a UE. NAS procedures need a handful.
const radioQueue = 64

// radio is one RRC connection of a UE in the same process.
type radio struct {
	g       *GNB
	ran     uint32 // written by the loop before Connect returns
	events  chan ue.RadioEvent
	ended   chan struct{} // closed with events
	once    sync.Once
	take    atomic.Pointer[func(ident.PDUSessionID, [][]byte)]
	bearers [16]atomic.Pointer[bearer]
}

// push queues an event, called by the loop alone. The last place is kept for
// Released.
func (r *radio) push(e ue.RadioEvent) bool {
	if len(r.events) >= cap(r.events)-1 {
		return false
	}
	r.events <- e
	return true
}

// end sends Released and closes, called by the loop alone.
func (r *radio) end(err error) {
	r.once.Do(func() {
		for i := range r.bearers {
			r.bearers[i].Store(nil)
		}
		r.events <- ue.Released{Err: err}
		close(r.events)
		close(r.ended)
	})
}

// SendNAS sends one uplink NAS message.
func (r *radio) SendNAS(ctx context.Context, nas []byte) error {
	select {
	case <-r.ended:
		return fmt.Errorf("%w: connection released", ue.ErrRadioLinkFailure)
	default:
	}
	nas = slices.Clone(nas)
	if err := r.g.post(ctx, func(l *loop) { l.c.uplinkNAS(r, nas) }); err != nil {
		return fmt.Errorf("%w: %w", ue.ErrRadioLinkFailure, err)
	}
	return nil
}

// Events delivers what the gNB sends.
func (r *radio) Events() <-chan ue.RadioEvent { return r.events }

// SetReceiver registers who takes downlink packets.
func (r *radio) SetReceiver(f func(ident.PDUSessionID, [][]byte)) { r.take.Store(&f) }

// Close drops the connection from the UE's side.
func (r *radio) Close() error {
	select {
	case r.g.inbox <- func(l *loop) { l.c.radioClosed(r) }:
	case <-r.ended:
	case <-r.g.ended:
	}
	return nil
}

// radioClosed is Close on the loop.
func (c *core) radioClosed(r *radio) {
	u := c.ues[r.ran]
	if u == nil || u.radio != r {
		return
	}
	r.end(nil)
	c.radioGone(u)
}
