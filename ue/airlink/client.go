package airlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/ue"
)

// ClientConfig says where a gNB's Server is.
type ClientConfig struct {
	// Name is the gNB's name, for logs.
	Name string `yaml:"name"`
	// Server is the TCP address of its Server. Required.
	Server netip.AddrPort `yaml:"server"`
	// Keepalive is the period of pings; 0 means 500 ms. Four silent periods end the
	// link, on both sides: keep them equal.
	Keepalive time.Duration `yaml:"keepalive"`
	// RetryMin and RetryMax bound the doubling pause between attempts to connect;
	// 0 means 100 ms and 1 s.
	RetryMin time.Duration `yaml:"retry_min"`
	RetryMax time.Duration `yaml:"retry_max"`
}

// Validate reports the first thing wrong with c.
func (c ClientConfig) Validate() error {
	if !c.Server.IsValid() || c.Server.Port() == 0 {
		return fmt.Errorf("airlink client %s: server: want address and port", c.Name)
	}
	return nil
}

// ClientDeps is the world outside a Client.
type ClientDeps struct {
	Log *slog.Logger // nil discards
	// Dial opens the TCP connection; nil means net.Dialer.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// User carries user packets; required. Run closes it.
	User dgram.Conn
}

// Client is the UEs' end of links to one gNB. It keeps a link up while Run runs and
// implements ue.Air, whose methods may be called from any goroutine.
type Client struct {
	cfg  ClientConfig
	deps ClientDeps
	log  *slog.Logger
	send sender

	ready chan struct{}
	once  sync.Once

	mu      sync.Mutex    // guards the fields below
	link    *clientLink   // nil: down
	settled chan struct{} // closed when no attempt to connect is running
	ended   bool

	radios  atomic.Pointer[map[uint32]*clientRadio] // read by the user plane; written under mu
	dropped atomic.Uint64
}

var _ ue.Air = (*Client)(nil)

type clientLink struct {
	link
	done chan struct{} // closed when the link has ended

	mu      sync.Mutex // guards next and waiting
	next    uint32
	waiting map[uint32]*request
}

// request is a question whose answer has not come yet.
type request struct {
	answer chan frame
	radio  *clientRadio // to be entered when the answer is connected
}

// NewClient checks cfg and deps; it opens and starts nothing.
func NewClient(cfg ClientConfig, deps ClientDeps) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.User == nil {
		return nil, fmt.Errorf("airlink client %s: ClientDeps.User is required", cfg.Name)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Dial == nil {
		deps.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr.String())
		}
	}
	if cfg.Keepalive == 0 {
		cfg.Keepalive = defaultKeepalive
	}
	if cfg.RetryMin == 0 {
		cfg.RetryMin = 100 * time.Millisecond
	}
	if cfg.RetryMax == 0 {
		cfg.RetryMax = time.Second
	}
	c := &Client{
		cfg: cfg, deps: deps, log: deps.Log.With("gnb", cfg.Name), ready: make(chan struct{}),
		settled: make(chan struct{}), send: sender{conn: deps.User},
	}
	c.radios.Store(&map[uint32]*clientRadio{})
	return c, nil
}

// Ready is closed when the first link is up.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// ClientStatus is a copy of what a Client is doing.
type ClientStatus struct {
	Up      bool
	Radios  int
	Dropped uint64 // user datagrams not understood, or for unknown connections
}

// Status returns a copy.
func (c *Client) Status() ClientStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ClientStatus{Up: c.link != nil, Radios: len(*c.radios.Load()), Dropped: c.dropped.Load()}
}

// Run keeps a link up until ctx ends, then returns nil; it returns an error if the
// user socket fails.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := receive(c.deps.User, c.downlink, func() { c.dropped.Add(1) })
		if ctx.Err() == nil {
			cancel(fmt.Errorf("airlink client %s: %w", c.cfg.Name, err))
		}
	})
	defer func() {
		c.mu.Lock()
		c.ended = true
		c.settle()
		c.mu.Unlock()
		cancel(nil)
		c.deps.User.Close()
		wg.Wait()
	}()
	pause := time.Duration(0)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return nil
		}
		c.mu.Lock()
		select {
		case <-c.settled:
			c.settled = make(chan struct{})
		default:
		}
		c.mu.Unlock()
		began := time.Now()
		err := c.serveOnce(ctx)
		if ctx.Err() == nil {
			c.log.Info("air link ended", "error", err)
		}
		if time.Since(began) > c.cfg.RetryMax {
			pause = 0
		}
		pause = min(max(2*pause, c.cfg.RetryMin), c.cfg.RetryMax)
		timer.Reset(pause)
	}
}

// settle lets those go on who wait for an attempt to connect. c.mu is held.
func (c *Client) settle() {
	select {
	case <-c.settled:
	default:
		close(c.settled)
	}
}

// serveOnce connects and serves one link until it ends.
func (c *Client) serveOnce(ctx context.Context) error {
	limit := silentPeriods * c.cfg.Keepalive
	dialCtx, done := context.WithTimeout(ctx, limit)
	conn, err := c.deps.Dial(dialCtx, c.cfg.Server)
	done()
	var l *clientLink
	if err == nil {
		defer conn.Close()
		l = &clientLink{
			link: link{conn: conn, keepalive: c.cfg.Keepalive},
			done: make(chan struct{}), waiting: map[uint32]*request{},
		}
	}
	if l != nil {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		err = c.handshake(l)
	}
	c.mu.Lock()
	if err == nil {
		c.link = l
	}
	c.settle()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.once.Do(func() { close(c.ready) })
	pingCtx, stopPing := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.ping(pingCtx) })
	err = c.serve(l)
	stopPing()
	conn.Close()
	c.mu.Lock()
	c.link = nil
	radios := *c.radios.Load()
	c.radios.Store(&map[uint32]*clientRadio{})
	c.mu.Unlock()
	close(l.done)
	for _, r := range radios {
		r.end(ue.Released{Err: fmt.Errorf("%w: air link to %s: %w", ue.ErrRadioLinkFailure, c.cfg.Name, err)})
	}
	wg.Wait()
	return err
}

func (c *Client) handshake(l *clientLink) error {
	if err := l.write(frame{typ: frameHello, payload: putHello(c.deps.User.LocalAddr().Port())}); err != nil {
		return err
	}
	f, err := l.read(l.conn)
	if err != nil {
		return err
	}
	cur := cursor{b: f.payload}
	port := cur.u16()
	if f.typ != frameWelcome || cur.bad {
		return fmt.Errorf("%w: no welcome", ErrProtocol)
	}
	l.peer, err = userPeer(l.conn, port)
	return err
}

// serve reads frames until the link ends.
func (c *Client) serve(l *clientLink) error {
	r := bufio.NewReader(l.conn)
	for {
		f, err := l.read(r)
		if err != nil {
			return err
		}
		switch f.typ {
		case frameCell, frameCellFailed, frameConnected, frameRefused:
			if err := c.answered(l, f); err != nil {
				return err
			}
			continue
		}
		e, err := event(f)
		if err != nil {
			return err
		}
		r := (*c.radios.Load())[f.id]
		if e == nil || r == nil {
			continue // of a connection closed here, or of a newer version
		}
		if _, last := e.(ue.Released); last || !r.push(e) {
			c.remove(r)
			if !last {
				e = ue.Released{Err: fmt.Errorf("%w: UE does not read", ue.ErrRadioLinkFailure)}
				_ = l.write(frame{typ: frameClose, id: r.id}) // the link's end says as much
			}
			r.end(e.(ue.Released))
		}
	}
}

// answered hands f to who asked. A connection is entered here, in order with the
// events that follow.
func (c *Client) answered(l *clientLink, f frame) error {
	l.mu.Lock()
	q := l.waiting[f.id]
	delete(l.waiting, f.id)
	l.mu.Unlock()
	if f.typ == frameConnected {
		cur := cursor{b: f.payload}
		id := cur.u32()
		if err := cur.err(f.typ); err != nil {
			return err
		}
		if q == nil || q.radio == nil { // nobody waits any more
			return l.write(frame{typ: frameClose, id: id})
		}
		q.radio.id = id
		c.change(func(m map[uint32]*clientRadio) { m[id] = q.radio })
	}
	if q != nil {
		q.answer <- f // buffered for exactly this
	}
	return nil
}

func (c *Client) change(f func(map[uint32]*clientRadio)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := maps.Clone(*c.radios.Load())
	f(m)
	c.radios.Store(&m)
}

func (c *Client) remove(r *clientRadio) {
	c.change(func(m map[uint32]*clientRadio) {
		if m[r.id] == r {
			delete(m, r.id)
		}
	})
}

// up returns the link, waiting for an attempt to connect that is running.
func (c *Client) up(ctx context.Context) (*clientLink, error) {
	for {
		c.mu.Lock()
		l, settled, ended := c.link, c.settled, c.ended
		c.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-settled:
			if c.mu.Lock(); c.link == nil || ended {
				c.mu.Unlock()
				return nil, fmt.Errorf("gnb %s: %w", c.cfg.Name, ErrLinkDown)
			}
			c.mu.Unlock()
		case <-ctx.Done():
			return nil, fmt.Errorf("gnb %s: %w: %w", c.cfg.Name, ErrLinkDown, ctx.Err())
		}
	}
}

// ask sends a question and waits for its answer.
func (c *Client) ask(ctx context.Context, t frameType, payload []byte, r *clientRadio) (frame, *clientLink, error) {
	l, err := c.up(ctx)
	if err != nil {
		return frame{}, nil, err
	}
	q := &request{answer: make(chan frame, 1), radio: r}
	if r != nil {
		r.link = l
	}
	l.mu.Lock()
	l.next++
	id := l.next
	l.waiting[id] = q
	l.mu.Unlock()
	if err = l.write(frame{t, id, payload}); err == nil {
		select {
		case f := <-q.answer:
			return f, l, nil
		case <-l.done:
			err = ErrLinkDown
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	l.mu.Lock()
	unanswered := l.waiting[id] != nil
	delete(l.waiting, id)
	l.mu.Unlock()
	if !unanswered {
		// It came in the last moment: the reader has taken the question and enters the
		// connection, which would otherwise be nobody's.
		select {
		case f := <-q.answer:
			return f, l, nil
		case <-l.done:
		}
	}
	return frame{}, nil, fmt.Errorf("gnb %s: %w", c.cfg.Name, err)
}

// Cell asks the gNB. The error wraps ErrLinkDown, ctx.Err() or is the gNB's in words.
func (c *Client) Cell(ctx context.Context) (ue.Cell, error) {
	f, _, err := c.ask(ctx, frameCellRequest, nil, nil)
	if err != nil {
		return ue.Cell{}, err
	}
	if f.typ != frameCell {
		return ue.Cell{}, fmt.Errorf("gnb %s: %s", c.cfg.Name, f.payload)
	}
	return parseCell(f.payload)
}

// Connect sets up an RRC connection. Errors are as for Cell.
func (c *Client) Connect(ctx context.Context, req ue.ConnectRequest) (ue.Radio, error) {
	r := &clientRadio{c: c, events: make(chan ue.RadioEvent, radioQueue)}
	f, _, err := c.ask(ctx, frameConnect, putConnect(req), r)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if f.typ != frameConnected {
		return nil, fmt.Errorf("gnb %s: connect: %s", c.cfg.Name, f.payload)
	}
	return r, nil
}

// downlink delivers user packets.
func (c *Client) downlink(h userPacket, from netip.AddrPort, packets [][]byte) {
	r := (*c.radios.Load())[h.conn]
	if r == nil || from.Port() != r.link.peer.Port() || from.Addr().Unmap() != r.link.peer.Addr() {
		c.dropped.Add(uint64(len(packets)))
		return
	}
	if f := r.take.Load(); f != nil {
		(*f)(h.session, packets)
	}
}
