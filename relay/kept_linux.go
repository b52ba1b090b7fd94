package relay

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The sides of a pair at which another relay can be.
const (
	atOuter = 0 // we are the inner relay
	atInner = 1
)

// keptFor is how long a connection to an inner relay waits for another client.
const keptFor = 30 * time.Second

// keeper takes over the connection to another relay when the link that it carried has
// ended in order. The link's other socket is closed; keep ends the link.
type keeper interface {
	keep(l *loop, i uint32, p *pair)
}

// again is Greeting.Again as a keeper.
type again func(*Socket)

func (a again) keep(l *loop, i uint32, p *pair) {
	a(l.socket(p.fd[atOuter])) // before the end is told: whoever waits for that knows of it
	l.remove(i, p, Closed, nil)
}

// pool has a loop's connections to one inner relay that wait for another client.
type pool struct {
	free []uint32 // their slots; the last one came last
	owed int      // how many more the inner relay has yet to release
}

// keep has the connection wait in its slot.
func (k *pool) keep(l *loop, i uint32, p *pair) {
	h, s := p.half[atInner], p.side[atInner]
	link := l.tidy(i, p)
	link.slot = noSlot
	p.reset([2]int32{noFD, p.fd[atInner]})
	p.side[atInner] = s
	w := &waiting{pool: k, released: h.free}
	next := l.newLink(&Link{task: w})
	l.links[i], next.slot = next, i
	w.wait(l, i, p)
	link.over(Closed, nil)
}

// waiting is a connection to an inner relay which that has yet to release, or which waits
// in its pool.
type waiting struct {
	*pool
	released bool    // when it began to wait
	free     bool    // it is in the pool
	socket   *Socket // before begin, of a link that was not the loop's; nil: it was
}

// begin is for a connection whose link was not the loop's.
func (w *waiting) begin(l *loop, i uint32, p *pair) {
	p.fd[atInner] = w.socket.take()
	p.side[atInner].over = l.watch(i, p, atInner, false) != 0 // then it is of no use
	w.wait(l, i, p)
}

func (w *waiting) wait(l *loop, i uint32, p *pair) {
	w.owed++
	l.waiting.Add(1)
	l.until(i, p, keptFor)
	switch s := &p.side[atInner]; {
	case s.over, len(w.pool.free)+w.owed > l.kept:
		w.end(l, i, p)
	case w.released:
		w.ready(i)
	case s.readable: // there was more, and no other event will say so
		w.step(l, i, p)
	}
}

// step takes free. Whatever else comes, the connection is not used again.
func (w *waiting) step(l *loop, i uint32, p *pair) {
	s := &p.side[atInner]
	if !s.readable {
		return
	}
	var b [frameHead]byte
	n, e := receiveNow(p.fd[atInner], b[:])
	switch {
	case e == unix.EAGAIN:
		s.readable = false
	case e == 0 && !w.free && !s.over && n == frameHead && slices.Equal(b[:], frames(frameFree)):
		s.readable = false // were there more, it would be a bye, which the next request finds
		w.ready(i)
	default:
		w.end(l, i, p)
	}
}

// ready puts the connection where the next client finds it.
func (w *waiting) ready(i uint32) {
	w.free = true
	w.pool.owed--
	w.pool.free = append(w.pool.free, i)
}

func (w *waiting) end(l *loop, i uint32, p *pair) {
	if w.free {
		w.pool.free = slices.DeleteFunc(w.pool.free, func(k uint32) bool { return k == i })
	} else {
		w.pool.owed--
	}
	l.waiting.Add(-1)
	closeFD(p.fd[atInner])
	l.endTask(i, p)
}

func (w *waiting) fail(l *loop, i uint32, p *pair, _ error) { w.end(l, i, p) }
func (w *waiting) refuse(error)                             { closeFD(w.socket.take()) } // the last bytes may be on their way

// Waiting returns how many connections to inner relays wait for another client.
func (r *Relayer) Waiting() int {
	n := int64(0)
	for _, l := range r.loops {
		n += l.waiting.Load()
	}
	return int(n)
}

// pool returns the loop's pool of an inner relay.
func (l *loop) pool(to netip.AddrPort) *pool {
	k := l.pools[to]
	if k == nil {
		k = &pool{}
		l.pools[to] = k
	}
	return k
}

// reuse gives a connection that waits to a call, with the slot; false: there is none.
func (l *loop) reuse(link *Link, k *pool) (i uint32, p *pair, ok bool) {
	n := len(k.free)
	if n == 0 {
		return 0, nil, false
	}
	i = k.free[n-1]
	k.free = k.free[:n-1]
	l.waiting.Add(-1)
	p = l.at(i)
	l.late.remove(l, p)
	l.links[i].slot = noSlot
	l.links[i], link.slot = link, i
	p.side[atInner] = side{writable: true}
	return i, p, true
}
