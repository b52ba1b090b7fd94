package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/simreach/simreach/manager"
)

var apiCallRoutes = []route{
	{"GET", "/v1/audit_logs/api", "AuditLog:getApiAuditLogs", permitted, (*handler).apiCalls},
}

// APICall is a line of the API audit log.
type APICall struct {
	APIKind              string `json:"apiKind"`
	OperatorID           string `json:"operatorId"`
	UserName             string `json:"userName"` // empty: the root user
	RemoteIPAddress      string `json:"remoteIpAddress"`
	RequestPath          string `json:"requestPath"`
	RequestedTimeEpochMs int64  `json:"requestedTimeEpochMs"`
	StatusCode           int    `json:"statusCode"`
}

// callIDLength is the length of the ID of a call, a ULID, which is its page key.
const callIDLength = 26

// usualCalls is how many calls a page has unless more are asked for.
const usualCalls = 100

func (h *handler) apiCalls(r *request) (int, any, error) {
	p, err := r.page(usualCalls, maxPage)
	if err != nil {
		return 0, nil, err
	}
	q := manager.APICallQuery{OperatorID: r.principal.OperatorID, API: r.URL.Query().Get("api_kind"), Before: p.After, Limit: p.Limit}
	if q.From, err = r.millis("from_epoch_ms"); err != nil {
		return 0, nil, err
	}
	if q.To, err = r.millis("to_epoch_ms"); err != nil {
		return 0, nil, err
	}
	if !q.To.IsZero() {
		q.To = q.To.Add(time.Millisecond) // APICallQuery has it exclusive
	}
	if err := pageByTime(&q); err != nil {
		return 0, nil, err
	}
	calls, err := h.manager.APICalls(r.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	calls = cut(r, p, calls, func(c manager.APICall) string { return c.ID })
	out := make([]APICall, len(calls))
	for i, c := range calls {
		out[i] = APICall{
			APIKind: c.API, OperatorID: string(c.Principal.OperatorID), UserName: c.Principal.UserName,
			RemoteIPAddress: c.Source, RequestPath: c.Path, RequestedTimeEpochMs: c.At.UnixMilli(), StatusCode: c.Status,
		}
	}
	return http.StatusOK, out, nil
}

// pageByTime understands the page key of the SORACOM API's description too, which is the
// requestedTimeEpochMs of the last call: with it come the calls before that millisecond.
// CodeBadPageKey.
func pageByTime(q *manager.APICallQuery) error {
	n, err := strconv.ParseInt(q.Before, 10, 64)
	switch {
	case q.Before == "" || len(q.Before) == callIDLength:
		return nil
	case err != nil || n < 0 || n > 1<<52:
		return manager.NewError(manager.CodeBadPageKey)
	}
	if at := time.UnixMilli(n).UTC(); q.To.IsZero() || at.Before(q.To) {
		q.To = at
	}
	q.Before = ""
	return nil
}

// millis reads a time in milliseconds since 1970 from the query; absent: the zero time.
// CodeBadQuery.
func (r *request) millis(name string) (time.Time, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<52 {
		return time.Time{}, manager.NewError(manager.CodeBadQuery, name)
	}
	return time.UnixMilli(n).UTC(), nil
}

// record notes a request for the API audit log.
func (h *handler) record(rt route, r *request, status int, at time.Time) {
	if rt.access == open && rt.permission != "Auth:auth" {
		return // nobody in particular
	}
	h.manager.RecordCall(manager.APICall{
		Principal: r.principal, API: rt.permission, Path: r.URL.Path, Status: status, Source: caller(r.Request).String(),
		At: at.UTC().Truncate(time.Millisecond),
	})
}
