package api

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// Subscribers and SIMs are the same things under two names: the calls below serve both,
// and simRef and view know from the path which is meant.

// simRef is the SIM that the path names.
func (r *request) simRef() (manager.SIMRef, error) {
	if id := r.PathValue("sim_id"); id != "" {
		if len(id) > manager.MaxSIMID {
			return manager.SIMRef{}, manager.NewError(manager.CodeUnknownSIM, fmt.Sprintf("%.*s", manager.MaxSIMID, id))
		}
		return manager.SIMRef{SIMID: id}, nil
	}
	imsi, err := ident.ParseIMSI(r.PathValue("imsi"))
	if err != nil {
		return manager.SIMRef{}, manager.NewError(manager.CodeBadIMSI)
	}
	return manager.SIMRef{IMSI: imsi}, nil
}

// view shows a SIM as the path calls it.
func (r *request) view(s manager.SIMResult) any {
	if r.PathValue("sim_id") != "" {
		return simObject(s)
	}
	return subscriber(s)
}

// change is an operation on a SIM that answers with the SIM.
type change func(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error)

func onSIM(status int, f change) call {
	return func(h *handler, r *request) (int, any, error) {
		ref, err := r.simRef()
		if err != nil {
			return 0, nil, err
		}
		s, err := f(h, r, ref)
		if err != nil {
			return 0, nil, err
		}
		return status, r.view(s), nil
	}
}

func getSIM(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	return h.manager.SIM(r.Context(), r.principal.OperatorID, ref)
}

func setStatus(to manager.SIMStatus) change {
	return func(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
		return h.manager.SetSIMStatus(r.Context(), r.principal.OperatorID, ref, to)
	}
}

func setTermination(enabled bool) change {
	return func(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
		return h.manager.SetTerminationEnabled(r.Context(), r.principal.OperatorID, ref, enabled)
	}
}

func deleteSession(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	return h.manager.DeleteSession(r.Context(), r.principal.OperatorID, ref)
}

func setExpiry(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	var in struct {
		ExpiryTime   float64 `json:"expiryTime"`
		ExpiryAction *string `json:"expiryAction"`
	}
	if err := decode(r, &in); err != nil {
		return manager.SIMResult{}, err
	}
	if in.ExpiryTime < 1 || in.ExpiryTime > 1<<52 || in.ExpiryTime != math.Trunc(in.ExpiryTime) {
		return manager.SIMResult{}, manager.NewError(manager.CodeBadExpiry)
	}
	var action manager.ExpiryAction
	if in.ExpiryAction != nil {
		action = manager.ExpiryAction(*in.ExpiryAction)
	}
	return h.manager.SetExpiry(r.Context(), r.principal.OperatorID, ref, time.UnixMilli(int64(in.ExpiryTime)), action)
}

func unsetExpiry(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	return h.manager.UnsetExpiry(r.Context(), r.principal.OperatorID, ref)
}

func setGroup(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	var in struct {
		GroupID string `json:"groupId"`
	}
	if err := decode(r, &in); err != nil {
		return manager.SIMResult{}, err
	}
	if in.GroupID == "" {
		return manager.SIMResult{}, manager.NewError(manager.CodeBadBody, manager.DetailRequired.Of("groupId"))
	}
	return h.manager.SetSIMGroup(r.Context(), r.principal.OperatorID, ref, manager.GroupID(in.GroupID))
}

func unsetGroup(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	return h.manager.SetSIMGroup(r.Context(), r.principal.OperatorID, ref, "")
}

func setIMEILock(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	var in IMEILock
	if err := decodeOptional(r, &in); err != nil {
		return manager.SIMResult{}, err
	}
	return h.manager.SetIMEILock(r.Context(), r.principal.OperatorID, ref, in.IMEI)
}

func unsetIMEILock(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	return h.manager.UnsetIMEILock(r.Context(), r.principal.OperatorID, ref)
}

func updateSpeedClass(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	var in struct {
		SpeedClass string `json:"speedClass"`
	}
	if err := decode(r, &in); err != nil {
		return manager.SIMResult{}, err
	}
	return h.manager.SetSpeedClass(r.Context(), r.principal.OperatorID, ref, manager.SpeedClass(in.SpeedClass))
}

func putBundles(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	var in []string
	if err := decode(r, &in); err != nil {
		return manager.SIMResult{}, err
	}
	return h.manager.PutBundles(r.Context(), r.principal.OperatorID, ref, in)
}

func register(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	var in struct {
		RegistrationSecret string            `json:"registrationSecret"`
		GroupID            string            `json:"groupId"`
		Tags               map[string]string `json:"tags"`
	}
	if err := decode(r, &in); err != nil {
		return manager.SIMResult{}, err
	}
	return h.manager.RegisterSIM(r.Context(), r.principal.OperatorID, ref, in.RegistrationSecret, manager.GroupID(in.GroupID), in.Tags)
}

// decodeTags reads the list of tags that PUT .../tags has.
func decodeTags(r *request) (map[string]string, error) {
	var in []struct {
		TagName  *string `json:"tagName"`
		TagValue *string `json:"tagValue"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, t := range in {
		if t.TagName == nil {
			return nil, manager.NewError(manager.CodeBadTag, manager.DetailRequired.Of("tagName"))
		}
		if t.TagValue == nil {
			return nil, manager.NewError(manager.CodeBadTag, manager.DetailRequired.Of("tagValue"))
		}
		tags[*t.TagName] = *t.TagValue
	}
	return tags, nil
}

func putTags(h *handler, r *request, ref manager.SIMRef) (manager.SIMResult, error) {
	tags, err := decodeTags(r)
	if err != nil {
		return manager.SIMResult{}, err
	}
	return h.manager.PutSIMTags(r.Context(), r.principal.OperatorID, ref, tags)
}

func (h *handler) deleteSIMTag(r *request) (int, any, error) {
	ref, err := r.simRef()
	if err != nil {
		return 0, nil, err
	}
	if err := h.manager.DeleteSIMTag(r.Context(), r.principal.OperatorID, ref, r.PathValue("tag_name")); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}

// Ping is the answer of downlink/ping. rtt is the mean, in the form of "1.234 ms".
type Ping struct {
	Success bool   `json:"success"`
	RTT     string `json:"rtt"`
	Stat    string `json:"stat"`
}

func (h *handler) ping(r *request) (int, any, error) {
	ref, err := r.simRef()
	if err != nil {
		return 0, nil, err
	}
	in := struct {
		Count   float64 `json:"numberOfPingRequests"`
		Seconds float64 `json:"timeoutSeconds"`
	}{1, 1}
	if err := decodeOptional(r, &in); err != nil {
		return 0, nil, err
	}
	p, err := h.manager.Ping(r.Context(), r.principal.OperatorID, ref, whole(in.Count), time.Duration(whole(in.Seconds))*time.Second)
	if err != nil {
		return 0, nil, err
	}
	out := Ping{Success: p.Received > 0}
	lost := 0
	if p.Sent > 0 {
		lost = 100 * (p.Sent - p.Received) / p.Sent
	}
	out.Stat = fmt.Sprintf("%d packets transmitted, %d packets received, %d%% packet loss", p.Sent, p.Received, lost)
	if p.Received > 0 {
		out.RTT = fmt.Sprintf("%.3f ms", float64(p.RTT)/float64(time.Millisecond))
	}
	return http.StatusOK, out, nil
}

// recordQuery reads from and to in milliseconds, and the page.
func (r *request) recordQuery(usual, most int) (page, manager.RecordQuery, error) {
	p, err := r.page(usual, most)
	if err != nil {
		return p, manager.RecordQuery{}, err
	}
	q := manager.RecordQuery{After: p.After, Limit: p.Limit, Descending: true}
	if q.From, err = r.millis("from"); err == nil {
		q.To, err = r.millis("to")
	}
	return p, q, err
}

func (h *handler) sessionEvents(r *request) (int, any, error) {
	ref, err := r.simRef()
	if err != nil {
		return 0, nil, err
	}
	p, q, err := r.recordQuery(100, 100)
	if err != nil {
		return 0, nil, err
	}
	events, err := h.manager.SessionRecords(r.Context(), r.principal.OperatorID, ref, q)
	if err != nil {
		return 0, nil, err
	}
	events = cut(r, p, events, func(e manager.SessionRecord) string { return e.ID })
	out := make([]SessionEvent, len(events))
	for i, e := range events {
		out[i] = sessionEvent(e)
	}
	return http.StatusOK, out, nil
}

// StatusChange is one entry of a SIM's status history.
type StatusChange struct {
	Status string `json:"status"`
	Time   int64  `json:"time"`
}

func (h *handler) statusHistory(r *request) (int, any, error) {
	ref, err := r.simRef()
	if err != nil {
		return 0, nil, err
	}
	p, q, err := r.recordQuery(30, 100)
	if err != nil {
		return 0, nil, err
	}
	switch r.URL.Query().Get("sort") {
	case "", "desc":
	case "asc":
		q.Descending = false
	default:
		return 0, nil, manager.NewError(manager.CodeBadQuery, "sort")
	}
	history, err := h.manager.StatusHistory(r.Context(), r.principal.OperatorID, ref, q)
	if err != nil {
		return 0, nil, err
	}
	history = cut(r, p, history, func(s manager.StatusRecord) string { return s.ID })
	out := make([]StatusChange, len(history))
	for i, s := range history {
		out[i] = StatusChange{string(s.Status), s.At.UnixMilli()}
	}
	return http.StatusOK, out, nil
}

// alternatives splits "a|b"; empty parts are dropped.
func alternatives[T ~string](text string) []T {
	var out []T
	for part := range strings.SplitSeq(text, "|") {
		if part != "" {
			out = append(out, T(part))
		}
	}
	return out
}

// tagFilter reads tag_name, tag_value, which it needs then, and tag_value_match_mode.
func (r *request) tagFilter() (name, value string, prefix bool, err error) {
	q := r.URL.Query()
	switch mode := q.Get("tag_value_match_mode"); mode {
	case "", "exact":
	case "prefix":
		prefix = true
	default:
		return "", "", false, manager.NewError(manager.CodeBadQuery, "tag_value_match_mode")
	}
	if q.Get("tag_name") != "" && !q.Has("tag_value") { // which value would be a guess
		return "", "", false, manager.NewError(manager.CodeBadQuery, "tag_value")
	}
	return q.Get("tag_name"), q.Get("tag_value"), prefix, nil
}

// maxFilterValues bounds the values of all filters of listSubscribers.
const maxFilterValues = 200

func (h *handler) listSubscribers(r *request) (int, any, error) {
	p, err := r.page(100, 100)
	if err != nil {
		return 0, nil, err
	}
	q := r.URL.Query()
	want := manager.SIMQuery{
		OperatorID: r.principal.OperatorID, After: p.After, Limit: p.Limit, Statuses: alternatives[manager.SIMStatus](q.Get("status_filter")),
		SpeedClasses: alternatives[manager.SpeedClass](q.Get("speed_class_filter")), Serials: alternatives[string](q.Get("serial_number_filter")),
	}
	if want.TagName, want.TagValue, want.TagPrefix, err = r.tagFilter(); err != nil {
		return 0, nil, err
	}
	if len(want.Statuses)+len(want.SpeedClasses)+len(want.Serials) > maxFilterValues {
		return 0, nil, manager.NewError(manager.CodeBadSearch, manager.DetailManyValues.Of(maxFilterValues))
	}
	return h.listSIMs(r, p, want)
}

func (h *handler) listSims(r *request) (int, any, error) {
	p, err := r.page(100, 100)
	if err != nil {
		return 0, nil, err
	}
	return h.listSIMs(r, p, manager.SIMQuery{OperatorID: r.principal.OperatorID, BySIMID: true, After: p.After, Limit: p.Limit})
}

// listSIMs answers with a page, as subscribers or as SIMs by the order asked for.
func (h *handler) listSIMs(r *request, p page, q manager.SIMQuery) (int, any, error) {
	sims, err := h.manager.SIMs(r.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	if q.BySIMID {
		sims = cut(r, p, sims, func(s manager.SIMResult) string { return s.SIMID })
		out := make([]Sim, len(sims))
		for i, s := range sims {
			out[i] = simObject(s)
		}
		return http.StatusOK, out, nil
	}
	sims = cut(r, p, sims, func(s manager.SIMResult) string { return string(s.IMSI) })
	out := make([]Subscriber, len(sims))
	for i, s := range sims {
		out[i] = subscriber(s)
	}
	return http.StatusOK, out, nil
}

// searchFields are those of the query calls.
var searchFields = []manager.SearchField{
	manager.SearchName, manager.SearchGroup, manager.SearchGroupID, manager.SearchSIMID, manager.SearchIMSI, manager.SearchMSISDN, manager.SearchICCID,
	manager.SearchSerial, manager.SearchTag, manager.SearchBundles, manager.SearchStatus, manager.SearchSubscription, manager.SearchModuleType,
}

const maxSearchValues = 100

func search(bySIMID bool) call {
	return func(h *handler, r *request) (int, any, error) {
		p, err := r.page(10, 100)
		if err != nil {
			return 0, nil, err
		}
		want := manager.SIMQuery{OperatorID: r.principal.OperatorID, BySIMID: bySIMID, After: p.After, Limit: p.Limit}
		q := r.URL.Query()
		n := 0
		for _, field := range searchFields {
			term := manager.SearchTerm{Field: field}
			for _, text := range q[string(field)] {
				for v := range strings.SplitSeq(text, ",") {
					if v = strings.TrimSpace(v); len([]rune(v)) < 2 {
						return 0, nil, manager.NewError(manager.CodeBadSearch, manager.DetailShortCharacters.Of(string(field), 2))
					}
					term.Values = append(term.Values, v)
				}
			}
			if n += len(term.Values); n > maxSearchValues {
				return 0, nil, manager.NewError(manager.CodeBadSearch, manager.DetailManyValues.Of(maxSearchValues))
			}
			if len(term.Values) > 0 {
				want.Terms = append(want.Terms, term)
			}
		}
		switch strings.ToLower(q.Get("search_type")) {
		case "", "and":
		case "or":
			want.Any = true
		default:
			return 0, nil, manager.NewError(manager.CodeBadSearch, manager.DetailOneOf.Of("search_type", "and, or"))
		}
		online := true
		switch strings.ToUpper(q.Get("session_status")) {
		case "", "NA":
		case "OFFLINE":
			online = false
			want.Online = &online
		case "ONLINE":
			want.Online = &online
		default:
			return 0, nil, manager.NewError(manager.CodeBadSearch, manager.DetailOneOf.Of("session_status", "NA, ONLINE, OFFLINE"))
		}
		want.Statuses = alternatives[manager.SIMStatus](q.Get("status_filter"))
		if len(want.Statuses) > maxSearchValues {
			return 0, nil, manager.NewError(manager.CodeBadSearch, manager.DetailManyValues.Of(maxSearchValues))
		}
		return h.listSIMs(r, p, want)
	}
}
