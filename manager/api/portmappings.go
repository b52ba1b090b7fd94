package api

import (
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

var portMappingRoutes = []route{
	{"GET", "/v1/port_mappings", "PortMapping:listPortMappings", permitted, (*handler).list},
	{"POST", "/v1/port_mappings", "PortMapping:createPortMapping", permitted, (*handler).create},
	{"GET", "/v1/port_mappings/sims/{sim_id}", "PortMapping:listPortMappingsForSim", permitted, (*handler).listForSIM},
	{"POST", "/v1/port_mappings/sims/{sim_id}", "PortMapping:createPortMappingForSim", permitted, (*handler).createForSIM},
	{"GET", "/v1/port_mappings/subscribers/{imsi}", "PortMapping:listPortMappingsForSubscriber", permitted, (*handler).listForSubscriber},
	{"DELETE", "/v1/port_mappings/{ip_address}/{port}", "PortMapping:deletePortMapping", permitted, (*handler).delete},
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
	req, err := c.request(r)
	if err != nil {
		return 0, nil, err
	}
	e, err := h.manager.CreateEntry(r.Context(), r.principal.OperatorID, req)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, portMapping(e, h.suffix), nil
}

// request checks what the domain has no word for.
func (c CreateRequest) request(r *request) (manager.CreateRequest, error) {
	d := c.Destination
	switch {
	case d == nil:
		return manager.CreateRequest{}, manager.NewError(manager.CodeNoDestination)
	case d.Protocol != "" && !strings.EqualFold(d.Protocol, "tcp"):
		return manager.CreateRequest{}, manager.NewError(manager.CodeBadProtocol, d.Protocol)
	case d.Service != "" && d.SIMID == "" && d.Service != "air":
		return manager.CreateRequest{}, manager.NewError(manager.CodeBadService, d.Service)
	}
	return manager.CreateRequest{
		IMSI: d.IMSI, SIMID: d.SIMID, Service: d.Service, Port: whole(d.Port), Caller: caller(r.Request),
		Duration: duration(c.Duration), Ranges: c.Source.ranges(), TLS: c.TLSRequired,
	}, nil
}

// duration returns a duration of a request in seconds; nil if there is none.
func duration(n *float64) *time.Duration {
	if n == nil {
		return nil
	}
	d := time.Duration(whole(*n)) * time.Second
	return &d
}

func (s *Source) ranges() []string {
	if s == nil {
		return nil
	}
	return s.IPRanges
}

// whole returns a number of a request, which may have come through a float, or -1
// for one that is not whole or out of every range.
func whole(f float64) int {
	if f != math.Trunc(f) || f < 0 || f > 1<<31 {
		return -1
	}
	return int(f)
}

func (h *handler) list(r *request) (int, any, error) {
	es, err := h.entries(r)
	return http.StatusOK, h.mappings(es), err
}

// entries returns the page of entries that a request wants.
func (h *handler) entries(r *request) ([]manager.Entry, error) {
	p, err := r.page(maxPage, maxPage)
	if err != nil {
		return nil, err
	}
	es, err := h.manager.Entries(r.Context(), manager.EntryQuery{OperatorID: r.principal.OperatorID, After: manager.EntryID(p.After), Limit: p.Limit})
	if err != nil {
		return nil, err
	}
	return cut(r, p, es, func(e manager.Entry) string { return string(e.ID) }), nil
}

func (h *handler) listForSIM(r *request) (int, any, error) {
	id := r.PathValue("sim_id")
	return h.listOf(r, manager.EntryQuery{OperatorID: r.principal.OperatorID, SIMID: id}, id)
}

func (h *handler) listForSubscriber(r *request) (int, any, error) {
	imsi, err := ident.ParseIMSI(r.PathValue("imsi"))
	if err != nil {
		return 0, nil, manager.NewError(manager.CodeBadIMSI)
	}
	return h.listOf(r, manager.EntryQuery{OperatorID: r.principal.OperatorID, IMSI: imsi}, string(imsi))
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
	if err := h.manager.DeleteEntry(r.Context(), r.principal.OperatorID, netip.AddrPortFrom(addr, uint16(port))); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}
