package outer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// pingAfter is how long a client of an entry for several devices may be silent before
// it is asked whether it is still there.
const pingAfter = 30 * time.Second

// maxTarget is the longest name of a device, in bytes.
const maxTarget = 256

// manyServer serves entries for several devices (R9b): a client makes one TLS
// connection and reaches each device through a CONNECT stream of HTTP/2 (RFC 9113
// clause 8.5), whose authority names it. Each stream is a connection of its own to
// the audit log. The carrying connection is in it only if it never had a stream.
//
// A stream ends for the client when its device has ended it: an HTTP/2 server cannot
// end its side of a stream earlier than the whole of it. The other way round, a
// client that has ended its side still gets all that the device says.
type manyServer struct {
	r        *Relay
	server   *http.Server
	carriers chan *tls.Conn
	closed   chan struct{}
	handlers sync.WaitGroup
}

// carrier is the connection of a client that carries streams.
type carrier struct {
	*conn

	who peer
	gen uint64

	serving sync.Mutex // guards the rest
	streams int        // that there have been
	gone    bool       // the HTTP server has closed it
}

// newStream makes the connection of a stream; nil: the carrier is gone, of which the HTTP
// server may call a handler yet, for a stream that came just before.
func (cr *carrier) newStream(reset func()) (c *conn, full bool) {
	cr.serving.Lock()
	defer cr.serving.Unlock()
	if cr.gone {
		return nil, false
	}
	cr.streams++
	return cr.relay.newConn(cr.port, cr.client, false, reset)
}

// close has no stream begin any more and returns how many there have been.
func (cr *carrier) close() (streams int) {
	cr.serving.Lock()
	defer cr.serving.Unlock()
	cr.gone = true
	return cr.streams
}

type carrierKey struct{}

func newManyServer(r *Relay) *manyServer {
	m := &manyServer{r: r, carriers: make(chan *tls.Conn), closed: make(chan struct{})}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	m.server = &http.Server{
		Handler: m, Protocols: &protocols, MaxHeaderBytes: relay.MaxHead, IdleTimeout: r.cfg.IdleTimeout,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: r.cfg.MaxStreams, SendPingTimeout: pingAfter},
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				if w, ok := t.NetConn().(*wire); ok {
					if o, ok := w.Conn.(*owned); ok {
						return context.WithValue(ctx, carrierKey{}, o.carrier)
					}
				}
			}
			return ctx
		},
	}
	return m
}

// run serves until ctx ends.
func (m *manyServer) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		close(m.closed)
		_ = m.server.Close() // there is no listener of the system to close
	})
	defer stop()
	_ = m.server.Serve((*carriers)(m)) // says that it was closed
	m.handlers.Wait()
}

// carriers is a manyServer as the listener of its http.Server.
type carriers manyServer

func (l *carriers) Accept() (net.Conn, error) {
	select {
	case c := <-l.carriers:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *carriers) Close() error   { return nil }
func (l *carriers) Addr() net.Addr { return &net.TCPAddr{IP: l.r.cfg.Address.AsSlice()} }

// owned tells when the HTTP server has closed a client's connection.
type owned struct {
	relay.Conn
	carrier *carrier
	over    func()
}

func (o *owned) Close() error {
	defer o.over()
	return o.Conn.Close()
}

// serveMany takes a client of an entry for several devices as far as HTTP/2.
func (r *Relay) serveMany(ctx context.Context, c *conn, client relay.Conn, begin time.Time, full bool) {
	cr := &carrier{conn: c}
	record := func(d *denial) {
		c.audit(manager.AuditAccess, begin, "", 0, 0)
		c.turnAway(d)
	}
	fail := func(tell func(relay.Conn, manager.Cause), err error) {
		d := denialOf(err, c.ended())
		record(d)
		tell(client, d.cause)
		c.over()
	}
	release, err := r.admit(c, full)
	if err != nil {
		fail(abort, err)
		return
	}
	defer release()
	// Those of single devices only narrow these.
	if err := c.allowed(c.port.opening.Ranges); err != nil && len(c.port.opening.Ranges) > 0 {
		release()
		fail(alertFirst, err)
		return
	}
	cred, gen, err := r.credential(ctx, c)
	if err != nil {
		release()
		fail(alertFirst, err)
		return
	}
	o := &owned{Conn: client, carrier: cr}
	o.over = sync.OnceFunc(func() {
		if cr.close() == 0 {
			record(denialOf(deny(manager.CauseBadRequest, errNoStream), c.ended()))
		}
		c.over()
	})
	r.metrics.stage(stageAdmit, begin)
	_, span := r.tracer.Start(ctx, spanTLS)
	t, who, err := r.handshake(c, o, cred)
	endSpan(span, err)
	if err != nil {
		release()
		// Not through o, which belongs to the server.
		fail(afterHandshake(err), err)
		return
	}
	cr.who, cr.gen = who, gen
	if err := r.enter(ctx, cr); err != nil {
		fail(abort, err)
		return
	}
	c.span.End()
	select {
	case r.many.carriers <- t.Conn:
	case <-r.many.closed:
		fail(abort, errStopped)
	}
}

var errNoStream = errors.New("the client asked for no device")

// enter lets a carrier be found when its credential changes.
func (r *Relay) enter(ctx context.Context, cr *carrier) error {
	for {
		cr.mu.Lock()
		ok := r.credentials.still(cr.who, cr.gen)
		if ok {
			cr.peer = cr.who
		}
		cr.mu.Unlock()
		if ok {
			return nil
		}
		var err error
		if _, cr.gen, err = r.recheckOne(ctx, cr.who); err != nil {
			return err
		}
	}
}

// ServeHTTP serves one stream.
func (m *manyServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	cr, ok := req.Context().Value(carrierKey{}).(*carrier)
	if !ok {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	r, begin := m.r, time.Now()
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	c, full := cr.newStream(cancel)
	if c == nil {
		return
	}
	m.handlers.Add(1) // of c, without whose end run is not told to end
	defer m.handlers.Done()
	ctx = r.begun(ctx, c, spanAccess, begin)
	c.audit(manager.AuditAccess, begin, "", 0, 0)
	s := newStream(w, req)
	if err := r.setUpStream(ctx, cr, c, s, begin, full); err != nil {
		d := denialOf(err, c.ended())
		if req.Context().Err() != nil && c.ended() == nil {
			d = &denial{manager.CauseClientReset, err}
		}
		c.turnAway(d)
		c.over()
		if s.answered {
			s.abort()
			return
		}
		refuse(w, d.cause)
		return
	}
	s.wait()
}

// setUpStream takes a stream as far as setup takes a connection.
func (r *Relay) setUpStream(ctx context.Context, cr *carrier, c *conn, s *stream, begin time.Time, full bool) error {
	release, err := r.admit(c, full)
	if err != nil {
		return err
	}
	defer release()
	target := s.req.Host
	if s.req.Method != http.MethodConnect || !validTarget(target) {
		return deny(manager.CauseBadRequest, nil)
	}
	route, err := c.resolve(ctx, target)
	if err != nil {
		return err
	}
	device, err := r.reach(ctx, c, route, target)
	if err != nil {
		return err
	}
	if err := s.accept(); err != nil {
		relay.Abort(device)
		return deny(manager.CauseClientReset, err)
	}
	span := c.span // as in reached
	if err := r.start(ctx, c, s, endpoint{conn: device}, cr.who, cr.gen); err != nil {
		return err
	}
	span.End()
	r.metrics.stage(stageTotal, begin)
	return nil
}

// validTarget checks the form "name:port"; what is behind it is for the manager.
func validTarget(s string) bool {
	name, port, ok := strings.Cut(s, ":")
	return ok && name != "" && port != "" && len(s) <= maxTarget && !strings.Contains(port, ":")
}

// statuses are the answers to a stream that is turned away; others get 502.
var statuses = map[manager.Cause]int{
	manager.CauseBadRequest:         http.StatusBadRequest,
	manager.CauseSourceDenied:       http.StatusForbidden,
	manager.CauseExpired:            http.StatusForbidden,
	manager.CauseRevoked:            http.StatusForbidden,
	manager.CauseCredentialRevoked:  http.StatusForbidden,
	manager.CauseCertificateRevoked: http.StatusForbidden,
	manager.CauseUnknownEntry:       http.StatusNotFound,
	manager.CauseUnknownTarget:      http.StatusNotFound,
	manager.CauseRateLimited:        http.StatusTooManyRequests,
	manager.CauseTooManyConnections: http.StatusTooManyRequests,
	manager.CauseOverloaded:         http.StatusServiceUnavailable,
	manager.CauseAuditUnavailable:   http.StatusServiceUnavailable,
	manager.CauseDraining:           http.StatusServiceUnavailable,
	manager.CauseStopped:            http.StatusServiceUnavailable,
	manager.CauseManagerAway:        http.StatusServiceUnavailable,
	manager.CauseDeviceTimeout:      http.StatusGatewayTimeout,
	manager.CauseTimeout:            http.StatusGatewayTimeout,
	manager.CauseFailed:             http.StatusInternalServerError,
}

func refuse(w http.ResponseWriter, cause manager.Cause) {
	status, ok := statuses[cause]
	if !ok {
		status = http.StatusBadGateway
	}
	w.Header().Set(relay.HeaderError, string(cause.Code()))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, cause) // a client that is gone does not mind
}
