// Package inproc is the backend that runs a whole topology in one process, without
// privileges: packets travel over memory networks and userspace TCP/IP stacks, the
// service-based interface is function calls, and what is TCP between clients,
// manager and relays is TCP on loopback. Lab.Close joins everything.
package inproc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/scratch"
	"github.com/simreach/simreach/scenarios/spec"
)

// Backend implements lab.Backend.
type Backend struct{}

// New returns the backend.
func New() Backend { return Backend{} }

// Name implements lab.Backend.
func (Backend) Name() string { return "inproc" }

// Check implements lab.Backend.
func (Backend) Check(s *spec.Spec) error {
	if s.Needs.Backend == "netns" {
		return errors.New("this scenario needs network namespaces: run it as root, with --backend netns")
	}
	if len(s.External) > 0 {
		return errors.New("this scenario joins interfaces of the host: run it as root, with --backend netns")
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("needs Linux: %s has no 127.0.0.0/8 to stand for hosts", runtime.GOOS)
	}
	if s.Captures() {
		return errors.New("this scenario looks into captures of its networks: run it as root, with --backend netns")
	}
	for _, p := range s.Needs.Programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("needs the program %s: install it", p)
		}
	}
	return nil
}

// Start implements lab.Backend.
func (Backend) Start(ctx context.Context, s *spec.Spec, o lab.Options) (lab.Lab, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := newTopology(s, o)
	if err != nil {
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.Close(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func (t *topology) start(ctx context.Context) error {
	for _, n := range plan.Nodes(t.spec) {
		u, ok := t.units[n]
		if !ok {
			continue // a client
		}
		if err := u.start(ctx); err != nil {
			return err
		}
		t.started = append(t.started, u)
	}
	return nil
}

// topology implements lab.Lab.
type topology struct {
	spec    *spec.Spec
	log     *slog.Logger
	secrets plan.Secrets
	links   *links
	scratch *scratch.Dir // of store
	store   string       // directory of the manager's database and the CA's certificate
	results string       // directory of captures, traces and the log; empty: nothing is kept
	parts   parts
	units   map[string]*unit
	started []*unit
	manager lab.Manager
	logFile *os.File
}

func newTopology(s *spec.Spec, o lab.Options) (*topology, error) {
	secrets, err := plan.NewSecrets()
	if err != nil {
		return nil, err
	}
	t := &topology{spec: s, log: o.Log, secrets: secrets, results: o.Dir}
	if o.Dir != "" {
		for _, f := range t.relaying().TraceFiles() { // roles add to them
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("traces of an earlier run: %w", err)
			}
		}
		f, err := os.Create(filepath.Join(o.Dir, "simreach.log"))
		if err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
		t.logFile = f
		t.log = slog.New(slog.NewMultiHandler(o.Log.Handler(), slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug})))
	}
	ls, err := newLinks(s, o.Dir)
	if err != nil {
		return nil, errors.Join(err, t.closeLog())
	}
	t.links = ls
	if t.scratch, err = scratch.New("manager"); err != nil {
		return nil, errors.Join(fmt.Errorf("manager's database: %w", err), ls.close(), t.closeLog())
	}
	t.store = t.scratch.Path
	if err := os.WriteFile(filepath.Join(t.store, lab.FileCA), t.Trust(), 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("CA of the relays: %w", err), t.scratch.Remove(), ls.close(), t.closeLog())
	}
	rest := ls.host(s, "manager", plan.Public)
	t.manager = plan.NewManagerClient(netip.AddrPortFrom(rest, plan.PortREST), t.secrets, client{rest})
	t.assemble()
	return t, nil
}

func (t *topology) closeLog() error {
	if t.logFile == nil {
		return nil
	}
	return t.logFile.Close()
}

// Close implements lab.Lab.
func (t *topology) Close(ctx context.Context) error {
	var errs []error
	// The manager is the last: the core's final reports go to it.
	var last *unit
	for i := len(t.started) - 1; i >= 0; i-- {
		if t.started[i].name == "manager" {
			last = t.started[i]
			continue
		}
		errs = append(errs, t.started[i].end(ctx))
	}
	if last != nil {
		errs = append(errs, last.end(ctx))
	}
	t.started = nil
	errs = append(errs, t.scratch.Remove())
	return errors.Join(append(errs, t.links.close(), t.closeLog())...)
}

// UE implements lab.Lab.
func (t *topology) UE(name string) (lab.UE, bool) {
	u, ok := t.parts.ues[name]
	return u, ok
}

// Client implements lab.Lab.
func (t *topology) Client(name string) (lab.Client, bool) {
	for _, c := range t.spec.Clients {
		if c.Name == name {
			return client{t.links.host(t.spec, name, plan.Public)}, true
		}
	}
	return nil, false
}

// Manager implements lab.Lab.
func (t *topology) Manager() lab.Manager { return t.manager }

// Trust implements lab.Lab.
func (t *topology) Trust() []byte { return t.secrets.CA.PEM() }

// Captured implements lab.Lab: the relays' networks are loopback here, which is not
// captured.
func (t *topology) Captured(context.Context, string, [][]byte) ([]bool, error) {
	return nil, errors.New("the inproc backend does not look into captures: run it as root, with --backend netns")
}

// Describe implements lab.Lab.
func (t *topology) Describe() []lab.Place {
	out := []lab.Place{
		{What: "manager's REST API", Where: fmt.Sprintf("http://%s:%d", t.links.host(t.spec, "manager", plan.Public), plan.PortREST)},
		{What: "auth key", Where: t.secrets.AuthKeyID + " " + t.secrets.AuthKey},
		{What: "CA of the relays", Where: filepath.Join(t.store, lab.FileCA)},
	}
	for _, r := range t.spec.OuterRelays {
		out = append(out, lab.Place{What: "outer relay " + r.Name, Where: t.links.host(t.spec, r.Name, plan.Public).String() + " ports " + r.Ports})
	}
	for _, d := range t.spec.Devices {
		var services []string
		for _, v := range d.Services {
			services = append(services, fmt.Sprintf("%s on %d", v.Kind, v.Port))
		}
		out = append(out, lab.Place{What: "UE " + d.Name, Where: "IMSI " + string(d.IMSI) + " " + strings.Join(services, ", ")})
	}
	return out
}
