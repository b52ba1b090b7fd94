package amf

import (
	"context"
	"sync"
)

// tasks starts goroutines on behalf of Run and joins them. Before open and after
// close it starts nothing, so late timers and callers cannot outlive Run.
type tasks struct {
	mu    sync.Mutex
	start func(func(context.Context)) // nil when closed; guarded by mu
	wg    sync.WaitGroup
}

// open lets goroutines be started; each is given ctx.
func (t *tasks) open(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = func(f func(context.Context)) { t.wg.Go(func() { f(ctx) }) }
}

// run starts f and reports whether it did.
func (t *tasks) run(f func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.start == nil {
		return false
	}
	t.start(f)
	return true
}

// close refuses further starts and waits for everything started.
func (t *tasks) close() {
	t.mu.Lock()
	t.start = nil
	t.mu.Unlock()
	t.wg.Wait()
}

// maxQueuedCalls is how many calls may wait for a free slot of a callPool.
const maxQueuedCalls = 1 << 17

// callPool runs calls of other network functions, at most max at a time; further
// ones wait in order without a goroutine.
type callPool struct {
	tasks *tasks
	max   int

	mu      sync.Mutex // guards the fields below
	running int
	queue   []func(context.Context)
}

// submit runs f soon. It reports false, and will not run f, when the queue is
// full or the AMF has stopped.
func (p *callPool) submit(f func(context.Context)) bool {
	p.mu.Lock()
	if p.running >= p.max {
		ok := len(p.queue) < maxQueuedCalls
		if ok {
			p.queue = append(p.queue, f)
		}
		p.mu.Unlock()
		return ok
	}
	p.running++
	p.mu.Unlock()
	ok := p.tasks.run(func(ctx context.Context) {
		for g := f; g != nil; g = p.next() {
			g(ctx)
		}
	})
	if !ok {
		p.mu.Lock()
		p.running--
		p.mu.Unlock()
	}
	return ok
}

// next returns a waiting call, or gives the slot back and returns nil.
func (p *callPool) next() func(context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.queue = nil
		p.running--
		return nil
	}
	f := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	return f
}

// serial runs operations one after another in the order they were added, on a
// callPool. It holds no goroutine while empty.
type serial struct {
	mu      sync.Mutex // guards the fields below
	queue   []func(context.Context)
	running bool
}

// maxSerial is how many operations may wait in a serial.
const maxSerial = 64

// add appends op and reports false if it will not run.
func (s *serial) add(p *callPool, op func(context.Context)) bool {
	s.mu.Lock()
	if len(s.queue) >= maxSerial {
		s.mu.Unlock()
		return false
	}
	s.queue = append(s.queue, op)
	if s.running {
		s.mu.Unlock()
		return true
	}
	s.running = true
	s.mu.Unlock()
	if p.submit(s.drain) {
		return true
	}
	s.mu.Lock()
	s.running = false
	s.queue = nil
	s.mu.Unlock()
	return false
}

func (s *serial) drain(ctx context.Context) {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.running, s.queue = false, nil
			s.mu.Unlock()
			return
		}
		op := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		op(ctx)
	}
}
