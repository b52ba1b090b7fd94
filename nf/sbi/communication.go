package sbi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/simreach/simreach/internal/ident"
)

// Namf_Communication (TS 29.518 clause 6.1), and the callbacks that an AMF serves.
// The specifications leave a callback's path to its owner; ours is the same at
// every AMF, so that an SMF that knows the AMF's base URL knows it.
const (
	pathUEContexts = "/namf-comm/v1/ue-contexts/"
	pathCallback   = "/namf-callback/v1/"
)

func pathN1N2(supi ident.SUPI) string {
	return pathUEContexts + segment(string(supi)) + "/n1-n2-messages"
}

// pathSMStatus is where SMContextStatusNotification goes (TS 29.502 clause
// 5.2.2.5).
func pathSMStatus(supi ident.SUPI, id ident.PDUSessionID) string {
	return pathCallback + segment(string(supi)) + "/sm-context-status/" + strconv.Itoa(int(id))
}

// pathDeregister is where DeregistrationNotification goes (TS 29.503 clause
// 5.3.2.3).
func pathDeregister(supi ident.SUPI) string {
	return pathCallback + segment(string(supi)) + "/dereg-notify"
}

// CallbackBase returns the base URL of an AMF from the deregCallbackUri that it
// registered with, for a Client that reaches it. Errors wrap ErrConfig.
func CallbackBase(uri string) (string, error) {
	base, _, ok := strings.Cut(uri, pathCallback)
	if !ok {
		return "", fmt.Errorf("%w: callback %.100q: want a path with %s", ErrConfig, uri, pathCallback)
	}
	return checkURL("callback", base)
}

// n1n2TransferData is the part of type N1N2MessageTransferReqData used.
type n1n2TransferData struct {
	N1      *n1Container `json:"n1MessageContainer,omitempty"`
	N2      *n2Container `json:"n2InfoContainer,omitempty"`
	Session int          `json:"pduSessionId,omitempty"`
}

type n1Container struct {
	Class   string      `json:"n1MessageClass"`
	Content refToBinary `json:"n1MessageContent"`
}

type n2Container struct {
	Class string `json:"n2InformationClass"`
	SM    *n2SM  `json:"smInfo,omitempty"`
}

// n2SM is type N2SmInformation.
type n2SM struct {
	Session int         `json:"pduSessionId"`
	Content *n2Content  `json:"n2InfoContent,omitempty"`
	SNSSAI  *snssaiJSON `json:"sNssai,omitempty"`
}

type n2Content struct {
	Type N2Type      `json:"ngapIeType,omitempty"`
	Data refToBinary `json:"ngapData"`
}

type n1n2TransferResult struct {
	Cause string `json:"cause"`
}

const classSM = "SM"

// smStatusNotification is the part of type SmContextStatusNotification used.
type smStatusNotification struct {
	Info struct {
		Status string `json:"resourceStatus"`
	} `json:"statusInfo"`
	// Ref is ours: the specification tells SM contexts apart by the URI that is notified.
	Ref SMContextRef `json:"smContextRef,omitempty"`
}

const statusReleased = "RELEASED"

// deregistrationData is the part of type DeregistrationData used.
type deregistrationData struct {
	Reason DeregistrationReason `json:"deregReason"`
	Access string               `json:"accessType,omitempty"`
}

// N1N2Transfer implements Communication. A slice travels with N2 information only.
func (c *Client) N1N2Transfer(ctx context.Context, supi ident.SUPI, m N1N2Message) error {
	doc := n1n2TransferData{Session: int(m.Session)}
	if m.N1 != nil {
		doc.N1 = &n1Container{Class: classSM, Content: refToBinary{contentN1}}
	}
	if m.N2 != nil {
		slice := toSNSSAI(m.SNSSAI)
		doc.N2 = &n2Container{Class: classSM, SM: &n2SM{
			Session: int(m.Session), SNSSAI: &slice, Content: &n2Content{Type: m.N2Type, Data: refToBinary{contentN2}},
		}}
	}
	r, err := relatedRequest(pathN1N2(supi), doc, binaryPart{contentN1, typeN1, m.N1}, binaryPart{contentN2, typeN2, m.N2})
	if err != nil {
		return err
	}
	_, err = c.do(ctx, r)
	return err
}

// SMContextReleased implements Communication.
func (c *Client) SMContextReleased(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID, ref SMContextRef) error {
	doc := smStatusNotification{Ref: ref}
	doc.Info.Status = statusReleased
	return c.call(ctx, http.MethodPost, pathSMStatus(supi, id), doc, nil, false)
}

// Deregister implements Communication.
func (c *Client) Deregister(ctx context.Context, supi ident.SUPI, reason DeregistrationReason) error {
	return c.call(ctx, http.MethodPost, pathDeregister(supi), deregistrationData{Reason: reason, Access: access3GPP}, nil, false)
}

func communicationRoutes(a Communication) []route {
	return []route{
		{http.MethodPost, pathUEContexts + "{supi}/n1-n2-messages", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			var doc n1n2TransferData
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			m, err := doc.n1n2(&in.message)
			if err != nil {
				return nil, invalidIE(err)
			}
			if err := a.N1N2Transfer(ctx, supi, m); err != nil {
				return nil, err
			}
			return &answer{doc: n1n2TransferResult{Cause: "N1_N2_TRANSFER_INITIATED"}}, nil
		}},
		{http.MethodPost, pathCallback + "{supi}/sm-context-status/{session}", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			id, err := in.session()
			if err != nil {
				return nil, err
			}
			var doc smStatusNotification
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			if doc.Info.Status != statusReleased {
				return nil, invalidIEf("resourceStatus %.40q: want %s", doc.Info.Status, statusReleased)
			}
			return nil, a.SMContextReleased(ctx, supi, id, doc.Ref)
		}},
		{http.MethodPost, pathCallback + "{supi}/dereg-notify", func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			var doc deregistrationData
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			if doc.Reason == "" {
				return nil, invalidIEf("deregReason is mandatory")
			}
			return nil, a.Deregister(ctx, supi, doc.Reason)
		}},
	}
}

func (j *n1n2TransferData) n1n2(m *message) (out N1N2Message, err error) {
	if j.N1 == nil && j.N2 == nil {
		return out, errors.New("n1MessageContainer or n2InfoContainer is needed")
	}
	if out.Session, err = sessionID(j.Session); err != nil {
		return out, err
	}
	if j.N1 != nil {
		if j.N1.Class != classSM {
			return out, fmt.Errorf("n1MessageClass %.20q: want %s", j.N1.Class, classSM)
		}
		if out.N1, err = m.part(&j.N1.Content); err != nil {
			return out, fmt.Errorf("n1MessageContent: %w", err)
		}
	}
	if j.N2 != nil {
		sm := j.N2.SM
		if j.N2.Class != classSM || sm == nil || sm.Content == nil || sm.Session != j.Session {
			return out, errors.New("n2InfoContainer: want class SM, and the smInfo of this PDU session with its n2InfoContent")
		}
		if out.N2, err = m.part(&sm.Content.Data); err != nil {
			return out, fmt.Errorf("ngapData: %w", err)
		}
		if out.N2Type = sm.Content.Type; out.N2Type == "" {
			return out, errors.New("ngapIeType is mandatory")
		}
		if sm.SNSSAI != nil {
			if out.SNSSAI, err = sm.SNSSAI.snssai(); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}
