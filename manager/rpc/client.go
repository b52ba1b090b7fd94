package rpc

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
	"github.com/simreach/simreach/manager/rpc/relayv1/relayv1connect"
)

// welcomeTimeout is how long the manager may take to answer Hello.
const welcomeTimeout = 5 * time.Second

// ClientConfig configures a relay's side.
type ClientConfig struct {
	// Manager is the manager's "address:port". Required.
	Manager string `yaml:"manager"`
	// Secret is what the manager demands. Required.
	Secret string `yaml:"secret"`
	// MinBackoff is the pause before attaching again; it doubles with every
	// failure. 0: 50 ms.
	MinBackoff time.Duration `yaml:"min_backoff"`
	// MaxBackoff bounds the pause. 0: 800 ms.
	MaxBackoff time.Duration `yaml:"max_backoff"`
}

// Validate reports what is wrong with c.
func (c ClientConfig) Validate() error {
	switch {
	case c.Manager == "":
		return errors.New("relay rpc: manager is required")
	case c.Secret == "":
		return errors.New("relay rpc: secret is required")
	case c.MinBackoff < 0 || c.MaxBackoff < 0 || (c.MaxBackoff > 0 && c.MinBackoff > c.MaxBackoff):
		return errors.New("relay rpc: want 0 <= min_backoff <= max_backoff")
	}
	return nil
}

// ClientDeps is what a Client needs of the world.
type ClientDeps struct {
	Log   *slog.Logger  // nil discards
	Relay manager.Relay // what to say when attaching; Instance is filled in, Live comes from the reports
	// Dial connects to the manager. nil: the operating system's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is a relay's connection to the manager. Next must be called from one
// goroutine; the other methods from any.
type Client struct {
	cfg      ClientConfig
	log      *slog.Logger
	relay    manager.Relay
	http     *http.Transport
	rpc      relayv1connect.RelayControlClient
	commands chan manager.Command
	ready    chan struct{}
	once     sync.Once // closes ready

	session atomic.Pointer[session] // nil while not attached
	live    atomic.Int64            // as reported last
	keys    atomic.Pointer[map[string][]byte]

	attaches atomic.Uint64
	lost     atomic.Uint64
}

// session is one attachment.
type session struct {
	id     string
	acks   chan *pb.FromRelay // never dropped
	events chan *pb.FromRelay // dropped when full
	done   <-chan struct{}    // closed when the attachment ends
	end    func()             // ends it
}

// ackQueue is how many acknowledgements may wait to be sent. The manager gives up
// on a relay that is further behind.
const ackQueue = 4096

// NewClient checks cfg and deps.
func NewClient(cfg ClientConfig, d ClientDeps) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	d.Relay.Instance = crand.Text()
	if err := d.Relay.Validate(); err != nil {
		return nil, fmt.Errorf("relay rpc: %w", err)
	}
	if d.Dial == nil {
		d.Dial = (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	}
	cfg.MinBackoff = cmp.Or(cfg.MinBackoff, 50*time.Millisecond)
	cfg.MaxBackoff = max(cmp.Or(cfg.MaxBackoff, 800*time.Millisecond), cfg.MinBackoff)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		DialContext: d.Dial, Protocols: &protocols,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	c := &Client{
		cfg: cfg, log: d.Log.With("nf", "relay", "relay", d.Relay.ID), relay: d.Relay, http: transport,
		commands: make(chan manager.Command, 64), ready: make(chan struct{}),
	}
	c.rpc = relayv1connect.NewRelayControlClient(&http.Client{Transport: authorize{transport, "Bearer " + cfg.Secret}}, "http://"+cfg.Manager)
	return c, nil
}

// authorize adds the shared secret to every request.
type authorize struct {
	next   http.RoundTripper
	header string
}

func (a authorize) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", a.header)
	return a.next.RoundTrip(r)
}

// Ready is closed once the relay was attached for the first time.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// Instance is what distinguishes this process from an earlier one of the same
// relay: tickets name it.
func (c *Client) Instance() string { return c.relay.Instance }

// VerificationKey returns the manager's public Ed25519 key with an ID. The keys of
// the last attachment stay known while the manager is away.
func (c *Client) VerificationKey(id string) ([]byte, bool) {
	keys := c.keys.Load()
	if keys == nil {
		return nil, false
	}
	k, ok := (*keys)[id]
	return k, ok
}

// ClientStatus is a snapshot of a Client.
type ClientStatus struct {
	Attached    bool
	Attaches    uint64 // how often it attached
	LostReports uint64 // connection events that could not be reported
}

// Status returns a copy of the client's state.
func (c *Client) Status() ClientStatus {
	return ClientStatus{Attached: c.session.Load() != nil, Attaches: c.attaches.Load(), LostReports: c.lost.Load()}
}

// Run keeps the relay attached until ctx ends; it always returns nil. It attaches
// again within MaxBackoff after the manager is back.
func (c *Client) Run(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	pause := c.cfg.MinBackoff
	timer := time.NewTimer(0)
	defer timer.Stop()
	for warned := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		before, begin := c.attaches.Load(), time.Now()
		err := c.attach(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if c.attaches.Load() != before {
			warned = false
			// Two processes with one relay's ID would take turns as fast as they can.
			if time.Since(begin) > c.cfg.MaxBackoff {
				pause = c.cfg.MinBackoff
			}
		}
		if !warned {
			c.log.Warn("not attached to the manager; trying again", "error", err)
			warned = true
		}
		// Half of the pause is random, so that relays do not return in step.
		timer.Reset(pause/2 + rand.N(pause/2+1))
		pause = min(2*pause, c.cfg.MaxBackoff)
	}
}

// attach attaches once and returns why the attachment ended.
func (c *Client) attach(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := c.rpc.Attach(ctx)
	defer func() {
		cancel()
		stream.CloseRequest()
		stream.CloseResponse()
	}()
	hello := c.relay
	hello.Live = int(c.live.Load())
	if err := stream.Send(&pb.FromRelay{Kind: &pb.FromRelay_Hello{Hello: helloToPB(hello)}}); err != nil {
		// The reason, if the manager gave one, comes with Receive.
		if _, rerr := stream.Receive(); rerr != nil {
			err = rerr
		}
		return fromRPC(err)
	}
	s := &session{acks: make(chan *pb.FromRelay, ackQueue), events: make(chan *pb.FromRelay, 1024), done: ctx.Done(), end: cancel}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		s.send(stream)
	})
	late := time.AfterFunc(welcomeTimeout, cancel)
	first, err := stream.Receive()
	if !late.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		return fromRPC(err)
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return fmt.Errorf("%w: want welcome first", errMessage)
	}
	keys := map[string][]byte{}
	for _, k := range welcome.GetKeys() {
		keys[k.GetId()] = k.GetEd25519PublicKey()
	}
	c.keys.Store(&keys)
	s.id = welcome.GetSession()
	c.session.Store(s)
	defer c.session.Store(nil)
	c.attaches.Add(1)
	c.once.Do(func() { close(c.ready) })
	c.log.Info("attached to the manager", "session", s.id, "keys", len(keys))
	for {
		m, err := stream.Receive()
		if err != nil {
			return fromRPC(err)
		}
		cmd, err := commandFromPB(s.id, m.GetCommand())
		if err != nil {
			return err
		}
		select {
		case c.commands <- cmd:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send sends what is queued until the attachment ends. It closes the request then:
// net/http does not look at the context while it waits for more of the request, so
// that Receive would not return.
func (s *session) send(stream *connect.BidiStreamForClient[pb.FromRelay, pb.FromManager]) {
	defer stream.CloseRequest()
	for {
		var m *pb.FromRelay
		select {
		case m = <-s.acks:
		case m = <-s.events:
		case <-s.done:
			return
		}
		if stream.Send(m) != nil {
			return // Receive says why
		}
	}
}

// Next blocks until the manager sends a command. After every attachment the first
// one is a snapshot. It returns ctx's error when ctx ends, and nothing else.
func (c *Client) Next(ctx context.Context) (manager.Command, error) {
	select {
	case cmd := <-c.commands:
		return cmd, nil
	case <-ctx.Done():
		return manager.Command{}, ctx.Err()
	}
}

// Acknowledge answers a command. The answer is dropped if the attachment that the
// command came with has ended: the next snapshot settles it. It never blocks: a
// relay must cut what expires also while the manager does not read.
func (c *Client) Acknowledge(a manager.Acknowledgement) {
	s := c.session.Load()
	if s == nil || s.id != a.Session {
		return
	}
	select {
	case s.acks <- &pb.FromRelay{Kind: &pb.FromRelay_Acknowledgement{Acknowledgement: ackToPB(a)}}:
	default:
		s.end()
	}
}

// Report tells the manager about a connection. It never blocks: while the manager
// is away or behind, reports are dropped and counted.
func (c *Client) Report(e manager.ConnectionEvent) {
	c.live.Store(int64(e.Live))
	s := c.session.Load()
	if s == nil {
		c.lost.Add(1)
		return
	}
	select {
	case s.events <- &pb.FromRelay{Kind: &pb.FromRelay_Event{Event: eventToPB(e)}}:
	default:
		c.lost.Add(1)
	}
}

// Resolve asks the manager about a connection that hit a port (R11). While the
// manager is away it returns CodeManagerAway at once; otherwise the errors are
// those of manager.RelaySession.Resolve.
func (c *Client) Resolve(ctx context.Context, q manager.ResolveRequest) (manager.Route, error) {
	s := c.session.Load()
	if s == nil {
		return manager.Route{}, manager.NewError(manager.CodeManagerAway)
	}
	resp, err := c.rpc.Resolve(ctx, connect.NewRequest(&pb.ResolveRequest{Session: s.id, Hit: q.Hit.String(), Client: formatAddrPort(q.Client)}))
	if err != nil {
		return manager.Route{}, fromRPC(err)
	}
	route, err := routeFromPB(resp.Msg)
	if err != nil {
		return manager.Route{}, &manager.Error{Code: manager.CodeManagerAway, Err: err}
	}
	return route, nil
}
