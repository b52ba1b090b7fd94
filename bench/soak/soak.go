package soak

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/simreach/simreach/bench/process"
	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/internal/telemetry"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	relayaudit "github.com/simreach/simreach/relay/audit"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

const (
	operator   = "OP0000000001"
	deviceIMSI = "001010000000001"
	serverName = "relay.soak.internal"
	noBound    = 100_000 // connections in a second
)

// Everything is on these addresses.
var (
	managerAddress = netip.MustParseAddr("127.0.6.1")
	innerAddress   = netip.MustParseAddr("127.0.6.2")
	outerAddress   = netip.MustParseAddr("127.0.6.3")
	deviceAddress  = netip.MustParseAddr("127.0.6.4")
)

// Options are those of the command.
type Options struct {
	For  time.Duration // of the load; at least 5 s
	Load float64       // part of the most that was measured; more than 0, at most 1
	// Program is this program's file. Empty: the one that runs.
	Program string
	// Progress is told what happens. nil: nobody.
	Progress func(what string)
}

// soak is one run.
type soak struct {
	Options
	dir        string
	processes  []*watched
	http       *http.Client // for metrics
	api        *api.Client
	pool       *x509.CertPool
	devicePort uint16

	clients     *pki.Authority // of the credentials
	certificate *tls.Certificate
	wrong       map[string]*tls.Certificate // by kind
	sessions    tls.ClientSessionCache

	open       map[access][]entry // entries of the load
	mix        []*kind
	connected  atomic.Int64
	turnedAway atomic.Int64 // of connected
	entries    *churn

	mu     sync.Mutex // guards the rest
	faults map[string]int
}

func (s *soak) say(format string, args ...any) {
	if s.Progress != nil {
		s.Progress(fmt.Sprintf(format, args...))
	}
}

// fault counts what went wrong, by what is the same about it for many connections.
func (s *soak) fault(what string, err error) {
	if e, ok := errors.AsType[syscall.Errno](err); ok && what != "entry" {
		err = e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := fmt.Sprintf("%s: %v", what, err); s.faults[key] > 0 || len(s.faults) < 20 {
		s.faults[key]++
	} else {
		s.faults["others"]++
	}
}

// Run measures the most that the relays carry of the mix, runs the part of it for the
// time, and reports. Problems are in the report; an error says that there is none.
func Run(ctx context.Context, o Options) (r Report, err error) {
	if o.For < 5*time.Second || o.Load <= 0 || o.Load > 1 {
		return r, fmt.Errorf("soak: for %s at %g: want at least 5 s, and more than 0 and at most 1", o.For, o.Load)
	}
	if o.Program == "" {
		if o.Program, err = os.Executable(); err != nil {
			return r, err
		}
	}
	s := &soak{Options: o, http: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}, mix: mix(), entries: newChurn(), open: map[access][]entry{}, faults: map[string]int{}}
	defer s.http.CloseIdleConnections()
	if s.dir, err = os.MkdirTemp("", "simreach-soak-"); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	l, err := listenDevice(deviceAddress)
	if err != nil {
		return r, err
	}
	s.devicePort = l.Addr().(*net.TCPAddr).AddrPort().Port()
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var device sync.WaitGroup
	device.Go(func() { serveDevice(life, l) })
	defer device.Wait()
	defer cancel()
	defer func() { err = errors.Join(err, s.stopAll()) }()
	if err := s.startAll(ctx); err != nil {
		return r, err
	}
	return s.measure(ctx)
}

func (s *soak) measure(ctx context.Context) (r Report, err error) {
	brief := min(max(s.For/20, 2*time.Second), 15*time.Second)
	s.say("measuring the most for %s", brief)
	s.runFor(ctx, brief, 0)
	for _, k := range s.mix {
		k.rate = float64(k.done.Load()) / brief.Seconds()
		s.say("%s: %.1f a second", k.name, k.rate)
		k.done.Store(0)
		k.resumed.Store(0)
		k.moved.Store(0)
	}
	before, err := s.settle(ctx)
	if err != nil {
		return r, err
	}
	s.say("load of %.0f %% for %s", 100*s.Load, s.For)
	watching, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { s.churn(watching) })
	var samples [][]sample
	var watchErr error
	beside.Go(func() { samples, watchErr = s.watch(watching) })
	began := time.Now()
	s.runFor(ctx, s.For, s.Load)
	took := time.Since(began)
	stop()
	beside.Wait()
	if err := errors.Join(ctx.Err(), watchErr); err != nil {
		return r, err
	}
	after, err := s.settle(ctx)
	if err != nil {
		return r, err
	}
	r = Report{
		For: s.For, Load: s.Load, Created: s.entries.created.Load(), Connections: s.connected.Load(), TurnedAway: s.turnedAway.Load(),
		Cuts: []CutReport{s.entries.deleted.report(), s.entries.expired.report(), s.entries.revoked.report()},
	}
	for _, k := range s.mix {
		kr := KindReport{Name: k.name, Most: k.rate, Done: k.done.Load(), Resumed: k.resumed.Load(), Failed: k.failed.Load(), Megabyte: float64(k.moved.Load()) / 1e6}
		if k.held == 0 {
			kr.Rate = float64(kr.Done) / took.Seconds()
		}
		r.Kinds = append(r.Kinds, kr)
	}
	for i, p := range s.processes {
		r.Roles = append(r.Roles, RoleReport{
			Name: p.Name(), FilesBefore: before[i].files, FilesAfter: after[i].files, GoroutinesBefore: before[i].goroutines, GoroutineAfter: after[i].goroutines,
			RSSBefore: before[i].rss, RSSAfter: after[i].rss, RSSGrowth: growth(samples[i]),
		})
	}
	s.say("reading the audit log")
	// The relay hands over what is left when it stops; then the manager has it all.
	if err := s.stopAll(); err != nil {
		return r, err
	}
	r.Audited, r.Complete, r.Denied, err = audit(ctx, s.database())
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Faults = s.faults
	return r, err
}

func (s *soak) runFor(ctx context.Context, d time.Duration, load float64) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	s.run(ctx, load)
}

// watch takes a sample of every process from time to time until ctx ends.
func (s *soak) watch(ctx context.Context) ([][]sample, error) {
	out := make([][]sample, len(s.processes))
	every := min(max(s.For/60, 500*time.Millisecond), 5*time.Second)
	for n := 1; pause(ctx, every); n++ {
		for i, p := range s.processes {
			at, err := p.sample(context.WithoutCancel(ctx), s.http)
			if err != nil {
				return out, err
			}
			out[i] = append(out[i], at)
			if n%12 == 0 {
				s.say("%-12s %6.1f MiB, %d descriptors, %d goroutines", p.Name(), at.rss/(1<<20), at.files, at.goroutines)
			}
		}
	}
	return out, nil
}

// settle waits until no process gives anything back any more, without load, and returns
// what they hold.
func (s *soak) settle(ctx context.Context) ([]sample, error) {
	last, same := make([]sample, len(s.processes)), 0
	for range 60 {
		if !pause(ctx, 500*time.Millisecond) {
			return nil, ctx.Err()
		}
		same++
		for i, p := range s.processes {
			now, err := p.sample(ctx, s.http)
			if err != nil {
				return nil, err
			}
			if now.files < last[i].files-1 || now.goroutines < last[i].goroutines-3 || last[i].files == 0 {
				same = 0
			}
			last[i] = now
		}
		if same >= 12 { // what is kept for some seconds is gone, too
			break
		}
	}
	return last, nil
}

func (s *soak) database() string { return filepath.Join(s.dir, "manager.db") }

// startAll starts the processes and asks for the entries of the load.
func (s *soak) startAll(ctx context.Context) error {
	cert, err := s.makeKeys()
	if err != nil {
		return err
	}
	secret, key := rand.Text(), rand.Text()
	free := func(a netip.Addr) string {
		if err != nil {
			return ""
		}
		var l *net.TCPListener
		if l, err = listenDevice(a); err != nil {
			return ""
		}
		defer l.Close()
		return l.Addr().String()
	}
	rest, control, innerAt := free(managerAddress), free(managerAddress), free(innerAddress)
	metrics := []string{free(managerAddress), free(innerAddress), free(managerAddress)}
	if err != nil {
		return err
	}
	client := rpc.ClientConfig{Manager: control, Secret: secret}
	roles := []struct {
		name string
		role node.Role
	}{
		{"manager", &node.Manager{
			Manager: manager.Config{
				Operators:   []manager.OperatorConfig{{ID: operator, AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-soak", Key: key}}}},
				Subscribers: []manager.SubscriberConfig{{IMSI: deviceIMSI, OperatorID: operator}},
				InnerRelays: []manager.InnerRelayConfig{{ID: "inner", UPFs: []string{"soak"}}},
			},
			StaticDirectory: []manager.StaticAttachment{{IMSI: deviceIMSI, UPF: "soak", Address: deviceAddress}},
			Store:           store.Config{Path: s.database()}, API: api.Config{Listen: rest}, RPC: rpc.ServerConfig{Listen: control, Secret: secret},
			Telemetry: telemetry.Config{Listen: metrics[0]},
		}},
		{"relay-inner", &node.Inner{Relay: inner.Config{ID: "inner", Listen: innerAt}, Control: client, Telemetry: telemetry.Config{Listen: metrics[1]}}},
		{"relay-outer", &node.Outer{
			// The guards stay in place with bounds that the load does not reach. Ports are drawn
			// from beside those that the kernel gives to connections.
			Relay: outer.Config{
				ID: "outer", Address: outerAddress, EntryRate: noBound, SourceRate: noBound, MaxEntryConnections: -1, MaxHandshakes: 4096,
				Ports: manager.PortRange{First: 20000, Last: 30000},
			},
			Control: client, TLS: pki.Config{Cert: cert, Key: pki.Secret(cert)}, Audit: relayaudit.Config{Dir: filepath.Join(s.dir, "audit")},
			Telemetry: telemetry.Config{Listen: metrics[2]},
		}},
	}
	for i, r := range roles {
		s.say("starting %s", r.name)
		p, err := process.StartRole(ctx, s.dir, s.Program, r.name, r.role, nil)
		if err != nil {
			return err
		}
		s.processes = append(s.processes, &watched{p, "http://" + metrics[i] + "/metrics"})
	}
	if s.api, err = (api.Client{URL: "http://" + rest, HTTP: s.http}).Login(ctx, api.AuthRequest{AuthKeyID: "keyId-soak", AuthKey: key}); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	credential, err := s.guard(ctx)
	if err != nil {
		return err
	}
	for range 4 {
		for _, a := range []access{plain, secure, guarded} {
			e, err := s.create(ctx, manager.MaxDuration, a, credential)
			if err != nil {
				return err
			}
			s.open[a] = append(s.open[a], e)
		}
	}
	return nil
}

// stopAll stops the processes, the manager last.
func (s *soak) stopAll() error {
	var errs []error
	for i := len(s.processes) - 1; i >= 0; i-- {
		errs = append(errs, s.processes[i].Stop())
	}
	s.processes = nil
	return errors.Join(errs...)
}
