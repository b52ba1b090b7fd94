// Package workers runs short tasks on goroutines that are used again: a new goroutine
// per task begins with a small stack and copies it as it grows, which costs more than
// many a task.
//
// A Group owns its goroutines; Close joins them.
package workers

import (
	"sync"
	"time"
)

const (
	// lifetime is how long a goroutine waits for its next task.
	lifetime = time.Second
	// maxSpare bounds the goroutines that wait.
	maxSpare = 64
)

// Group runs tasks. The zero value is not usable; New makes one. Go may be called from
// any goroutine, also from a task, but not after Close.
type Group struct {
	tasks chan func()
	over  chan struct{}
	spare chan struct{} // a token for each goroutine that waits
	wg    sync.WaitGroup
}

// New returns a Group without goroutines.
func New() *Group {
	return &Group{tasks: make(chan func()), over: make(chan struct{}), spare: make(chan struct{}, maxSpare)}
}

// Go runs f at once, without waiting for other tasks.
func (g *Group) Go(f func()) {
	select {
	case g.tasks <- f:
	default:
		g.wg.Go(func() { g.work(f) })
	}
}

func (g *Group) work(f func()) {
	var late *time.Timer
	for {
		f()
		f = nil // what it holds may be large
		select {
		case g.spare <- struct{}{}:
		default:
			return
		}
		if late == nil {
			late = time.NewTimer(lifetime)
			defer late.Stop()
		} else {
			late.Reset(lifetime)
		}
		select {
		case f = <-g.tasks:
			<-g.spare
		case <-late.C:
			<-g.spare
			return
		case <-g.over:
			<-g.spare
			return
		}
	}
}

// Close returns when the tasks have ended.
func (g *Group) Close() {
	close(g.over)
	g.wg.Wait()
}
