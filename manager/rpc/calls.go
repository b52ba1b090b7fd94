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

// Ask is Resolve without waiting: it never blocks. answer is called exactly once, from
// any goroutine, also from within Ask, and must not block: it holds up the answers to
// other questions. From the deadline on the answer is context.DeadlineExceeded; the zero
// deadline is none. When Run has returned the answer is CodeManagerAway.
func (c *Client) Ask(q manager.ResolveRequest, traceparent string, deadline time.Time, answer func(manager.Route, error)) {
	c.desk.ask(&q, traceparent, deadline, answer)
}

// Resolve asks the manager about a connection that hit a port (R11). While no manager
// is there it returns CodeManagerAway: when FailoverWait is over if there are alternates, or
// if the only manager has just let the relay in; otherwise at once, as it does when too
// many questions are not answered. The other errors are ctx's and those of
// manager.RelaySession.Resolve.
func (c *Client) Resolve(ctx context.Context, q manager.ResolveRequest) (manager.Route, error) {
	w := waiters.Get().(*waiter)
	defer waiters.Put(w)
	id := c.desk.ask(&q, observe.Traceparent(ctx), time.Time{}, w.answer)
	select {
	case <-w.done:
	case <-ctx.Done():
		if c.desk.withdraw(id) {
			return manager.Route{}, ctx.Err()
		}
		<-w.done // it is being answered
	}
	route, err := w.route, w.err
	w.route, w.err = manager.Route{}, nil
	return route, err
}

// waiter is where Resolve waits for its answer.
type waiter struct {
	done   chan struct{} // capacity 1
	answer func(manager.Route, error)
	route  manager.Route
	err    error
}

var waiters = sync.Pool{New: func() any {
	w := &waiter{done: make(chan struct{}, 1)}
	w.answer = func(r manager.Route, err error) {
		w.route, w.err = r, err
		w.done <- struct{}{}
	}
	return w
}}

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

// Departed returns those of the places that their devices have left. Errors:
// CodeManagerAway as Resolve has it, and those of manager.RelaySession.Departed.
func (c *Client) Departed(ctx context.Context, places []manager.Place) ([]manager.Place, error) {
	resp, err := call(ctx, c, func(ctx context.Context, s *session) (*connect.Response[pb.Places], error) {
		return s.at.control.rpc.Departed(ctx, connect.NewRequest(&pb.Places{Session: s.id, Places: placesToPB(places)}))
	})
	if err != nil {
		return nil, err
	}
	return placesFromPB(resp.Msg.GetPlaces())
}

// AddAudit hands audit records to the manager. If it returns nil the manager has
// stored them, or refused some for good. It does not wait for a manager.
func (c *Client) AddAudit(ctx context.Context, records []manager.AuditRecord) error {
	s, _ := c.attached()
	if s == nil {
		return manager.NewError(manager.CodeManagerAway)
	}
	batch := make([]byte, 0, auditSize*len(records))
	for i := range records {
		batch = appendAudit(batch, &records[i])
	}
	resp, err := s.at.control.rpc.AddAudit(ctx, connect.NewRequest(&pb.AuditBatch{Session: s.id, Records: batch}))
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
			if err = fromRPC(err); !another(err) {
				return none, err
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

// another reports whether another manager may answer what failed with err.
func another(err error) bool {
	return errors.Is(err, manager.CodeManagerAway) || errors.Is(err, manager.CodeRelayNotAttached)
}
