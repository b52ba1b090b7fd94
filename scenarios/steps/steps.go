// Package steps holds the verbs of a scenario, one file each, and the one literal
// map that names them. A verb is compiled first (its arguments decoded and checked
// against the Spec, so that a typing error shows before anything starts) and then
// performed against a lab. Steps run one after another; a step owns the goroutines
// it starts and joins them before it returns, except connections and background
// programs, which Env.Close ends.
package steps

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// Action is a compiled step.
type Action func(ctx context.Context, e *Env) error

type verb func(s *spec.Spec, st spec.Step) (Action, error)

// verbs is every verb there is.
var verbs = map[string]verb{
	"register":    compileRegister,
	"api":         compileAPI,
	"certificate": compileCertificate,
	"capture":     compileCapture,
	"streams":     compileStreams,
	"deregister":  compileDeregister,
	"await":       compileAwait,
	"access":      compileAccess,
	"revoke":      compileRevoke,
	"http":        compileHTTP,
	"connect":     compileConnect,
	"exchange":    compileExchange,
	"half_close":  compileHalfClose,
	"cut":         compileCut,
	"refused":     compileRefused,
	"exec":        compileExec,
	"stop":        compileStop,
	"kill":        compileKill,
	"start":       compileStart,
}

// Compile checks a step and makes it ready to run. Errors are *spec.Error.
func Compile(s *spec.Spec, st spec.Step) (Action, error) {
	v, ok := verbs[st.Verb]
	if !ok {
		var known []string
		for name := range verbs {
			known = append(known, name)
		}
		slices.Sort(known)
		return nil, st.Errorf("one of "+strings.Join(known, ", "), "unknown step %q", st.Verb)
	}
	return v(s, st)
}

// Env is what the steps of one run share.
type Env struct {
	Lab lab.Lab
	// Scratch is a directory for the run's files; steps see it as ${dir}.
	Scratch string

	mu       sync.Mutex // guards what follows: a step may work in parallel
	accesses map[string][]grant
	conns    map[string]net.Conn
	programs map[string]*program // in the background
	saved    map[string]string   // what api steps took from answers

	authorities map[string]*pki.Authority

	devices map[string]spec.Device // by name; never changes
}

// grant is one access with the UE it was asked for.
type grant struct {
	ue string
	lab.Access
}

// NewEnv returns an Env for one run of a Spec.
func NewEnv(s *spec.Spec, l lab.Lab, scratch string) *Env {
	byName := map[string]spec.Device{}
	for _, d := range s.Devices {
		byName[d.Name] = d
	}
	return &Env{
		Lab: l, Scratch: scratch, devices: byName, saved: map[string]string{}, authorities: map[string]*pki.Authority{},
		accesses: map[string][]grant{},
		conns:    map[string]net.Conn{},
		programs: map[string]*program{},
	}
}

// Close ends what the steps left open.
func (e *Env) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, c := range e.conns {
		_ = c.Close() // it may be cut already, which is what many scenarios are about
	}
	for name, p := range e.programs {
		if err := p.stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// maxParallel bounds how many UEs or accesses a step works on at once.
const maxParallel = 64

// each runs f for every item, at most maxParallel at once, and returns the first
// error.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	for _, it := range items {
		g.Go(func() error { return f(ctx, it) })
	}
	return g.Wait()
}

// devices returns the UEs that match a name or a pattern ("ue-*").
func devices(s *spec.Spec, st spec.Step, pattern string) ([]spec.Device, error) {
	var out []spec.Device
	for _, d := range s.Devices {
		if ok, err := path.Match(pattern, d.Name); err != nil {
			return nil, st.Errorf("a name, or a pattern such as ue-*", "bad pattern %q", pattern)
		} else if ok {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, st.Errorf("name one of the ues, or a pattern such as ue-*", "no UE is called %q", pattern)
	}
	return out, nil
}

// client checks a client's name; empty means the first one.
func client(s *spec.Spec, st spec.Step, name string) (string, error) {
	if name == "" && len(s.Clients) > 0 {
		return s.Clients[0].Name, nil
	}
	for _, c := range s.Clients {
		if c.Name == name {
			return name, nil
		}
	}
	return "", st.Errorf("name one of the clients", "no client is called %q", name)
}

// checkNode checks the name of a node.
func checkNode(s *spec.Spec, st spec.Step, name string) error {
	if !s.HasNode(name) {
		return st.Errorf("name a node of the topology: amf, smf, udm, manager, ue, or one of the file's", "no node is called %q", name)
	}
	return nil
}

// checkGNB checks the name of a gNB, which may be left out.
func checkGNB(s *spec.Spec, st spec.Step, name string) error {
	if name == "" || slices.ContainsFunc(s.GNBs, func(g spec.GNB) bool { return g.Name == name }) {
		return nil
	}
	return st.Errorf("name one of the gnbs", "no gNB is called %q", name)
}

func (e *Env) ue(name string) (lab.UE, error) {
	u, ok := e.Lab.UE(name)
	if !ok {
		return nil, fmt.Errorf("UE %s is not in the topology", name)
	}
	return u, nil
}

func (e *Env) client(name string) (lab.Client, error) {
	c, ok := e.Lab.Client(name)
	if !ok {
		return nil, fmt.Errorf("client %s is not in the topology", name)
	}
	return c, nil
}

func (e *Env) node(name string) (lab.Node, error) {
	n, ok := e.Lab.Node(name)
	if !ok {
		return nil, fmt.Errorf("node %s is not in the topology", name)
	}
	return n, nil
}

func (e *Env) grants(name string) ([]grant, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g, ok := e.accesses[name]
	if !ok {
		return nil, fmt.Errorf("no access is called %q", name)
	}
	return slices.Clone(g), nil
}

// one is grants for verbs that work on a single access.
func (e *Env) one(name string) (grant, error) {
	g, err := e.grants(name)
	if err != nil {
		return grant{}, err
	}
	if len(g) != 1 {
		return grant{}, fmt.Errorf("access %q stands for %d UEs; this step takes one", name, len(g))
	}
	return g[0], nil
}

func (e *Env) conn(name string) (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.conns[name]
	if !ok {
		return nil, fmt.Errorf("no connection is called %q", name)
	}
	return c, nil
}
