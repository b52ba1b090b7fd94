package relay

import (
	"math/rand/v2"
	"testing"
	"time"
)

// wheelRig is a wheel of tasks without the loop around it.
type wheelRig struct {
	l *loop
	w *wheel
}

func newWheelRig(t *testing.T) *wheelRig {
	l := newLoop(0, 0)
	if l == nil {
		t.Fatal("no loop")
	}
	t.Cleanup(l.close)
	return &wheelRig{l, l.late}
}

// add puts a task on the wheel with a deadline in ns since the loop was made.
func (r *wheelRig) add(deadline int64) uint32 {
	i, p := r.l.take(&Link{}, [2]int32{noFD, noFD})
	p.moved = deadline
	r.w.add(r.l, i, p)
	return i
}

// slot lists the tasks of a slot, in their order.
func (r *wheelRig) slot(k int64) (out []uint32) {
	for i := r.w.heads[k%wheelSlots]; i != noSlot; i = r.l.at(i).next {
		out = append(out, i)
	}
	return out
}

// Every task is due once, at the tick after its deadline or at the first look after that,
// and not earlier; one that is taken off is never due.
func TestWheelTellsAllOnce(t *testing.T) {
	r := newWheelRig(t)
	random := rand.New(rand.NewPCG(1, 2))
	tick := int64(lateTick)
	deadlines := map[uint32]int64{}
	now := int64(0)
	for round := range 3000 {
		for range random.IntN(6) {
			d := now + random.Int64N(200*tick) // of several turns
			if random.IntN(20) == 0 {
				d = now - random.Int64N(3*tick) // late already
			}
			deadlines[r.add(d)] = max(d, now)
		}
		for i := range deadlines {
			if random.IntN(100) == 0 {
				r.w.remove(r.l, r.l.at(i))
				delete(deadlines, i)
				r.l.release(i, r.l.at(i))
			}
			break
		}
		if round%100 == 99 {
			now += 100 * tick // longer than a turn
		} else {
			now += random.Int64N(2 * tick)
		}
		for i := r.w.due(r.l, now); i != noSlot; i = r.w.due(r.l, now) {
			d, ok := deadlines[i]
			if !ok || d > now {
				t.Fatalf("at %s: task %d, due at %s (%t)", time.Duration(now), i, time.Duration(d), ok)
			}
			delete(deadlines, i)
			r.l.release(i, r.l.at(i))
		}
		for i, d := range deadlines {
			if d/tick+1 < now/tick {
				t.Fatalf("at %s: task %d, due at %s, is forgotten", time.Duration(now), i, time.Duration(d))
			}
		}
		if r.w.count != len(deadlines) || (r.w.next(now) == 0) != (len(deadlines) == 0) {
			t.Fatalf("%d on the wheel; want %d", r.w.count, len(deadlines))
		}
	}
}

// What is not due in the slot of a tick is looked at once while the tick lasts, neither for
// each task that is, nor at each turn of the loop: looking puts it in front.
func TestWheelLooksOnceATick(t *testing.T) {
	r := newWheelRig(t)
	tick := int64(lateTick)
	const at = 5 // the tick at which they are due
	for range 10 {
		r.add(at*tick - 1)
		r.add((at+wheelSlots)*tick - 1) // in the same slot, a turn later
	}
	var first []uint32
	for n := range 10 {
		if i := r.w.due(r.l, at*tick); i == noSlot {
			t.Fatalf("%d are due; want 10", n)
		}
		if got := r.slot(at); first == nil {
			first = got
		} else if len(got) != 10 || got[0] != first[0] || got[9] != first[9] {
			t.Fatalf("after %d: %v; want %v, untouched", n+1, got, first)
		}
	}
	for n := range 3 {
		if i := r.w.due(r.l, at*tick+int64(n)); i != noSlot {
			t.Errorf("task %d is due", i)
		}
		if got := r.slot(at); got[0] != first[0] {
			t.Errorf("look %d: %v; want %v, untouched", n+1, got, first)
		}
	}
}

// The loop is not woken at ticks at which there is nothing to look at, and is at that of a
// deadline.
func TestWheelSleeps(t *testing.T) {
	tick := int64(lateTick)
	for _, c := range []struct {
		deadline int64
		looks    int
	}{{0, 1}, {1, 1}, {50 * tick, 1}, {62 * tick, 1}, {100 * tick, 2}, {int64(keptFor), 30}} {
		r := newWheelRig(t)
		i := r.add(c.deadline)
		now, looks, got := int64(0), 0, noSlot
		for got == noSlot && looks <= c.looks {
			next := r.w.next(now)
			if next <= now {
				t.Fatalf("deadline %d: woken at %d after %d", c.deadline, next, now)
			}
			now = next
			got = r.w.due(r.l, now)
			looks++
		}
		if want := (c.deadline/tick + 1) * tick; got != i || now != want || looks > c.looks {
			t.Errorf("deadline %d: %d at %d after %d looks; want it at %d after %d", c.deadline, got, now, looks, want, c.looks)
		}
		if r.w.next(now) != 0 {
			t.Error("woken for nothing")
		}
	}
	r := newWheelRig(t)
	r.add(3 * tick)
	if got := r.w.next(10 * tick); got != 11*tick {
		t.Errorf("what is late is looked at at %d; want the next tick", got)
	}
}
