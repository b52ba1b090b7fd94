package datapath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// uplinkBuffer takes any G-PDU that a jumbo frame brings; longer ones are cut off
// by the socket and then malformed.
const uplinkBuffer = 9216

// uplinkWorker carries packets from N3 to the N6 devices. It is the only reader of N3.
type uplinkWorker struct {
	p   *Plain
	in  []dgram.Datagram
	out [][][]byte // by network index; the packets alias in
	tally
}

func (p *Plain) newUplink() *uplinkWorker {
	w := &uplinkWorker{p: p, in: make([]dgram.Datagram, p.cfg.BatchSize), out: make([][][]byte, len(p.byIdx))}
	for i := range w.in {
		w.in[i].Buf = make([]byte, uplinkBuffer)
	}
	for i := range w.out {
		w.out[i] = make([][]byte, 0, len(w.in))
	}
	return w
}

func (p *Plain) uplink() error {
	w := p.newUplink()
	for {
		n, err := p.n3.ReadBatch(w.in)
		if closedErr(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read N3: %w", err)
		}
		w.batch(w.in[:n], p.now())
	}
}

// batch carries the datagrams of one read.
func (w *uplinkWorker) batch(ds []dgram.Datagram, now int64) {
	for i := range ds {
		w.outcomes[w.packet(&ds[i], now)]++
	}
	for i, pkts := range w.out {
		if len(pkts) == 0 {
			continue
		}
		n, err := w.p.byIdx[i].dev.Write(pkts, 0)
		w.failed += uint64(len(pkts) - n)
		clear(pkts)
		w.out[i] = pkts[:0]
		if err != nil && !closedErr(err) {
			if w.p.first(warnN6Write) {
				w.p.log.Warn("write N6", "network", w.p.byIdx[i].name, "error", err)
			}
		}
	}
	w.p.count.add(&w.tally, true)
}

func (w *uplinkWorker) packet(d *dgram.Datagram, now int64) outcome {
	p := w.p
	h, payload, err := gtpu.Parse(d.Buf[:d.N])
	if err != nil {
		if errors.Is(err, gtpu.ErrUnknownExtension) {
			p.notifyExtensions(d.Addr, now)
			return unknownExtension
		}
		if p.first(warnMalformed) {
			p.log.Warn("malformed GTP-U", "peer", d.Addr, "error", err)
		}
		return malformed
	}
	if h.Type != gtpu.GPDU {
		return p.signalling(h, payload, d.Addr)
	}
	var rules *ruleSet
	if s := p.sessions.byTEID.lookup(teidKey(h.TEID)); s != nil {
		rules = s.rules.Load()
	}
	if rules == nil {
		p.indicateError(h.TEID, d.Addr, now)
		return unknownTEID
	}
	src, _, ok := addresses(payload)
	if !ok {
		if p.first(warnMalformed) {
			p.log.Warn("G-PDU without IP packet", "peer", d.Addr, "teid", h.TEID)
		}
		return malformed
	}
	r, why := rules.matchUplink(h, src)
	if r == nil {
		if why == spoofed {
			if p.first(warnSpoofed) {
				p.log.Warn("uplink source address is not the UE's", "peer", d.Addr, "teid", h.TEID)
			}
		}
		return why
	}
	if o := r.police(len(payload), now); o != forwarded {
		return o
	}
	p.measure(r, len(payload), true)
	w.bytes += uint64(len(payload))
	w.out[r.to.index] = append(w.out[r.to.index], payload)
	return forwarded
}

// matchUplink finds the PDR of a G-PDU, or says why there is none.
func (s *ruleSet) matchUplink(h gtpu.Header, src ueKey) (*rule, outcome) {
	why := noRule
	for _, r := range s.uplink {
		if r.teid != h.TEID || r.hasQFI && (!h.HasQFI || h.QFI != r.qfi) {
			continue
		}
		if len(r.ues) != 0 && !slices.Contains(r.ues, src) {
			why = spoofed
			continue
		}
		return r, forwarded
	}
	return nil, why
}

// police applies FAR action, gates and rates to a packet of n bytes. A packet that
// one meter refuses has already been taken out of the meters before it.
func (r *rule) police(n int, now int64) outcome {
	switch r.action {
	case Drop:
		return actionDrop
	case Buffer:
		return buffered
	}
	if r.closed {
		return gateClosed
	}
	for _, m := range r.meters {
		if !m.allow(n, now) {
			return rateExceeded
		}
	}
	return forwarded
}
