package api

import "net/http"

var statusRoutes = []route{
	{"GET", "/v1/simreach/status", "Simreach:getStatus", open, (*handler).status},
}

func (h *handler) status(r *request) (int, any, error) {
	s, err := h.manager.Status(r.Context())
	if err != nil {
		return 0, nil, err
	}
	out := Status{Entries: s.Entries, Devices: s.Attached, Relays: make([]RelayStatus, len(s.Relays))}
	for i, rs := range s.Relays {
		if rs.Denied == nil {
			rs.Denied = map[string]uint64{} // {} in the answer, not null
		}
		out.Relays[i] = RelayStatus{ID: string(rs.ID), Kind: rs.Kind.String(), Live: rs.Live, Opened: rs.Opened, Closed: rs.Closed, Denied: rs.Denied}
	}
	return http.StatusOK, out, nil
}
