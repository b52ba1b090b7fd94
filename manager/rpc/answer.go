package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/internal/workers"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

const (
	// maxLines bounds the connections for questions of one attachment.
	maxLines = 64
	// maxSlow bounds the questions of one connection that ask the store at one time;
	// further ones wait unread.
	maxSlow = 256
	// slowTimeout bounds asking the store. Pings wait with the rest when maxSlow questions
	// do: it must end before the relay takes the manager for gone (deadSilences).
	slowTimeout = 3 * time.Second
	// flushSize is when answers leave although there is more to answer.
	flushSize = 64 << 10
)

// serveQuestions answers an attached outer relay's questions until the relay ends the
// connection, its attachment ends or the server stops.
func (h handler) serveQuestions(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || !strings.EqualFold(r.Header.Get("Upgrade"), questionsUpgrade) {
		w.Header().Set("Upgrade", questionsUpgrade)
		http.Error(w, "want an upgrade to "+questionsUpgrade, http.StatusUpgradeRequired)
		return
	}
	session, err := h.session(r.Context(), r.Header.Get(headerSession))
	if err == nil && session.Relay().Kind != manager.OuterRelay {
		err = manager.NewError(manager.CodeRelayNotAttached)
	}
	if err != nil {
		h.failed.Add(1)
		e := manager.AsError(err)
		status := http.StatusServiceUnavailable
		if e.Kind() == manager.KindUnauthenticated {
			status = http.StatusUnauthorized
		}
		http.Error(w, e.Message(manager.English), status)
		return
	}
	if !h.lines.begin(session) {
		h.failed.Add(1)
		http.Error(w, fmt.Sprintf("more than %d connections for questions", maxLines), http.StatusTooManyRequests)
		return
	}
	defer h.lines.end(session)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		h.log.Error("connection for questions not taken over", "error", err)
		return
	}
	a := &answers{handler: h, conn: conn, session: session, relay: session.Relay().ID}
	const answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + questionsUpgrade + "\r\n\r\n"
	if _, err := conn.Write([]byte(answer)); err != nil || rw.Reader.Buffered() > 0 {
		if err == nil { // it did not wait for the answer
			a.malformed(errMessage)
		}
		_ = conn.Close()
		return
	}
	a.run(r.Context())
}

// lines counts the connections for questions of each attachment. Its zero value works.
type lines struct {
	mu   sync.Mutex // guards open
	open map[*manager.RelaySession]int
}

// begin counts one more; false: there are maxLines.
func (l *lines) begin(s *manager.RelaySession) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[s] >= maxLines {
		return false
	}
	if l.open == nil {
		l.open = map[*manager.RelaySession]int{}
	}
	l.open[s]++
	return true
}

func (l *lines) end(s *manager.RelaySession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[s]--; l.open[s] == 0 {
		delete(l.open, s)
	}
}

// answers is the manager's end of a connection for questions.
type answers struct {
	handler
	conn    net.Conn
	session *manager.RelaySession
	relay   manager.RelayID

	mu sync.Mutex // held while writing to conn
}

// run answers until ctx, the attachment or the connection ends.
func (a *answers) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	slow := workers.New()
	defer slow.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before the others: nobody waits for what the store is still asked
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-a.session.Done():
			cancel()
		}
		_ = a.conn.Close() // that is how reading and writing end
	})
	if err := a.read(ctx, slow); errors.Is(err, errMessage) {
		a.malformed(err)
	}
}

func (a *answers) malformed(err error) {
	if a.broken.Add(1) == 1 {
		a.log.Warn("a relay's questions are malformed, its connection ends; further ones are only counted", "relay", a.relay, "error", err)
	}
}

// read answers what comes. One that has to ask the store holds up no other; the others
// are answered here, all that one read returned with one write.
func (a *answers) read(ctx context.Context, slow *workers.Group) error {
	in := newFrames(a.conn, maxQuestion)
	slots := make(chan struct{}, maxSlow)
	var out []byte
	for {
		if err := in.fill(); err != nil {
			return err
		}
		out = out[:0]
		for {
			m, ok, err := in.next()
			if err != nil {
				return errors.Join(err, a.send(out))
			}
			if !ok {
				break
			}
			if len(m) == 0 {
				out = appendPing(out)
				continue
			}
			q, err := parseQuestion(m)
			if err != nil {
				return errors.Join(err, a.send(out))
			}
			route, known, err := a.session.TryResolve(observe.Join(ctx, q.trace), q.ResolveRequest)
			if known {
				out = a.append(ctx, out, q.id, &route, err)
				if len(out) < flushSize {
					continue
				}
			}
			if err := a.send(out); err != nil { // before a wait
				return err
			}
			out = out[:0]
			if known {
				continue
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			slow.Go(func() {
				defer func() { <-slots }()
				asking, cancel := context.WithTimeout(observe.Join(ctx, q.trace), slowTimeout)
				defer cancel()
				route, err := a.session.Resolve(asking, q.ResolveRequest)
				if ctx.Err() != nil {
					return // the relay asks the next manager
				}
				_ = a.send(a.append(ctx, nil, q.id, &route, err)) // if the relay has gone, reading says so
			})
		}
		if err := a.send(out); err != nil {
			return err
		}
	}
}

func (a *answers) send(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.conn.Write(out)
	return err
}

// append appends an answer.
func (a *answers) append(ctx context.Context, out []byte, id uint64, route *manager.Route, err error) []byte {
	if err == nil {
		a.resolved.Add(1)
		return appendRoute(out, id, route)
	}
	a.failed.Add(1)
	e := manager.AsError(err)
	if e.Code == manager.CodeInternal && ctx.Err() == nil {
		a.log.Error("resolve failed", "error", err)
	}
	return appendFailure(out, id, e)
}

// headerTrace is the header of unary calls with the caller's trace context.
const headerTrace = "Traceparent"

// GetCredential answers an attached outer relay.
func (h handler) GetCredential(ctx context.Context, req *connect.Request[pb.CredentialRequest]) (*connect.Response[pb.Credential], error) {
	session, err := h.session(ctx, req.Msg.GetSession())
	if err != nil {
		return nil, toRPC(err)
	}
	c, err := session.Credential(observe.Join(ctx, req.Header().Get(headerTrace)), manager.CredentialID(req.Msg.GetId()))
	if err != nil {
		return nil, h.internal(ctx, "credential not read", err)
	}
	return connect.NewResponse(credentialToPB(c)), nil
}

// Departed answers an attached outer relay.
func (h handler) Departed(ctx context.Context, req *connect.Request[pb.Places]) (*connect.Response[pb.Places], error) {
	session, err := h.session(ctx, req.Msg.GetSession())
	if err != nil {
		return nil, toRPC(err)
	}
	places, err := placesFromPB(req.Msg.GetPlaces())
	if err != nil {
		return nil, toRPC(err)
	}
	left, err := session.Departed(ctx, places)
	if err != nil {
		return nil, toRPC(err)
	}
	return connect.NewResponse(&pb.Places{Places: placesToPB(left)}), nil
}

// AddAudit takes an attached relay's audit records.
func (h handler) AddAudit(ctx context.Context, req *connect.Request[pb.AuditBatch]) (*connect.Response[pb.AuditResult], error) {
	session, err := h.session(ctx, req.Msg.GetSession())
	if err != nil {
		return nil, toRPC(err)
	}
	records, err := parseAudit(req.Msg.GetRecords())
	if err != nil {
		return nil, toRPC(err)
	}
	refused, err := session.AddAudit(ctx, records)
	if err != nil {
		return nil, h.internal(ctx, "audit records not stored", err)
	}
	h.audited.Add(uint64(len(records) - refused))
	return connect.NewResponse(&pb.AuditResult{Refused: uint32(refused)}), nil
}

// internal logs what the relay is not told.
func (h handler) internal(ctx context.Context, what string, err error) error {
	if manager.AsError(err).Code == manager.CodeInternal && ctx.Err() == nil {
		h.log.Error("a relay's call failed", "call", what, "error", err)
	}
	return toRPC(err)
}
