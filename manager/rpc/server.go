package rpc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/internal/httpserve"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
	"github.com/simreach/simreach/manager/rpc/relayv1/relayv1connect"
)

// Peers that vanished without a word are noticed by HTTP/2 pings.
const (
	pingAfter   = 2 * time.Second
	pingTimeout = 2 * time.Second
	// maxMessage bounds one message from a relay: the answer to a snapshot of which
	// every opening failed is the largest.
	maxMessage = 8 << 20
)

// ServerDeps is what a Server needs of the world.
type ServerDeps struct {
	Log      *slog.Logger // nil discards
	Listener net.Listener // Run closes it
	Manager  *manager.Service
	// TLS holds what ServerConfig.TLS names. Required if that is set.
	TLS *pki.Source
}

// Server answers relays.
type Server struct {
	cfg      ServerConfig
	log      *slog.Logger
	listener net.Listener
	manager  *manager.Service
	tls      *pki.Source // nil: relays show the secret
	secret   [sha256.Size]byte
	ready    chan struct{}
	readers  sync.WaitGroup
	lines    lines

	refused  atomic.Uint64
	resolved atomic.Uint64
	failed   atomic.Uint64
	audited  atomic.Uint64
	broken   atomic.Uint64
}

// NewServer checks cfg and deps.
func NewServer(cfg ServerConfig, d ServerDeps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.Listener == nil || d.Manager == nil {
		return nil, errors.New("manager rpc: Listener and Manager are required")
	}
	if cfg.TLS.Enabled() != (d.TLS != nil) {
		return nil, errors.New("manager rpc: the configuration's tls and the certificate source go together")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	cfg.ShutdownTimeout = cmp.Or(cfg.ShutdownTimeout, 2*time.Second)
	return &Server{
		cfg: cfg, log: d.Log.With("nf", "manager"), listener: d.Listener, manager: d.Manager, tls: d.TLS,
		secret: sha256.Sum256([]byte(cfg.Secret)), ready: make(chan struct{}),
	}, nil
}

// ServerStatus is a snapshot of a Server's counters.
type ServerStatus struct {
	Unauthorised  uint64 // requests with a wrong secret, or of a relay that its certificate does not name
	Resolved      uint64 // questions answered with a route
	ResolveFailed uint64 // questions answered with an error, and connections for questions that were refused
	Audited       uint64 // audit records taken, repeated ones included
	Malformed     uint64 // connections for questions that ended because of what a relay sent
}

// Status returns a copy of the counters.
func (s *Server) Status() ServerStatus {
	return ServerStatus{Unauthorised: s.refused.Load(), Resolved: s.resolved.Load(), ResolveFailed: s.failed.Load(), Audited: s.audited.Load(), Malformed: s.broken.Load()}
}

// Ready is closed once the server accepts relays.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(ctx) // attachments end with ctx, others go on
	defer cancel()
	var protocols http.Protocols
	listener := s.listener
	if s.tls != nil {
		protocols.SetHTTP2(true)
		// Serve takes connections for HTTP/2 that say so in their handshake.
		listener = tls.NewListener(listener, s.tls.Serve(&tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}))
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	protocols.SetHTTP1(true) // connections for questions begin with it
	mux := http.NewServeMux()
	mux.Handle(relayv1connect.NewRelayControlHandler(handler{s}, connect.WithReadMaxBytes(maxMessage), connect.WithCompression("gzip", nil, nil)))
	mux.Handle(questionsPath, http.HandlerFunc(handler{s}.serveQuestions))
	srv := &http.Server{
		Handler:           s.authorised(mux),
		Protocols:         &protocols,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute, // an attached relay is never idle
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	close(s.ready)
	err := httpserve.Run(ctx, srv, listener, s.cfg.ShutdownTimeout, s.log)
	cancel() // ends the attachments if the listener failed
	s.readers.Wait()
	if err != nil {
		return fmt.Errorf("manager rpc: %w", err)
	}
	return nil
}

// authorised refuses requests without the secret. With TLS, the handshake has refused
// those without a certificate, and every call is checked against the relay that the
// certificate names.
func (s *Server) authorised(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.tls != nil {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, r.TLS)))
			return
		}
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(given)) // equal lengths, so that the comparison tells nothing
		if subtle.ConstantTimeCompare(sum[:], s.secret[:]) != 1 {
			s.refuse("relay with a wrong secret; further ones are only counted", r.RemoteAddr)
			err := toRPC(manager.NewError(manager.CodeRelayUnauthorised))
			if refuse.IsSupported(r) {
				_ = refuse.Write(w, r, err) // the peer may have gone
			} else {
				http.Error(w, err.Message(), http.StatusUnauthorized)
			}
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) refuse(what, conn string) {
	if s.refused.Add(1) == 1 {
		s.log.Warn("relay refused; further ones are only counted", "reason", what, "conn", conn)
	}
}

// peerKey is the context key of the *tls.ConnectionState of a call.
type peerKey struct{}

// is returns CodeRelayUnauthorised unless the caller may speak for a relay.
func (s *Server) is(ctx context.Context, kind manager.RelayKind, id manager.RelayID) error {
	if s.tls == nil {
		return nil // all relays have one secret
	}
	state, _ := ctx.Value(peerKey{}).(*tls.ConnectionState)
	if state == nil || len(state.PeerCertificates) == 0 {
		s.refuse("no certificate", string(id))
		return manager.NewError(manager.CodeRelayUnauthorised)
	}
	k, named, err := pki.ParseRelay(state.PeerCertificates[0])
	if err != nil || k != kind.String() || named != string(id) {
		s.refuse("its certificate names another relay", string(id))
		return manager.NewError(manager.CodeRelayUnauthorised)
	}
	return nil
}

// session returns the attachment that a call names, if it is the caller's.
func (s *Server) session(ctx context.Context, id string) (*manager.RelaySession, error) {
	session, ok := s.manager.Session(id)
	if !ok {
		return nil, manager.NewError(manager.CodeRelayNotAttached)
	}
	r := session.Relay()
	return session, s.is(ctx, r.Kind, r.ID)
}

// snapshotPart is how many entries of a snapshot are sent at one time: of tens of
// thousands the messages alone would take many megabytes.
const snapshotPart = 1000

// handler implements relayv1connect.RelayControlHandler.
type handler struct{ *Server }

// Attach runs one relay's session.
func (h handler) Attach(ctx context.Context, stream *connect.BidiStream[pb.FromRelay, pb.FromManager]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return toRPC(fmt.Errorf("%w: want hello first", errMessage))
	}
	relay, err := helloFromPB(hello)
	if err != nil {
		return toRPC(err)
	}
	if err := h.is(ctx, relay.Kind, relay.ID); err != nil {
		return toRPC(err)
	}
	session, err := h.manager.AttachRelay(relay)
	if err != nil {
		return toRPC(err)
	}
	defer session.End()
	welcome := &pb.Welcome{Session: session.ID()}
	for _, k := range session.Keys() {
		welcome.Keys = append(welcome.Keys, &pb.TicketKey{Id: k.ID, Key: k.Key})
	}
	if err := stream.Send(&pb.FromManager{Kind: &pb.FromManager_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	// The reader ends when the request body does, which is after this method
	// returned at the latest: Run waits for it, this method cannot.
	h.readers.Go(func() {
		defer session.End()
		h.read(stream, session)
	})
	for {
		c, err := session.Next(ctx)
		switch {
		case errors.Is(err, manager.ErrReplaced):
			return connect.NewError(connect.CodeAborted, err)
		case errors.Is(err, manager.ErrSessionEnded), ctx.Err() != nil:
			return connect.NewError(connect.CodeUnavailable, manager.ErrSessionEnded)
		case err != nil:
			h.log.Error("relay session ended", "relay", relay.ID, "error", err)
			return toRPC(err)
		}
		for more := true; more; {
			part := c
			if more = c.Kind == manager.CommandSnapshot && len(c.Openings) > snapshotPart; more {
				part.Openings, c.Openings = c.Openings[:snapshotPart], c.Openings[snapshotPart:]
			}
			m := commandToPB(part)
			if s := m.GetSnapshot(); s != nil {
				s.More = more
			}
			if err := stream.Send(&pb.FromManager{Kind: &pb.FromManager_Command{Command: m}}); err != nil {
				return err
			}
		}
	}
}

func (h handler) read(stream *connect.BidiStream[pb.FromRelay, pb.FromManager], session *manager.RelaySession) {
	for {
		m, err := stream.Receive()
		if err != nil {
			return
		}
		switch k := m.GetKind().(type) {
		case *pb.FromRelay_Acknowledgement:
			session.Acknowledge(ackFromPB(session.ID(), k.Acknowledgement))
		case *pb.FromRelay_Load:
			session.Load(loadFromPB(k.Load))
		default:
			h.log.Warn("unexpected message from a relay; its session ends", "relay", session.Relay().ID)
			return
		}
	}
}
