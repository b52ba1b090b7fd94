package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

const (
	maxBody = 64 << 10
	maxPage = 1000
)

// statuses is the one map of kinds of error to HTTP status codes.
var statuses = map[manager.Kind]int{
	manager.KindInternal:         http.StatusInternalServerError,
	manager.KindInvalid:          http.StatusBadRequest,
	manager.KindUnauthenticated:  http.StatusUnauthorized,
	manager.KindNotFound:         http.StatusNotFound,
	manager.KindMethodNotAllowed: http.StatusMethodNotAllowed,
	manager.KindTooLarge:         http.StatusRequestEntityTooLarge,
	manager.KindOffline:          http.StatusBadRequest,
	manager.KindUnavailable:      http.StatusServiceUnavailable,
}

// handler holds what the calls share; it never changes but for its counters.
type handler struct {
	log      *slog.Logger
	manager  *manager.Service
	suffix   string
	stopping chan struct{} // closed when the server stops: nobody waits any longer; nil: never
	requests atomic.Uint64
	failures atomic.Uint64
}

// call answers one request: a status and a body (nil: none), or an error.
type call func(*handler, *request) (int, any, error)

// request is an HTTP request with its caller.
type request struct {
	*http.Request
	operator manager.OperatorID
	header   http.Header // of the answer
}

// route is one operation. Open ones need no credentials.
type route struct {
	method, path string
	open         bool
	call         call
}

// routes is the whole API.
var routes = []route{
	{"POST", "/v1/auth", true, (*handler).auth},
	{"GET", "/v1/port_mappings", false, (*handler).list},
	{"POST", "/v1/port_mappings", false, (*handler).create},
	{"GET", "/v1/port_mappings/sims/{sim_id}", false, (*handler).listForSIM},
	{"POST", "/v1/port_mappings/sims/{sim_id}", false, (*handler).createForSIM},
	{"GET", "/v1/port_mappings/subscribers/{imsi}", false, (*handler).listForSubscriber},
	{"DELETE", "/v1/port_mappings/{ip_address}/{port}", false, (*handler).delete},
	{"GET", "/v1/simreach/status", true, (*handler).status},
	{"GET", "/v1/simreach/directory/{imsi}", false, (*handler).attachment},
}

func (h *handler) mux() http.Handler {
	mux := http.NewServeMux()
	byPath := map[string]map[string]route{}
	for _, r := range routes {
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
		h.fail(w, r, manager.NewError(manager.CodeUnknownPath))
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
		var allowed []string
		for m := range methods {
			allowed = append(allowed, m)
		}
		slices.Sort(allowed)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		h.fail(w, r, manager.NewError(manager.CodeMethodNotAllowed, r.Method))
		return
	}
	req := &request{Request: r, header: w.Header()}
	if !rt.open {
		var err error
		if req.operator, err = h.manager.VerifyToken(r.Header.Get(HeaderAPIKey), r.Header.Get(HeaderToken)); err != nil {
			h.fail(w, r, err)
			return
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	status, body, err := rt.call(h, req)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.write(w, status, body)
}

func (h *handler) write(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
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

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, r.Context().Err()) {
		return // nobody is there to read an answer
	}
	h.failures.Add(1)
	e := manager.AsError(err)
	switch e.Kind() {
	case manager.KindInternal:
		h.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	case manager.KindUnavailable: // the operator of the platform can do something about it
		h.log.Warn("request not possible now", "method", r.Method, "path", r.URL.Path, "error", err)
	default:
		h.log.Debug("request refused", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	lang := manager.English
	if strings.HasPrefix(strings.ToLower(r.Header.Get(HeaderLang)), "ja") {
		lang = manager.Japanese
	}
	h.write(w, statuses[e.Kind()], Error{Code: string(e.Code), Message: e.Message(lang)})
}

// decode reads a JSON body. Unknown fields are ignored: clients send more than we
// know.
func decode(r *request, into any) error {
	d := json.NewDecoder(r.Body)
	err := d.Decode(into)
	if err == nil {
		var extra json.RawMessage
		if extraErr := d.Decode(&extra); extraErr != io.EOF {
			err = errTwoValues
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return manager.NewError(manager.CodeBodyTooLarge, maxBody)
	}
	if err == io.EOF {
		return manager.NewError(manager.CodeBadBody, "it is empty")
	}
	if err != nil {
		return &manager.Error{Code: manager.CodeBadBody, Args: []any{bodyFault(err)}, Err: err}
	}
	return nil
}

// bodyFault says what is wrong with a body in the client's terms: Go's names of
// types and the addresses of sockets are not among them.
func bodyFault(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		want := "another type"
		switch k := e.Type.Kind(); {
		case k == reflect.String:
			want = "a string"
		case k == reflect.Bool:
			want = "true or false"
		case k == reflect.Slice:
			want = "a list"
		case k == reflect.Struct:
			want = "an object"
		case k >= reflect.Int && k <= reflect.Float64:
			want = "a number"
		}
		if e.Field == "" {
			return "it must be " + want
		}
		return e.Field + " must be " + want
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return e.Error()
	}
	if errors.Is(err, errTwoValues) {
		return err.Error()
	}
	return "it ended early"
}

var errTwoValues = errors.New("more than one JSON value")

func (h *handler) auth(r *request) (int, any, error) {
	var a AuthRequest
	if err := decode(r, &a); err != nil {
		return 0, nil, err
	}
	l := manager.Login{Email: a.Email, Password: a.Password, AuthKeyID: a.AuthKeyID, AuthKey: a.AuthKey}
	if a.TokenTimeoutSeconds != nil {
		// Bounded before it is multiplied.
		timeout := time.Duration(min(max(*a.TokenTimeoutSeconds, 0), 1<<31)) * time.Second
		l.Timeout = &timeout
	}
	c, err := h.manager.Authenticate(r.Context(), l)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, AuthResponse{APIKey: c.APIKey, Token: c.Token, OperatorID: string(c.OperatorID)}, nil
}

func (h *handler) create(r *request) (int, any, error) {
	var c CreateRequest
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	return h.createEntry(r, c)
}

func (h *handler) createForSIM(r *request) (int, any, error) {
	var c CreateRequest
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	if c.Destination == nil {
		return 0, nil, manager.NewError(manager.CodeNoDestination)
	}
	c.Destination.SIMID, c.Destination.IMSI = r.PathValue("sim_id"), ""
	return h.createEntry(r, c)
}

func (h *handler) createEntry(r *request, c CreateRequest) (int, any, error) {
	d := c.Destination
	switch {
	case d == nil:
		return 0, nil, manager.NewError(manager.CodeNoDestination)
	case d.Protocol != "" && !strings.EqualFold(d.Protocol, "tcp"):
		return 0, nil, manager.NewError(manager.CodeBadProtocol, d.Protocol)
	case c.TLSRequired:
		return 0, nil, manager.NewError(manager.CodeTLSUnsupported)
	case d.Service != "" && d.SIMID == "" && d.Service != "air":
		return 0, nil, manager.NewError(manager.CodeBadService, d.Service)
	}
	req := manager.CreateRequest{IMSI: d.IMSI, SIMID: d.SIMID, Service: d.Service, Port: whole(d.Port), Caller: caller(r.Request)}
	if c.Duration != nil {
		seconds := time.Duration(whole(*c.Duration)) * time.Second
		req.Duration = &seconds
	}
	if c.Source != nil {
		req.Ranges = c.Source.IPRanges
	}
	e, err := h.manager.CreateEntry(r.Context(), r.operator, req)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, portMapping(e, h.suffix), nil
}

// whole returns a number of a request, which may have come through a float, or -1
// for one that is not whole or out of every range.
func whole(f float64) int {
	if f != math.Trunc(f) || f < 0 || f > 1<<31 {
		return -1
	}
	return int(f)
}

func caller(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

func (h *handler) list(r *request) (int, any, error) {
	q := manager.EntryQuery{OperatorID: r.operator, Limit: maxPage}
	query := r.URL.Query()
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return 0, nil, manager.NewError(manager.CodeBadLimit)
		}
		q.Limit = min(n, maxPage)
	}
	q.After = manager.EntryID(query.Get("last_evaluated_key"))
	if len(q.After) > 64 {
		return 0, nil, manager.NewError(manager.CodeBadPageKey)
	}
	page := q.Limit
	q.Limit++ // one more tells whether there is another page
	es, err := h.manager.Entries(r.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	if len(es) > page {
		es = es[:page]
		next := string(es[page-1].ID)
		r.header.Set(HeaderNextKey, next)
		link := url.Values{"last_evaluated_key": {next}}
		if s := query.Get("limit"); s != "" {
			link.Set("limit", s)
		}
		r.header.Set("Link", fmt.Sprintf("<%s?%s>; rel=next", r.URL.EscapedPath(), link.Encode()))
	}
	return http.StatusOK, h.mappings(es), nil
}

func (h *handler) listForSIM(r *request) (int, any, error) {
	id := r.PathValue("sim_id")
	return h.listOf(r, manager.EntryQuery{OperatorID: r.operator, SIMID: id}, id)
}

func (h *handler) listForSubscriber(r *request) (int, any, error) {
	imsi, err := ident.ParseIMSI(r.PathValue("imsi"))
	if err != nil {
		return 0, nil, manager.NewError(manager.CodeBadIMSI)
	}
	return h.listOf(r, manager.EntryQuery{OperatorID: r.operator, IMSI: imsi}, string(imsi))
}

func (h *handler) listOf(r *request, q manager.EntryQuery, target string) (int, any, error) {
	es, err := h.manager.Entries(r.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	if len(es) == 0 {
		return 0, nil, manager.NewError(manager.CodeNoEntries, target)
	}
	return http.StatusOK, h.mappings(es), nil
}

// mappings is never nil: an empty list is [], not null.
func (h *handler) mappings(es []manager.Entry) []PortMapping {
	out := make([]PortMapping, len(es))
	for i, e := range es {
		out[i] = portMapping(e, h.suffix)
	}
	return out
}

func (h *handler) delete(r *request) (int, any, error) {
	text := r.PathValue("ip_address") + ":" + r.PathValue("port")
	addr, err1 := netip.ParseAddr(r.PathValue("ip_address"))
	port, err2 := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if errors.Join(err1, err2) != nil || port == 0 {
		return 0, nil, manager.NewError(manager.CodeBadEntryAddress, text)
	}
	if err := h.manager.DeleteEntry(r.Context(), r.operator, netip.AddrPortFrom(addr, uint16(port))); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}

func (h *handler) status(r *request) (int, any, error) {
	s, err := h.manager.Status(r.Context())
	if err != nil {
		return 0, nil, err
	}
	out := Status{Entries: s.Entries, Devices: s.Attached, Relays: make([]RelayStatus, len(s.Relays))}
	for i, rs := range s.Relays {
		out.Relays[i] = RelayStatus{ID: string(rs.ID), Kind: rs.Kind.String(), Live: rs.Live, Opened: rs.Opened, Closed: rs.Closed, Denied: rs.Denied}
	}
	return http.StatusOK, out, nil
}
