package gnb

import (
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
)

// bearer is the user plane of one PDU session: immutable once published.
type bearer struct {
	id      ident.PDUSessionID
	teid    ident.TEID // ours, downlink
	uplink  ident.FTEID
	upf     netip.AddrPort
	flows   uint64 // bit q: QFI q is set up
	def     ident.QFI
	radio   *radio
	qfis    []ident.QFI
	marked  atomic.Bool // end marker seen
	refused atomic.Bool // the UPF sent an Error Indication: reported once
}

// errNoTEID: every slot of the table is taken.
var errNoTEID = errors.New("gnb: no free TEID")

// A TEID is a slot number in its low slotBits and a generation above, so that a
// TEID is not used again soon after its bearer has gone.
const (
	slotBits  = 20
	chunkBits = 10
	chunkSize = 1 << chunkBits
	slotMask  = 1<<slotBits - 1
)

type chunk [chunkSize]atomic.Pointer[bearer]

// teidTable finds bearers by TEID. lookup is wait-free and may be called by any
// goroutine; add and remove belong to the gNB's loop.
type teidTable struct {
	chunks [1 << (slotBits - chunkBits)]atomic.Pointer[chunk]

	used       uint32   // slots ever handed out; slot 0 never is
	free       []uint32 // given back, oldest first
	generation uint32
}

func (t *teidTable) lookup(teid ident.TEID) *bearer {
	slot := uint32(teid) & slotMask
	c := t.chunks[slot>>chunkBits].Load()
	if c == nil {
		return nil
	}
	if b := c[slot&(chunkSize-1)].Load(); b != nil && b.teid == teid {
		return b
	}
	return nil
}

// add gives b a TEID and publishes it.
func (t *teidTable) add(b *bearer) error {
	var slot uint32
	switch {
	case len(t.free) > chunkSize || (t.used == slotMask && len(t.free) > 0):
		slot, t.free = t.free[0], t.free[1:]
	case t.used < slotMask:
		t.used++
		slot = t.used
	default:
		return errNoTEID
	}
	t.generation++
	b.teid = ident.TEID(t.generation<<slotBits | slot)
	p := &t.chunks[slot>>chunkBits]
	if p.Load() == nil {
		p.Store(new(chunk))
	}
	p.Load()[slot&(chunkSize-1)].Store(b)
	return nil
}

func (t *teidTable) remove(b *bearer) {
	slot := uint32(b.teid) & slotMask
	t.chunks[slot>>chunkBits].Load()[slot&(chunkSize-1)].Store(nil)
	t.free = append(t.free, slot)
}
