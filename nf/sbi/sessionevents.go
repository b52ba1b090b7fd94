package sbi

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Nsmf_EventExposure (TS 29.508 clause 5). The publisher is in
// sessionevents_server.go, the subscriber in sessionevents_client.go.
//
//	subscriber                                   SMF
//	  POST .../subscriptions {notifUri, ImmeRep} ->
//	                      <- 201 {subId, eventNotifs: the sessions that exist}
//	            <- POST notifUri {eventNotifs}       as they happen, in order
//	  PUT .../subscriptions/{subId} {expiry}     -> every refresh
//	                                             <- 404 after the SMF restarted
//	  POST .../subscriptions ...                 -> from the start
const pathEvents = "/nsmf-event-exposure/v1/subscriptions"

// eventExposure is the part of type NsmfEventExposure used.
type eventExposure struct {
	AnyUE     bool                `json:"anyUeInd,omitempty"`
	SubID     string              `json:"subId,omitempty"`
	NotifID   string              `json:"notifId"`
	NotifURI  string              `json:"notifUri"`
	Events    []eventSub          `json:"eventSubs"`
	Notifs    []eventNotification `json:"eventNotifs,omitempty"`
	Immediate bool                `json:"ImmeRep,omitempty"`
	Method    string              `json:"notifMethod,omitempty"`
	Expiry    *time.Time          `json:"expiry,omitempty"`
}

type eventSub struct {
	Event EventType `json:"event"`
}

// eventReport is type NsmfEventExposureNotification.
type eventReport struct {
	NotifID string              `json:"notifId"`
	Notifs  []eventNotification `json:"eventNotifs"`
}

// eventNotification is the part of type EventNotification used. A change of
// address has the new one in adIpv4Addr and adIpv6Prefix, the others have theirs in
// ipv4Addr and ipv6Prefixes.
type eventNotification struct {
	Event   EventType   `json:"event"`
	At      time.Time   `json:"timeStamp"`
	SUPI    ident.SUPI  `json:"supi,omitempty"`
	Session int         `json:"pduSeId,omitempty"`
	DNN     ident.DNN   `json:"dnn,omitempty"`
	SNSSAI  *snssaiJSON `json:"snssai,omitempty"`
	V4      string      `json:"ipv4Addr,omitempty"`
	V6      []string    `json:"ipv6Prefixes,omitempty"`
	AddedV4 string      `json:"adIpv4Addr,omitempty"`
	AddedV6 string      `json:"adIpv6Prefix,omitempty"`
	UPF     *upfInfo    `json:"upfInfo,omitempty"`
}

// upfInfo is type UpfInformation.
type upfInfo struct {
	ID string `json:"upfId,omitempty"`
}

const methodOnEvent = "ON_EVENT_DETECTION"

// allEvents are the events of this package.
var allEvents = [...]EventType{SessionEstablished, SessionReleased, AddressChanged}

func toNotification(e SessionEvent) eventNotification {
	slice := toSNSSAI(e.SNSSAI)
	j := eventNotification{Event: e.Type, At: e.At.UTC(), SUPI: e.SUPI, Session: int(e.Session), DNN: e.DNN, SNSSAI: &slice}
	v4, v6 := "", ""
	if e.Address.V4.IsValid() {
		v4 = e.Address.V4.String()
	}
	if e.Address.V6.IsValid() {
		v6 = e.Address.V6.String()
	}
	switch {
	case e.Type == AddressChanged:
		j.AddedV4, j.AddedV6 = v4, v6
	case v6 != "":
		j.V6 = []string{v6}
		fallthrough
	default:
		j.V4 = v4
	}
	if e.UPF != "" {
		j.UPF = &upfInfo{ID: e.UPF}
	}
	return j
}

func toNotifications(events []SessionEvent) []eventNotification {
	var out []eventNotification
	for _, e := range events {
		out = append(out, toNotification(e))
	}
	return out
}

func (j *eventNotification) event() (out SessionEvent, err error) {
	if out.SUPI, err = ident.ParseSUPI(string(j.SUPI)); err != nil {
		return out, err
	}
	if out.Session, err = sessionID(j.Session); err != nil {
		return out, err
	}
	if j.SNSSAI != nil {
		if out.SNSSAI, err = j.SNSSAI.snssai(); err != nil {
			return out, err
		}
	}
	v4, v6 := j.V4, ""
	if len(j.V6) > 0 {
		v6 = j.V6[0]
	}
	if j.Event == AddressChanged {
		v4, v6 = j.AddedV4, j.AddedV6
	}
	if out.Address.V4, err = parseV4(v4); err != nil {
		return out, err
	}
	if out.Address.V6, err = parseV6Prefix(v6); err != nil {
		return out, err
	}
	if j.UPF != nil {
		out.UPF = j.UPF.ID
	}
	out.Type, out.DNN, out.At = j.Event, j.DNN, j.At
	return out, nil
}

// sessionEvents converts notifications; those of events that this package does not
// know are left out.
func sessionEvents(in []eventNotification) ([]SessionEvent, error) {
	out := make([]SessionEvent, 0, len(in))
	for i := range in {
		if !knownEvent(in[i].Event) {
			continue
		}
		e, err := in[i].event()
		if err != nil {
			return nil, fmt.Errorf("eventNotifs[%d]: %w", i, err)
		}
		out = append(out, e)
	}
	return out, nil
}

func knownEvent(t EventType) bool {
	for _, k := range allEvents {
		if t == k {
			return true
		}
	}
	return false
}

// check reports what is wrong with a subscription, and the events it is for.
func (j *eventExposure) check() (wanted map[EventType]bool, err error) {
	if !j.AnyUE {
		return nil, errors.New("anyUeInd: only subscriptions to any UE are understood")
	}
	u, err := url.Parse(j.NotifURI)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("notifUri %.100q: want an http URL", j.NotifURI)
	}
	if j.NotifID == "" {
		return nil, errors.New("notifId is mandatory")
	}
	wanted = make(map[EventType]bool)
	for _, e := range j.Events {
		if knownEvent(e.Event) {
			wanted[e.Event] = true
		}
	}
	if len(wanted) == 0 {
		return nil, errors.New("eventSubs: want PDU_SES_EST, PDU_SES_REL or UE_IP_CH")
	}
	return wanted, nil
}

// eventKey is the session an event is about.
type eventKey struct {
	supi ident.SUPI
	id   ident.PDUSessionID
}

func (e SessionEvent) key() eventKey { return eventKey{e.SUPI, e.Session} }

// samePlace reports whether two events leave their session alike for whoever wants
// to reach it.
func samePlace(a, b SessionEvent) bool {
	return a.DNN == b.DNN && a.SNSSAI == b.SNSSAI && a.UPF == b.UPF && a.Address == b.Address
}
