package rpc

import (
	"context"
	"errors"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

// askQueue is how many questions may wait to be sent on one stream.
const askQueue = 256

// asker asks questions on one stream of a session. Answers come in any order.
type asker struct {
	queue chan *pb.ResolveRequest
	over  chan struct{} // closed when the stream has ended

	mu      sync.Mutex // guards the rest
	lastID  uint64
	waiting map[uint64]chan *pb.ResolveResponse
}

func newAsker() *asker {
	return &asker{queue: make(chan *pb.ResolveRequest, askQueue), over: make(chan struct{}), waiting: map[uint64]chan *pb.ResolveResponse{}}
}

// run carries questions and answers until ctx or the stream ends.
func (a *asker) run(ctx context.Context, session string, stream *connect.BidiStreamForClient[pb.ResolveRequest, pb.ResolveResponse]) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		defer func() { _ = stream.CloseRequest() }() // as in Client.send
		for {
			select {
			case m := <-a.queue:
				m.Session = session
				if stream.Send(m) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		m, err := stream.Receive()
		if err != nil {
			break
		}
		a.mu.Lock()
		ch := a.waiting[m.GetId()]
		delete(a.waiting, m.GetId())
		a.mu.Unlock()
		if ch != nil {
			ch <- m // capacity 1, and only one answer gets here
		}
	}
	cancel()
	wg.Wait()
	_ = stream.CloseResponse() // it has ended
	close(a.over)
}

// errStreamOver says that the manager went away during a question.
var errStreamOver = errors.New("the manager went away")

func (a *asker) ask(ctx context.Context, q manager.ResolveRequest) (*pb.ResolveResponse, error) {
	answer := make(chan *pb.ResolveResponse, 1)
	a.mu.Lock()
	a.lastID++
	id := a.lastID
	a.waiting[id] = answer
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.waiting, id)
	}()
	question := resolveToPB("", id, q)
	question.Traceparent = observe.Traceparent(ctx)
	select {
	case a.queue <- question:
	case <-a.over:
		return nil, errStreamOver
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case m := <-answer:
		return m, nil
	case <-a.over:
		return nil, errStreamOver
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Resolve asks the manager about a connection that hit a port (R11). While no manager
// is there it returns CodeManagerAway: at once if there is only one, and otherwise when
// FailoverWait is over. The other errors are those of manager.RelaySession.Resolve.
func (c *Client) Resolve(ctx context.Context, q manager.ResolveRequest) (manager.Route, error) {
	m, err := call(ctx, c, func(ctx context.Context, s *session) (*pb.ResolveResponse, error) {
		if len(s.askers) == 0 {
			return nil, manager.NewError(manager.CodeRelayNotAttached)
		}
		m, err := s.askers[s.next.Add(1)%uint32(len(s.askers))].ask(ctx, q)
		if f := m.GetFailure(); f != nil {
			return nil, failureFromPB(f)
		}
		return m, err
	})
	if err != nil {
		return manager.Route{}, err
	}
	route, err := routeFromPB(m.GetRoute())
	if err != nil {
		return manager.Route{}, &manager.Error{Code: manager.CodeManagerAway, Err: err}
	}
	return route, nil
}

// Credential returns a credential by its ID, revoked or not. Errors: CodeManagerAway as
// Resolve has it, CodeUnknownCredential, CodeRelayNotAttached, CodeInternal.
func (c *Client) Credential(ctx context.Context, id manager.CredentialID) (manager.Credential, error) {
	resp, err := call(ctx, c, func(ctx context.Context, s *session) (*connect.Response[pb.Credential], error) {
		req := connect.NewRequest(&pb.CredentialRequest{Session: s.id, Id: string(id)})
		if trace := observe.Traceparent(ctx); trace != "" {
			req.Header().Set(headerTrace, trace)
		}
		return s.at.control.rpc.GetCredential(ctx, req)
	})
	if err != nil {
		return manager.Credential{}, err
	}
	return credentialFromPB(resp.Msg), nil
}

// AddAudit hands audit records to the manager. If it returns nil the manager has
// stored them, or refused some for good. It does not wait for a manager.
func (c *Client) AddAudit(ctx context.Context, records []manager.AuditRecord) error {
	s, _ := c.attached()
	if s == nil {
		return manager.NewError(manager.CodeManagerAway)
	}
	batch := &pb.AuditBatch{Session: s.id, Records: make([]*pb.AuditRecord, len(records))}
	for i, r := range records {
		batch.Records[i] = auditToPB(r)
	}
	resp, err := s.at.control.rpc.AddAudit(ctx, connect.NewRequest(batch))
	if err != nil {
		return fromRPC(err)
	}
	if n := resp.Msg.GetRefused(); n > 0 {
		c.log.Warn("the manager refused audit records", "records", n, "of", len(records))
	}
	return nil
}

// Attached returns a channel that is closed while the relay is attached to a manager,
// or when that changes next.
func (c *Client) Attached() <-chan struct{} {
	s, changed := c.attached()
	if s != nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return changed
}

// call runs f on the session, and again on the next one if the manager went away
// meanwhile: what is asked here may be asked twice. Where there are several managers it
// waits for the next session, for up to FailoverWait.
func call[T any](ctx context.Context, c *Client, f func(context.Context, *session) (T, error)) (T, error) {
	var none T
	var tried *session
	var late <-chan time.Time
	away := manager.NewError(manager.CodeManagerAway)
	for {
		s, changed := c.attached()
		if s != nil && s != tried {
			v, err := f(ctx, s)
			if err == nil {
				return v, nil
			}
			if ctx.Err() != nil {
				return none, ctx.Err()
			}
			if !errors.Is(err, errStreamOver) {
				if err = fromRPC(err); !errors.Is(err, manager.CodeManagerAway) && !errors.Is(err, manager.CodeRelayNotAttached) {
					return none, err
				}
			}
			tried, away = s, &manager.Error{Code: manager.CodeManagerAway, Err: err}
		}
		if len(c.endpoints) == 1 {
			return none, away
		}
		if late == nil {
			timer := time.NewTimer(c.cfg.FailoverWait)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-changed:
		case <-late:
			return none, away
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}
