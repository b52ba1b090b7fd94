package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/telemetry/observe"
	"github.com/simreach/simreach/manager"
)

// maxPage is how many items a page has at most.
const maxPage = 1000

// statuses is the one map of kinds of error to HTTP status codes. Clients repeat a
// request that was answered with 429 or 5xx for two minutes, so those are for what
// repeating may help with: a fault of ours, and a manager that is starting. That
// things are not in a state for what is asked, as when no port is free, is 409; that a
// device or a relay did not do it is 422.
var statuses = map[manager.Kind]int{
	manager.KindInternal:         http.StatusInternalServerError,
	manager.KindInvalid:          http.StatusBadRequest,
	manager.KindUnauthenticated:  http.StatusUnauthorized,
	manager.KindForbidden:        http.StatusForbidden,
	manager.KindNotFound:         http.StatusNotFound,
	manager.KindMethodNotAllowed: http.StatusMethodNotAllowed,
	manager.KindTooLarge:         http.StatusRequestEntityTooLarge,
	manager.KindOffline:          http.StatusBadRequest,
	manager.KindConflict:         http.StatusConflict,
	manager.KindFailed:           http.StatusUnprocessableEntity,
	manager.KindUnavailable:      http.StatusServiceUnavailable,
}

// handler holds what the calls share; it never changes but for its counters.
type handler struct {
	log      *slog.Logger
	manager  *manager.Service
	suffix   string
	document []byte        // the OpenAPI description, JSON
	missing  []operation   // of the SORACOM API
	stopping chan struct{} // closed when the server stops: nobody waits any longer; nil: never
	metrics  *metrics
	tracer   observe.Tracer
	requests atomic.Uint64
	failures atomic.Uint64
}

func (h *handler) mux() http.Handler {
	mux := http.NewServeMux()
	byPath := map[string]map[string]route{}
	for _, r := range routes() {
		if byPath[r.path] == nil {
			byPath[r.path] = map[string]route{}
		}
		byPath[r.path][r.method] = r
	}
	for p, methods := range byPath {
		mux.HandleFunc(p, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, methods) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		h.refuse(w, r, nil)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would redirect "//v1/auth" to "/v1/auth" with an HTML page, and
		// clients repeat a redirected POST as GET.
		if p := r.URL.EscapedPath(); p != path.Clean(p) {
			h.requests.Add(1)
			h.fail(w, r, manager.NewError(manager.CodeUnknownPath))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, methods map[string]route) {
	h.requests.Add(1)
	rt, ok := methods[r.Method]
	if !ok {
		h.refuse(w, r, methods)
		return
	}
	at := time.Now()
	r, span := h.begun(rt, r)
	req := &request{Request: r, header: w.Header()}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	status, body, err := h.answer(rt, req)
	if err != nil {
		status = statuses[manager.AsError(err).Kind()]
		if gone(r, err) {
			status = statusGone
		}
	}
	h.record(rt, req, status, at)
	h.answered(rt, req, span, status, at)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.write(w, status, body)
}

// refuse answers a request that no route is for. methods are the routes of its path.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, methods map[string]route) {
	if permission, ok := h.notOffered(r.Method, r.URL.EscapedPath()); ok {
		h.fail(w, r, manager.NewError(manager.CodeNotOffered, permission))
		return
	}
	if len(methods) == 0 {
		h.fail(w, r, manager.NewError(manager.CodeUnknownPath))
		return
	}
	w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
	h.fail(w, r, manager.NewError(manager.CodeMethodNotAllowed, r.Method))
}

// answer checks who calls, and calls.
func (h *handler) answer(rt route, r *request) (int, any, error) {
	if rt.access != open {
		var err error
		if r.principal, err = h.manager.VerifyToken(r.Context(), r.Header.Get(HeaderAPIKey), r.Header.Get(HeaderToken)); err != nil {
			return 0, nil, err
		}
		if err := h.authorize(rt, r); err != nil {
			return 0, nil, err
		}
	}
	return rt.call(h, r)
}

func (h *handler) authorize(rt route, r *request) error {
	if strings.Contains(rt.path, "{operator_id}") && r.PathValue("operator_id") != string(r.principal.OperatorID) {
		return manager.NewError(manager.CodeUnknownOperator, r.PathValue("operator_id"))
	}
	switch rt.access {
	case anyUser:
		return nil
	case rootOnly:
		if !r.principal.Root() {
			return manager.NewError(manager.CodeRootOnly, rt.permission)
		}
		return nil
	}
	return h.manager.Authorize(r.Context(), manager.Access{
		Principal: r.principal, API: rt.permission, PathVariable: r.PathValue, Source: caller(r.Request), At: time.Now(),
	})
}

// caller returns the address that a request came from.
func caller(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

func (h *handler) write(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	if v := reflect.ValueOf(body); v.Kind() == reflect.Slice && v.IsNil() {
		body = []any{}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil { // our own types: a fault of ours
		h.log.Error("answer not encoded", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client may have gone
}

// statusGone stands in logs and metrics for the answer that nobody waited for, as nginx
// writes it.
const statusGone = 499

// gone reports whether an error is that the client has left.
func gone(r *http.Request, err error) bool {
	return r.Context().Err() != nil && errors.Is(err, r.Context().Err())
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if gone(r, err) {
		return // nobody is there to read an answer
	}
	h.failures.Add(1)
	e := manager.AsError(err)
	switch e.Kind() {
	case manager.KindInternal:
		h.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	case manager.KindUnavailable, manager.KindConflict: // the operator of the platform may do something about it
		h.log.Warn("request not possible now", "method", r.Method, "path", r.URL.Path, "error", err)
	default:
		h.log.Debug("request refused", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	h.write(w, statuses[e.Kind()], Error{Code: string(e.Code), Message: e.Message(language(r))})
}

// language is the one that a request wants messages in.
func language(r *http.Request) manager.Language {
	if strings.HasPrefix(strings.ToLower(r.Header.Get(HeaderLang)), "ja") {
		return manager.Japanese
	}
	return manager.English
}

func newHandler(log *slog.Logger, m *manager.Service, suffix string, stopping chan struct{}) (*handler, error) {
	document, err := buildDocument()
	if err != nil {
		return nil, fmt.Errorf("manager API: OpenAPI description: %w", err)
	}
	return &handler{log: log, manager: m, suffix: suffix, document: document, missing: missing(routes()), stopping: stopping, metrics: newMetrics()}, nil
}
