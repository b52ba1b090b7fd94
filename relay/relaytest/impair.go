package relaytest

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/tun"
)

// Impairment is what a bad network does to packets, each for itself.
type Impairment struct {
	Loss      float64       // share of packets that vanish, 0 to 1
	Duplicate float64       // share that arrives twice, 0 to 1
	Late      float64       // share that is overtaken by others, 0 to 1
	Delay     time.Duration // of every packet
	Lateness  time.Duration // more delay of the late ones, up to this
}

// Join carries packets between two devices, impaired in both directions by draws that
// only seed decides. It ends, and returns, when both devices are closed.
func Join(a, b tun.Device, i Impairment, seed uint64) {
	var wg sync.WaitGroup
	wg.Go(func() { carry(a, b, i, seed) })
	wg.Go(func() { carry(b, a, i, seed+1) })
	wg.Wait()
}

// carry takes packets from one device to the other until the first is closed.
func carry(from, to tun.Device, i Impairment, seed uint64) {
	arrived := make(chan []byte, 256)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { deliver(to, arrived, i, rand.New(rand.NewPCG(seed, seed))) })
	defer close(arrived)
	n := max(from.BatchSize(), 1)
	bufs, sizes := make([][]byte, n), make([]int, n)
	for k := range bufs {
		bufs[k] = make([]byte, 64<<10)
	}
	for {
		n, err := from.Read(bufs, sizes, 0)
		if err != nil {
			return
		}
		for k := range n {
			arrived <- append([]byte(nil), bufs[k][:sizes[k]]...)
		}
	}
}

// deliver writes packets to a device when they are due, until arrived is closed.
func deliver(to tun.Device, arrived <-chan []byte, i Impairment, random *rand.Rand) {
	var waiting queue
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case p, ok := <-arrived:
			if !ok {
				return
			}
			if random.Float64() < i.Loss {
				continue
			}
			copies := 1
			if random.Float64() < i.Duplicate {
				copies = 2
			}
			for range copies {
				late := i.Delay
				if random.Float64() < i.Late {
					late += time.Duration(random.Int64N(int64(i.Lateness) + 1))
				}
				heap.Push(&waiting, packet{time.Now().Add(late), p})
			}
		case <-timer.C:
		}
		now := time.Now()
		for len(waiting) > 0 && !waiting[0].due.After(now) {
			p := heap.Pop(&waiting).(packet)
			_, _ = to.Write([][]byte{p.bytes}, 0) // a network may lose packets
		}
		if len(waiting) > 0 {
			timer.Reset(time.Until(waiting[0].due))
		}
	}
}

// packet is one on its way.
type packet struct {
	due   time.Time
	bytes []byte
}

// queue is a heap of packets, the first to arrive first.
type queue []packet

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(p any)        { *q = append(*q, p.(packet)) }
func (q *queue) Pop() any {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}
