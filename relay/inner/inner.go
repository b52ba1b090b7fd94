package inner

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/relay"
)

// Config configures an inner relay.
type Config struct {
	// ID is the relay's name, which tickets carry. Required.
	ID string `yaml:"id"`
	// Listen is "address:port" for outer relays; whoever builds the Relay opens
	// it, and it is what the relay tells the manager unless Publish is set.
	Listen string `yaml:"listen"`
	// Publish is the "address:port" at which outer relays reach Listen. Empty: Listen.
	Publish string `yaml:"publish"`
	// MaxHandshakes bounds the connections that are being set up at one time; more
	// are refused. 0: 1024.
	MaxHandshakes int `yaml:"max_handshakes"`
	// MaxConnections bounds all connections; more are refused. 0: 65536.
	MaxConnections int `yaml:"max_connections"`
	// HandshakeTimeout is how long an outer relay may take to send its request. 0: 5 s.
	HandshakeTimeout time.Duration `yaml:"handshake_timeout"`
	// DialTimeout is how long a device may take to accept. 0: 8 s.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// IdleTimeout ends a connection over which no byte went either way for that long.
	// 0: never.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// TCP says how soon peers that have gone without a word are noticed, outer relays
	// and devices.
	TCP relay.TCPOptions `yaml:"tcp"`
	// TicketRate is how many tickets a second may be used for as long as one likes:
	// it bounds the memory that makes them valid once, some 40 bytes for each ticket
	// that has not expired. More are refused. 0: 20,000.
	TicketRate int `yaml:"ticket_rate"`
	// DrainTimeout is how long live connections may go on when the relay stops.
	// 0: they are cut at once.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.ID == "":
		return errors.New("inner relay: id is required")
	case c.MaxHandshakes < 0 || c.MaxConnections < 0 || c.TicketRate < 0:
		return errors.New("inner relay: limits must not be negative")
	case c.HandshakeTimeout < 0 || c.DialTimeout < 0 || c.DrainTimeout < 0 || c.IdleTimeout < 0:
		return errors.New("inner relay: timeouts must not be negative")
	}
	if err := c.TCP.Validate(); err != nil {
		return fmt.Errorf("inner relay: %w", err)
	}
	return nil
}

// Published returns the address that outer relays connect to.
func (c Config) Published() (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(cmp.Or(c.Publish, c.Listen))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("inner relay: publish or listen: %w", err)
	}
	return a, nil
}

// Control is what the manager told this relay when it attached; its methods may be
// called from any goroutine and do not block.
type Control interface {
	// VerificationKey returns the manager's public Ed25519 key with an ID.
	VerificationKey(id string) (key []byte, ok bool)
	// Instance names this process towards the manager.
	Instance() string
}

// Deps is what a Relay needs of the world.
type Deps struct {
	Log      *slog.Logger // nil discards
	Listener net.Listener // for outer relays; Run closes it
	// Dial connects to a device over N6: the kernel's network or a userspace
	// stack. The connection must be a relay.Conn.
	Dial    func(ctx context.Context, device netip.AddrPort) (net.Conn, error)
	Control Control
	// TLS, if not nil, is how outer relays connect: it must have a certificate and
	// ClientCAs, and every client must show a certificate of theirs. Connections then
	// cost goroutines.
	TLS *tls.Config
	// Ping reaches devices with ICMP echo requests; KernelPing does over the kernel's
	// network. nil: Relay.Ping is not supported.
	Ping func(ctx context.Context, q PingRequest) (PingResult, error)
}

// Relay is an inner relay.
type Relay struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	dial     func(context.Context, netip.AddrPort) (net.Conn, error)
	tickets  *verifier
	relayer  *relay.Relayer
	tls      *tls.Config // nil: without
	ping     func(context.Context, PingRequest) (PingResult, error)
	ready    chan struct{}
	slots    chan struct{} // handshakes

	conns    sync.WaitGroup
	all      atomic.Int64 // connections in any state
	live     atomic.Int64 // relayed
	total    atomic.Uint64
	counters relay.Counters

	mu      sync.Mutex // guards the rest
	refused map[relay.Refusal]uint64
	ended   map[relay.Cause]uint64
}

// New checks cfg and deps.
func New(cfg Config, d Deps) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Listener == nil || d.Dial == nil || d.Control == nil {
		return nil, errors.New("inner relay: Listener, Dial and Control are required")
	}
	if d.TLS != nil {
		if d.TLS.ClientCAs == nil {
			return nil, errors.New("inner relay: TLS without ClientCAs would let anybody in")
		}
		d.TLS = d.TLS.Clone()
		d.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	cfg.MaxHandshakes = cmp.Or(cfg.MaxHandshakes, 1024)
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 65536)
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, 5*time.Second)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 8*time.Second)
	relayer, err := relay.NewRelayer(relay.Config{IdleTimeout: cfg.IdleTimeout})
	if err != nil {
		return nil, fmt.Errorf("inner relay: %w", err)
	}
	return &Relay{
		cfg: cfg, relayer: relayer, tls: d.TLS, ping: d.Ping, log: d.Log.With("nf", "relay-inner", "relay", cfg.ID), listener: d.Listener, dial: d.Dial,
		tickets: newVerifier(cfg.ID, d.Control, cmp.Or(cfg.TicketRate, 20_000)), ready: make(chan struct{}), slots: make(chan struct{}, cfg.MaxHandshakes),
		refused: map[relay.Refusal]uint64{}, ended: map[relay.Cause]uint64{},
	}, nil
}

// Ready is closed once outer relays can connect.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Status is a snapshot of a Relay.
type Status struct {
	Live     int    // connections relayed now
	Relayed  uint64 // connections that reached their device
	Up, Down uint64 // bytes to and from devices, of live connections too
	Refused  map[string]uint64
	Ended    map[string]uint64 // by relay.Cause; a is the outer relay, b the device
}

// Status returns a copy of the relay's counters.
func (r *Relay) Status() Status {
	s := Status{
		Live: int(r.live.Load()), Relayed: r.total.Load(), Up: r.counters.AToB.Load(), Down: r.counters.BToA.Load(),
		Refused: map[string]uint64{}, Ended: map[string]uint64{},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, v := range maps.All(r.refused) {
		s.Refused[string(k)] = v
	}
	for k, v := range maps.All(r.ended) {
		s.Ended[k.String()] = v
	}
	return s
}

var errStopped = errors.New("the relay stopped")

// Run serves until ctx ends, then lets live connections go on for DrainTimeout.
func (r *Relay) Run(ctx context.Context) error {
	// Connections outlive ctx by the drain time.
	life, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	relayed := make(chan error, 1)
	go func() {
		relayed <- r.relayer.Run(life)
		stop() // without a relayer there is nothing to accept for
	}()
	stopListening := context.AfterFunc(ctx, func() { r.listener.Close() })
	close(r.ready)
	err := r.accept(ctx, life)
	stopListening()
	r.listener.Close()
	if r.cfg.DrainTimeout > 0 && err == nil {
		late := time.AfterFunc(r.cfg.DrainTimeout, func() { cut(errStopped) })
		r.conns.Wait()
		late.Stop()
	}
	cut(errStopped)
	r.conns.Wait()
	return errors.Join(err, <-relayed)
}

// accept hands out connections until the listener is closed. ctx says whether that
// was meant.
func (r *Relay) accept(ctx, life context.Context) error {
	for {
		c, err := r.listener.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case relay.TemporaryAccept(err):
			r.log.Warn("accept failed", "error", err)
			if !relay.Pause(ctx) {
				return nil
			}
			continue
		default:
			return fmt.Errorf("inner relay %s: accept: %w", r.cfg.ID, err)
		}
		if r.all.Add(1) > int64(r.cfg.MaxConnections) {
			r.all.Add(-1)
			r.count(relay.Overloaded)
			relay.Abort(c)
			continue
		}
		r.conns.Add(1)
		go r.serve(ctx, life, c)
	}
}

// gone counts a connection out.
func (r *Relay) gone() {
	r.all.Add(-1)
	r.conns.Done()
}

// serve sets one connection of an outer relay up and gives it to the relayer, which
// needs no goroutine of ours for it.
func (r *Relay) serve(ctx, life context.Context, c net.Conn) {
	outer, device, t, why := r.setUp(ctx, life, c)
	if why != "" {
		defer r.gone()
		r.count(why)
		r.log.Debug("connection refused", "conn", t.Connection, "outer", c.RemoteAddr(), "error", why)
		if outer == nil {
			relay.Abort(c)
			return
		}
		wctx, cancel := context.WithTimeout(life, time.Second)
		defer cancel()
		if relay.Refuse(wctx, outer, why) != nil {
			relay.Abort(outer) // it has gone
			return
		}
		outer.Close()
		return
	}
	r.live.Add(1)
	r.total.Add(1)
	r.relayer.Start(outer, device, &r.counters, func(res relay.Result) {
		defer r.gone()
		r.live.Add(-1)
		r.mu.Lock()
		r.ended[res.Cause]++
		r.mu.Unlock()
		if r.log.Enabled(life, slog.LevelDebug) {
			r.log.Debug("connection ended", "conn", t.Connection, "entry", t.Entry, "device", t.Device, "cause", res.Cause, "up", res.AToB, "down", res.BToA, "error", res.Err)
		}
	})
}

// setUp takes a connection as far as the device. outer is nil when there is nobody to
// whom a refusal could be said.
func (r *Relay) setUp(ctx, life context.Context, c net.Conn) (outer, device relay.Conn, t ticket, why relay.Refusal) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		if r.tls == nil {
			outer, _ = c.(relay.Conn)
		}
		return outer, nil, t, relay.Overloaded
	}
	// While draining nothing new is set up: ctx, not life.
	hctx, cancel := context.WithTimeout(ctx, r.cfg.HandshakeTimeout)
	defer cancel()
	if err := r.cfg.TCP.Apply(c); err != nil {
		return nil, nil, t, relay.BadRequest // it has gone
	}
	outer, ok := c.(relay.Conn)
	if !ok {
		return nil, nil, t, relay.BadRequest
	}
	if r.tls != nil {
		tc := tls.Server(c, r.tls)
		if err := tc.HandshakeContext(hctx); err != nil {
			r.log.Debug("TLS handshake failed", "outer", c.RemoteAddr(), "error", err)
			return nil, nil, t, relay.BadRequest
		}
		outer = tc
	}
	device, t, why = r.connect(ctx, hctx, life, outer)
	return outer, device, t, why
}

// connect reads and checks the request, connects to the device and says so to the
// outer relay. hctx bounds the outer relay's part of it. A refusal is returned, not
// sent.
func (r *Relay) connect(ctx, hctx, life context.Context, outer relay.Conn) (relay.Conn, ticket, relay.Refusal) {
	req, err := relay.ReadRequest(hctx, outer)
	if ctx.Err() != nil {
		return nil, ticket{}, relay.Draining
	}
	if err != nil {
		return nil, ticket{}, relay.BadRequest
	}
	t, err := r.tickets.verify(req, time.Now())
	if err != nil {
		r.log.Debug("ticket not accepted", "outer", outer.RemoteAddr(), "error", err)
		if errors.Is(err, errTooMany) {
			return nil, t, relay.Overloaded
		}
		return nil, t, relay.TicketInvalid
	}
	dctx, cancelDial := context.WithTimeout(ctx, r.cfg.DialTimeout)
	defer cancelDial()
	c, err := r.dial(dctx, t.Device)
	if err != nil {
		if ctx.Err() != nil {
			return nil, t, relay.Draining
		}
		if dctx.Err() != nil {
			return nil, t, relay.DeviceTimeout
		}
		return nil, t, relay.ClassifyDial(err)
	}
	device, ok := c.(relay.Conn)
	if !ok {
		c.Close()
		return nil, t, relay.DeviceUnreachable
	}
	if err := r.cfg.TCP.Apply(device); err != nil {
		relay.Abort(device)
		return nil, t, relay.ClassifyDial(err)
	}
	wctx, cancelWrite := context.WithTimeout(life, time.Second)
	defer cancelWrite()
	if err := relay.Accept(wctx, outer); err != nil {
		relay.Abort(device)
		return nil, t, relay.BadRequest
	}
	return device, t, ""
}

func (r *Relay) count(why relay.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[why]++
}
