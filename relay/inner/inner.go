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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/internal/workers"
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
	// MaxConnections bounds all connections; more are refused, unless one that waits for
	// another client gives way. 0: 65536.
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
	// TicketKey returns the HMAC-SHA256 key with an ID, of 32 bytes, that the manager
	// shares with this process.
	TicketKey(id string) (key []byte, ok bool)
	// Instance names this process towards the manager.
	Instance() string
}

// Deps is what a Relay needs of the world.
type Deps struct {
	Log *slog.Logger // nil discards
	// Listener is for outer relays; Run closes it. If it is a *ports.Listener, another
	// process of the relay may take over from this one without losing a connection.
	Listener net.Listener
	// Attached, if not nil, is closed when the manager knows this process. Connections
	// wait until then: a process that takes over gets them from the moment that it
	// listens, and can check no ticket before.
	Attached <-chan struct{}
	// Dial connects to a device over N6, as a userspace stack does. The connection must be
	// a relay.Conn. nil: the kernel's network; setting a connection up then takes no
	// goroutine where the system has event loops.
	Dial    func(ctx context.Context, device netip.AddrPort) (net.Conn, error)
	Control Control
	// TLS, if not nil, is how outer relays connect, with TLS 1.3: it must have a
	// certificate and ClientCAs, and every client must show a certificate of theirs that
	// names an outer relay with the URI simreach://relay/outer/<ID>. Connections then cost
	// goroutines.
	TLS *tls.Config
	// Metrics gets the relay's metrics for as long as Run runs. nil: none.
	Metrics prometheus.Registerer
	// Traces makes the spans of connections being set up. nil: none.
	Traces trace.TracerProvider
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
	onLoop   bool        // connections are set up on event loops
	tls      *tls.Config // nil: without
	ping     func(context.Context, PingRequest) (PingResult, error)
	ready    chan struct{}
	slots    chan struct{} // handshakes
	attached <-chan struct{}
	draining chan struct{} // closed by Drain
	drain    func()

	setups   *workers.Group
	conns    sync.WaitGroup
	all      atomic.Int64 // connections in any state
	live     atomic.Int64 // relayed
	total    atomic.Uint64
	counters relay.Counters
	metrics  *metrics
	register prometheus.Registerer
	tracer   observe.Tracer

	mu      sync.Mutex // guards the rest
	refused map[relay.Refusal]uint64
	ended   map[relay.Cause]uint64
	waiting map[*relay.Link]struct{} // connections of outer relays without a request
}

// New checks cfg and deps.
func New(cfg Config, d Deps) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Listener == nil || d.Control == nil {
		return nil, errors.New("inner relay: Listener and Control are required")
	}
	if d.TLS != nil {
		if d.TLS.ClientCAs == nil {
			return nil, errors.New("inner relay: TLS without ClientCAs would let anybody in")
		}
		d.TLS = d.TLS.Clone()
		d.TLS.ClientAuth, d.TLS.MinVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS13
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
	r := &Relay{
		cfg: cfg, relayer: relayer, tls: d.TLS, ping: d.Ping, log: d.Log.With("nf", "relay-inner", "relay", cfg.ID), listener: d.Listener, dial: d.Dial,
		tickets: newVerifier(cfg.ID, d.Control, cmp.Or(cfg.TicketRate, 20_000)), ready: make(chan struct{}), slots: make(chan struct{}, cfg.MaxHandshakes),
		refused: map[relay.Refusal]uint64{}, ended: map[relay.Cause]uint64{}, waiting: map[*relay.Link]struct{}{},
		register: d.Metrics, tracer: observe.NewTracer(d.Traces, "relay/inner"),
	}
	if r.onLoop = d.Dial == nil && d.TLS == nil; d.Dial == nil {
		r.dial = dialKernel
	}
	r.metrics, r.setups = newMetrics(r), workers.New()
	r.attached, r.draining = d.Attached, make(chan struct{})
	r.drain = sync.OnceFunc(func() {
		close(r.draining)
		r.dismiss()
	})
	return r, nil
}

var errNotOuter = errors.New("the certificate is not an outer relay's")

// isOuter checks a client's certificate, which its CA has signed: that CA may have signed
// those of inner relays, too, of which none shall speak for another one's clients. It is
// called after the handshake, whichever configuration GetConfigForClient gave that.
func isOuter(s tls.ConnectionState) error {
	if s.Version < tls.VersionTLS13 || len(s.VerifiedChains) == 0 {
		return errNotOuter
	}
	if len(s.PeerCertificates) > 0 {
		for _, u := range s.PeerCertificates[0].URIs {
			if u.Scheme == "simreach" && u.Host == "relay" && strings.HasPrefix(u.Path, "/outer/") && len(u.Path) > len("/outer/") {
				return nil
			}
		}
	}
	return errNotOuter
}

// Ready is closed once outer relays can connect.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Status is a snapshot of a Relay.
type Status struct {
	Live     int    // connections relayed now
	Draining bool   // finishes its connections and takes no new ones
	Relayed  uint64 // connections that reached their device
	Up, Down uint64 // bytes to and from devices, of live connections too
	Refused  map[string]uint64
	Ended    map[string]uint64 // by relay.Cause; a is the outer relay, b the device
}

// Status returns a copy of the relay's counters.
func (r *Relay) Status() Status {
	s := Status{
		Live: int(r.live.Load()), Draining: r.isDraining(), Relayed: r.total.Load(), Up: r.counters.AToB.Load(), Down: r.counters.BToA.Load(),
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

// drainByCommand bounds the wait for half-way handshakes of outer relays after Drain;
// the kernel gives them up earlier.
const drainByCommand = 2 * time.Minute

// Drain has the relay take no new connections, because another process takes over or
// the manager wants it to finish. Those that the kernel has taken already are served
// like any other, and nothing is cut. Run goes on until its context ends.
func (r *Relay) Drain() { r.drain() }

// Run serves until ctx ends, then lets live connections, and those that the kernel has
// taken already, go on for DrainTimeout.
func (r *Relay) Run(ctx context.Context) error {
	unregister, err := observe.Register(r.register, r.metrics.all...)
	if err != nil {
		return fmt.Errorf("inner relay %s: metrics: %w", r.cfg.ID, errors.Join(err, r.listener.Close()))
	}
	defer unregister()
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
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		r.drain()
		if r.cfg.DrainTimeout > 0 {
			limit := time.NewTimer(r.cfg.DrainTimeout)
			defer limit.Stop()
			select {
			case <-limit.C:
			case <-over:
			}
		}
		cut(errStopped)
	}()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		r.endListener(ctx, life)
	}()
	close(r.ready)
	if err = r.accept(life); err == nil {
		<-ctx.Done() // after Drain there is nothing to accept, but connections live on
		r.conns.Wait()
	}
	close(over)
	stop()
	<-ended
	<-closed
	r.conns.Wait()
	r.setups.Close()
	return errors.Join(err, <-relayed)
}

// endListener closes the listener after Drain, or when ctx ends; at once when life ends.
func (r *Relay) endListener(ctx, life context.Context) {
	select {
	case <-ctx.Done():
		r.drain() // before accept sees the end of the listener
		if r.cfg.DrainTimeout > 0 {
			r.drainListener(life)
		}
	case <-r.draining:
		r.drainListener(life)
	}
	_ = r.listener.Close() // fails only if it is closed
}

func (r *Relay) drainListener(life context.Context) {
	l, ok := r.listener.(interface{ Drain(context.Context) error })
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(life, drainByCommand)
	defer cancel()
	if err := l.Drain(ctx); err != nil && life.Err() == nil {
		r.log.Warn("listener not drained in order", "error", err)
	}
}

// accept hands out connections until the listener is closed. life is theirs.
func (r *Relay) accept(life context.Context) error {
	if r.attached != nil {
		select {
		case <-r.attached:
		case <-r.draining:
		}
	}
	for {
		c, err := r.listener.Accept()
		switch {
		case err == nil:
		case relay.TemporaryAccept(err):
			r.log.Warn("accept failed", "error", err)
			if !relay.Pause(life) {
				return nil
			}
			continue
		case r.isDraining():
			return nil
		default:
			return fmt.Errorf("inner relay %s: accept: %w", r.cfg.ID, err)
		}
		if r.all.Add(1) > int64(r.cfg.MaxConnections) && !r.makeRoom() {
			r.all.Add(-1)
			r.count(relay.Overloaded)
			relay.Abort(c)
			continue
		}
		r.conns.Add(1)
		if t, ok := c.(*net.TCPConn); ok && r.onLoop && r.greet(life, t) {
			continue
		}
		r.setups.Go(func() { r.serve(life, c) })
	}
}

// judge checks a request.
func (r *Relay) judge(req relay.Request, outer netip.AddrPort) (ticket, relay.Refusal) {
	t, err := r.tickets.verify(req, time.Now())
	switch {
	case err == nil:
		return t, ""
	case errors.Is(err, errTooMany):
		return t, relay.Overloaded
	}
	r.log.Debug("ticket not accepted", "outer", outer, "error", err)
	return t, relay.TicketInvalid
}

// addressOf returns the other end's address, if it has one.
func addressOf(c net.Conn) (a netip.AddrPort) {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		a = t.AddrPort()
	}
	return a
}

func dialKernel(ctx context.Context, device netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", device.String())
}

func (r *Relay) isDraining() bool {
	select {
	case <-r.draining:
		return true
	default:
		return false
	}
}

// gone counts a connection out.
func (r *Relay) gone() {
	r.all.Add(-1)
	r.conns.Done()
}

// serve sets one connection of an outer relay up and gives it to the relayer, which
// needs no goroutine of ours for it.
func (r *Relay) serve(life context.Context, c net.Conn) {
	outer, device, t, why := r.setUp(life, c)
	if why != "" {
		r.count(why) // before anybody is told
		defer r.refuse(addressOf(c), t, why, nil)
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
	r.relayed(life, t, func(done func(relay.Result)) { r.relayer.Start(outer, device, &r.counters, done) })
}

// refuse forgets a connection that came to nothing, and is counted. The outer relay has been told.
func (r *Relay) refuse(outer netip.AddrPort, t ticket, why relay.Refusal, err error) {
	r.log.Debug("connection refused", "conn", t.Connection, "outer", outer, "cause", why, "error", err)
	r.gone()
}

// relayed has start relay what has been set up.
func (r *Relay) relayed(life context.Context, t ticket, start func(done func(relay.Result))) {
	r.live.Add(1)
	r.total.Add(1)
	r.metrics.connected.Inc()
	if !r.log.Enabled(life, slog.LevelDebug) {
		start(r.over) // which keeps nothing of the ticket while the connection lives
		return
	}
	start(func(res relay.Result) {
		r.log.Debug("connection ended", "conn", t.Connection, "entry", t.Entry, "device", t.Device, "cause", res.Cause, "up", res.AToB, "down", res.BToA, "error", res.Err)
		r.over(res)
	})
}

// over counts a relayed connection out.
func (r *Relay) over(res relay.Result) {
	r.metrics.ended(res.Cause)
	r.mu.Lock()
	r.ended[res.Cause]++
	r.mu.Unlock()
	r.live.Add(-1) // whoever sees that it lives no more sees how it ended
	r.gone()
}

// setUp takes a connection as far as the device. outer is nil when there is nobody to
// whom a refusal could be said.
func (r *Relay) setUp(ctx context.Context, c net.Conn) (outer, device relay.Conn, t ticket, why relay.Refusal) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		if r.tls == nil {
			outer, _ = c.(relay.Conn)
		}
		return outer, nil, t, relay.Overloaded
	}
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
		err := tc.HandshakeContext(hctx)
		if err == nil {
			err = isOuter(tc.ConnectionState())
		}
		if err != nil {
			r.log.Debug("TLS handshake failed", "outer", c.RemoteAddr(), "error", err)
			return nil, nil, t, relay.BadRequest
		}
		outer = tc
	}
	device, t, why = r.connect(ctx, hctx, outer)
	return outer, device, t, why
}

// connect reads and checks the request, connects to the device and says so to the
// outer relay. hctx bounds the outer relay's part of it. A refusal is returned, not
// sent.
func (r *Relay) connect(ctx, hctx context.Context, outer relay.Conn) (relay.Conn, ticket, relay.Refusal) {
	begin := time.Now()
	req, err := relay.ReadRequest(hctx, outer)
	if ctx.Err() != nil {
		return nil, ticket{}, relay.Draining
	}
	if err != nil {
		return nil, ticket{}, relay.BadRequest
	}
	t, why := r.judge(req, addressOf(outer))
	if why != "" {
		return nil, t, why
	}
	// Only now: strangers shall not make the relay record anything.
	ctx, span := r.begun(ctx, req.Trace, t, begin)
	var device relay.Conn
	device, why = r.reach(ctx, outer, t)
	end(span, why)
	return device, t, why
}

// reach connects to the device of an accepted ticket and says so to the outer relay.
func (r *Relay) reach(ctx context.Context, outer relay.Conn, t ticket) (relay.Conn, relay.Refusal) {
	begin := time.Now()
	dctx, cancelDial := context.WithTimeout(ctx, r.cfg.DialTimeout)
	defer cancelDial()
	sctx, span := r.tracer.Start(dctx, spanDial)
	c, err := r.dial(sctx, t.Device)
	if err != nil {
		why := relay.ClassifyDial(err)
		switch {
		case ctx.Err() != nil:
			why = relay.Draining
		case dctx.Err() != nil:
			why = relay.DeviceTimeout
		}
		end(span, why)
		return nil, why
	}
	end(span, "")
	r.metrics.dialed.Observe(time.Since(begin).Seconds())
	device, ok := c.(relay.Conn)
	if !ok {
		c.Close()
		return nil, relay.DeviceUnreachable
	}
	if err := r.cfg.TCP.Apply(device); err != nil {
		relay.Abort(device)
		return nil, relay.ClassifyDial(err)
	}
	wctx, cancelWrite := context.WithTimeout(ctx, time.Second)
	defer cancelWrite()
	if err := relay.Accept(wctx, outer); err != nil {
		relay.Abort(device)
		return nil, relay.BadRequest
	}
	return device, ""
}

func (r *Relay) count(why relay.Refusal) {
	r.metrics.refused(why)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[why]++
}
