package sbi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// EquipmentIdentity is N5g-eir_EquipmentIdentityCheck (TS 29.511 clause 5.2, Release
// 17). It is implemented by *udm.UDM, which answers from the subscription's lock, and
// by *Client.
type EquipmentIdentity interface {
	// CheckEquipment says whether the device with this PEI may serve the subscriber. An
	// empty PEI, which the specification does not know, asks whether the subscriber may
	// use a device that does not tell it. Problems: ERROR_EQUIPMENT_UNKNOWN (404).
	CheckEquipment(ctx context.Context, supi ident.SUPI, pei ident.PEI) (EquipmentStatus, error)
}

// EquipmentStatus is TS 29.511 type EquipmentStatus.
type EquipmentStatus string

// Equipment statuses.
const (
	EquipmentWhitelisted EquipmentStatus = "WHITELISTED"
	EquipmentBlacklisted EquipmentStatus = "BLACKLISTED"
	EquipmentGreylisted  EquipmentStatus = "GREYLISTED" // may be used, and is watched
)

// CauseEquipmentUnknown is an answer of an EIR (TS 29.511 table 6.1.3.2.3.1-3).
const CauseEquipmentUnknown = "ERROR_EQUIPMENT_UNKNOWN"

// EquipmentEvents is who wants to hear of devices: the event CHANGE_OF_SUPI_PEI_ASSOCIATION
// of Nudm_EventExposure (TS 29.503 clause 5.5.2.4, Release 17), and refusals by a lock,
// which the specification leaves to the operator. The receiver's address is configured;
// there is no subscription. It is implemented by the receiver and by *Client.
type EquipmentEvents interface {
	// EquipmentEvent takes one event. An event that was answered with an error is sent
	// again; the receiver tells repeats by their ID.
	EquipmentEvent(ctx context.Context, e EquipmentEvent) error
}

// EquipmentEventType is TS 29.503 type EventType, and one value of ours.
type EquipmentEventType string

// Equipment events.
const (
	// EquipmentChanged: the UE registers with another device than the time before.
	EquipmentChanged EquipmentEventType = "CHANGE_OF_SUPI_PEI_ASSOCIATION"
	// EquipmentRefused: the lock does not allow the device.
	EquipmentRefused EquipmentEventType = "SIMREACH_PEI_REFUSED"
)

// EquipmentEvent is the part of TS 29.503 type MonitoringReport used.
type EquipmentEvent struct {
	ID   string // unique for each event
	Type EquipmentEventType
	SUPI ident.SUPI
	PEI  ident.PEI // of the device; empty when it did not tell
	Old  ident.PEI // the one before, or the one that the lock demands
	At   time.Time
}

const (
	pathEquipment       = "/n5g-eir-eic/v1/equipment-status"
	pathEquipmentEvents = "/simreach-callback/v1/equipment-events"
)

type eirResponse struct {
	Status EquipmentStatus `json:"status"`
}

// monitoringReport is the part of type MonitoringReport used. eventId, supi and oldPei
// are ours.
type monitoringReport struct {
	ID     string             `json:"eventId"`
	Type   EquipmentEventType `json:"eventType"`
	Report struct {
		New ident.PEI `json:"newPei"`
		Old ident.PEI `json:"oldPei,omitempty"`
	} `json:"report"`
	SUPI ident.SUPI `json:"supi"`
	At   time.Time  `json:"timeStamp"`
}

// CheckEquipment implements EquipmentIdentity.
func (c *Client) CheckEquipment(ctx context.Context, supi ident.SUPI, pei ident.PEI) (EquipmentStatus, error) {
	query := url.Values{"pei": {string(pei)}, "supi": {string(supi)}}
	r := request{method: http.MethodGet, path: pathEquipment + "?" + query.Encode(), repeatable: true}
	resp, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	var in eirResponse
	if err := c.read(r, resp, &in); err != nil {
		return "", err
	}
	switch in.Status {
	case EquipmentWhitelisted, EquipmentBlacklisted, EquipmentGreylisted:
		return in.Status, nil
	}
	return "", c.unreadable(r, resp, fmt.Errorf("status %.40q", string(in.Status)))
}

// EquipmentEvent implements EquipmentEvents.
func (c *Client) EquipmentEvent(ctx context.Context, e EquipmentEvent) error {
	doc := monitoringReport{ID: e.ID, Type: e.Type, SUPI: e.SUPI, At: e.At.UTC()}
	doc.Report.New, doc.Report.Old = e.PEI, e.Old
	return c.call(ctx, http.MethodPost, pathEquipmentEvents, doc, nil, true)
}

func equipmentIdentityRoutes(e EquipmentIdentity) []route {
	return []route{{http.MethodGet, pathEquipment, func(ctx context.Context, in *incoming) (*answer, error) {
		query := in.URL.Query()
		supi, err := ident.ParseSUPI(query.Get("supi"))
		if err != nil {
			return nil, invalidIE(err)
		}
		pei := ident.PEI(query.Get("pei"))
		if err := checkPEI(pei); err != nil {
			return nil, invalidIE(err)
		}
		status, err := e.CheckEquipment(ctx, supi, pei)
		if err != nil {
			return nil, err
		}
		return &answer{doc: eirResponse{status}}, nil
	}}}
}

func equipmentEventsRoutes(e EquipmentEvents) []route {
	return []route{{http.MethodPost, pathEquipmentEvents, func(ctx context.Context, in *incoming) (*answer, error) {
		var doc monitoringReport
		if err := in.into(&doc); err != nil {
			return nil, err
		}
		supi, err := ident.ParseSUPI(string(doc.SUPI))
		if err != nil {
			return nil, invalidIE(err)
		}
		if doc.ID == "" || doc.Type == "" {
			return nil, invalidIEf("eventId and eventType are mandatory")
		}
		return nil, e.EquipmentEvent(ctx, EquipmentEvent{
			ID: doc.ID, Type: doc.Type, SUPI: supi, PEI: doc.Report.New, Old: doc.Report.Old, At: doc.At,
		})
	}}}
}
