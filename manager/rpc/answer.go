package rpc

import (
	"context"
	"errors"
	"sync"

	"connectrpc.com/connect"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/internal/workers"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

// maxQuestions bounds the questions of one stream that are being answered at one time;
// further ones wait unread.
const maxQuestions = 256

type resolveStream = *connect.BidiStream[pb.ResolveRequest, pb.ResolveResponse]

// answers sends on one stream until its handler returns.
type answers struct {
	mu     sync.Mutex // guards the stream's sending side and over
	over   bool
	stream resolveStream
}

func (a *answers) send(m *pb.ResolveResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		_ = a.stream.Send(m) // if the relay has gone, reading says so
	}
}

func (a *answers) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
}

// Resolve answers an attached outer relay's questions until the relay ends the stream
// or the server stops.
func (h handler) Resolve(ctx context.Context, stream resolveStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &answers{stream: stream}
	defer out.end()
	over := make(chan struct{})
	// As in Attach: reading ends after this method returned, at the latest.
	h.readers.Go(func() {
		defer close(over)
		h.readQuestions(ctx, stream, out)
	})
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return connect.NewError(connect.CodeUnavailable, manager.ErrSessionEnded)
	}
}

func (h handler) readQuestions(ctx context.Context, stream resolveStream, out *answers) {
	questions := workers.New()
	defer questions.Close()
	slots := make(chan struct{}, maxQuestions)
	var session *manager.RelaySession // of the last question: it is the same every time
	for {
		m, err := stream.Receive()
		if err != nil {
			return
		}
		if session == nil || session.ID() != m.GetSession() {
			if session, err = h.session(ctx, m.GetSession()); err != nil {
				session = nil
				h.failed.Add(1)
				out.send(&pb.ResolveResponse{Id: m.GetId(), Kind: &pb.ResolveResponse_Failure{Failure: failureToPB(manager.AsError(err))}})
				continue
			}
		}
		// One that has to ask the store holds up no other.
		slots <- struct{}{}
		asked := session
		questions.Go(func() {
			defer func() { <-slots }()
			out.send(h.answer(ctx, asked, m))
		})
	}
}

func (h handler) answer(ctx context.Context, session *manager.RelaySession, m *pb.ResolveRequest) *pb.ResolveResponse {
	q, err := resolveFromPB(m)
	var route manager.Route
	if err == nil {
		route, err = session.Resolve(observe.Join(ctx, m.GetTraceparent()), q)
	}
	if err != nil {
		h.failed.Add(1)
		e := manager.AsError(err)
		switch {
		case errors.Is(err, errMessage):
			e = manager.NewError(manager.CodeUnknownEntry, m.GetHit())
		case e.Code == manager.CodeInternal && ctx.Err() == nil:
			h.log.Error("resolve failed", "error", err)
		}
		return &pb.ResolveResponse{Id: m.GetId(), Kind: &pb.ResolveResponse_Failure{Failure: failureToPB(e)}}
	}
	h.resolved.Add(1)
	return &pb.ResolveResponse{Id: m.GetId(), Kind: &pb.ResolveResponse_Route{Route: routeToPB(route)}}
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

// AddAudit takes an attached relay's audit records.
func (h handler) AddAudit(ctx context.Context, req *connect.Request[pb.AuditBatch]) (*connect.Response[pb.AuditResult], error) {
	session, err := h.session(ctx, req.Msg.GetSession())
	if err != nil {
		return nil, toRPC(err)
	}
	records := make([]manager.AuditRecord, len(req.Msg.GetRecords()))
	for i, r := range req.Msg.GetRecords() {
		records[i] = auditFromPB(r)
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
