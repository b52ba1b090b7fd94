package relay

import (
	"sync"
	"time"
)

// stallCheck is how soon a reset is noticed while the other side does not take the
// bytes that came before it.
const stallCheck = 5 * time.Second

// watch notices what a direction that is blocked cannot: in a write, that its source
// was reset, for else a client that is gone would hold its connection for as long as
// the device, which may be stuck, does not read; and in a read, that nothing moved
// for the idle timeout. It costs a look at a few words now and then.
type watch struct {
	directions [2]*direction
	every      time.Duration
	idle       time.Duration // 0: never

	mu      sync.Mutex // guards the rest
	timer   *time.Timer
	stopped bool
}

func startWatch(ab, ba *direction, every, idle time.Duration) *watch {
	if every == 0 {
		every = stallCheck
	}
	w := &watch{directions: [2]*direction{ab, ba}, every: every, idle: idle}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.next(0), w.look)
	return w
}

func (w *watch) look() {
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
	quiet := time.Duration(time.Now().UnixNano() - w.directions[0].moved.Load())
	if w.idle > 0 && quiet >= w.idle {
		w.directions[0].split.fail(Idle, ErrIdle)
		return
	}
	w.timer.Reset(w.next(quiet))
}

// next returns when to look again after nothing moved for quiet.
func (w *watch) next(quiet time.Duration) time.Duration {
	if w.idle > 0 {
		return min(w.every, w.idle-quiet)
	}
	return w.every
}

// stop ends the watch; nothing of it runs any more when it returns.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
