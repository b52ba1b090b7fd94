package airlink

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/ue"
)

// radioQueue is how many events may wait for a UE.
const radioQueue = 64

// clientRadio is one RRC connection.
type clientRadio struct {
	c    *Client
	link *clientLink
	id   uint32 // set before Connect returns

	take    atomic.Pointer[func(ident.PDUSessionID, [][]byte)]
	bearers atomic.Uint32 // bit i: session i has a bearer
	noPath  atomic.Uint64 // packets dropped for lack of one

	mu     sync.Mutex // guards the closing of events
	events chan ue.RadioEvent
	over   bool
}

func (r *clientRadio) push(e ue.RadioEvent) bool {
	switch e := e.(type) {
	case ue.BearerUp:
		r.bearers.Or(1 << (e.Session & 15))
	case ue.BearerDown:
		r.bearers.And(^uint32(1 << (e.Session & 15)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return true
	}
	if len(r.events) >= cap(r.events)-1 {
		return false
	}
	r.events <- e
	return true
}

func (r *clientRadio) end(e ue.Released) {
	r.bearers.Store(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over = true
	r.events <- e // push leaves a place
	close(r.events)
}

func (r *clientRadio) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over
}

// SendNAS sends one uplink NAS message.
func (r *clientRadio) SendNAS(ctx context.Context, nas []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.ended() {
		return fmt.Errorf("%w: connection released", ue.ErrRadioLinkFailure)
	}
	if err := r.link.write(frame{frameNAS, r.id, slices.Clone(nas)}); err != nil {
		return fmt.Errorf("%w: %w", ue.ErrRadioLinkFailure, err)
	}
	return nil
}

// Events delivers what the gNB sends.
func (r *clientRadio) Events() <-chan ue.RadioEvent { return r.events }

// SendPackets sends user packets; those of a session without bearer are dropped.
func (r *clientRadio) SendPackets(id ident.PDUSessionID, qfi ident.QFI, packets [][]byte) {
	if id > 15 || r.bearers.Load()&(1<<id) == 0 {
		r.noPath.Add(uint64(len(packets)))
		return
	}
	r.c.send.send(userPacket{id, qfi, r.id}, r.link.peer, packets)
}

// SetReceiver registers who takes downlink packets.
func (r *clientRadio) SetReceiver(f func(ident.PDUSessionID, [][]byte)) { r.take.Store(&f) }

// Close drops the connection from the UE's side.
func (r *clientRadio) Close() error {
	r.c.remove(r)
	if r.ended() {
		return nil
	}
	r.end(ue.Released{})
	return r.link.write(frame{typ: frameClose, id: r.id})
}

var _ ue.Radio = (*clientRadio)(nil)
