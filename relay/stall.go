package relay

import (
	"sync"
	"time"
)

// stallCheck is how soon a reset is noticed while the other side does not take the
// bytes that came before it.
const stallCheck = 5 * time.Second

// stallWatch notices what a direction that is blocked in a write cannot: that its
// source was reset. Without it a client that is gone would hold its connection for as
// long as the device, which may be stuck, does not read. It costs a look at two flags
// now and then, and nothing on the way of the bytes.
type stallWatch struct {
	directions [2]*direction
	every      time.Duration

	mu      sync.Mutex // guards the rest
	timer   *time.Timer
	stopped bool
}

func watchStalls(ab, ba *direction, every time.Duration) *stallWatch {
	if every == 0 {
		every = stallCheck
	}
	w := &stallWatch{directions: [2]*direction{ab, ba}, every: every}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(every, w.look)
	return w
}

func (w *stallWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	for _, d := range w.directions {
		if !d.writing.Load() {
			continue // it reads, and sees for itself
		}
		if err := resetOf(d.src); err != nil {
			d.fail(readError{err})
			return
		}
	}
	w.timer.Reset(w.every)
}

// stop ends the watch; nothing of it runs any more when it returns.
func (w *stallWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
