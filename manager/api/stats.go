package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/simreach/simreach/manager"
)

var statsRoutes = []route{
	{"GET", "/v1/stats/air/subscribers/{imsi}", "Stats:getAirStats", permitted, (*handler).airStats},
	{"GET", "/v1/stats/air/sims/{sim_id}", "Stats:getAirStatsOfSim", permitted, (*handler).airStats},
	{"GET", "/v1/stats/air/groups/{group_id}", "Stats:getAirStatsOfGroup", permitted, (*handler).airStatsOfGroup},
	{"GET", "/v1/stats/air/operators/{operator_id}", "Stats:getAirStatsOfOperator", permitted, (*handler).airStatsOfOperator},
}

// AirStats is the traffic of a SIM in one period, by speed class.
type AirStats struct {
	Date     string             `json:"date"` // the period's start: 200601, 20060102 or 200601021504, UTC
	UnixTime int64              `json:"unixtime"`
	Traffic  map[string]Traffic `json:"dataTrafficStatsMap"`
}

// Traffic is an amount of traffic.
type Traffic struct {
	Up          uint64 `json:"uploadByteSizeTotal"`
	Down        uint64 `json:"downloadByteSizeTotal"`
	UpPackets   uint64 `json:"uploadPacketSizeTotal"`
	DownPackets uint64 `json:"downloadPacketSizeTotal"`
}

// AirTotals is the traffic of many SIMs in one period.
type AirTotals struct {
	UnixTime int64  `json:"unixtime"`
	Up       uint64 `json:"uploadByteSizeTotal"`
	Down     uint64 `json:"downloadByteSizeTotal"`
}

// span reads from and to, both required, in a unit.
func (r *request) span(unit time.Duration) (from, to time.Time, err error) {
	read := func(name string) (time.Time, bool) {
		n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64)
		if err != nil || n < 0 || n > 1<<42 {
			return time.Time{}, false
		}
		return time.UnixMilli(n * int64(unit/time.Millisecond)), true
	}
	from, ok1 := read("from")
	to, ok2 := read("to")
	if !ok1 || !ok2 || from.After(to) {
		return from, to, manager.NewError(manager.CodeBadTimes)
	}
	return from, to, nil
}

// dates are the forms of AirStats.Date.
var dates = map[manager.Period]string{manager.PeriodMinutes: "200601021504", manager.PeriodDay: "20060102", manager.PeriodMonth: "200601"}

func (h *handler) airStats(r *request) (int, any, error) {
	ref, err := r.simRef()
	if err != nil {
		return 0, nil, err
	}
	period := manager.Period(r.URL.Query().Get("period"))
	form, ok := dates[period]
	if !ok {
		return 0, nil, manager.NewError(manager.CodeBadPeriod)
	}
	from, to, err := r.span(time.Second)
	if err != nil {
		return 0, nil, err
	}
	bins, err := h.manager.UsageOf(r.Context(), r.principal.OperatorID, ref, period, from, to)
	if err != nil {
		return 0, nil, err
	}
	out := []AirStats{}
	for _, b := range bins {
		at := b.Start.Unix()
		if n := len(out); n == 0 || out[n-1].UnixTime != at {
			out = append(out, AirStats{b.Start.Format(form), at, map[string]Traffic{}})
		}
		out[len(out)-1].Traffic[string(b.SpeedClass)] = Traffic(b.Usage)
	}
	return http.StatusOK, out, nil
}

// totals answers with bins, whatever the speed class.
func (r *request) totals(of func(p manager.Period, from, to time.Time) ([]manager.UsageBin, error)) (int, any, error) {
	period := manager.Period(r.URL.Query().Get("period"))
	if period != manager.PeriodDay && period != manager.PeriodMonth {
		return 0, nil, manager.NewError(manager.CodeBadPeriod)
	}
	from, to, err := r.span(time.Second)
	if err != nil {
		return 0, nil, err
	}
	bins, err := of(period, from, to)
	if err != nil {
		return 0, nil, err
	}
	out := []AirTotals{}
	for _, b := range bins {
		at := b.Start.Unix()
		if n := len(out); n == 0 || out[n-1].UnixTime != at {
			out = append(out, AirTotals{UnixTime: at})
		}
		last := &out[len(out)-1]
		last.Up += b.Up
		last.Down += b.Down
	}
	return http.StatusOK, out, nil
}

func (h *handler) airStatsOfGroup(r *request) (int, any, error) {
	return r.totals(func(p manager.Period, from, to time.Time) ([]manager.UsageBin, error) {
		return h.manager.UsageOfGroup(r.Context(), r.principal.OperatorID, manager.GroupID(r.PathValue("group_id")), p, from, to)
	})
}

func (h *handler) airStatsOfOperator(r *request) (int, any, error) {
	return r.totals(func(p manager.Period, from, to time.Time) ([]manager.UsageBin, error) {
		return h.manager.UsageOfOperator(r.Context(), r.principal.OperatorID, p, from, to)
	})
}
