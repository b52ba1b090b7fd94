package api

import (
	"maps"
	"strconv"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// Subscriber is a SIM as seen by its IMSI. What is unset is null, but for strings that
// clients take without looking (ipAddress, msisdn, sessionStatus.imei): those are empty.
type Subscriber struct {
	APN                        string                `json:"apn"`
	Bundles                    []string              `json:"bundles"`
	CoreSync                   string                `json:"coreSync"` // an extension: "done", or "pending" while the core has not taken what is shown
	CreatedAt                  int64                 `json:"createdAt"`
	CreatedTime                int64                 `json:"createdTime"`
	ExpiredAt                  *int64                `json:"expiredAt"`
	ExpiryAction               *string               `json:"expiryAction"`
	ExpiryTime                 *int64                `json:"expiryTime"`
	GroupID                    *string               `json:"groupId"`
	ICCID                      *string               `json:"iccid"`
	IMEILock                   *IMEILock             `json:"imeiLock"`
	IMSI                       string                `json:"imsi"`
	IPAddress                  string                `json:"ipAddress"`
	LastModifiedAt             int64                 `json:"lastModifiedAt"`
	LastModifiedTime           int64                 `json:"lastModifiedTime"`
	LastPortMappingCreatedTime *int64                `json:"lastPortMappingCreatedTime"`
	LocationRegistrationStatus *LocationRegistration `json:"locationRegistrationStatus"`
	ModuleType                 *string               `json:"moduleType"`
	MSISDN                     string                `json:"msisdn"`
	OperatorID                 string                `json:"operatorId"`
	PacketCaptureSessions      []string              `json:"packetCaptureSessions"`
	Plan                       int                   `json:"plan"`
	PreviousSession            *SessionStatus        `json:"previousSession"`
	RegisteredTime             *int64                `json:"registeredTime"`
	RenewalFeeStatusSetTime    *int64                `json:"renewalFeeStatusSetTime"`
	SerialNumber               *string               `json:"serialNumber"`
	SessionStatus              SessionStatus         `json:"sessionStatus"`
	SIMID                      *string               `json:"simId"`
	SpeedClass                 string                `json:"speedClass"`
	Status                     string                `json:"status"`
	Subscription               string                `json:"subscription"`
	Tags                       map[string]string     `json:"tags"`
	TerminationEnabled         bool                  `json:"terminationEnabled"`
	Type                       string                `json:"type"` // the speed class again
}

// IMEILock names the device that a SIM is tied to.
type IMEILock struct {
	IMEI string `json:"imei"`
}

// LocationRegistration says where the device registered. Devices here are 5G devices:
// their registration is shown as packet service.
type LocationRegistration struct {
	CS  *Registration `json:"cs"`
	EPS *Registration `json:"eps"`
	PS  *Registration `json:"ps"`
}

// Registration is a network. Clients know the key as plmn or as vplmn.
type Registration struct {
	LastModifiedTime int64  `json:"lastModifiedTime"`
	PLMN             string `json:"plmn"`
	VPLMN            string `json:"vplmn"`
}

// SessionStatus is a session that exists or existed.
type SessionStatus struct {
	AMBR                    *AMBR      `json:"ambr,omitempty"` // an extension
	Cell                    *Cell      `json:"cell"`
	CreatedTime             *int64     `json:"createdTime,omitempty"`
	DeletedTime             *int64     `json:"deletedTime,omitempty"`
	DNSServers              []string   `json:"dnsServers"`
	GatewayPrivateIPAddress *string    `json:"gatewayPrivateIpAddress"`
	GatewayPublicIPAddress  *string    `json:"gatewayPublicIpAddress"`
	IMEI                    string     `json:"imei"`
	IMSI                    string     `json:"imsi"`
	LastUpdatedAt           int64      `json:"lastUpdatedAt"`
	Location                *string    `json:"location"`
	Online                  bool       `json:"online"`
	Placement               *Placement `json:"placement"`
	SessionID               *string    `json:"sessionId"`
	Subscription            string     `json:"subscription"`
	UEIPAddress             string     `json:"ueIpAddress"`
	UPF                     string     `json:"upf,omitempty"` // an extension
	VPGID                   *string    `json:"vpgId"`
}

// AMBR is the most that a session may carry, bit/s (session AMBR, TS 23.501 clause
// 5.7.1.6).
type AMBR struct {
	Uplink   uint64 `json:"uplink"`
	Downlink uint64 `json:"downlink"`
}

// Placement is where a session's user plane stands.
type Placement struct {
	InfrastructureProvider string `json:"infrastructureProvider"`
	Region                 string `json:"region"`
}

// Cell is where a device camps. radioType "NR" with nci, the 36-bit NR cell identity (TS
// 38.413 clause 9.3.1.7), is an extension: clients' schema ends at LTE.
type Cell struct {
	RadioType string `json:"radioType"`
	MCC       int    `json:"mcc"`
	MNC       int    `json:"mnc"`
	TAC       uint32 `json:"tac"`
	NCI       uint64 `json:"nci"`
}

// Sim is a SIM as seen by its SIM ID.
type Sim struct {
	ActiveProfileID            string                `json:"activeProfileId"`
	ArcSessionStatus           *string               `json:"arcSessionStatus"`
	Capabilities               Capabilities          `json:"capabilities"`
	CoreSync                   string                `json:"coreSync"`
	CreatedTime                int64                 `json:"createdTime"`
	ExpiryAction               *string               `json:"expiryAction"`
	ExpiryTime                 *int64                `json:"expiryTime"`
	GroupID                    *string               `json:"groupId"`
	IMEILock                   *IMEILock             `json:"imeiLock"`
	LastLocationUpdateTime     *int64                `json:"lastLocationUpdateTime"`
	LastModifiedTime           int64                 `json:"lastModifiedTime"`
	LastPortMappingCreatedTime *int64                `json:"lastPortMappingCreatedTime"`
	LocalInfo                  *string               `json:"localInfo"`
	ModuleType                 *string               `json:"moduleType"`
	OperatorID                 string                `json:"operatorId"`
	OTASerialNumber            *string               `json:"otaSerialNumber"`
	PcapEndTime                *int64                `json:"pcapEndTime"`
	PcapStartTime              *int64                `json:"pcapStartTime"`
	PreviousSession            *SessionStatus        `json:"previousSession"`
	Profiles                   map[string]SIMProfile `json:"profiles"`
	RenewalFeeStatusSetTime    *int64                `json:"renewalFeeStatusSetTime"`
	SerialNumber               *string               `json:"serialNumber"`
	SessionStatus              SessionStatus         `json:"sessionStatus"`
	SIMID                      string                `json:"simId"`
	SpeedClass                 string                `json:"speedClass"`
	Status                     string                `json:"status"`
	Tags                       map[string]string     `json:"tags"`
	TerminationEnabled         bool                  `json:"terminationEnabled"`
	TestmodeExhaustedTime      *int64                `json:"testmodeExhaustedTime"`
	Type                       string                `json:"type"`
}

// Capabilities says what a SIM can do.
type Capabilities struct {
	Data bool `json:"data"`
	SMS  bool `json:"sms"`
}

// SIMProfile is what is on a SIM; here there is one, with one subscription.
type SIMProfile struct {
	ICCID        string                       `json:"iccid"`
	OTASupported bool                         `json:"otaSupported"`
	PrimaryIMSI  string                       `json:"primaryImsi"`
	Subscribers  map[string]ProfileSubscriber `json:"subscribers"`
}

// ProfileSubscriber is a subscription of a SIMProfile.
type ProfileSubscriber struct {
	Bundles      []string     `json:"bundles"`
	Capabilities Capabilities `json:"capabilities"`
	IMSI         string       `json:"imsi"`
	MSISDN       string       `json:"msisdn"`
	Status       string       `json:"status"`
	Subscription string       `json:"subscription"`
}

// millis returns a time as clients have it, or nil for the zero time.
func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

// orNil returns nil for the empty string.
func orNil[T ~string](s T) *string {
	if s == "" {
		return nil
	}
	text := string(s)
	return &text
}

func imeiLock(l *manager.IMEILock) *IMEILock {
	if l == nil {
		return nil
	}
	return &IMEILock{l.String()}
}

func coreSync(s manager.SIM) string {
	if s.Dirty {
		return "pending"
	}
	return "done"
}

// tagsOf always has a name: clients show it without looking.
func tagsOf(tags map[string]string) map[string]string {
	out := map[string]string{"name": ""}
	maps.Copy(out, tags)
	return out
}

func listOrEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func cell(l ident.Location) *Cell {
	if l.NRCGI.PLMN == (ident.PLMN{}) {
		return nil
	}
	mcc, _ := strconv.Atoi(l.NRCGI.PLMN.MCC)
	mnc, _ := strconv.Atoi(l.NRCGI.PLMN.MNC)
	return &Cell{RadioType: "NR", MCC: mcc, MNC: mnc, TAC: uint32(l.TAI.TAC), NCI: uint64(l.NRCGI.Cell)}
}

func sessionStatus(sim manager.SIM, s *manager.SessionStatus) SessionStatus {
	out := SessionStatus{DNSServers: []string{}, IMSI: string(sim.IMSI), Subscription: sim.Subscription}
	if s == nil {
		return out
	}
	out.Cell, out.IMEI, out.LastUpdatedAt, out.UPF = cell(s.Location), s.IMEI(), s.Updated.UnixMilli(), s.UPF
	if s.AMBR != (ident.AMBR{}) {
		out.AMBR = &AMBR{Uplink: s.AMBR.Uplink, Downlink: s.AMBR.Downlink}
	}
	out.SessionID, out.CreatedTime, out.DeletedTime = orNil(s.ID), millis(s.Created), millis(s.Deleted)
	out.Placement = &Placement{InfrastructureProvider: "simreach", Region: "default"}
	if a := s.Reach(); a.IsValid() {
		out.UEIPAddress = a.String()
	}
	return out
}

// liveStatus is the session as charging knows it, with the address and the presence
// that the directory knows, which hears of changes first.
func liveStatus(r manager.SIMResult) SessionStatus {
	out := sessionStatus(r.SIM, r.Session)
	out.Online = r.Online()
	if a := r.Attached.Address; a.IsValid() {
		out.UEIPAddress, out.UPF = a.String(), r.Attached.UPF
	}
	return out
}

func previousSession(sim manager.SIM) *SessionStatus {
	if sim.Previous == nil {
		return nil
	}
	s := sessionStatus(sim, sim.Previous)
	return &s
}

func registrationOf(sim manager.SIM) *LocationRegistration {
	s := sim.Session
	if s == nil || s.Location.TAI.PLMN == (ident.PLMN{}) {
		return nil
	}
	plmn := s.Location.TAI.PLMN.MCC + s.Location.TAI.PLMN.MNC
	return &LocationRegistration{PS: &Registration{LastModifiedTime: s.Updated.UnixMilli(), PLMN: plmn, VPLMN: plmn}}
}

func subscriber(r manager.SIMResult) Subscriber {
	sim := r.SIM
	out := Subscriber{
		Bundles: listOrEmpty(sim.Bundles), CoreSync: coreSync(sim), CreatedAt: sim.Created.UnixMilli(), CreatedTime: sim.Created.UnixMilli(),
		ExpiredAt: millis(sim.ExpiryTime), ExpiryAction: orNil(sim.ExpiryAction), ExpiryTime: millis(sim.ExpiryTime), GroupID: orNil(sim.GroupID),
		ICCID: orNil(sim.ICCID), IMEILock: imeiLock(sim.Lock), IMSI: string(sim.IMSI),
		LastModifiedAt: sim.Modified.UnixMilli(), LastModifiedTime: sim.Modified.UnixMilli(), LastPortMappingCreatedTime: millis(sim.PortMapped),
		LocationRegistrationStatus: registrationOf(sim), ModuleType: orNil(sim.ModuleType), MSISDN: sim.MSISDN, OperatorID: string(sim.OperatorID),
		PacketCaptureSessions: []string{}, PreviousSession: previousSession(sim), RegisteredTime: millis(sim.Registered), SerialNumber: orNil(sim.SerialNumber),
		SessionStatus: liveStatus(r), SIMID: orNil(sim.SIMID), SpeedClass: string(sim.SpeedClass), Status: string(sim.Status), Subscription: sim.Subscription,
		Tags: tagsOf(sim.Tags), TerminationEnabled: sim.TerminationEnabled, Type: string(sim.SpeedClass),
	}
	if sim.Session != nil {
		out.APN = string(sim.Session.DNN)
	}
	out.IPAddress = out.SessionStatus.UEIPAddress
	return out
}

// subscriptionStatus is the status of a SIM's subscription, which knows fewer words than
// that of the SIM.
func subscriptionStatus(s manager.SIMStatus) string {
	switch s {
	case manager.SIMInactive, manager.SIMStandby, manager.SIMSuspended:
		s = manager.SIMActive
	}
	return string(s)
}

func simObject(r manager.SIMResult) Sim {
	sim := r.SIM
	can := Capabilities{Data: true}
	out := Sim{
		ActiveProfileID: sim.ICCID, Capabilities: can, CoreSync: coreSync(sim), CreatedTime: sim.Created.UnixMilli(),
		ExpiryAction: orNil(sim.ExpiryAction), ExpiryTime: millis(sim.ExpiryTime), GroupID: orNil(sim.GroupID), IMEILock: imeiLock(sim.Lock),
		LastModifiedTime: sim.Modified.UnixMilli(), LastPortMappingCreatedTime: millis(sim.PortMapped), ModuleType: orNil(sim.ModuleType),
		OperatorID: string(sim.OperatorID), PreviousSession: previousSession(sim), SerialNumber: orNil(sim.SerialNumber), SessionStatus: liveStatus(r),
		SIMID: sim.SIMID, SpeedClass: string(sim.SpeedClass), Status: string(sim.Status), Tags: tagsOf(sim.Tags), TerminationEnabled: sim.TerminationEnabled, Type: "uicc",
		Profiles: map[string]SIMProfile{sim.ICCID: {
			ICCID: sim.ICCID, PrimaryIMSI: string(sim.IMSI),
			Subscribers: map[string]ProfileSubscriber{string(sim.IMSI): {
				Bundles: listOrEmpty(sim.Bundles), Capabilities: can, IMSI: string(sim.IMSI), MSISDN: sim.MSISDN, Status: subscriptionStatus(sim.Status), Subscription: sim.Subscription,
			}},
		}},
	}
	if sim.Session != nil {
		out.LastLocationUpdateTime = millis(sim.Session.Updated)
	}
	return out
}

// SessionEvent is one event of a device's sessions.
type SessionEvent struct {
	APN                     string  `json:"apn"`
	Cell                    *Cell   `json:"cell"`
	CreatedTime             string  `json:"createdTime"` // of the session; milliseconds since 1970, as text
	DNS0                    *string `json:"dns0"`
	DNS1                    *string `json:"dns1"`
	Event                   string  `json:"event"`
	GatewayPrivateIPAddress *string `json:"gatewayPrivateIpAddress"`
	GatewayPublicIPAddress  *string `json:"gatewayPublicIpAddress"`
	IMEI                    string  `json:"imei"`
	IMSI                    string  `json:"imsi"`
	OperatorID              string  `json:"operatorId"`
	SessionID               string  `json:"sessionId"`
	SIMID                   *string `json:"simId"`
	Subscription            *string `json:"subscription"`
	Time                    int64   `json:"time"`
	UEIPAddress             string  `json:"ueIpAddress"`
	VPGID                   *string `json:"vpgId"`
}

func sessionEvent(e manager.SessionRecord) SessionEvent {
	out := SessionEvent{
		APN: string(e.Session.DNN), Cell: cell(e.Session.Location), CreatedTime: strconv.FormatInt(e.Session.Created.UnixMilli(), 10), Event: string(e.Kind),
		IMEI: e.Session.IMEI(), IMSI: string(e.IMSI), OperatorID: string(e.OperatorID), SessionID: e.Session.ID, SIMID: orNil(e.SIMID), Time: e.At.UnixMilli(),
	}
	if a := e.Session.Reach(); a.IsValid() {
		out.UEIPAddress = a.String()
	}
	return out
}
