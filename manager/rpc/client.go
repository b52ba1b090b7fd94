package rpc

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

const (
	// welcomeTimeout is how long the manager may take to answer Hello.
	welcomeTimeout = 5 * time.Second
	// ackQueue is how many acknowledgements may wait to be sent. The manager gives up
	// on a relay that is further behind.
	ackQueue = 4096
	// maxAnswer bounds one message from the manager: the part of a snapshot is the
	// largest.
	maxAnswer = 8 << 20
	// maxOpenings bounds a snapshot: an entry has a port.
	maxOpenings = 1 << 16
)

// ClientDeps is what a Client needs of the world.
type ClientDeps struct {
	Log   *slog.Logger  // nil discards
	Relay manager.Relay // what to say when attaching; Instance is filled in, Live and Draining come from the load reports
	// Dial connects to a manager. nil: the operating system's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS holds what ClientConfig.TLS names. Required if that is set.
	TLS *pki.Source
}

// Client is a relay's connection to the managers: it is attached to one of them. Next
// must be called from one goroutine; the other methods from any.
type Client struct {
	cfg       ClientConfig
	log       *slog.Logger
	relay     manager.Relay
	endpoints []*endpoint
	commands  chan manager.Command
	ready     chan struct{}
	once      sync.Once // closes ready

	load     atomic.Pointer[manager.RelayLoad] // the latest
	loadWake chan struct{}                     // capacity 1: load has changed
	keys     atomic.Pointer[map[string][]byte]
	desk     *desk

	mu      sync.Mutex    // guards session and changed
	session *session      // nil while not attached
	changed chan struct{} // closed and replaced when session changes

	attaches  atomic.Uint64
	failovers atomic.Uint64
}

// session is one attachment.
type session struct {
	id   string
	at   *endpoint
	acks chan *pb.FromRelay // never dropped
	done <-chan struct{}    // closed when the attachment ends
	end  func()             // ends it
}

// NewClient checks cfg and deps.
func NewClient(cfg ClientConfig, d ClientDeps) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.TLS.Enabled() != (d.TLS != nil) {
		return nil, errors.New("relay rpc: the configuration's tls and the certificate source go together")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	d.Relay.Instance = crand.Text()
	if err := d.Relay.Validate(); err != nil {
		return nil, fmt.Errorf("relay rpc: %w", err)
	}
	if d.Dial == nil {
		d.Dial = new(net.Dialer).DialContext
	}
	c := &Client{
		cfg: cfg.withDefaults(), log: d.Log.With("nf", "relay", "relay", d.Relay.ID), relay: d.Relay,
		commands: make(chan manager.Command, 64), ready: make(chan struct{}),
		loadWake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	c.desk = newDesk(len(cfg.Alternates) > 0, c.cfg.FailoverWait)
	for _, address := range append([]string{cfg.Manager}, cfg.Alternates...) {
		c.endpoints = append(c.endpoints, newEndpoint(address, c.cfg, d.Dial, d.TLS))
	}
	return c, nil
}

// Ready is closed once the relay was attached for the first time.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// Instance is what distinguishes this process from an earlier one of the same
// relay: tickets name it.
func (c *Client) Instance() string { return c.relay.Instance }

// TicketKey returns the key with an ID that checks tickets for this process of an inner
// relay. The keys of the last attachment stay known while the manager is away.
func (c *Client) TicketKey(id string) ([]byte, bool) {
	keys := c.keys.Load()
	if keys == nil {
		return nil, false
	}
	k, ok := (*keys)[id]
	return k, ok
}

// ClientStatus is a snapshot of a Client.
type ClientStatus struct {
	Attached  bool
	Manager   string // the address of the manager it is attached to
	Attaches  uint64 // how often it attached
	Failovers uint64 // how often that was to another manager than before
}

// Status returns a copy of the client's state.
func (c *Client) Status() ClientStatus {
	st := ClientStatus{Attaches: c.attaches.Load(), Failovers: c.failovers.Load()}
	if s, _ := c.attached(); s != nil {
		st.Attached, st.Manager = true, s.at.address
	}
	return st
}

// attached returns the session, nil if there is none, and a channel that is closed when
// that changes.
func (c *Client) attached() (*session, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session, c.changed
}

func (c *Client) setSession(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	close(c.changed)
	c.changed = make(chan struct{})
}

// Run keeps the relay attached to one of the managers until ctx ends; it always returns
// nil. When a manager goes away the next one is tried at once; a pause, of at most
// MaxBackoff, is made only when none of them let the relay in.
func (c *Client) Run(ctx context.Context) error {
	defer func() {
		c.desk.close()
		for _, e := range c.endpoints {
			e.control.transport.CloseIdleConnections()
		}
	}()
	pause := c.cfg.MinBackoff
	timer := time.NewTimer(0)
	defer timer.Stop()
	at, failed, last, warned := 0, 0, -1, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		before, begin := c.attaches.Load(), time.Now()
		err := c.attach(ctx, c.endpoints[at], last >= 0 && last != at)
		if ctx.Err() != nil {
			return nil
		}
		failed++
		if c.attaches.Load() != before {
			warned, last, failed = false, at, 1
			// Two processes with one relay's ID would take turns as fast as they can.
			if time.Since(begin) > c.cfg.MaxBackoff {
				pause = c.cfg.MinBackoff
			} else if len(c.endpoints) > 1 {
				failed = len(c.endpoints)
			}
		}
		if !warned {
			c.log.Warn("not attached to a manager; trying again", "manager", c.endpoints[at].address, "error", err)
			warned = true
		}
		at = (at + 1) % len(c.endpoints)
		if failed < len(c.endpoints) {
			timer.Reset(0)
			continue
		}
		// Half of the pause is random, so that relays do not return in step.
		failed = 0
		timer.Reset(pause/2 + rand.N(pause/2+1))
		pause = min(2*pause, c.cfg.MaxBackoff)
	}
}

type attachStream = *connect.BidiStreamForClient[pb.FromRelay, pb.FromManager]

// attach attaches once and returns why the attachment ended.
func (c *Client) attach(ctx context.Context, at *endpoint, failover bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := at.control.rpc.Attach(ctx)
	defer func() {
		cancel()
		// The manager has gone, or is told by the end of the stream.
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
	}()
	if err := stream.Send(&pb.FromRelay{Kind: &pb.FromRelay_Hello{Hello: helloToPB(c.hello())}}); err != nil {
		// The reason, if the manager gave one, comes with Receive.
		if _, rerr := stream.Receive(); rerr != nil {
			err = rerr
		}
		return fromRPC(err)
	}
	s := &session{at: at, acks: make(chan *pb.FromRelay, ackQueue), done: ctx.Done(), end: cancel}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		c.send(s, stream)
	})
	welcome, err := c.welcome(stream, cancel)
	if err != nil {
		return err
	}
	s.id = welcome.GetSession()
	if c.relay.Kind == manager.OuterRelay {
		c.desk.expect()
		defer c.desk.despair()
		lines := make([]*line, c.cfg.ResolveStreams)
		for i := range lines {
			l, err := at.line(ctx, s.id, c.desk)
			if err != nil {
				return fmt.Errorf("connection for questions: %w", err)
			}
			lines[i] = l
			wg.Go(func() {
				defer cancel() // an attachment that cannot ask is none
				if err := l.run(ctx); err != nil && ctx.Err() == nil {
					c.log.Warn("a connection for questions was lost; attaching again", "manager", at.address, "error", err)
				}
			})
		}
		c.desk.attach(lines)
		defer c.desk.detach(lines)
	}
	c.attaches.Add(1)
	if failover {
		c.failovers.Add(1)
	}
	c.setSession(s)
	defer c.setSession(nil)
	c.once.Do(func() { close(c.ready) })
	c.log.Info("attached to the manager", "manager", at.address, "session", s.id)
	var begun []manager.Opening // of a snapshot that comes in parts
	for {
		m, err := stream.Receive()
		if err != nil {
			return fromRPC(err)
		}
		cmd, err := commandFromPB(s.id, m.GetCommand())
		if err != nil {
			return err
		}
		if part := m.GetCommand().GetSnapshot(); part != nil {
			begun = append(begun, cmd.Openings...)
			if len(begun) > maxOpenings {
				return fmt.Errorf("%w: a snapshot of more than %d entries", errMessage, maxOpenings)
			}
			if part.GetMore() {
				continue
			}
			cmd.Openings, begun = begun, nil
		}
		select {
		case c.commands <- cmd:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hello is what the relay says about itself now.
func (c *Client) hello() manager.Relay {
	r := c.relay
	if l := c.load.Load(); l != nil {
		r.Live, r.Draining = l.Live, l.Draining
	}
	return r
}

// welcome reads the manager's first message and keeps its keys.
func (c *Client) welcome(stream attachStream, cancel func()) (*pb.Welcome, error) {
	late := time.AfterFunc(welcomeTimeout, cancel)
	first, err := stream.Receive()
	if !late.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		return nil, fromRPC(err)
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return nil, fmt.Errorf("%w: want welcome first", errMessage)
	}
	keys := map[string][]byte{}
	for _, k := range welcome.GetKeys() {
		keys[k.GetId()] = k.GetKey()
	}
	c.keys.Store(&keys)
	return welcome, nil
}

// send sends what is queued until the attachment ends. It closes the request then:
// net/http does not look at the context while it waits for more of the request, so
// that Receive would not return.
func (c *Client) send(s *session, stream attachStream) {
	defer func() { _ = stream.CloseRequest() }() // it fails if the stream has ended
	c.wakeLoad()                                 // the manager has not heard it
	for {
		var m *pb.FromRelay
		select {
		case m = <-s.acks:
		case <-c.loadWake:
			l := c.load.Load()
			if l == nil {
				continue
			}
			m = &pb.FromRelay{Kind: &pb.FromRelay_Load{Load: loadToPB(*l)}}
		case <-s.done:
			return
		}
		if stream.Send(m) != nil {
			return // Receive says why
		}
	}
}

// Next blocks until the manager sends a command. After every attachment the first
// one of an outer relay is a snapshot: commands that were left of the attachment before
// are passed over then, because the snapshot settles them. It returns ctx's error when
// ctx ends, and nothing else.
func (c *Client) Next(ctx context.Context) (manager.Command, error) {
	for {
		select {
		case cmd := <-c.commands:
			if s, _ := c.attached(); s != nil && s.id != cmd.Session {
				continue
			}
			return cmd, nil
		case <-ctx.Done():
			return manager.Command{}, ctx.Err()
		}
	}
}

// Acknowledge answers a command. The answer is dropped if the attachment that the
// command came with has ended: the next snapshot settles it. It never blocks: a
// relay must cut what expires also while the manager does not read.
func (c *Client) Acknowledge(a manager.Acknowledgement) {
	s, _ := c.attached()
	if s == nil || s.id != a.Session {
		return
	}
	select {
	case s.acks <- &pb.FromRelay{Kind: &pb.FromRelay_Acknowledgement{Acknowledgement: ackToPB(a)}}:
	default:
		s.end()
	}
}

// Load tells the manager how the relay fares. It never blocks: while the manager is
// away or behind, only the latest report is kept.
func (c *Client) Load(l manager.RelayLoad) {
	c.load.Store(&l)
	c.wakeLoad()
}

func (c *Client) wakeLoad() {
	select {
	case c.loadWake <- struct{}{}:
	default:
	}
}
