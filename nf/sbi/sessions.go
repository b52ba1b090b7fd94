package sbi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/simreach/simreach/internal/ident"
)

// Nsmf_PDUSession (TS 29.502 clause 6.1), the SM contexts collection.
const pathSMContexts = "/nsmf-pdusession/v1/sm-contexts"

const access3GPP = "3GPP_ACCESS"

// smContextCreateData is the part of type SmContextCreateData used.
type smContextCreateData struct {
	SUPI      ident.SUPI    `json:"supi,omitempty"`
	PEI       ident.PEI     `json:"pei,omitempty"`
	Session   int           `json:"pduSessionId,omitempty"`
	DNN       ident.DNN     `json:"dnn,omitempty"`
	SNSSAI    *snssaiJSON   `json:"sNssai,omitempty"`
	AMF       NFID          `json:"servingNfId"`
	GUAMI     *guamiJSON    `json:"guami,omitempty"`
	Network   *plmnJSON     `json:"servingNetwork,omitempty"`
	N1        *refToBinary  `json:"n1SmMsg,omitempty"`
	Access    string        `json:"anType"`
	RAT       string        `json:"ratType,omitempty"`
	Location  *locationJSON `json:"ueLocation,omitempty"`
	StatusURI string        `json:"smContextStatusUri"`
}

// smContextCreatedData is the part of type SmContextCreatedData used.
type smContextCreatedData struct {
	Session int `json:"pduSessionId,omitempty"`
}

// smContextUpdateData is the part of types SmContextUpdateData and
// SmContextUpdatedData used: they name these alike.
type smContextUpdateData struct {
	Location *locationJSON `json:"ueLocation,omitempty"`
	UPState  UPState       `json:"upCnxState,omitempty"`
	N1       *refToBinary  `json:"n1SmMsg,omitempty"`
	N2       *refToBinary  `json:"n2SmInfo,omitempty"`
	N2Type   N2Type        `json:"n2SmInfoType,omitempty"`
}

// smContextReleaseData is the part of type SmContextReleaseData used.
type smContextReleaseData struct {
	Cause ReleaseCause `json:"cause,omitempty"`
}

// CreateSMContext implements Sessions.
func (c *Client) CreateSMContext(ctx context.Context, req CreateSMContext) (SMContextRef, error) {
	slice := toSNSSAI(req.SNSSAI)
	doc := smContextCreateData{
		SUPI: req.SUPI, PEI: req.PEI, Session: int(req.Session), DNN: req.DNN, SNSSAI: &slice,
		AMF: req.AMF, GUAMI: toGUAMI(req.GUAMI), N1: ref(req.N1, contentN1),
		Access: access3GPP, RAT: "NR", Location: toLocation(req.Location),
		StatusURI: c.opts.CallbackURL + pathSMStatus(req.SUPI, req.Session),
	}
	if p := req.GUAMI.PLMN; p.Valid() {
		network := toPLMN(p)
		doc.Network = &network
	}
	r, err := relatedRequest(pathSMContexts, doc, binaryPart{contentN1, typeN1, req.N1})
	if err != nil {
		return "", err
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	id, err := lastSegment(resp.location)
	if err != nil {
		return "", c.unreadable(r, resp, err)
	}
	return SMContextRef(id), nil
}

// relatedRequest is a POST of JSON with binary parts.
func relatedRequest(path string, doc any, parts ...binaryPart) (request, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return request{}, fmt.Errorf("sbi: POST %s: %w", path, err)
	}
	contentType, body, err := encode(typeJSON, b, parts...)
	if err != nil {
		return request{}, fmt.Errorf("sbi: POST %s: %w", path, err)
	}
	return request{method: http.MethodPost, path: path, contentType: contentType, body: body}, nil
}

// UpdateSMContext implements Sessions.
func (c *Client) UpdateSMContext(ctx context.Context, sm SMContextRef, req UpdateSMContext) (UpdatedSMContext, error) {
	doc := smContextUpdateData{
		UPState: req.UPState, N1: ref(req.N1, contentN1), N2: ref(req.N2, contentN2), N2Type: req.N2Type,
	}
	if req.Location != nil {
		doc.Location = toLocation(*req.Location)
	}
	r, err := relatedRequest(pathSMContexts+"/"+segment(string(sm))+"/modify", doc,
		binaryPart{contentN1, typeN1, req.N1}, binaryPart{contentN2, typeN2, req.N2})
	if err != nil {
		return UpdatedSMContext{}, err
	}
	resp, err := c.do(ctx, r)
	if err != nil || resp.json == nil {
		return UpdatedSMContext{}, err
	}
	var in smContextUpdateData
	if err := c.read(r, resp, &in); err != nil {
		return UpdatedSMContext{}, err
	}
	n1, n2, err := in.parts(&resp.message)
	if err != nil {
		return UpdatedSMContext{}, c.unreadable(r, resp, err)
	}
	return UpdatedSMContext{N1: n1, N2: n2, N2Type: in.N2Type, UPState: in.UPState}, nil
}

func (j *smContextUpdateData) parts(m *message) (n1, n2 []byte, err error) {
	if n1, err = m.part(j.N1); err != nil {
		return nil, nil, err
	}
	n2, err = m.part(j.N2)
	return n1, n2, err
}

// ReleaseSMContext implements Sessions.
func (c *Client) ReleaseSMContext(ctx context.Context, sm SMContextRef, cause ReleaseCause) error {
	return c.call(ctx, http.MethodPost, pathSMContexts+"/"+segment(string(sm))+"/release", smContextReleaseData{cause}, nil, false)
}

func sessionsRoutes(s Sessions) []route {
	return []route{
		{http.MethodPost, pathSMContexts, func(ctx context.Context, in *incoming) (*answer, error) {
			var doc smContextCreateData
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			req, err := doc.request(&in.message)
			if err != nil {
				return nil, invalidIE(err)
			}
			sm, err := s.CreateSMContext(ctx, req)
			if err != nil {
				return nil, err
			}
			return &answer{
				status: http.StatusCreated, location: pathSMContexts + "/" + segment(string(sm)),
				doc: smContextCreatedData{Session: int(req.Session)},
			}, nil
		}},
		{http.MethodPost, pathSMContexts + "/{ref}/modify", func(ctx context.Context, in *incoming) (*answer, error) {
			var doc smContextUpdateData
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			req, err := doc.request(&in.message)
			if err != nil {
				return nil, invalidIE(err)
			}
			out, err := s.UpdateSMContext(ctx, SMContextRef(in.PathValue("ref")), req)
			if err != nil {
				return nil, err
			}
			if out.N1 == nil && out.N2 == nil && out.N2Type == "" && out.UPState == "" {
				return nil, nil
			}
			return &answer{
				doc: smContextUpdateData{
					UPState: out.UPState, N1: ref(out.N1, contentN1), N2: ref(out.N2, contentN2), N2Type: out.N2Type,
				},
				parts: []binaryPart{{contentN1, typeN1, out.N1}, {contentN2, typeN2, out.N2}},
			}, nil
		}},
		{http.MethodPost, pathSMContexts + "/{ref}/release", func(ctx context.Context, in *incoming) (*answer, error) {
			var doc smContextReleaseData
			if in.json != nil { // the content is optional
				if err := in.into(&doc); err != nil {
					return nil, err
				}
			}
			return nil, s.ReleaseSMContext(ctx, SMContextRef(in.PathValue("ref")), doc.Cause)
		}},
	}
}

func (j *smContextCreateData) request(m *message) (out CreateSMContext, err error) {
	if out.SUPI, err = ident.ParseSUPI(string(j.SUPI)); err != nil {
		return out, err
	}
	if out.Session, err = sessionID(j.Session); err != nil {
		return out, err
	}
	if j.SNSSAI == nil || j.AMF == "" {
		return out, errors.New("sNssai and servingNfId are mandatory")
	}
	if out.SNSSAI, err = j.SNSSAI.snssai(); err != nil {
		return out, err
	}
	if out.GUAMI, err = j.GUAMI.guami(); err != nil {
		return out, err
	}
	location, err := j.Location.location()
	if err != nil {
		return out, err
	}
	if location != nil {
		out.Location = *location
	}
	if out.N1, err = m.part(j.N1); err != nil {
		return out, fmt.Errorf("n1SmMsg: %w", err)
	}
	out.PEI, out.DNN, out.AMF = j.PEI, j.DNN, j.AMF
	return out, nil
}

func (j *smContextUpdateData) request(m *message) (out UpdateSMContext, err error) {
	if out.N1, out.N2, err = j.parts(m); err != nil {
		return out, err
	}
	if (out.N2 != nil) != (j.N2Type != "") {
		return out, errors.New("n2SmInfo and n2SmInfoType go together")
	}
	out.N2Type, out.UPState = j.N2Type, j.UPState
	out.Location, err = j.Location.location()
	return out, err
}
