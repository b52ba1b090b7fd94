package api

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/simreach/simreach/manager"
)

var queryRoutes = []route{
	{"GET", "/v1/query/sims", "Query:searchSims", permitted, search(true)},
	{"GET", "/v1/query/subscribers", "Query:searchSubscribers", permitted, search(false)},
	{"GET", "/v1/query/subscribers/traffic_volume/ranking", "Query:searchSubscriberTrafficVolumeRanking", permitted, (*handler).ranking},
	{"GET", "/v1/resource_summaries/{resource_summary_type}", "ResourceSummary:getResourceSummary", permitted, (*handler).summary},
}

// TrafficVolume is a subscriber's place in a ranking.
type TrafficVolume struct {
	IMSI   string `json:"imsi"`
	Volume uint64 `json:"trafficVolume"`
}

// ranking counts whole days: those that from and to are in.
func (h *handler) ranking(r *request) (int, any, error) {
	from, to, err := r.span(time.Millisecond)
	if err != nil {
		return 0, nil, err
	}
	limit, q := 10, r.URL.Query()
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return 0, nil, manager.NewError(manager.CodeBadLimit)
		}
	}
	ascending := false
	switch q.Get("order") {
	case "", "desc":
	case "asc":
		ascending = true
	default:
		return 0, nil, manager.NewError(manager.CodeBadQuery, "order")
	}
	ranked, err := h.manager.TrafficRanking(r.Context(), r.principal.OperatorID, from, to, min(limit, 500), ascending)
	if err != nil {
		return 0, nil, err
	}
	out := make([]TrafficVolume, len(ranked))
	for i, x := range ranked {
		out[i] = TrafficVolume{string(x.IMSI), x.Volume}
	}
	return http.StatusOK, out, nil
}

// Summary counts an operator's resources.
type Summary struct {
	Type  string        `json:"resourceSummaryType"`
	Items []SummaryItem `json:"resourceSummaryItems"`
}

// SummaryItem is one row of a Summary.
type SummaryItem struct {
	Values []SummaryValue `json:"resourceSummaryItemValues"`
}

// SummaryValue is one number of a SummaryItem.
type SummaryValue struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
}

func (h *handler) summary(r *request) (int, any, error) {
	const simsPerStatus = "simsPerStatus"
	kind := r.PathValue("resource_summary_type")
	if kind != simsPerStatus {
		return 0, nil, manager.NewError(manager.CodeUnknownSummary, fmt.Sprintf("%.64s", kind))
	}
	counts, err := h.manager.SIMsPerStatus(r.Context(), r.principal.OperatorID)
	if err != nil {
		return 0, nil, err
	}
	var item SummaryItem
	for _, s := range []manager.SIMStatus{manager.SIMReady, manager.SIMActive, manager.SIMInactive, manager.SIMStandby, manager.SIMSuspended, manager.SIMTerminated} {
		item.Values = append(item.Values, SummaryValue{string(s) + "Sims", counts[s]})
	}
	return http.StatusOK, Summary{simsPerStatus, []SummaryItem{item}}, nil
}
