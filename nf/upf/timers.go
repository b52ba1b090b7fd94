package upf

import (
	"container/heap"
	"time"
)

// timer runs do in the N4 loop at its time, unless it is stopped before.
type timer struct {
	at    time.Time
	do    func(now time.Time)
	index int // in the heap; -1 when it is not there
}

// timers is the set of pending timers, the next one first.
type timers []*timer

// add starts a timer.
func (t *timers) add(at time.Time, do func(now time.Time)) *timer {
	x := &timer{at: at, do: do}
	heap.Push(t, x)
	return x
}

// stop takes x out; nil and timers that have run are fine.
func (t *timers) stop(x *timer) {
	if x != nil && x.index >= 0 {
		heap.Remove(t, x.index)
	}
}

// next is how long to wait for the next timer, an hour if there is none.
func (t timers) next(now time.Time) time.Duration {
	if len(t) == 0 {
		return time.Hour
	}
	return max(t[0].at.Sub(now), 0)
}

// run carries out all timers that are due.
func (t *timers) run(now time.Time) {
	for len(*t) > 0 && !(*t)[0].at.After(now) {
		heap.Pop(t).(*timer).do(now)
	}
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

func (t *timers) Push(x any) {
	n := x.(*timer)
	n.index = len(*t)
	*t = append(*t, n)
}

func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	x.index = -1
	return x
}
