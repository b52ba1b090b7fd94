package manager

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// HandlerID names an event handler: a UUID.
type HandlerID string

// TargetKind is what an event handler watches.
type TargetKind string

// Targets of event handlers. Rules are judged for each SIM of a group or operator by
// itself, but for those whose name says "total" of an operator or group.
const (
	TargetOperator TargetKind = "operator"
	TargetGroup    TargetKind = "group"
	TargetIMSI     TargetKind = "imsi"
	TargetSIM      TargetKind = "sim"
)

// Typed is a rule or an action: its type and properties, as clients wrote them.
type Typed struct {
	Type       string                     `json:"type"`
	Properties map[string]json.RawMessage `json:"properties"`
}

// text returns a property that is a string, a number or a truth value; "" without it.
func (t Typed) text(name string) string {
	raw, ok := t.Properties[name]
	if !ok || string(raw) == "null" {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// EventHandler does something when something happens to a SIM.
type EventHandler struct {
	ID          HandlerID
	OperatorID  OperatorID
	Name        string
	Description string
	Active      bool
	Kind        TargetKind
	Target      string // the operator's, group's or SIM's ID, or an IMSI
	Rule        Typed
	Actions     []Typed
	Created     time.Time
	Modified    time.Time
}

const (
	// MaxHandlers is how many handlers one target may have.
	MaxHandlers = 10
	// MaxActions is how many actions one handler may have.
	MaxActions     = 5
	maxHandlerText = 1024 // bytes, of a description
)

// HandlerStore keeps event handlers and what they have set going.
type HandlerStore interface {
	// AddHandler adds h unless its target has `most` handlers already: ErrTooMany; or is a
	// group that the operator does not have: ErrNoGroup.
	AddHandler(ctx context.Context, h EventHandler, most int) error
	// Handler returns one. ErrNotFound.
	Handler(ctx context.Context, id HandlerID) (EventHandler, error)
	// Handlers lists an operator's handlers in the order of creation; kind empty: all.
	Handlers(ctx context.Context, op OperatorID, kind TargetKind) ([]EventHandler, error)
	// ActiveHandlers returns the active handlers with one of the targets.
	ActiveHandlers(ctx context.Context, targets []string) ([]EventHandler, error)
	// PutHandler replaces a handler; what it had fired for may fire again. ErrNotFound; a
	// target that is new to it is refused as by AddHandler.
	PutHandler(ctx context.Context, h EventHandler, most int) error
	// DeleteHandler removes a handler and its pending actions. ErrNotFound.
	DeleteHandler(ctx context.Context, id HandlerID) error

	// SetIgnored makes a handler ignore a SIM, or not. It reports whether that changed.
	SetIgnored(ctx context.Context, id HandlerID, imsi ident.IMSI, ignored bool) (changed bool, err error)
	// Ignored reports which of the handlers ignore a SIM.
	Ignored(ctx context.Context, imsi ident.IMSI) (map[HandlerID]bool, error)

	// Fire claims a firing and stores its actions; of several managers one gets true.
	Fire(ctx context.Context, f Firing) (bool, error)
	// ClaimActions takes up to limit actions that are due at now, for as long as until.
	ClaimActions(ctx context.Context, now, until time.Time, limit int) ([]PendingAction, error)
	// FinishAction forgets an action.
	FinishAction(ctx context.Context, id string) error
	// PostponeAction gives an action up to whoever claims it at a time.
	PostponeAction(ctx context.Context, id string, due time.Time) error
	// NextAction returns when the next action can be claimed; the zero time: none.
	NextAction(ctx context.Context) (time.Time, error)
}

// Firing is a rule that came true.
type Firing struct {
	HandlerID HandlerID
	Subject   string    // the IMSI, or the target for rules about all of it
	Mark      string    // of the event; the same event fires once. Empty: only At and Until count
	At        time.Time // it fires unless an earlier firing rests until after this
	Until     time.Time // when the rule may fire for this subject again
	Actions   []PendingAction
}

// PendingAction is an action that waits for its time.
type PendingAction struct {
	ID        string
	HandlerID HandlerID
	IMSI      ident.IMSI // the SIM with which the rule came true, also of a rule about all of a target
	Target    string
	Action    Typed
	Due       time.Time
	Attempts  int // how often it has been claimed
	Depth     int // how many handlers led to this one
}

// CreateHandler makes an event handler. Errors: CodeBadHandler, CodeUnsupportedRule,
// CodeUnsupportedAction, CodeTooManyHandlers, CodeUnknownSubscriber, CodeUnknownSIM,
// CodeUnknownGroup, CodeInternal.
func (s *Service) CreateHandler(ctx context.Context, op OperatorID, h EventHandler) (EventHandler, error) {
	t := now()
	h.ID, h.OperatorID, h.Created, h.Modified = HandlerID(randomUUID()), op, t, t
	if err := s.checkHandler(ctx, &h); err != nil {
		return EventHandler{}, err
	}
	if err := s.store.AddHandler(ctx, h, MaxHandlers); err != nil {
		return EventHandler{}, handlerError(h, "add event handler", err)
	}
	return h, nil
}

// handlerError gives an error of the store about a handler its code.
func handlerError(h EventHandler, what string, err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return NewError(CodeUnknownHandler, string(h.ID))
	case errors.Is(err, ErrTooMany):
		return NewError(CodeTooManyHandlers, MaxHandlers)
	case errors.Is(err, ErrNoGroup): // it was deleted since it was checked
		return NewError(CodeUnknownGroup, h.Target)
	}
	return fault(what, err)
}

// checkHandler judges h, and writes an IMSI that is its target as SIMs have theirs.
func (s *Service) checkHandler(ctx context.Context, h *EventHandler) error {
	bad := func(why error) error { return NewError(CodeBadHandler, why) }
	switch {
	case h.Name == "":
		return bad(DetailRequired.Of("name"))
	case len(h.Name) > maxTag:
		return bad(DetailLongBytes.Of("name", maxTag))
	case len(h.Description) > maxHandlerText:
		return bad(DetailLongBytes.Of("description", maxHandlerText))
	case len(h.Actions) == 0 || len(h.Actions) > MaxActions:
		return bad(DetailItems.Of("actionConfigList", 1, MaxActions))
	}
	if _, err := parseRule(h.Rule, h.Kind, s.sims.classes); err != nil {
		return err
	}
	for _, a := range h.Actions {
		if _, err := parseAction(a, s.sims.classes); err != nil {
			return err
		}
	}
	switch h.Kind {
	case TargetOperator:
		if h.Target != string(h.OperatorID) {
			return bad(DetailOthersTarget)
		}
	case TargetGroup:
		_, err := s.Group(ctx, h.OperatorID, GroupID(h.Target))
		return err
	case TargetIMSI:
		imsi, err := ident.ParseIMSI(h.Target)
		if err != nil {
			return NewError(CodeBadIMSI)
		}
		h.Target = string(imsi)
		_, err = s.owned(ctx, h.OperatorID, SIMRef{IMSI: imsi})
		return err
	case TargetSIM:
		_, err := s.owned(ctx, h.OperatorID, SIMRef{SIMID: h.Target})
		return err
	default:
		return bad(DetailOneTarget)
	}
	return nil
}

// Handler returns one of the operator's event handlers. Errors: CodeUnknownHandler,
// CodeInternal.
func (s *Service) Handler(ctx context.Context, op OperatorID, id HandlerID) (EventHandler, error) {
	h, err := s.store.Handler(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && h.OperatorID != op:
		return EventHandler{}, NewError(CodeUnknownHandler, string(id))
	case err != nil:
		return EventHandler{}, fault("find event handler", err)
	}
	return h, nil
}

// Handlers lists an operator's event handlers; kind empty: all. The only error is
// CodeInternal.
func (s *Service) Handlers(ctx context.Context, op OperatorID, kind TargetKind) ([]EventHandler, error) {
	hs, err := s.store.Handlers(ctx, op, kind)
	if err != nil {
		return nil, fault("list event handlers", err)
	}
	return hs, nil
}

// HandlersOf lists the event handlers that watch a SIM, by whatever target. Errors:
// CodeUnknownSubscriber, CodeInternal.
func (s *Service) HandlersOf(ctx context.Context, op OperatorID, imsi ident.IMSI) ([]EventHandler, error) {
	sim, err := s.ownedSIM(ctx, op, SIMRef{IMSI: imsi})
	if err != nil {
		return nil, err
	}
	hs, err := s.Handlers(ctx, op, "")
	if err != nil {
		return nil, err
	}
	var out []EventHandler
	for _, h := range hs {
		if h.watches(sim) {
			out = append(out, h)
		}
	}
	return out, nil
}

// watches reports whether the SIM is the handler's target or part of it.
func (h EventHandler) watches(sim SIM) bool {
	switch h.Kind {
	case TargetOperator:
		return h.OperatorID == sim.OperatorID
	case TargetGroup:
		return h.Target == string(sim.GroupID)
	case TargetIMSI:
		return h.Target == string(sim.IMSI)
	case TargetSIM:
		return h.Target == sim.SIMID
	}
	return false
}

// PutHandler replaces an event handler, and arms it again. Errors: as CreateHandler,
// CodeUnknownHandler.
func (s *Service) PutHandler(ctx context.Context, op OperatorID, id HandlerID, h EventHandler) (EventHandler, error) {
	old, err := s.Handler(ctx, op, id)
	if err != nil {
		return EventHandler{}, err
	}
	h.ID, h.OperatorID, h.Created, h.Modified = id, op, old.Created, now()
	if h.Kind == "" {
		h.Kind, h.Target = old.Kind, old.Target
	}
	if err := s.checkHandler(ctx, &h); err != nil {
		return EventHandler{}, err
	}
	if err := s.store.PutHandler(ctx, h, MaxHandlers); err != nil {
		return EventHandler{}, handlerError(h, "change event handler", err)
	}
	return h, nil
}

// DeleteHandler removes an event handler and what it had yet to do. Errors: as Handler.
func (s *Service) DeleteHandler(ctx context.Context, op OperatorID, id HandlerID) error {
	if _, err := s.Handler(ctx, op, id); err != nil {
		return err
	}
	if err := s.store.DeleteHandler(ctx, id); err != nil && !errors.Is(err, ErrNotFound) {
		return fault("delete event handler", err)
	}
	return nil
}

// IgnoreHandler makes a handler ignore a SIM, or stop ignoring it. Errors:
// CodeUnknownHandler, CodeUnknownSubscriber, CodeNotIgnored, CodeInternal.
func (s *Service) IgnoreHandler(ctx context.Context, op OperatorID, id HandlerID, imsi ident.IMSI, ignored bool) error {
	if _, err := s.Handler(ctx, op, id); err != nil {
		return err
	}
	if _, err := s.owned(ctx, op, SIMRef{IMSI: imsi}); err != nil {
		return err
	}
	changed, err := s.store.SetIgnored(ctx, id, imsi, ignored)
	if err != nil {
		return fault("ignore event handler", err)
	}
	if !changed && !ignored {
		return NewError(CodeNotIgnored, string(imsi))
	}
	return nil
}
