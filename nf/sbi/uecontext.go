package sbi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/simreach/simreach/internal/ident"
)

// Nudm_UECM (TS 29.503 clause 6.2).
const pathUECM = "/nudm-uecm/v1/"

// amfRegistration is the part of type Amf3GppAccessRegistration used.
type amfRegistration struct {
	AMF      NFID       `json:"amfInstanceId"`
	Callback string     `json:"deregCallbackUri"`
	GUAMI    *guamiJSON `json:"guami"`
	RAT      string     `json:"ratType"`
	PEI      ident.PEI  `json:"pei,omitempty"`
}

// amfModification is type Amf3GppAccessRegistrationModification with an attribute
// of our own, amfInstanceId, because the specification names the AMF by its GUAMI
// only. Others ignore it (TS 29.501 clause 5.2.2).
type amfModification struct {
	GUAMI *guamiJSON `json:"guami,omitempty"`
	Purge bool       `json:"purgeFlag"`
	AMF   NFID       `json:"amfInstanceId,omitempty"`
}

// smfRegistration is the part of type SmfRegistration used.
type smfRegistration struct {
	SMF     NFID       `json:"smfInstanceId"`
	Session int        `json:"pduSessionId"`
	SNSSAI  snssaiJSON `json:"singleNssai"`
	DNN     ident.DNN  `json:"dnn,omitempty"`
	PLMN    plmnJSON   `json:"plmnId"`
}

func pathAMF(supi ident.SUPI) string {
	return pathUECM + segment(string(supi)) + "/registrations/amf-3gpp-access"
}

func pathSMF(supi ident.SUPI, id ident.PDUSessionID) string {
	return pathUECM + segment(string(supi)) + "/registrations/smf-registrations/" + strconv.Itoa(int(id))
}

// RegisterAMF implements UEContext.
func (c *Client) RegisterAMF(ctx context.Context, supi ident.SUPI, r AMFRegistration) error {
	c.mu.Lock()
	c.guamis[r.AMF] = r.GUAMI
	c.mu.Unlock()
	return c.call(ctx, http.MethodPut, pathAMF(supi), amfRegistration{
		AMF: r.AMF, Callback: c.opts.CallbackURL + pathDeregister(supi), GUAMI: toGUAMI(r.GUAMI), RAT: "NR", PEI: r.PEI,
	}, nil, true)
}

// DeregisterAMF implements UEContext.
func (c *Client) DeregisterAMF(ctx context.Context, supi ident.SUPI, amf NFID) error {
	c.mu.Lock()
	guami := c.guamis[amf]
	c.mu.Unlock()
	// Not repeated: a second purge finds nothing and would look like a failure.
	return c.call(ctx, http.MethodPatch, pathAMF(supi), amfModification{GUAMI: toGUAMI(guami), Purge: true, AMF: amf}, nil, false)
}

// RegisterSMF implements UEContext.
func (c *Client) RegisterSMF(ctx context.Context, supi ident.SUPI, r SMFRegistration) error {
	return c.call(ctx, http.MethodPut, pathSMF(supi, r.Session), smfRegistration{
		SMF: r.SMF, Session: int(r.Session), SNSSAI: toSNSSAI(r.SNSSAI), DNN: r.DNN, PLMN: toPLMN(r.PLMN),
	}, nil, true)
}

// DeregisterSMF implements UEContext.
func (c *Client) DeregisterSMF(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error {
	return c.call(ctx, http.MethodDelete, pathSMF(supi, id), nil, nil, false)
}

func ueContextRoutes(u UEContext) []route {
	const amf = pathUECM + "{supi}/registrations/amf-3gpp-access"
	const smf = pathUECM + "{supi}/registrations/smf-registrations/{session}"
	return []route{
		{http.MethodPut, amf, func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			var doc amfRegistration
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			if doc.AMF == "" || doc.GUAMI == nil {
				return nil, invalidIEf("amfInstanceId and guami are mandatory")
			}
			guami, err := doc.GUAMI.guami()
			if err != nil {
				return nil, invalidIE(err)
			}
			return nil, u.RegisterAMF(ctx, supi, AMFRegistration{AMF: doc.AMF, GUAMI: guami, PEI: doc.PEI, Callback: doc.Callback})
		}},
		{http.MethodPatch, amf, func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			var doc amfModification
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			if !doc.Purge {
				return nil, invalidIEf("purgeFlag: nothing else can be modified")
			}
			return nil, u.DeregisterAMF(ctx, supi, doc.AMF)
		}},
		{http.MethodPut, smf, func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			id, err := in.session()
			if err != nil {
				return nil, err
			}
			var doc smfRegistration
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			if doc.SMF == "" || doc.Session != int(id) {
				return nil, invalidIEf("smfInstanceId is mandatory, and pduSessionId is that of the path")
			}
			slice, err := doc.SNSSAI.snssai()
			if err != nil {
				return nil, invalidIE(err)
			}
			plmn, err := doc.PLMN.plmn()
			if err != nil {
				return nil, invalidIE(err)
			}
			return nil, u.RegisterSMF(ctx, supi, SMFRegistration{SMF: doc.SMF, Session: id, SNSSAI: slice, DNN: doc.DNN, PLMN: plmn})
		}},
		{http.MethodDelete, smf, func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			id, err := in.session()
			if err != nil {
				return nil, err
			}
			return nil, u.DeregisterSMF(ctx, supi, id)
		}},
	}
}
