package sbi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// Services are the implementations that a Handler serves; those that are nil are
// not mounted.
type Services struct {
	Authentication Authentication
	SubscriberData SubscriberData
	UEContext      UEContext
	Sessions       Sessions
	Communication  Communication
	SessionEvents  SessionEvents
	SessionControl SessionControl
	Provisioning   Provisioning
	Charging       Charging

	EquipmentIdentity EquipmentIdentity
	EquipmentEvents   EquipmentEvents

	Log *slog.Logger // nil discards
	// Events tunes the subscriptions to SessionEvents.
	Events EventLimits
}

// Handler serves Services with the 3GPP resource paths. Close ends its event
// subscriptions; without SessionEvents there is nothing to close.
type Handler struct {
	mux    *http.ServeMux
	log    *slog.Logger
	events *publisher // nil without SessionEvents
}

// NewHandler mounts the services that are set.
func NewHandler(s Services) *Handler {
	h := &Handler{mux: http.NewServeMux(), log: s.Log}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	var routes []route
	if s.Authentication != nil {
		routes = append(routes, authenticationRoutes(s.Authentication)...)
	}
	if s.SubscriberData != nil {
		routes = append(routes, subscriberDataRoutes(s.SubscriberData)...)
	}
	if s.UEContext != nil {
		routes = append(routes, ueContextRoutes(s.UEContext)...)
	}
	if s.Sessions != nil {
		routes = append(routes, sessionsRoutes(s.Sessions)...)
	}
	if s.Communication != nil {
		routes = append(routes, communicationRoutes(s.Communication)...)
	}
	if s.SessionEvents != nil {
		h.events = newPublisher(s.SessionEvents, s.Events, h.log)
		routes = append(routes, h.events.routes()...)
	}
	if s.SessionControl != nil {
		routes = append(routes, sessionControlRoutes(s.SessionControl)...)
	}
	if s.Provisioning != nil {
		routes = append(routes, provisioningRoutes(s.Provisioning)...)
	}
	if s.Charging != nil {
		routes = append(routes, chargingRoutes(s.Charging)...)
	}
	if s.EquipmentIdentity != nil {
		routes = append(routes, equipmentIdentityRoutes(s.EquipmentIdentity)...)
	}
	if s.EquipmentEvents != nil {
		routes = append(routes, equipmentEventsRoutes(s.EquipmentEvents)...)
	}
	h.mount(routes)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Close ends the event subscriptions and waits for their goroutines.
func (h *Handler) Close() {
	if h.events != nil {
		h.events.close()
	}
}

// route is one operation. Its handler returns what to answer, or an error.
type route struct {
	method, path string
	serve        func(ctx context.Context, in *incoming) (*answer, error)
}

// incoming is a request whose content was read.
type incoming struct {
	*http.Request
	message
}

// answer is what a route answers. The zero value is 204 No Content.
type answer struct {
	status      int    // 0 means 200 with a doc, 204 without
	location    string // path of a resource that was created
	contentType string // of doc; empty means JSON
	doc         any
	parts       []binaryPart
}

// mount registers the routes, answers 405 for their paths with other methods and
// 404 for the rest, all as problem details.
func (h *Handler) mount(routes []route) {
	allowed := make(map[string][]string)
	for _, r := range routes {
		allowed[r.path] = append(allowed[r.path], r.method)
		h.mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { h.run(w, req, r) })
	}
	for path, methods := range allowed {
		slices.Sort(methods)
		allow := strings.Join(methods, ", ")
		h.mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Allow", allow)
			h.fail(w, req, &Problem{Status: http.StatusMethodNotAllowed, Cause: CauseMethodNotAllowed, Detail: "want " + allow})
		})
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		h.fail(w, req, &Problem{Status: http.StatusNotFound, Cause: CauseResourceNotFound, Detail: "no such resource"})
	})
}

// run reads the request, calls the route and writes the answer.
func (h *Handler) run(w http.ResponseWriter, req *http.Request, r route) {
	m, err := decode(req.Header.Get("Content-Type"), http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		h.fail(w, req, badContent(err))
		return
	}
	in := &incoming{Request: req, message: *m}
	a, err := r.serve(req.Context(), in)
	if err != nil {
		h.fail(w, req, err)
		return
	}
	if a != nil && a.location != "" {
		a.location = in.absolute(a.location)
	}
	if err := write(w, a); err != nil {
		h.log.Error("cannot encode an answer", "path", req.URL.Path, "error", err)
	}
}

// absolute returns the URI of one of our paths as the caller reaches it.
func (in *incoming) absolute(path string) string { return "http://" + in.Host + path }

// badContent says what was wrong with a request's content (TS 29.500 clause
// 5.2.7.2).
func badContent(err error) *Problem {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &Problem{Status: http.StatusRequestEntityTooLarge, Cause: CauseInvalidFormat, Detail: fmt.Sprintf("more than %d octets", large.Limit)}
	case errors.Is(err, errMediaType):
		return &Problem{Status: http.StatusUnsupportedMediaType, Cause: CauseUnsupportedMediaType, Detail: err.Error()}
	}
	return &Problem{Status: http.StatusBadRequest, Cause: CauseInvalidFormat, Detail: err.Error()}
}

// invalidIE is a mandatory attribute that is missing or wrong.
func invalidIE(err error) *Problem {
	return &Problem{Status: http.StatusBadRequest, Cause: CauseMandatoryIEIncorrect, Detail: err.Error()}
}

func invalidIEf(format string, args ...any) *Problem { return invalidIE(fmt.Errorf(format, args...)) }

// into reads the JSON of the request.
func (in *incoming) into(doc any) error {
	if in.json == nil {
		return &Problem{Status: http.StatusBadRequest, Cause: CauseInvalidFormat, Detail: "the request has no JSON"}
	}
	if err := json.Unmarshal(in.json, doc); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) {
			return invalidIEf("%s: want %s", typed.Field, typed.Type)
		}
		return &Problem{Status: http.StatusBadRequest, Cause: CauseInvalidFormat, Detail: err.Error()}
	}
	return nil
}

// write sends an answer. A nil answer is the zero one.
func write(w http.ResponseWriter, a *answer) error {
	if a == nil {
		a = &answer{}
	}
	if a.location != "" {
		w.Header().Set("Location", a.location)
	}
	if a.doc == nil {
		w.WriteHeader(max(a.status, http.StatusNoContent))
		return nil
	}
	doc, err := json.Marshal(a.doc)
	if err == nil {
		contentType := a.contentType
		if contentType == "" {
			contentType = typeJSON
		}
		var body []byte
		if contentType, body, err = encode(contentType, doc, a.parts...); err == nil {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(max(a.status, http.StatusOK))
			_, _ = w.Write(body) // the peer has gone if this fails: nobody is left to tell
			return nil
		}
	}
	w.WriteHeader(http.StatusInternalServerError)
	return err
}

// fail answers an error. What is no problem of the peer's making is logged.
func (h *Handler) fail(w http.ResponseWriter, req *http.Request, err error) {
	var refusal *SessionRefusal
	if errors.As(err, &refusal) {
		a := &answer{
			status: errorStatus(refusal.Problem.Status),
			doc:    errorJSON{Error: details(&refusal.Problem), N1: ref(refusal.N1, contentN1)},
			parts:  []binaryPart{{contentN1, typeN1, refusal.N1}},
		}
		if err := write(w, a); err != nil {
			h.log.Error("cannot encode an answer", "path", req.URL.Path, "error", err)
		}
		return
	}
	p := problemOf(err)
	// A peer that has gone, or an end of our own, is no failure.
	if p.Status >= 500 && req.Context().Err() == nil && !errors.Is(err, ErrStopped) {
		h.log.Warn("request failed", "method", req.Method, "path", req.URL.Path, "error", err)
	}
	a := &answer{status: errorStatus(p.Status), contentType: typeProblem, doc: details(p)}
	if err := write(w, a); err != nil {
		h.log.Error("cannot encode an answer", "path", req.URL.Path, "error", err)
	}
}

// problemOf finds or makes the Problem of an error.
func problemOf(err error) *Problem {
	var p *Problem
	var unreachable *UnreachableError
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Problem{Status: http.StatusGatewayTimeout, Cause: CauseTimedOut, Detail: err.Error()}
	case errors.As(err, &unreachable):
		return &Problem{Status: http.StatusGatewayTimeout, Cause: CauseUnreachable, Detail: err.Error()}
	}
	return &Problem{Status: http.StatusInternalServerError, Cause: CauseSystemFailure, Detail: err.Error()}
}

// errorStatus keeps a forgotten status from becoming a success.
func errorStatus(status int) int {
	if status < 400 || status > 599 {
		return http.StatusInternalServerError
	}
	return status
}

func details(p *Problem) *problemJSON {
	return &problemJSON{Status: errorStatus(p.Status), Detail: p.Detail, Cause: p.Cause}
}

// ref names a binary part if there is one.
func ref(data []byte, id string) *refToBinary {
	if data == nil {
		return nil
	}
	return &refToBinary{ContentID: id}
}
