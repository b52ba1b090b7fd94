package relay

import "time"

const (
	wheelSlots = 64
	// wheelTurn is how many ticks an idle timeout has: so much later than it may a link
	// be cut.
	wheelTurn = 60
	overdue   = wheelSlots     // the slot of pairs whose tick has come
	noTick    = wheelSlots + 1 // of a pair that is not on the wheel
)

// wheel finds idle pairs. A pair stands in the slot of the tick at which it has been
// idle for too long if nothing moves; when that tick comes it is cut, or put where it
// belongs by then. Moving bytes costs nothing but a note of the time. Without a limit
// the note is the deadline itself, as tasks have it: then one that is further off than a
// turn is looked at once in every turn.
type wheel struct {
	limit, tick int64 // ns
	heads       [wheelSlots + 1]uint32
	current     int64 // the tick that is looked at next
	count       int
}

func newWheel(limit, tick time.Duration) *wheel {
	w := &wheel{limit: int64(limit), tick: int64(tick)}
	for k := range w.heads {
		w.heads[k] = noSlot
	}
	return w
}

// add puts a pair, which is not on the wheel, where p.moved says.
func (w *wheel) add(l *loop, i uint32, p *pair) {
	tick := max((p.moved+w.limit)/w.tick+1, w.current) // not where it was looked already
	w.put(l, i, p, uint8(tick%wheelSlots))
}

func (w *wheel) put(l *loop, i uint32, p *pair, slot uint8) {
	p.tick, p.previous, p.next = slot, noSlot, w.heads[slot]
	if p.next != noSlot {
		l.at(p.next).previous = i
	}
	w.heads[slot] = i
	w.count++
}

// remove takes a pair off the wheel if it is on it.
func (w *wheel) remove(l *loop, p *pair) {
	if p.tick == noTick {
		return
	}
	if p.previous != noSlot {
		l.at(p.previous).next = p.next
	} else {
		w.heads[p.tick] = p.next
	}
	if p.next != noSlot {
		l.at(p.next).previous = p.previous
	}
	p.tick = noTick
	w.count--
}

// due takes one pair off the wheel that is idle for too long; noSlot: there is none. It
// looks at every pair of a tick once, however many of them are due.
func (w *wheel) due(l *loop, now int64) uint32 {
	until := now / w.tick
	w.current = max(w.current, until-wheelSlots+1)
	for {
		if i := w.heads[overdue]; i != noSlot {
			w.remove(l, l.at(i))
			return i
		}
		if w.current > until {
			return noSlot
		}
		w.sweep(l, now)
	}
}

// sweep puts the pairs of a tick that has come among those that are overdue, or where they
// belong.
func (w *wheel) sweep(l *loop, now int64) {
	slot := w.current % wheelSlots
	w.current++
	for i := w.heads[slot]; i != noSlot; {
		p := l.at(i)
		next := p.next
		w.remove(l, p)
		if p.moved+w.limit <= now {
			w.put(l, i, p, overdue)
		} else {
			w.add(l, i, p)
		}
		i = next
	}
}

// next returns when there is something to look at, 0 while no pair is on the wheel.
func (w *wheel) next(now int64) int64 {
	if w.count == 0 {
		return 0
	}
	soonest := now/w.tick + 1
	for tick := w.current; tick < w.current+wheelSlots; tick++ {
		if w.heads[tick%wheelSlots] != noSlot {
			return max(tick, soonest) * w.tick
		}
	}
	return soonest * w.tick // some are overdue
}
