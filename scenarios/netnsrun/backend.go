package netnsrun

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/simreach/simreach/internal/program"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
)

// Backend implements lab.Backend.
type Backend struct{ binary string }

// New returns the backend; binary is this program's file, which every node runs.
func New(binary string) Backend { return Backend{binary} }

// Name implements lab.Backend.
func (Backend) Name() string { return "netns" }

// Check implements lab.Backend.
func (Backend) Check(s *spec.Spec) error {
	if s.Needs.Backend == "inproc" {
		return errors.New("this scenario is for --backend inproc only")
	}
	// Some scenarios cannot run without namespaces, and inproc would send the user back here.
	only := s.Needs.Backend == "netns" || len(s.External) > 0 || s.Captures()
	if err := netns.Available(); err != nil {
		if only {
			return fmt.Errorf("needs root for network namespaces (%w): run it as root", err)
		}
		return fmt.Errorf("needs root for network namespaces (%w); without root use --backend inproc", err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		if only {
			return fmt.Errorf("needs /dev/net/tun (%w): load the module tun", err)
		}
		return fmt.Errorf("needs /dev/net/tun (%w); without it use --backend inproc", err)
	}
	for _, p := range s.Needs.Programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("needs the program %s: install it", p)
		}
	}
	return nil
}

// running implements lab.Lab.
type running struct {
	spec     *spec.Spec
	run      string
	lock     *os.File
	dir      string // configuration, sockets, the manager's database; removed at the end
	logs     string
	results  string // directory of captures, traces and logs; empty: nothing is kept
	secrets  plan.Secrets
	topology topology
	roles    map[string]*role
	started  []*role
	control  *http.Client // of the ue process
	manager  *plan.ManagerClient
}

// Start implements lab.Backend.
func (b Backend) Start(ctx context.Context, s *spec.Spec, o lab.Options) (lab.Lab, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r, err := newRunning(s)
	if err != nil {
		return nil, err
	}
	if err := r.start(ctx, b.binary, o); err != nil {
		return nil, errors.Join(err, r.Close(context.WithoutCancel(ctx)))
	}
	return r, nil
}

// newRunning is a run that has nothing yet.
func newRunning(s *spec.Spec) (*running, error) {
	id := make([]byte, 3)
	_, _ = rand.Read(id) // never fails
	secrets, err := plan.NewSecrets()
	if err != nil {
		return nil, err
	}
	return &running{spec: s, run: hex.EncodeToString(id), secrets: secrets, roles: map[string]*role{}}, nil
}

func (r *running) start(ctx context.Context, binary string, o lab.Options) (err error) {
	if r.lock, err = lockRun(r.run); err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "simreach-"+r.run+"-"); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if err := note(r.lock, r.dir, o.Scratch); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.dir, lab.FileCA), r.Trust(), 0o644); err != nil {
		return fmt.Errorf("CA of the relays: %w", err)
	}
	r.logs = r.dir
	level := "warn"
	if o.Dir != "" {
		level = "debug"
		r.results = o.Dir
		r.logs = filepath.Join(o.Dir, "logs")
		if err := os.RemoveAll(r.logs); err != nil {
			return fmt.Errorf("log directory: %w", err)
		}
		if err := os.MkdirAll(r.logs, 0o755); err != nil {
			return fmt.Errorf("log directory: %w", err)
		}
		for _, f := range r.relaying().TraceFiles() { // roles add to them
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("traces of an earlier run: %w", err)
			}
		}
	}
	if n, most := len(r.socket()), len(syscall.RawSockaddrUnix{}.Path)-1; n > most {
		return fmt.Errorf("the path of a socket in %s has %d bytes, and the kernel takes %d: set TMPDIR to a shorter one", r.dir, n, most)
	}
	r.topology.run = r.run
	captures := o.Dir
	if captures == "" && o.Capture {
		captures = r.dir
	}
	if err := r.topology.build(ctx, r.spec, captures, o.HostAccess); err != nil {
		return err
	}
	r.control = controlClient(r.socket())
	rest := netip.AddrPortFrom(plan.On(r.spec, "manager", plan.Public), plan.PortREST)
	r.manager = plan.NewManagerClient(rest, r.secrets, client{r.topology.nodes["manager"], rest.Addr()})
	for _, n := range plan.Nodes(r.spec) {
		name, config, err := r.config(n)
		if err != nil {
			return err
		}
		if name == "" {
			continue // a client
		}
		file := filepath.Join(r.dir, n+".yaml")
		if err := os.WriteFile(file, config, 0o600); err != nil {
			return fmt.Errorf("configuration of %s: %w", n, err)
		}
		x := &role{
			name: n, ns: r.topology.nodes[n], binary: binary, log: filepath.Join(r.logs, n+".log"),
			args: []string{name, "--config", file, "--log-level", level, "--ready-fd", "3", "--until-stdin-closes"},
		}
		r.roles[n] = x
		if err := x.start(ctx); err != nil {
			return err
		}
		r.started = append(r.started, x)
	}
	return nil
}

// socket is where the UE process is told what to do.
func (r *running) socket() string { return filepath.Join(r.dir, "ue.sock") }

// Close implements lab.Lab.
func (r *running) Close(ctx context.Context) error {
	errs := []error{r.end(ctx)}
	if r.control != nil {
		r.control.CloseIdleConnections()
	}
	errs = append(errs, r.topology.remove())
	r.topology = topology{run: r.run}
	if r.dir != "" {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	if r.lock != nil {
		errs = append(errs, unlockRun(r.lock))
		r.lock = nil
	}
	return errors.Join(errs...)
}

// end ends the processes: first the UEs, which deregister, then the gNBs, the outer
// relays, which hand their audit records over, and then the rest at once.
func (r *running) end(ctx context.Context) error {
	order := []string{"ue", "gnb", "relay-outer"}
	stages := make([][]*role, len(order)+1)
	for _, x := range r.started {
		i := slices.Index(order, x.args[0])
		if i < 0 {
			i = len(order)
		}
		stages[i] = append(stages[i], x)
	}
	r.started = nil
	var errs []error
	for _, stage := range stages {
		ended := make([]error, len(stage))
		var wg sync.WaitGroup
		for i, x := range stage {
			wg.Go(func() { ended[i] = x.end(ctx, false) })
		}
		wg.Wait()
		errs = append(errs, ended...)
	}
	return errors.Join(errs...)
}

// UE implements lab.Lab.
func (r *running) UE(name string) (lab.UE, bool) {
	if !slices.ContainsFunc(r.spec.Devices, func(d spec.Device) bool { return d.Name == name }) {
		return nil, false
	}
	return device{name, r.control}, true
}

// Client implements lab.Lab.
func (r *running) Client(name string) (lab.Client, bool) {
	if !slices.ContainsFunc(r.spec.Clients, func(c spec.Client) bool { return c.Name == name }) {
		return nil, false
	}
	return client{r.topology.nodes[name], plan.On(r.spec, name, plan.Public)}, true
}

// client is a namespace that connections come from.
type client struct {
	ns   *netns.NS
	addr netip.Addr
}

// Address implements lab.Client.
func (c client) Address() netip.Addr { return c.addr }

// Dial implements lab.Client.
func (c client) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return c.ns.Dial(ctx, to)
}

// Manager implements lab.Lab.
func (r *running) Manager() lab.Manager { return r.manager }

// Trust implements lab.Lab.
func (r *running) Trust() []byte { return r.secrets.CA.PEM() }

// Captured implements lab.Lab.
func (r *running) Captured(_ context.Context, network string, needles [][]byte) ([]bool, error) {
	l, ok := r.topology.captures[network]
	if !ok {
		return nil, fmt.Errorf("network %q is not captured: want one of %s", network, strings.Join(plan.Networks(r.spec), ", "))
	}
	return l.Find(needles)
}

// Node implements lab.Lab.
func (r *running) Node(name string) (lab.Node, bool) {
	ns, ok := r.topology.nodes[name]
	return labNode{r, name, ns}, ok
}

type labNode struct {
	r    *running
	name string
	ns   *netns.NS
}

// Name implements lab.Node.
func (n labNode) Name() string { return n.name }

// Address implements lab.Node.
func (n labNode) Address() netip.Addr {
	if a := plan.On(n.r.spec, n.name, plan.Public); a.IsValid() {
		return a
	}
	if as := plan.Addresses(n.r.spec, n.name); len(as) > 0 {
		return as[0].Prefix.Addr()
	}
	var out netip.Addr
	_ = n.ns.Do(func() error { // a UE: what its interfaces have now
		list, err := net.InterfaceAddrs()
		for _, a := range list {
			if p, perr := netip.ParsePrefix(a.String()); perr == nil && !p.Addr().IsLoopback() {
				out = p.Addr()
			}
		}
		return err
	})
	return out
}

// Exec implements lab.Node.
func (n labNode) Exec(ctx context.Context, c lab.Command) (lab.Process, error) {
	return program.Start(ctx, program.Spec{Args: c.Args, Env: c.Env, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Start: n.ns.Start})
}

// Kill implements lab.Node.
func (n labNode) Kill(ctx context.Context) error {
	x, ok := n.r.roles[n.name]
	if !ok {
		return fmt.Errorf("%s: %w", n.name, lab.ErrNoProcess)
	}
	return x.end(ctx, true)
}

// Start implements lab.Node.
func (n labNode) Start(ctx context.Context) error {
	x, ok := n.r.roles[n.name]
	if !ok {
		return fmt.Errorf("%s: %w", n.name, lab.ErrNoProcess)
	}
	return x.start(ctx)
}

// Describe implements lab.Lab.
func (r *running) Describe() []lab.Place {
	s := r.spec
	out := []lab.Place{
		{What: "run", Where: r.run},
		{What: "manager's REST API", Where: fmt.Sprintf("http://%s:%d", plan.On(s, "manager", plan.Public), plan.PortREST)},
		{What: "auth key", Where: r.secrets.AuthKeyID + " " + r.secrets.AuthKey},
		{What: "CA of the relays", Where: filepath.Join(r.dir, lab.FileCA)},
	}
	for _, o := range s.OuterRelays {
		out = append(out, lab.Place{What: "outer relay " + o.Name, Where: plan.On(s, o.Name, plan.Public).String() + " ports " + o.Ports})
	}
	for _, n := range plan.Nodes(s) {
		var at []string
		for _, a := range plan.Addresses(s, n) {
			at = append(at, a.Network+" "+a.Prefix.Addr().String())
		}
		out = append(out, lab.Place{What: "node " + n, Where: strings.Join(at, ", ")})
	}
	for _, d := range s.Devices {
		out = append(out, lab.Place{What: "UE " + d.Name, Where: "IMSI " + string(d.IMSI) + ", 'simreach exec " + d.Name + " -- CMD' runs on it"})
	}
	return out
}
