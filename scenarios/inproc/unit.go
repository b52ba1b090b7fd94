package inproc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// stopTimeout is how long a unit's components may take to end.
const stopTimeout = 10 * time.Second

// component is what every part of the testbed looks like to its starter.
type component interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
}

// unit is a node's components, which are opened, run, ended and opened anew
// together: what a process is on the other backend.
type unit struct {
	name string
	// open makes the components anew and opens what they need. Their Run closes it.
	open func() ([]component, error)
	// called says that others hold on to the components and call them directly: the
	// unit cannot be killed under them.
	called bool

	mu     sync.Mutex // guards what follows; Kill and Start come from steps
	cancel context.CancelFunc
	done   chan error // one value for each component
	n      int
}

// start returns once all components are ready.
func (u *unit) start(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cancel != nil {
		return fmt.Errorf("start %s: it runs already", u.name)
	}
	cs, err := u.open()
	if err != nil {
		return fmt.Errorf("start %s: %w", u.name, err)
	}
	// The components outlive the call that started them: end stops them.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	u.cancel, u.n, u.done = cancel, len(cs), make(chan error, len(cs))
	for _, c := range cs {
		go func() { u.done <- c.Run(run) }()
	}
	for _, c := range cs {
		select {
		case <-c.Ready():
		case err := <-u.done:
			u.n--
			return fmt.Errorf("start %s: it ended before it was ready: %w", u.name, errors.Join(err, u.endLocked(context.WithoutCancel(ctx))))
		case <-ctx.Done():
			return fmt.Errorf("start %s: not ready: %w", u.name, errors.Join(ctx.Err(), u.endLocked(context.WithoutCancel(ctx))))
		}
	}
	return nil
}

// end stops the components and joins them. One that does not end before ctx does,
// or within stopTimeout, is given up: that is a fault, and its goroutines stay.
func (u *unit) end(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.endLocked(ctx)
}

func (u *unit) endLocked(ctx context.Context) error {
	if u.cancel == nil {
		return nil
	}
	u.cancel()
	u.cancel = nil
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var errs []error
	for range u.n {
		select {
		case err := <-u.done:
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", u.name, err))
			}
		case <-ctx.Done():
			return errors.Join(append(errs, fmt.Errorf("%s does not end: %w", u.name, ctx.Err()))...)
		}
	}
	return errors.Join(errs...)
}
