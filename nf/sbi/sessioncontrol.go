package sbi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/simreach/simreach/internal/ident"
)

// Operation and maintenance of an SMF. This is not a 3GPP service, hence the path:
//
//	PUT    /simreach-smf/v1/sessions/{supi}/{pduSessionId}/ambr   {"uplink": "1 Mbps", "downlink": "2 Mbps"}
//	DELETE /simreach-smf/v1/sessions/{supi}/{pduSessionId}
//
// Both answer 204 when the procedure has started, or problem details.
const pathControl = "/simreach-smf/v1/sessions/"

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
	}
}
