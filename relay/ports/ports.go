package ports

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/simreach/simreach/relay"
)

// What Open and Run answer; test with errors.Is.
var (
	// ErrInUse says that another program holds the port.
	ErrInUse = errors.New("port is in use by another program")
	// ErrOpen says that the port is open here already.
	ErrOpen = errors.New("port is open already")
	// ErrLimit says that as many ports are open as may be.
	ErrLimit = errors.New("too many open ports")
	// ErrRange says that the port is outside the configured range.
	ErrRange = errors.New("port is outside the range")
	// ErrNotRunning says that Run has not started or has ended, or that Drain was called.
	ErrNotRunning = errors.New("ports are not served")
)

// Modes of Config and Status.
const (
	ModeAuto     = "auto"
	ModeSkLookup = "sk_lookup"
	ModeListen   = "listen"
)

// Config configures the ports of one address.
type Config struct {
	// Address is where ports are opened; it must be an address of this machine
	// when Run starts. 0.0.0.0 stands for all IPv4 addresses, :: for all addresses
	// of both families. No zones. Required.
	Address netip.Addr `yaml:"address"`
	// Mode is "sk_lookup", "listen" or "auto": sk_lookup where the kernel and our
	// capabilities (CAP_BPF, CAP_NET_ADMIN) allow it, else listen. Empty: auto.
	Mode string `yaml:"mode"`
	// First and Last are the range that Open takes, inclusive. Both zero: 1 to 65535.
	First uint16 `yaml:"first"`
	Last  uint16 `yaml:"last"`
	// Backlog is how many connections may wait to be accepted: on each port with
	// listen, on all ports together with sk_lookup. The kernel bounds it by
	// net.core.somaxconn. 0: 65535, that is, the kernel's bound.
	Backlog int `yaml:"backlog"`
	// MaxOpen bounds the open ports. 0: with listen half of the descriptors that
	// the process may have, with sk_lookup no bound but the range.
	MaxOpen int `yaml:"max_open"`
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case !c.Address.IsValid():
		return errors.New("ports: address is required")
	case c.Address.Zone() != "":
		return errors.New("ports: address must not have a zone")
	case c.Mode != "" && c.Mode != ModeAuto && c.Mode != ModeSkLookup && c.Mode != ModeListen:
		return fmt.Errorf("ports: mode %q: want auto, sk_lookup or listen", c.Mode)
	case (c.First != 0 || c.Last != 0) && (c.First == 0 || c.Last < c.First):
		return errors.New("ports: want 1 <= first <= last")
	case c.Backlog < 0 || c.MaxOpen < 0:
		return errors.New("ports: limits must not be negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Address = c.Address.Unmap()
	if c.Mode == "" {
		c.Mode = ModeAuto
	}
	if c.First == 0 {
		c.First, c.Last = 1, math.MaxUint16
	}
	if c.Backlog == 0 {
		c.Backlog = math.MaxUint16
	}
	return c
}

// Deps is what Ports need of the world.
type Deps struct {
	Log *slog.Logger // nil discards
	// Handle takes a connection and owns it; port is the one that was hit, as
	// c.LocalAddr also says. It is called from an acceptor's goroutine, one at a
	// time per listening socket: it must return at once and must not call Open,
	// Close or Drain. Required.
	Handle func(c net.Conn, port uint16)
}

// Ports are the TCP ports of one address. All methods may be called from any
// goroutine.
type Ports struct {
	cfg    Config
	log    *slog.Logger
	handle func(net.Conn, uint16)
	ready  chan struct{}
	tasks  sync.WaitGroup // acceptors
	failed chan error     // of acceptors; the first one counts

	accepted, refused, starved atomic.Uint64

	// control is held by whoever opens, closes or drains: one at a time. It is
	// taken before mu and guards state and, once it is set, backend.
	control sync.Mutex
	backend backend
	state   state

	mu       sync.RWMutex // guards the rest; acceptors hold it to read while Handle runs
	open     map[uint16]*opening
	mode     string
	fallback string
}

type state int

const (
	idle state = iota
	serving
	drained // or draining
	ended
)

// opening is one period in which a port is open. Connections of an earlier period
// of the same port are told apart by its address.
type opening struct{ listener *Listener } // nil with sk_lookup

// backend is what the modes differ in. Its methods are called one at a time, but
// for drain, during which close and stop may be called.
type backend interface {
	limit() int
	// open makes the port connectable. It calls publish, which lets connections in,
	// before the first of them can be accepted.
	open(port uint16, publish func(*opening)) error
	// close undoes open; connections that wait unaccepted are reset.
	close(port uint16, o *opening)
	// refuse takes no new connections from now on.
	refuse(open map[uint16]*opening) error
	// drain, after refuse, returns when all connections that the kernel has promised
	// to clients have been fetched by an acceptor, or ctx ended.
	drain(ctx context.Context, open map[uint16]*opening) error
	// stop makes acceptors return and frees everything. It may be called twice.
	stop(open map[uint16]*opening) error
}

// New checks cfg and d.
func New(cfg Config, d Deps) (*Ports, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Handle == nil {
		return nil, errors.New("ports: Handle is required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Ports{
		cfg: cfg.withDefaults(), log: d.Log.With("address", cfg.Address), handle: d.Handle,
		ready: make(chan struct{}), failed: make(chan error, 1), open: map[uint16]*opening{},
	}, nil
}

// Ready is closed once Open works.
func (p *Ports) Ready() <-chan struct{} { return p.ready }

// Status is a snapshot of Ports.
type Status struct {
	Mode     string // ModeSkLookup or ModeListen; empty before Run
	Fallback string // why auto did not take sk_lookup; empty if it did
	Open     int    // open ports
	Accepted uint64 // connections that Handle got
	Refused  uint64 // connections that were reset: their port closed before they were accepted
	Starved  uint64 // failures to accept for want of descriptors or memory; the connections wait
}

// Status returns a copy of the state.
func (p *Ports) Status() Status {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return Status{
		Mode: p.mode, Fallback: p.fallback, Open: len(p.open),
		Accepted: p.accepted.Load(), Refused: p.refused.Load(), Starved: p.starved.Load(),
	}
}

// Run serves until ctx ends and returns nil then. All ports are closed when it
// returns, without a drain: for that call Drain first. It fails if Address is not
// of this machine, if the configured mode is not to be had, or if a socket breaks.
func (p *Ports) Run(ctx context.Context) error {
	if err := p.start(ctx); err != nil {
		return fmt.Errorf("ports of %s: %w", p.cfg.Address, err)
	}
	close(p.ready)
	var err error
	select {
	case <-ctx.Done():
	case err = <-p.failed:
	}
	p.control.Lock()
	defer p.control.Unlock()
	p.mu.Lock()
	p.state = ended
	open := p.open
	p.open = map[uint16]*opening{}
	p.mu.Unlock()
	err = errors.Join(err, p.backend.stop(open))
	p.tasks.Wait()
	if err != nil {
		return fmt.Errorf("ports of %s: %w", p.cfg.Address, err)
	}
	return nil
}

func (p *Ports) start(ctx context.Context) error {
	p.control.Lock()
	defer p.control.Unlock()
	if p.state != idle {
		return errors.New("Run was called before")
	}
	b, mode, fallback, err := p.choose(ctx)
	if err != nil {
		return err
	}
	p.backend, p.state = b, serving
	p.mu.Lock()
	p.mode, p.fallback = mode, fallback
	p.mu.Unlock()
	if fallback != "" {
		p.log.Info("every open port takes a descriptor and a goroutine: no sk_lookup", "error", fallback)
	}
	return nil
}

func (p *Ports) choose(ctx context.Context) (b backend, mode, fallback string, err error) {
	if p.cfg.Mode != ModeListen {
		b, err := p.newSteering(ctx)
		if err == nil {
			return b, ModeSkLookup, "", nil
		}
		var refused *steeringError
		if p.cfg.Mode != ModeAuto || !errors.As(err, &refused) {
			return nil, "", "", err
		}
		fallback = refused.Error()
	}
	b, err = p.newListening(ctx)
	return b, ModeListen, fallback, err
}

// steeringError says that the kernel did not take the sk_lookup program. What
// auto mode does without.
type steeringError struct{ err error }

func (e *steeringError) Error() string { return "sk_lookup: " + e.err.Error() }
func (e *steeringError) Unwrap() error { return e.err }

// Open opens a port; once it has returned, a client can connect. It fails with
// ErrInUse, ErrOpen, ErrLimit, ErrRange or ErrNotRunning, or what the kernel said.
//
// Opening a port that was closed a moment ago may wait some milliseconds until
// the connections to its former self are gone.
func (p *Ports) Open(port uint16) error {
	if err := p.tryOpen(port); err != nil {
		return fmt.Errorf("open port %d: %w", port, err)
	}
	return nil
}

func (p *Ports) tryOpen(port uint16) error {
	p.control.Lock()
	defer p.control.Unlock()
	if p.state != serving {
		return ErrNotRunning
	}
	if port < p.cfg.First || port > p.cfg.Last {
		return ErrRange
	}
	p.mu.RLock()
	n, o := len(p.open), p.open[port]
	p.mu.RUnlock()
	if o != nil {
		return ErrOpen
	}
	if limit := p.backend.limit(); n >= limit {
		return fmt.Errorf("%w: %d", ErrLimit, limit)
	}
	return p.backend.open(port, func(o *opening) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open[port] = o
	})
}

// Close closes a port. Once it has returned the port answers RST, Handle is not
// called for it, and connections that waited unaccepted have been or are being
// reset. Connections that Handle has got go on. Closing a closed port does nothing.
func (p *Ports) Close(port uint16) {
	p.control.Lock()
	defer p.control.Unlock()
	p.mu.Lock()
	o := p.open[port]
	delete(p.open, port)
	p.mu.Unlock()
	if o != nil {
		p.backend.close(port, o)
	}
}

// Drain closes all ports so that no connection is lost which the kernel has
// promised to a client: those that wait to be accepted still go to Handle, and so
// do those whose handshake is half-way, for as long as ctx allows. The package
// comment says what follows for a hand-over to another process. It returns once
// all of them were handled, or with ctx's error; either way the ports are closed.
// Open fails from the call on. Run goes on until its context ends.
func (p *Ports) Drain(ctx context.Context) error {
	p.control.Lock()
	if p.state != serving {
		p.control.Unlock()
		return fmt.Errorf("drain ports of %s: %w", p.cfg.Address, ErrNotRunning)
	}
	p.state = drained
	open := maps.Clone(p.open) // only who holds control changes it
	err := p.backend.refuse(open)
	p.control.Unlock()
	if err == nil {
		err = p.backend.drain(ctx, open)
	}
	p.control.Lock()
	defer p.control.Unlock()
	if p.state != drained {
		return fmt.Errorf("drain ports of %s: %w", p.cfg.Address, ErrNotRunning)
	}
	err = errors.Join(err, p.backend.stop(p.open))
	p.tasks.Wait() // what acceptors have in their hands is still delivered
	p.mu.Lock()
	p.open = map[uint16]*opening{}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("drain ports of %s: %w", p.cfg.Address, err)
	}
	return nil
}

func (p *Ports) unpublish(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, port)
}

// deliver hands c to Handle, or resets it if its port has been closed. o is the
// opening that c belongs to; nil: whichever the port has.
func (p *Ports) deliver(c net.Conn, port uint16, o *opening) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if now := p.open[port]; now == nil || (o != nil && now != o) {
		p.refused.Add(1)
		relay.Abort(c)
		return
	}
	p.accepted.Add(1)
	p.handle(c, port)
}

// fail makes Run return.
func (p *Ports) fail(err error) {
	select {
	case p.failed <- err:
	default: // another one was first
	}
}
