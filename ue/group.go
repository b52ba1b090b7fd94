package ue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/simreach/simreach/internal/ident"
)

// GroupConfig is the UEs of one process.
type GroupConfig struct {
	UEs []Config `yaml:"ues"`
}

// Validate reports the first thing wrong with c.
func (c GroupConfig) Validate() error {
	seen := map[ident.SUPI]bool{}
	for _, u := range c.UEs {
		if err := u.Validate(); err != nil {
			return err
		}
		if seen[u.SUPI] {
			return fmt.Errorf("ue group: two UEs %s", u.SUPI)
		}
		seen[u.SUPI] = true
	}
	return nil
}

// Group runs any number of UEs. It owns no state but the list: each UE keeps one
// loop goroutine and one reader per open PDU session.
type Group struct {
	ues   map[ident.SUPI]*UE
	order []*UE
	ready chan struct{}
}

// NewGroup makes the UEs, all with the same deps; it starts nothing.
func NewGroup(cfg GroupConfig, deps Deps) (*Group, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Group{ues: map[ident.SUPI]*UE{}, ready: make(chan struct{})}
	for _, c := range cfg.UEs {
		u, err := New(c, deps)
		if err != nil {
			return nil, err
		}
		g.ues[c.SUPI] = u
		g.order = append(g.order, u)
	}
	return g, nil
}

// Run runs every UE until ctx ends and returns nil, or the first UE's error after
// stopping the others. It must be called once.
func (g *Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(g.order))
	for i, u := range g.order {
		wg.Go(func() {
			if errs[i] = u.Run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	ready := true
	for _, u := range g.order {
		select {
		case <-u.Ready():
		case <-ctx.Done():
			ready = false
		}
	}
	if ready {
		close(g.ready)
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Ready is closed when every UE takes commands.
func (g *Group) Ready() <-chan struct{} { return g.ready }

// UE returns the UE with that SUPI, nil if the group has none.
func (g *Group) UE(supi ident.SUPI) *UE { return g.ues[supi] }

// UEs lists the group in the order of its configuration.
func (g *Group) UEs() []*UE { return append([]*UE(nil), g.order...) }

// Status returns a copy of every UE's, in the same order.
func (g *Group) Status() []Status {
	out := make([]Status, 0, len(g.order))
	for _, u := range g.order {
		out = append(out, u.Status())
	}
	return out
}
