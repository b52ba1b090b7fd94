package sbi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Operation and maintenance of an SMF. This is not a 3GPP service, hence the path:
//
//	PUT    /simreach-smf/v1/sessions/{supi}/{pduSessionId}/ambr   {"uplink": "1 Mbps", "downlink": "2 Mbps"}
//	DELETE /simreach-smf/v1/sessions/{supi}/{pduSessionId}
//	POST   /simreach-smf/v1/sessions/{supi}/{pduSessionId}/recreate
//	GET    /simreach-smf/v1/sessions/{supi}
//	GET    /simreach-smf/v1/sessions
//
// The first three answer 204 when the procedure has started, or problem details.
const (
	pathAllControlled = "/simreach-smf/v1/sessions"
	pathControl       = pathAllControlled + "/"
)

func pathControlled(supi ident.SUPI, id ident.PDUSessionID) string {
	return pathControl + segment(string(supi)) + "/" + strconv.Itoa(int(id))
}

// SetAMBR implements SessionControl.
func (c *Client) SetAMBR(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID, ambr ident.AMBR) error {
	return c.call(ctx, http.MethodPut, pathControlled(supi, id)+"/ambr", toAMBR(ambr), nil, true)
}

// Release implements SessionControl.
func (c *Client) Release(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error {
	return c.call(ctx, http.MethodDelete, pathControlled(supi, id), nil, nil, false)
}

// Recreate implements SessionControl.
func (c *Client) Recreate(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error {
	return c.call(ctx, http.MethodPost, pathControlled(supi, id)+"/recreate", nil, nil, false)
}

// SessionsOf implements SessionControl.
func (c *Client) SessionsOf(ctx context.Context, supi ident.SUPI) ([]SessionInfo, error) {
	r := request{method: http.MethodGet, path: pathAllControlled, repeatable: true, limit: maxSnapshot}
	if supi != "" {
		r.path = pathControl + segment(string(supi))
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var in []sessionJSON
	if err := c.read(r, resp, &in); err != nil {
		return nil, err
	}
	out := make([]SessionInfo, 0, len(in))
	for _, j := range in {
		s, err := j.info()
		if err != nil {
			return nil, c.unreadable(r, resp, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// sessionJSON is SessionInfo.
type sessionJSON struct {
	SUPI     ident.SUPI    `json:"supi"`
	PEI      ident.PEI     `json:"pei,omitempty"`
	Session  int           `json:"pduSessionId"`
	DNN      ident.DNN     `json:"dnn"`
	SNSSAI   snssaiJSON    `json:"sNssai"`
	V4       string        `json:"ipv4Addr,omitempty"`
	V6       string        `json:"ipv6Prefix,omitempty"`
	UPF      string        `json:"upf,omitempty"`
	AMBR     ambrJSON      `json:"ambr"`
	Location *locationJSON `json:"ueLocation,omitempty"`
	State    string        `json:"state"`
	Created  time.Time     `json:"created"`
	Used     usedJSON      `json:"used"`
}

type usedJSON struct {
	UplinkOctets    uint64    `json:"uplinkOctets"`
	DownlinkOctets  uint64    `json:"downlinkOctets"`
	UplinkPackets   uint64    `json:"uplinkPackets"`
	DownlinkPackets uint64    `json:"downlinkPackets"`
	From            time.Time `json:"from"`
	To              time.Time `json:"to"`
}

func toSession(s SessionInfo) sessionJSON {
	j := sessionJSON{
		SUPI: s.SUPI, PEI: s.PEI, Session: int(s.Session), DNN: s.DNN, SNSSAI: toSNSSAI(s.SNSSAI), UPF: s.UPF,
		AMBR: toAMBR(s.AMBR), Location: toLocation(s.Location), State: s.State, Created: s.Created.UTC(), Used: usedJSON(s.Used),
	}
	j.Used.From, j.Used.To = j.Used.From.UTC(), j.Used.To.UTC()
	if s.Address.V4.IsValid() {
		j.V4 = s.Address.V4.String()
	}
	if s.Address.V6.IsValid() {
		j.V6 = s.Address.V6.String()
	}
	return j
}

func (j *sessionJSON) info() (s SessionInfo, err error) {
	s = SessionInfo{
		SUPI: j.SUPI, PEI: j.PEI, DNN: j.DNN, UPF: j.UPF, State: j.State, Created: j.Created, Used: UsedUnits(j.Used),
	}
	if s.Session, err = sessionID(j.Session); err != nil {
		return s, err
	}
	if s.SNSSAI, err = j.SNSSAI.snssai(); err != nil {
		return s, err
	}
	if s.Address.V4, err = parseV4(j.V4); err != nil {
		return s, err
	}
	if s.Address.V6, err = parseV6Prefix(j.V6); err != nil {
		return s, err
	}
	if s.AMBR, err = j.AMBR.ambr(); err != nil {
		return s, err
	}
	place, err := j.Location.location()
	if err != nil {
		return s, err
	}
	if place != nil {
		s.Location = *place
	}
	return s, nil
}

func listSessions(ctx context.Context, c SessionControl, supi ident.SUPI) (*answer, error) {
	list, err := c.SessionsOf(ctx, supi)
	if err != nil {
		return nil, err
	}
	doc := make([]sessionJSON, 0, len(list))
	for _, s := range list {
		doc = append(doc, toSession(s))
	}
	return &answer{doc: doc}, nil
}

func sessionControlRoutes(s SessionControl) []route {
	return []route{
		{http.MethodPut, pathControl + "{supi}/{session}/ambr", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			id, err := in.session()
			if err != nil {
				return nil, err
			}
			var doc ambrJSON
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			ambr, err := doc.ambr()
			if err != nil {
				return nil, invalidIE(err)
			}
			return nil, s.SetAMBR(ctx, supi, id, ambr)
		}},
		{http.MethodDelete, pathControl + "{supi}/{session}", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			id, err := in.session()
			if err != nil {
				return nil, err
			}
			return nil, s.Release(ctx, supi, id)
		}},
		{http.MethodPost, pathControl + "{supi}/{session}/recreate", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			id, err := in.session()
			if err != nil {
				return nil, err
			}
			return nil, s.Recreate(ctx, supi, id)
		}},
		{http.MethodGet, pathControl + "{supi}", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			return listSessions(ctx, s, supi)
		}},
		{http.MethodGet, pathAllControlled, func(ctx context.Context, _ *incoming) (*answer, error) {
			return listSessions(ctx, s, "")
		}},
	}
}
