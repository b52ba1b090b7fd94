package datapath

import (
	"fmt"
	"slices"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// headroom stays free before each packet that N6 is read into; the GTP-U header is
// written there.
const headroom = gtpu.GPDUWithQFISize

// downlinkWorker carries packets from one N6 device to N3.
type downlinkWorker struct {
	p     *Plain
	n     *network
	bufs  [][]byte
	sizes []int
	out   []dgram.Datagram // their buffers alias bufs
	tally
}

func (p *Plain) newDownlink(n *network) *downlinkWorker {
	batch := min(p.cfg.BatchSize, max(n.dev.BatchSize(), 1))
	w := &downlinkWorker{p: p, n: n, bufs: make([][]byte, batch), sizes: make([]int, batch), out: make([]dgram.Datagram, 0, batch)}
	for i := range w.bufs {
		w.bufs[i] = make([]byte, headroom+n.dev.MTU())
	}
	return w
}

func (p *Plain) downlink(n *network) error {
	w := p.newDownlink(n)
	for {
		k, err := n.dev.Read(w.bufs, w.sizes, headroom)
		if closedErr(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read N6 %q: %w", n.name, err)
		}
		w.batch(k, p.now())
	}
}

// batch carries the first k packets of bufs.
func (w *downlinkWorker) batch(k int, now int64) {
	for i := range k {
		w.outcomes[w.packet(w.bufs[i][:headroom+w.sizes[i]], now)]++
	}
	w.send()
	w.p.count.add(&w.tally, false)
}

// packet takes b, headroom and then the packet.
func (w *downlinkWorker) packet(b []byte, now int64) outcome {
	pkt := b[headroom:]
	_, dst, ok := addresses(pkt)
	if !ok {
		return notIP
	}
	s := w.n.byUE.lookup(dst)
	if s == nil {
		return unknownUE
	}
	rules := s.rules.Load()
	if rules == nil {
		return unknownUE
	}
	r := rules.matchDownlink(w.n, dst)
	if r == nil {
		return noRule
	}
	if o := r.police(len(pkt), now); o != forwarded {
		if o == buffered {
			w.p.downlinkData(s.id, r)
		}
		return o
	}
	w.p.measure(r, len(pkt), false)
	w.bytes += uint64(len(pkt))
	b = b[headroom-r.head.Size():]
	r.head.Put(b, len(pkt))
	w.out = append(w.out, dgram.Datagram{Buf: b, N: len(b), Addr: r.outer})
	return forwarded
}

func (s *ruleSet) matchDownlink(n *network, dst ueKey) *rule {
	for _, r := range s.downlink {
		if r.network == n && slices.Contains(r.ues, dst) {
			return r
		}
	}
	return nil
}

// downlinkData makes the event of a buffering rule, once.
func (p *Plain) downlinkData(id ident.SEID, r *rule) {
	if r.notify && !r.notified.Load() && r.notified.CompareAndSwap(false, true) {
		if !p.post(Event{Kind: DownlinkData, Session: id, PDR: r.pdr}) {
			r.notified.Store(false)
		}
	}
}

// send writes out and empties it. The socket skips what it cannot send.
func (w *downlinkWorker) send() {
	if len(w.out) == 0 {
		return
	}
	n, err := w.p.n3.WriteBatch(w.out)
	w.failed += uint64(len(w.out) - n)
	if err != nil && !closedErr(err) {
		if w.p.first(warnN3Send) {
			w.p.log.Warn("send N3", "error", err)
		}
	}
	clear(w.out)
	w.out = w.out[:0]
}
