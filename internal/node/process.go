// Package node runs one role as a process: it reads the role's configuration file,
// opens sockets and TUN devices in the process's network namespace, wires the
// component to them and to its peers, says when it is ready, and ends when its
// context does. There is one file per role. Each role's Run owns everything it
// starts.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/simreach/simreach/internal/strictyaml"
)

// Role is a configured role, ready to run.
type Role interface {
	// Run opens what the role needs, calls ready once it serves, and returns when
	// ctx ends and everything is closed.
	Run(ctx context.Context, log *slog.Logger, ready func()) error
}

// Roles names the roles, each with an empty configuration to decode into.
func Roles() map[string]func() Role {
	return map[string]func() Role{
		"amf":         func() Role { return new(AMF) },
		"smf":         func() Role { return new(SMF) },
		"udm":         func() Role { return new(UDM) },
		"upf":         func() Role { return new(UPF) },
		"gnb":         func() Role { return new(GNB) },
		"ue":          func() Role { return new(UE) },
		"manager":     func() Role { return new(Manager) },
		"relay-inner": func() Role { return new(Inner) },
		"relay-outer": func() Role { return new(Outer) },
	}
}

// Load reads a role's configuration file. Unknown keys are refused, and values not
// written as the field's type; an error names line and column, and never repeats a
// value: it may be a key.
func Load(name, path string) (Role, error) {
	empty, ok := Roles()[name]
	if !ok {
		return nil, fmt.Errorf("unknown role %q", name)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	r := empty()
	if err := read(strictyaml.Reader{File: path, Secret: true}, b, r); err != nil {
		return nil, fmt.Errorf("configuration %w", err)
	}
	return r, nil
}

// ReadyOn returns a ready function that writes the line "ready" to w and closes it,
// once.
func ReadyOn(w io.WriteCloser, log *slog.Logger) func() {
	return func() {
		_, err := io.WriteString(w, "ready\n")
		if err = errors.Join(err, w.Close()); err != nil {
			log.Warn("nobody took the ready notice", "error", err)
		}
	}
}

// UntilEOF returns a context that ends when r does: the lifeline of a process whose
// starter may crash.
func UntilEOF(ctx context.Context, r io.Reader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		// Nobody joins it: a read of standard input can end late, with the process.
		_, _ = io.Copy(io.Discard, r)
		cancel()
	}()
	return ctx, cancel
}

// component is what every part of the testbed looks like to its starter.
type component interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
}

// serve runs components together: the first error ends all, and so does ctx. ready
// is called when all of them are.
func serve(ctx context.Context, ready func(), cs ...component) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range cs {
		g.Go(func() error { return c.Run(ctx) })
	}
	g.Go(func() error {
		for _, c := range cs {
			select {
			case <-c.Ready():
			case <-ctx.Done():
				return nil
			}
		}
		ready()
		return nil
	})
	return g.Wait()
}

// serveInOrder runs components that need each other to the end: when ctx ends, or the
// first of them, each is stopped after the one before it has ended. ready is called when
// all of them are.
func serveInOrder(ctx context.Context, ready func(), cs ...component) error {
	base := context.WithoutCancel(ctx)
	stops, errs := make([]context.CancelFunc, len(cs)), make([]error, len(cs))
	dones := make([]chan struct{}, len(cs))
	ended := make(chan struct{}, len(cs))
	for i, c := range cs {
		life, stop := context.WithCancel(base)
		defer stop()
		stops[i], dones[i] = stop, make(chan struct{})
		go func() {
			defer func() { close(dones[i]); ended <- struct{}{} }()
			errs[i] = c.Run(life)
		}()
	}
	var wg sync.WaitGroup
	starting, started := context.WithCancel(ctx)
	wg.Go(func() {
		for _, c := range cs {
			select {
			case <-c.Ready():
			case <-starting.Done():
				return
			}
		}
		ready()
	})
	select {
	case <-ctx.Done():
	case <-ended:
	}
	started()
	wg.Wait()
	for i := range cs {
		stops[i]()
		<-dones[i]
	}
	return errors.Join(errs...)
}
