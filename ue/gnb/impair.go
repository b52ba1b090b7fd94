package gnb

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// impairer is one direction of an impaired air: a bounded queue and one goroutine
// (run). It is nil where nothing is configured.
type impairer struct {
	cfg   Impairment
	queue chan impaired
	mem   sync.Pool // *[]byte
	lost  *atomic.Uint64
}

type impaired struct {
	buf  *[]byte
	at   time.Time // not before
	emit func([][]byte)
}

func newImpairer(cfg Impairment, lost *atomic.Uint64) *impairer {
	if cfg.none() {
		return nil
	}
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	i := &impairer{cfg: cfg, queue: make(chan impaired, cfg.Queue), lost: lost}
	i.mem.New = func() any { return new([]byte) }
	return i
}

// enqueue copies packets into the queue; it never blocks. What is lost or finds the
// queue full is counted.
func (i *impairer) enqueue(packets [][]byte, emit func([][]byte)) {
	for _, p := range packets {
		if i.cfg.Loss > 0 && rand.Float64() < i.cfg.Loss {
			i.lost.Add(1)
			continue
		}
		d := i.cfg.Delay
		if i.cfg.Jitter > 0 {
			d += rand.N(i.cfg.Jitter)
		}
		buf := i.mem.Get().(*[]byte)
		*buf = append((*buf)[:0], p...)
		select {
		case i.queue <- impaired{buf, time.Now().Add(d), emit}:
		default:
			i.lost.Add(1)
			i.mem.Put(buf)
		}
	}
}

// run releases packets in order, each not before its time and not faster than the
// rate.
func (i *impairer) run(ctx context.Context) {
	var free time.Time // when the cell has sent the packet before
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	one := make([][]byte, 1)
	for {
		var p impaired
		select {
		case p = <-i.queue:
		case <-ctx.Done():
			return
		}
		at := p.at
		if i.cfg.Rate > 0 {
			if free.After(at) {
				at = free
			}
			at = at.Add(time.Duration(float64(len(*p.buf)*8) / float64(i.cfg.Rate) * float64(time.Second)))
			free = at
		}
		if wait := time.Until(at); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		one[0] = *p.buf
		p.emit(one)
		i.mem.Put(p.buf)
	}
}
