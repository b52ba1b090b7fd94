package gnb

import (
	"context"
	"errors"
	"net/netip"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/ue"
)

const (
	batch      = 64
	maxPacket  = 9216 // largest user packet carried
	bufferSize = maxPacket + gtpu.GPDUWithQFISize
)

// txBatch is scratch space for one batch of uplink G-PDUs.
type txBatch struct {
	ds  [batch]dgram.Datagram
	mem [batch][]byte
}

func newTxBatch() *txBatch { return &txBatch{} }

// buf returns a buffer for a datagram of n bytes, kept for the next use.
func (t *txBatch) buf(i, n int) []byte {
	if cap(t.mem[i]) < n {
		t.mem[i] = make([]byte, max(n, 2048))
	}
	return t.mem[i][:cap(t.mem[i])]
}

// SendPackets sends uplink packets of one session: to the UPF at once, or through
// the impaired air.
func (r *radio) SendPackets(id ident.PDUSessionID, qfi ident.QFI, packets [][]byte) {
	g := r.g
	var b *bearer
	if int(id) < len(r.bearers) {
		b = r.bearers[id].Load()
	}
	if b == nil {
		g.stats.uplinkNoBearer.Add(uint64(len(packets)))
		return
	}
	if b.flows&(1<<(qfi&63)) == 0 {
		qfi = b.def
	}
	if g.up != nil {
		g.up.enqueue(packets, func(p [][]byte) { g.sendUplink(b, qfi, p) })
		return
	}
	g.sendUplink(b, qfi, packets)
}

// sendUplink wraps packets in G-PDUs with the UL PDU SESSION INFORMATION container
// (TS 38.415 clause 5.5.2.2).
func (g *GNB) sendUplink(b *bearer, qfi ident.QFI, packets [][]byte) {
	t := g.tx.Get().(*txBatch)
	defer g.tx.Put(t)
	h := gtpu.Header{Type: gtpu.GPDU, TEID: b.uplink.TEID, HasQFI: true, QFI: qfi, Uplink: true}
	size := h.Size()
	for len(packets) > 0 {
		n, bytes := 0, 0
		for _, p := range packets[:min(len(packets), batch)] {
			if len(p) > maxPacket {
				continue
			}
			buf := t.buf(n, size+len(p))
			h.Put(buf, len(p))
			copy(buf[size:], p)
			t.ds[n] = dgram.Datagram{Buf: buf, N: size + len(p), Addr: b.upf}
			n++
			bytes += len(p)
		}
		sent, _ := g.deps.N3.WriteBatch(t.ds[:n]) // what was not sent is counted
		g.stats.uplinkPackets.Add(uint64(sent))
		g.stats.uplinkBytes.Add(uint64(bytes))
		g.stats.uplinkFailed.Add(uint64(min(len(packets), batch) - sent))
		packets = packets[min(len(packets), batch):]
	}
}

// readN3 is the N3 reader: it ends when N3 is closed.
func (g *GNB) readN3(ctx context.Context) error {
	ds := make([]dgram.Datagram, batch)
	for i := range ds {
		ds[i].Buf = make([]byte, bufferSize)
	}
	packets := make([][]byte, 0, batch)
	for {
		n, err := g.deps.N3.ReadBatch(ds)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		var current *bearer // packets collected so far are its
		for i := range ds[:n] {
			h, payload, err := gtpu.Parse(ds[i].Buf[:ds[i].N])
			if err != nil || h.Type != gtpu.GPDU {
				g.signalling(h, payload, err, ds[i].Addr)
				continue
			}
			b := g.teids.lookup(h.TEID)
			if b == nil {
				g.unknownTEID(h.TEID, ds[i].Addr)
				continue
			}
			if b != current && current != nil {
				g.sendDownlink(current, packets)
				packets = packets[:0]
			}
			current = b
			packets = append(packets, payload)
		}
		if current != nil {
			g.sendDownlink(current, packets)
			packets = packets[:0]
		}
	}
}

func (g *GNB) sendDownlink(b *bearer, packets [][]byte) {
	if g.down != nil {
		g.down.enqueue(packets, func(p [][]byte) { g.deliverDownlink(b, p) })
		return
	}
	g.deliverDownlink(b, packets)
}

func (g *GNB) deliverDownlink(b *bearer, packets [][]byte) {
	f := b.radio.take.Load()
	if f == nil {
		g.stats.downlinkNoReceiver.Add(uint64(len(packets)))
		return
	}
	bytes := 0
	for _, p := range packets {
		bytes += len(p)
	}
	g.stats.downlinkPackets.Add(uint64(len(packets)))
	g.stats.downlinkBytes.Add(uint64(bytes))
	(*f)(b.id, packets)
}

// signalling handles everything on N3 but good G-PDUs (TS 29.281 clause 7).
func (g *GNB) signalling(h gtpu.Header, payload []byte, err error, from netip.AddrPort) {
	var answer []byte
	switch {
	case errors.Is(err, gtpu.ErrUnknownExtension):
		g.stats.gtpMalformed.Add(1)
		answer, err = gtpu.EncodeSupportedExtensionHeaders()
	case err != nil:
		g.stats.gtpMalformed.Add(1)
		return
	case h.Type == gtpu.EchoRequest:
		answer, err = gtpu.EncodeEchoResponse(h.Sequence)
	case h.Type == gtpu.EndMarker:
		// The path switched elsewhere: nothing more comes, nothing is to be done.
		g.stats.endMarkers.Add(1)
		if b := g.teids.lookup(h.TEID); b != nil {
			b.marked.Store(true)
		}
	case h.Type == gtpu.ErrorIndication:
		var at ident.FTEID
		if at, err = gtpu.DecodeErrorIndication(payload); err != nil {
			g.stats.gtpMalformed.Add(1)
			return
		}
		g.stats.gtpErrors.Add(1)
		at.Addr = at.Addr.Unmap()
		select {
		case g.inbox <- func(l *loop) { l.c.tunnelRefused(at) }:
		default: // the next packet brings another
		}
	case h.Type == gtpu.EchoResponse || h.Type == gtpu.SupportedExtensionHeaders:
	default:
		g.stats.gtpMalformed.Add(1)
	}
	if err == nil && answer != nil {
		g.answer(answer, from)
	}
}

// unknownTEID answers a G-PDU for a tunnel that does not exist here, unless its TEID
// is all zeros (TS 29.281 clause 7.3.1). The answer goes to the registered port
// (clause 4.4.2.5).
func (g *GNB) unknownTEID(teid ident.TEID, from netip.AddrPort) {
	g.stats.unknownTEID.Add(1)
	if teid == 0 {
		return
	}
	b, err := gtpu.EncodeErrorIndication(ident.FTEID{Addr: g.cfg.N3.Addr().Unmap(), TEID: teid})
	if err != nil {
		return
	}
	g.answer(b, netip.AddrPortFrom(from.Addr(), gtpu.Port))
}

func (g *GNB) answer(b []byte, to netip.AddrPort) {
	ds := [1]dgram.Datagram{{Buf: b, N: len(b), Addr: to}}
	_, _ = g.deps.N3.WriteBatch(ds[:]) // lost answers are the asker's to repeat
}

var _ ue.Radio = (*radio)(nil)
