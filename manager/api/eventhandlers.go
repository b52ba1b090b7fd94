package api

import (
	"encoding/json"
	"net/http"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

var eventHandlerRoutes = []route{
	{"GET", "/v1/event_handlers", "EventHandler:listEventHandlers", permitted, (*handler).listHandlers},
	{"POST", "/v1/event_handlers", "EventHandler:createEventHandler", permitted, (*handler).createHandler},
	{"GET", "/v1/event_handlers/{handler_id}", "EventHandler:getEventHandler", permitted, (*handler).getHandler},
	{"PUT", "/v1/event_handlers/{handler_id}", "EventHandler:updateEventHandler", permitted, (*handler).putHandler},
	{"DELETE", "/v1/event_handlers/{handler_id}", "EventHandler:deleteEventHandler", permitted, (*handler).deleteHandler},
	{"GET", "/v1/event_handlers/subscribers/{imsi}", "EventHandler:listEventHandlersBySubscriber", permitted, (*handler).handlersOf},
	{"POST", "/v1/event_handlers/{handler_id}/subscribers/{imsi}/ignore", "EventHandler:setIgnoreEventHandler", permitted, ignoreHandler(true)},
	{"DELETE", "/v1/event_handlers/{handler_id}/subscribers/{imsi}/ignore", "EventHandler:deleteIgnoreEventHandler", permitted, ignoreHandler(false)},
}

// EventHandler is an event handler, in requests and answers.
type EventHandler struct {
	HandlerID        string          `json:"handlerId"`
	TargetIMSI       *string         `json:"targetImsi"`
	TargetOperatorID *string         `json:"targetOperatorId"`
	TargetGroupID    *string         `json:"targetGroupId"`
	TargetSIMID      *string         `json:"targetSimId"`
	Name             string          `json:"name"`
	Description      *string         `json:"description"`
	Status           string          `json:"status"`
	RuleConfig       manager.Typed   `json:"ruleConfig"`
	Actions          []manager.Typed `json:"actionConfigList"`
}

func eventHandler(h manager.EventHandler) EventHandler {
	out := EventHandler{HandlerID: string(h.ID), Name: h.Name, Description: orNil(h.Description), Status: "inactive", RuleConfig: h.Rule, Actions: h.Actions}
	if h.Active {
		out.Status = "active"
	}
	switch h.Kind {
	case manager.TargetOperator:
		out.TargetOperatorID = &h.Target
	case manager.TargetGroup:
		out.TargetGroupID = &h.Target
	case manager.TargetIMSI:
		out.TargetIMSI = &h.Target
	case manager.TargetSIM:
		out.TargetSIMID = &h.Target
	}
	return out
}

// handlerBody reads an event handler. Without a target its kind is empty, which is for
// the manager to judge.
func handlerBody(r *request) (manager.EventHandler, error) {
	var in EventHandler
	if err := decode(r, &in); err != nil {
		return manager.EventHandler{}, err
	}
	h := manager.EventHandler{Name: in.Name, Active: in.Status == "active", Rule: in.RuleConfig, Actions: in.Actions}
	if in.Status != "active" && in.Status != "inactive" {
		return h, manager.NewError(manager.CodeBadHandler, manager.DetailOneOf.Of("status", "active, inactive"))
	}
	if in.Description != nil {
		h.Description = *in.Description
	}
	targets := 0
	for _, t := range []struct {
		kind  manager.TargetKind
		value *string
	}{
		{manager.TargetOperator, in.TargetOperatorID}, {manager.TargetGroup, in.TargetGroupID}, {manager.TargetIMSI, in.TargetIMSI}, {manager.TargetSIM, in.TargetSIMID},
	} {
		if t.value != nil && *t.value != "" {
			h.Kind, h.Target = t.kind, *t.value
			targets++
		}
	}
	if targets > 1 {
		return h, manager.NewError(manager.CodeBadHandler, manager.DetailOneTarget)
	}
	h.Rule.Properties = properties(h.Rule.Properties)
	for i := range h.Actions {
		h.Actions[i].Properties = properties(h.Actions[i].Properties)
	}
	return h, nil
}

// properties are never nil: answers show {} rather than null.
func properties(m map[string]json.RawMessage) map[string]json.RawMessage {
	if m == nil {
		return map[string]json.RawMessage{}
	}
	return m
}

func eventHandlers(hs []manager.EventHandler, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	out := make([]EventHandler, len(hs))
	for i, h := range hs {
		out[i] = eventHandler(h)
	}
	return http.StatusOK, out, nil
}

func handlerID(r *request) manager.HandlerID { return manager.HandlerID(r.PathValue("handler_id")) }

func (h *handler) listHandlers(r *request) (int, any, error) {
	kind := manager.TargetKind(r.URL.Query().Get("target"))
	switch kind {
	case "", manager.TargetOperator, manager.TargetGroup, manager.TargetIMSI, manager.TargetSIM:
	default:
		return 0, nil, manager.NewError(manager.CodeBadQuery, "target")
	}
	return eventHandlers(h.manager.Handlers(r.Context(), r.principal.OperatorID, kind))
}

func (h *handler) createHandler(r *request) (int, any, error) {
	in, err := handlerBody(r)
	if err != nil {
		return 0, nil, err
	}
	out, err := h.manager.CreateHandler(r.Context(), r.principal.OperatorID, in)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, eventHandler(out), nil
}

func (h *handler) getHandler(r *request) (int, any, error) {
	out, err := h.manager.Handler(r.Context(), r.principal.OperatorID, handlerID(r))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, eventHandler(out), nil
}

func (h *handler) putHandler(r *request) (int, any, error) {
	in, err := handlerBody(r)
	if err != nil {
		return 0, nil, err
	}
	out, err := h.manager.PutHandler(r.Context(), r.principal.OperatorID, handlerID(r), in)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, eventHandler(out), nil
}

func (h *handler) deleteHandler(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.DeleteHandler(r.Context(), r.principal.OperatorID, handlerID(r))
}

func (h *handler) handlersOf(r *request) (int, any, error) {
	imsi, err := ident.ParseIMSI(r.PathValue("imsi"))
	if err != nil {
		return 0, nil, manager.NewError(manager.CodeBadIMSI)
	}
	return eventHandlers(h.manager.HandlersOf(r.Context(), r.principal.OperatorID, imsi))
}

func ignoreHandler(ignored bool) call {
	return func(h *handler, r *request) (int, any, error) {
		imsi, err := ident.ParseIMSI(r.PathValue("imsi"))
		if err != nil {
			return 0, nil, manager.NewError(manager.CodeBadIMSI)
		}
		if err := h.manager.IgnoreHandler(r.Context(), r.principal.OperatorID, handlerID(r), imsi, ignored); err != nil {
			return 0, nil, err
		}
		if ignored {
			return http.StatusOK, struct{}{}, nil
		}
		return http.StatusNoContent, nil, nil
	}
}
