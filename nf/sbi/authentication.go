package sbi

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"

	"github.com/simreach/simreach/internal/ident"
)

// Nausf_UEAuthentication (TS 29.509 clause 6.1): 5G AKA.
const pathAuthentications = "/nausf-auth/v1/ue-authentications"

// authenticationInfo is type AuthenticationInfo.
type authenticationInfo struct {
	SUPIOrSUCI         string      `json:"supiOrSuci"`
	ServingNetworkName string      `json:"servingNetworkName"`
	Resync             *resyncJSON `json:"resynchronizationInfo,omitempty"`
}

type resyncJSON struct {
	RAND string `json:"rand"`
	AUTS string `json:"auts"`
}

// ueAuthenticationCtx is type UEAuthenticationCtx.
type ueAuthenticationCtx struct {
	AuthType string              `json:"authType"`
	Data     av5GAKA             `json:"5gAuthData"`
	Links    map[string]linkJSON `json:"_links"`
	SNN      string              `json:"servingNetworkName,omitempty"`
}

type av5GAKA struct {
	RAND      string `json:"rand"`
	HXRESStar string `json:"hxresStar"`
	AUTN      string `json:"autn"`
}

type linkJSON struct {
	Href string `json:"href"`
}

// confirmationData and confirmationResponse are types ConfirmationData and
// ConfirmationDataResponse.
type confirmationData struct {
	RESStar string `json:"resStar"`
}

type confirmationResponse struct {
	AuthResult string     `json:"authResult"`
	SUPI       ident.SUPI `json:"supi,omitempty"`
	KSEAF      string     `json:"kseaf,omitempty"`
}

const (
	authType5GAKA = "5G_AKA"
	authSuccess   = "AUTHENTICATION_SUCCESS"
	authFailure   = "AUTHENTICATION_FAILURE"
)

// Authenticate implements Authentication.
func (c *Client) Authenticate(ctx context.Context, req AuthenticationRequest) (AuthenticationContext, error) {
	doc := authenticationInfo{SUPIOrSUCI: req.SUPIOrSUCI, ServingNetworkName: req.ServingNetworkName}
	if s := req.Resync; s != nil {
		doc.Resync = &resyncJSON{hex.EncodeToString(s.RAND[:]), hex.EncodeToString(s.AUTS[:])}
	}
	// A challenge nobody answers does no harm, so the request may be repeated.
	r, err := jsonRequest(http.MethodPost, pathAuthentications, doc, true)
	if err != nil {
		return AuthenticationContext{}, err
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return AuthenticationContext{}, err
	}
	var in ueAuthenticationCtx
	if err := c.read(r, resp, &in); err != nil {
		return AuthenticationContext{}, err
	}
	out, err := in.context(resp.location)
	if err != nil {
		return AuthenticationContext{}, c.unreadable(r, resp, err)
	}
	return out, nil
}

func (j *ueAuthenticationCtx) context(location string) (out AuthenticationContext, err error) {
	if j.AuthType != authType5GAKA {
		return out, fmt.Errorf("authType %.40q: want %s", j.AuthType, authType5GAKA)
	}
	if out.ID, err = lastSegment(location); err != nil {
		return out, err
	}
	for _, f := range []struct {
		name, text string
		to         *[16]byte
	}{{"rand", j.Data.RAND, &out.RAND}, {"autn", j.Data.AUTN, &out.AUTN}, {"hxresStar", j.Data.HXRESStar, &out.HXRESStar}} {
		b, err := hexBytes(f.name, f.text, 16)
		if err != nil {
			return out, err
		}
		*f.to = [16]byte(b)
	}
	return out, nil
}

// Confirm implements Authentication.
func (c *Client) Confirm(ctx context.Context, contextID string, resStar []byte) (Confirmation, error) {
	path := pathAuthentications + "/" + segment(contextID) + "/5g-aka-confirmation"
	r, err := jsonRequest(http.MethodPut, path, confirmationData{hex.EncodeToString(resStar)}, true)
	if err != nil {
		return Confirmation{}, err
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return Confirmation{}, err
	}
	var in confirmationResponse
	if err := c.read(r, resp, &in); err != nil {
		return Confirmation{}, err
	}
	if in.AuthResult != authSuccess {
		return Confirmation{}, nil
	}
	supi, err := ident.ParseSUPI(string(in.SUPI))
	if err != nil {
		return Confirmation{}, c.unreadable(r, resp, err)
	}
	kseaf, err := hexBytes("kseaf", in.KSEAF, 32)
	if err != nil {
		return Confirmation{}, c.unreadable(r, resp, err)
	}
	return Confirmation{Success: true, SUPI: supi, KSEAF: [32]byte(kseaf)}, nil
}

func authenticationRoutes(a Authentication) []route {
	return []route{
		{http.MethodPost, pathAuthentications, func(ctx context.Context, in *incoming) (*answer, error) {
			var doc authenticationInfo
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			req, err := doc.request()
			if err != nil {
				return nil, invalidIE(err)
			}
			out, err := a.Authenticate(ctx, req)
			if err != nil {
				return nil, err
			}
			location := pathAuthentications + "/" + segment(out.ID)
			return &answer{
				status: http.StatusCreated, location: location, contentType: typeHAL,
				doc: ueAuthenticationCtx{
					AuthType: authType5GAKA,
					Data: av5GAKA{
						RAND:      hex.EncodeToString(out.RAND[:]),
						HXRESStar: hex.EncodeToString(out.HXRESStar[:]),
						AUTN:      hex.EncodeToString(out.AUTN[:]),
					},
					Links: map[string]linkJSON{"5g-aka": {Href: in.absolute(location) + "/5g-aka-confirmation"}},
					SNN:   req.ServingNetworkName,
				},
			}, nil
		}},
		{http.MethodPut, pathAuthentications + "/{id}/5g-aka-confirmation", func(ctx context.Context, in *incoming) (*answer, error) {
			var doc confirmationData
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			resStar, err := hex.DecodeString(doc.RESStar)
			if err != nil {
				return nil, invalidIEf("resStar: want hexadecimal digits")
			}
			out, err := a.Confirm(ctx, in.PathValue("id"), resStar)
			if err != nil {
				return nil, err
			}
			result := confirmationResponse{AuthResult: authFailure}
			if out.Success {
				result = confirmationResponse{authSuccess, out.SUPI, hex.EncodeToString(out.KSEAF[:])}
			}
			return &answer{doc: result}, nil
		}},
	}
}

func (j *authenticationInfo) request() (AuthenticationRequest, error) {
	out := AuthenticationRequest{SUPIOrSUCI: j.SUPIOrSUCI, ServingNetworkName: j.ServingNetworkName}
	if j.SUPIOrSUCI == "" || j.ServingNetworkName == "" {
		return out, fmt.Errorf("supiOrSuci and servingNetworkName are mandatory")
	}
	if j.Resync != nil {
		rand, err := hexBytes("rand", j.Resync.RAND, 16)
		if err != nil {
			return out, err
		}
		auts, err := hexBytes("auts", j.Resync.AUTS, 14)
		if err != nil {
			return out, err
		}
		out.Resync = &Resync{RAND: [16]byte(rand), AUTS: [14]byte(auts)}
	}
	return out, nil
}
