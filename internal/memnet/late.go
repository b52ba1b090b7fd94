package memnet

import (
	"container/heap"
	"net/netip"
	"time"
)

// lateQueue holds delayed datagrams in order of delivery. Two that are due at
// the same instant leave in the order they came. The Network's mutex guards it.
type lateQueue struct {
	items lateHeap
	seq   uint64
	timer *time.Timer
}

type lateItem struct {
	due     time.Time
	seq     uint64
	to      key
	src     netip.AddrPort
	payload []byte
}

func (q *lateQueue) add(n *Network, delay time.Duration, to key, src netip.AddrPort, payload []byte) {
	q.seq++
	heap.Push(&q.items, lateItem{time.Now().Add(delay), q.seq, to, src, append([]byte(nil), payload...)})
	if q.items[0].seq == q.seq { // the new head: the timer is set for a later one
		q.arm(n, delay)
	}
}

func (q *lateQueue) arm(n *Network, d time.Duration) {
	if q.timer == nil {
		q.timer = time.AfterFunc(d, n.deliverLate)
	} else {
		q.timer.Reset(d)
	}
}

func (q *lateQueue) stop() {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.items = nil
}

// deliverLate runs on the timer's goroutine. The sockets' own mutexes order two
// runs that overlap: each holds the Network's while it delivers.
func (n *Network) deliverLate() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for len(n.late.items) > 0 {
		head := &n.late.items[0]
		if wait := head.due.Sub(now); wait > 0 {
			n.late.arm(n, wait)
			return
		}
		it, _ := heap.Pop(&n.late.items).(lateItem)
		if s := n.sockets[it.to]; s != nil {
			s.deliver(it.src, it.payload)
		} else {
			n.count.unreachable.Add(1)
		}
	}
}

type lateHeap []lateItem

func (h lateHeap) Len() int { return len(h) }
func (h lateHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}
func (h lateHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *lateHeap) Push(x any) {
	if it, ok := x.(lateItem); ok {
		*h = append(*h, it)
	}
}
func (h *lateHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = lateItem{}
	*h = old[:len(old)-1]
	return last
}
