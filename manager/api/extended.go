package api

import (
	"net/http"

	"github.com/simreach/simreach/manager"
)

// What the relay method has and the SORACOM API has no words for: credentials that
// clients' certificates are checked with, several devices in one request (R9a), and
// entries that stand for several devices (R9b).
var extendedRoutes = []route{
	{"GET", "/v1/simreach/port_mappings", "PortMapping:listExtendedPortMappings", permitted, (*handler).listExtended},
	{"POST", "/v1/simreach/port_mappings", "PortMapping:createExtendedPortMappings", permitted, (*handler).createExtended},
}

// ExtendedRequest asks for one entry: to a destination, or to targets.
type ExtendedRequest struct {
	CreateRequest
	CredentialID  string          `json:"credentialId,omitempty"`  // only with tlsRequired
	ProxyProtocol bool            `json:"proxyProtocol,omitempty"` // tell the device who connects
	Relay         string          `json:"relay,omitempty"`         // an outer relay to prefer
	Region        string          `json:"region,omitempty"`        // a region to prefer
	Targets       []TargetRequest `json:"targets,omitempty"`       // an entry for several devices; only with tlsRequired
}

// TargetRequest asks for one device of an entry for several. Its conditions come on top
// of the entry's.
type TargetRequest struct {
	IMSI     string   `json:"imsi,omitempty"`
	SIMID    string   `json:"simId,omitempty"`
	Port     float64  `json:"port"`
	Duration *float64 `json:"duration,omitempty"` // seconds, whole; absent: as long as the entry
	Source   *Source  `json:"source,omitempty"`
}

// ExtendedMapping is an entry with all that the manager knows of it.
type ExtendedMapping struct {
	PortMapping
	EntryID       string   `json:"entryId"`
	Relay         string   `json:"relay"`
	CredentialID  string   `json:"credentialId"` // empty: none
	ProxyProtocol bool     `json:"proxyProtocol"`
	Targets       []Target `json:"targets"`
}

// Target is one device of an entry for several.
type Target struct {
	IMSI        string `json:"imsi"`
	SIMID       string `json:"simId,omitempty"`
	Port        uint16 `json:"port"`
	ExpiredTime int64  `json:"expiredTime"` // milliseconds since 1970
	Source      Source `json:"source"`
}

func (h *handler) createExtended(r *request) (int, any, error) {
	var in struct {
		Requests []ExtendedRequest `json:"requests"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	reqs := make([]manager.CreateRequest, len(in.Requests))
	for i, one := range in.Requests {
		var err error
		if reqs[i], err = one.request(r); err != nil {
			return 0, nil, err
		}
	}
	es, err := h.manager.CreateEntries(r.Context(), r.principal.OperatorID, reqs)
	return http.StatusCreated, h.extended(es), err
}

func (e ExtendedRequest) request(r *request) (manager.CreateRequest, error) {
	c := e.CreateRequest
	if c.Destination == nil && len(e.Targets) > 0 {
		c.Destination = &Destination{}
	}
	req, err := c.request(r)
	if err != nil {
		return req, err
	}
	req.CredentialID, req.ProxyProtocol = manager.CredentialID(e.CredentialID), e.ProxyProtocol
	req.RelayHint, req.RegionHint = e.Relay, e.Region
	for _, t := range e.Targets {
		req.Targets = append(req.Targets, manager.TargetRequest{
			IMSI: t.IMSI, SIMID: t.SIMID, Port: whole(t.Port), Duration: duration(t.Duration), Ranges: t.Source.ranges(),
		})
	}
	return req, nil
}

func (h *handler) listExtended(r *request) (int, any, error) {
	es, err := h.entries(r)
	return http.StatusOK, h.extended(es), err
}

func (h *handler) extended(es []manager.Entry) []ExtendedMapping {
	out := make([]ExtendedMapping, len(es))
	for i, e := range es {
		out[i] = ExtendedMapping{
			PortMapping: portMapping(e, h.suffix), EntryID: string(e.ID), Relay: string(e.RelayID),
			CredentialID: string(e.CredentialID), ProxyProtocol: e.ProxyProtocol, Targets: make([]Target, len(e.Targets)),
		}
		for j, t := range e.Targets {
			if t.Expires.IsZero() {
				t.Expires = e.Expires
			}
			if len(t.Ranges) == 0 {
				t.Ranges = e.Ranges
			}
			out[i].Targets[j] = Target{
				IMSI: string(t.IMSI), SIMID: t.SIMID, Port: t.DevicePort, ExpiredTime: t.Expires.UnixMilli(), Source: source(t.Ranges),
			}
		}
	}
	return out
}
