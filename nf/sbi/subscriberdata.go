package sbi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/simreach/simreach/internal/ident"
)

// Nudm_SDM (TS 29.503 clause 6.1).
const pathSDM = "/nudm-sdm/v2/"

// amData is the part of type AccessAndMobilitySubscriptionData used.
type amData struct {
	AMBR  *ambrJSON  `json:"subscribedUeAmbr,omitempty"`
	NSSAI *nssaiJSON `json:"nssai,omitempty"`
}

// nssaiJSON is type Nssai; the single ones are those that are not default.
type nssaiJSON struct {
	Default []snssaiJSON `json:"defaultSingleNssais"`
	Single  []snssaiJSON `json:"singleNssais,omitempty"`
}

// smData is the part of type SessionManagementSubscriptionData used.
type smData struct {
	SNSSAI snssaiJSON                     `json:"singleNssai"`
	DNNs   map[ident.DNN]dnnConfiguration `json:"dnnConfigurations,omitempty"`
	Groups []string                       `json:"internalGroupIds,omitempty"`
}

// dnnConfiguration is the part of type DnnConfiguration used.
type dnnConfiguration struct {
	Types struct {
		Default string   `json:"defaultSessionType,omitempty"`
		Allowed []string `json:"allowedSessionTypes,omitempty"`
	} `json:"pduSessionTypes"`
	SSC struct {
		Default string `json:"defaultSscMode"`
	} `json:"sscModes"`
	QoS    *qosProfile     `json:"5gQosProfile,omitempty"`
	AMBR   *ambrJSON       `json:"sessionAmbr,omitempty"`
	Static []ipAddressJSON `json:"staticIpAddress,omitempty"`
}

// qosProfile is type SubscribedDefaultQos.
type qosProfile struct {
	FiveQI uint8 `json:"5qi"`
	ARP    struct {
		Priority      uint8  `json:"priorityLevel"`
		Capability    string `json:"preemptCap"`
		Vulnerability string `json:"preemptVuln"`
	} `json:"arp"`
}

// AccessMobility implements SubscriberData.
func (c *Client) AccessMobility(ctx context.Context, supi ident.SUPI) (AccessMobilityData, error) {
	r := request{method: http.MethodGet, path: pathSDM + segment(string(supi)) + "/am-data", repeatable: true}
	resp, err := c.do(ctx, r)
	if err != nil {
		return AccessMobilityData{}, err
	}
	var in amData
	if err := c.read(r, resp, &in); err != nil {
		return AccessMobilityData{}, err
	}
	out, err := in.data()
	if err != nil {
		return AccessMobilityData{}, c.unreadable(r, resp, err)
	}
	return out, nil
}

func (j *amData) data() (out AccessMobilityData, err error) {
	if j.AMBR != nil {
		if out.AMBR, err = j.AMBR.ambr(); err != nil {
			return out, err
		}
	}
	if j.NSSAI == nil {
		return out, nil
	}
	if out.DefaultSlices, err = snssais(j.NSSAI.Default); err != nil {
		return out, err
	}
	single, err := snssais(j.NSSAI.Single)
	if err != nil {
		return out, err
	}
	out.Slices = slices.Clone(out.DefaultSlices)
	for _, s := range single {
		if !slices.Contains(out.Slices, s) {
			out.Slices = append(out.Slices, s)
		}
	}
	return out, nil
}

// SessionManagement implements SubscriberData.
func (c *Client) SessionManagement(ctx context.Context, supi ident.SUPI, s ident.SNSSAI, dnn ident.DNN) (SessionData, error) {
	slice, err := json.Marshal(toSNSSAI(s))
	if err != nil {
		return SessionData{}, fmt.Errorf("sbi: session data of %s: %w", supi, err)
	}
	query := url.Values{"single-nssai": {string(slice)}, "dnn": {string(dnn)}}
	r := request{method: http.MethodGet, path: pathSDM + segment(string(supi)) + "/sm-data?" + query.Encode(), repeatable: true}
	resp, err := c.do(ctx, r)
	if err != nil {
		return SessionData{}, err
	}
	var in []smData
	if err := c.read(r, resp, &in); err != nil {
		return SessionData{}, err
	}
	for _, j := range in {
		if d, ok := j.DNNs[dnn]; ok && ident.SNSSAI(j.SNSSAI) == s {
			out, err := d.data(j.Groups)
			if err != nil {
				return SessionData{}, c.unreadable(r, resp, err)
			}
			return out, nil
		}
	}
	return SessionData{}, &Problem{
		Status: http.StatusForbidden, Cause: CauseDNNNotAllowed,
		Detail: fmt.Sprintf("the session data of %s has no DNN %q in slice %s", supi, dnn, s),
	}
}

func toDNNConfiguration(d SessionData) dnnConfiguration {
	var j dnnConfiguration
	for _, t := range d.Types {
		j.Types.Allowed = append(j.Types.Allowed, pduSessionTypeText(t))
	}
	if len(j.Types.Allowed) > 0 {
		j.Types.Default = j.Types.Allowed[0]
	}
	j.SSC.Default = "SSC_MODE_1"
	j.QoS = &qosProfile{FiveQI: d.FiveQI}
	j.QoS.ARP.Priority = d.ARPPriority
	j.QoS.ARP.Capability, j.QoS.ARP.Vulnerability = "NOT_PREEMPT", "NOT_PREEMPTABLE"
	ambr := toAMBR(d.AMBR)
	j.AMBR = &ambr
	if d.Static.V4.IsValid() {
		j.Static = append(j.Static, ipAddressJSON{V4: d.Static.V4.String()})
	}
	if d.Static.V6.IsValid() {
		j.Static = append(j.Static, ipAddressJSON{V6Prefix: d.Static.V6.String()})
	}
	return j
}

func (j *dnnConfiguration) data(groups []string) (out SessionData, err error) {
	names := j.Types.Allowed
	if d := j.Types.Default; d != "" {
		names = append([]string{d}, slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == d })...)
	}
	for _, n := range names {
		t, err := parsePDUSessionType(n)
		if err != nil {
			return out, err
		}
		out.Types = append(out.Types, t)
	}
	if j.QoS != nil {
		out.FiveQI, out.ARPPriority = j.QoS.FiveQI, j.QoS.ARP.Priority
	}
	if j.AMBR != nil {
		if out.AMBR, err = j.AMBR.ambr(); err != nil {
			return out, err
		}
	}
	for _, a := range j.Static {
		if a.V4 != "" {
			if out.Static.V4, err = parseV4(a.V4); err != nil {
				return out, err
			}
		}
		if a.V6Prefix != "" {
			if out.Static.V6, err = parseV6Prefix(a.V6Prefix); err != nil {
				return out, err
			}
		}
	}
	if len(groups) > 0 {
		out.UEGroup = groups[0]
	}
	return out, nil
}

func subscriberDataRoutes(d SubscriberData) []route {
	return []route{
		{http.MethodGet, pathSDM + "{supi}/am-data", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			out, err := d.AccessMobility(ctx, supi)
			if err != nil {
				return nil, err
			}
			ambr := toAMBR(out.AMBR)
			single := slices.DeleteFunc(slices.Clone(out.Slices), func(s ident.SNSSAI) bool { return slices.Contains(out.DefaultSlices, s) })
			return &answer{doc: amData{AMBR: &ambr, NSSAI: &nssaiJSON{Default: toSNSSAIs(out.DefaultSlices), Single: toSNSSAIs(single)}}}, nil
		}},
		{http.MethodGet, pathSDM + "{supi}/sm-data", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			query := in.URL.Query()
			var j snssaiJSON
			if err := json.Unmarshal([]byte(query.Get("single-nssai")), &j); err != nil {
				return nil, invalidIEf("single-nssai: want the JSON of an S-NSSAI")
			}
			slice, err := j.snssai()
			if err != nil {
				return nil, invalidIE(err)
			}
			dnn := ident.DNN(query.Get("dnn"))
			if dnn == "" {
				return nil, invalidIEf("dnn: the query needs one")
			}
			out, err := d.SessionManagement(ctx, supi, slice, dnn)
			if err != nil {
				return nil, err
			}
			data := smData{SNSSAI: toSNSSAI(slice), DNNs: map[ident.DNN]dnnConfiguration{dnn: toDNNConfiguration(out)}}
			if out.UEGroup != "" {
				data.Groups = []string{out.UEGroup}
			}
			return &answer{doc: []smData{data}}, nil
		}},
	}
}

// supi reads the path's {supi}.
func (in *incoming) supi() (ident.SUPI, error) {
	supi, err := ident.ParseSUPI(in.PathValue("supi"))
	if err != nil {
		return "", invalidIE(err)
	}
	return supi, nil
}

// session reads the path's {session}.
func (in *incoming) session() (ident.PDUSessionID, error) {
	id, err := parseSession(in.PathValue("session"))
	if err != nil {
		return 0, invalidIE(err)
	}
	return id, nil
}
