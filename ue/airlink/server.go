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
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/ue"
)

// ServerConfig of a Server.
type ServerConfig struct {
	// Keepalive is the period of pings; 0 means 500 ms.
	Keepalive time.Duration `yaml:"keepalive"`
}

// ServerDeps is the world outside a Server.
type ServerDeps struct {
	Log      *slog.Logger // nil discards
	Air      ue.Air       // the gNB; required
	Listener net.Listener // for TCP; required. Run closes it
	User     dgram.Conn   // for user packets; required. Run closes it
}

// Server serves a gNB's air to Clients in other processes.
type Server struct {
	cfg  ServerConfig
	deps ServerDeps
	log  *slog.Logger
	send sender

	ready chan struct{}

	mu    sync.Mutex // guards next, links and writing to conns
	next  uint32
	links int

	conns     atomic.Pointer[map[uint32]*serverRadio]
	dropped   atomic.Uint64
	malformed atomic.Uint64
}

// serverRadio is one RRC connection of a link.
type serverRadio struct {
	id    uint32
	radio ue.Radio
	link  *link
}

// NewServer checks deps; it starts nothing.
func NewServer(cfg ServerConfig, deps ServerDeps) (*Server, error) {
	if deps.Air == nil || deps.Listener == nil || deps.User == nil {
		return nil, errors.New("airlink server: Air, Listener and User are required")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Keepalive == 0 {
		cfg.Keepalive = defaultKeepalive
	}
	s := &Server{cfg: cfg, deps: deps, log: deps.Log, ready: make(chan struct{}), send: sender{conn: deps.User}}
	s.conns.Store(&map[uint32]*serverRadio{})
	return s, nil
}

// Ready is closed when links are accepted.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// ServerStatus is a copy of what a Server is doing.
type ServerStatus struct {
	Links     int
	Radios    int
	Malformed uint64 // links ended for what the client sent
	Dropped   uint64 // user datagrams not understood, or for unknown connections
}

// Status returns a copy.
func (s *Server) Status() ServerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStatus{s.links, len(*s.conns.Load()), s.malformed.Load(), s.dropped.Load()}
}

// Run serves until ctx ends and then returns nil; it returns an error if a socket
// fails.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		s.deps.Listener.Close()
		s.deps.User.Close()
	})
	defer stop()
	wg.Go(func() {
		err := receive(s.deps.User, s.uplink, func() { s.dropped.Add(1) })
		if ctx.Err() == nil {
			cancel(fmt.Errorf("airlink server: user packets: %w", err))
		}
	})
	close(s.ready)
	for {
		conn, err := s.deps.Listener.Accept()
		if err != nil {
			if ctx.Err() == nil {
				cancel(fmt.Errorf("airlink server: accept: %w", err))
			}
			break
		}
		wg.Go(func() { s.serveLink(ctx, conn) })
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// serveLink serves one client until its link ends; then its radios close.
func (s *Server) serveLink(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	l := &link{conn: conn, keepalive: s.cfg.Keepalive}
	r := bufio.NewReader(conn)
	f, err := l.read(r)
	if err != nil {
		return
	}
	port, err := parseHello(f.payload)
	if err == nil && f.typ == frameHello {
		l.peer, err = userPeer(conn, port)
	}
	if err != nil || f.typ != frameHello {
		s.malformed.Add(1)
		return
	}
	here := s.deps.User.LocalAddr().Port()
	if l.write(frame{typ: frameWelcome, payload: []byte{byte(here >> 8), byte(here)}}) != nil {
		return
	}
	s.count(1)
	defer s.count(-1)
	var wg sync.WaitGroup
	wg.Go(func() { l.ping(ctx) })
	for err == nil {
		if f, err = l.read(r); err == nil {
			err = s.handle(ctx, &wg, l, f)
		}
	}
	if errors.Is(err, ErrProtocol) {
		s.malformed.Add(1)
	}
	cancel()
	conn.Close()
	for _, r := range *s.conns.Load() {
		if r.link == l {
			r.radio.Close()
		}
	}
	wg.Wait()
	s.log.Info("air link ended", "conn", conn.RemoteAddr().String(), "error", err)
}

func (s *Server) count(d int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links += d
}

// handle takes one frame of a client. What the gNB may take time for runs in a
// goroutine of its own.
func (s *Server) handle(ctx context.Context, wg *sync.WaitGroup, l *link, f frame) error {
	switch f.typ {
	case frameCellRequest:
		wg.Go(func() {
			cell, err := s.deps.Air.Cell(ctx)
			a := frame{frameCell, f.id, nil}
			if err != nil {
				a.typ, a.payload = frameCellFailed, []byte(err.Error())
			} else {
				a.payload = putCell(cell)
			}
			_ = l.write(a) // a link that fails ends in its reader
		})
	case frameConnect:
		req, err := parseConnect(f.payload)
		if err != nil {
			return err
		}
		wg.Go(func() { s.connect(ctx, l, f.id, req) })
	case frameNAS:
		if r := s.mine(l, f.id); r != nil {
			wait, cancel := context.WithTimeout(ctx, silentPeriods*l.keepalive)
			defer cancel()
			// A NAS message that cannot be sent belongs to a radio that is ending: its
			// Released event is on the way.
			_ = r.radio.SendNAS(wait, f.payload)
		}
	case frameClose:
		if r := s.mine(l, f.id); r != nil {
			r.radio.Close()
		}
	case frameHello:
		return fmt.Errorf("%w: second hello", ErrProtocol)
	}
	return nil
}

func (s *Server) mine(l *link, id uint32) *serverRadio {
	if r := (*s.conns.Load())[id]; r != nil && r.link == l {
		return r
	}
	return nil
}

// connect sets up one RRC connection and carries its events until it ends.
func (s *Server) connect(ctx context.Context, l *link, seq uint32, req ue.ConnectRequest) {
	radio, err := s.deps.Air.Connect(ctx, req)
	if err != nil {
		_ = l.write(frame{frameRefused, seq, []byte(err.Error())}) // as above
		return
	}
	r := &serverRadio{radio: radio, link: l}
	s.change(func(m map[uint32]*serverRadio) {
		for s.next++; m[s.next] != nil || s.next == 0; s.next++ {
		}
		r.id = s.next
		m[r.id] = r
	})
	defer s.change(func(m map[uint32]*serverRadio) { delete(m, r.id) })
	radio.SetReceiver(func(id ident.PDUSessionID, packets [][]byte) {
		s.send.send(userPacket{session: id, conn: r.id}, l.peer, packets)
	})
	if ctx.Err() != nil || l.write(frame{frameConnected, seq, []byte{
		byte(r.id >> 24), byte(r.id >> 16), byte(r.id >> 8), byte(r.id),
	}}) != nil {
		radio.Close()
	}
	for e := range radio.Events() {
		if l.write(eventFrame(r.id, e)) != nil {
			radio.Close() // and read on until it has ended
		}
	}
}

func (s *Server) change(f func(map[uint32]*serverRadio)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := maps.Clone(*s.conns.Load())
	f(m)
	s.conns.Store(&m)
}

// uplink hands user packets to the radio they name.
func (s *Server) uplink(h userPacket, from netip.AddrPort, packets [][]byte) {
	r := (*s.conns.Load())[h.conn]
	if r == nil || from.Port() != r.link.peer.Port() || from.Addr().Unmap() != r.link.peer.Addr() {
		s.dropped.Add(uint64(len(packets)))
		return
	}
	r.radio.SendPackets(h.session, h.qfi, packets)
}
