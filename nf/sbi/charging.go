package sbi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Charging is Nchf_ConvergedCharging (TS 32.290 clause 6, TS 32.291 clause 6.1, TS
// 32.255 clause 5.2.2, Release 17) as the SMF uses it: offline only, no quota is asked
// for. It is implemented by the CHF, which here is the manager, and by *Client.
//
// Each PDU session has one charging session: Create when it is established, Update with
// the traffic since the invocation before, Release when it has ended. Invocations of a
// session come one after another. One that was not answered, or answered with an error
// other than CONTEXT_NOT_FOUND, is repeated with the same content and the same Sequence,
// so that the receiver counts traffic exactly once if it ignores what it has for
// (ChargingID, Sequence). A CHF that lost its state answers CONTEXT_NOT_FOUND (404) to an
// Update or Release; a Create with the Sequence of that invocation and its traffic follows.
// An SMF that is killed sends no Release: its sessions are not on its directory
// (SessionEvents) any more when it is back.
type Charging interface {
	// CreateCharging opens the charging session and returns its name. A repeat returns
	// the same name.
	CreateCharging(ctx context.Context, d ChargingData) (ref ChargingRef, err error)
	// UpdateCharging reports traffic. An unknown ref: Problem CONTEXT_NOT_FOUND (404).
	UpdateCharging(ctx context.Context, ref ChargingRef, d ChargingData) error
	// ReleaseCharging reports the last traffic. An unknown ref: Problem
	// CONTEXT_NOT_FOUND (404).
	ReleaseCharging(ctx context.Context, ref ChargingRef, d ChargingData) error
}

// ChargingRef names a charging session in its CHF (TS 32.291 ChargingDataRef).
type ChargingRef string

// ChargingData is the part of TS 32.291 type ChargingDataRequest used.
type ChargingData struct {
	SMF NFID
	// Sequence counts the invocations of a charging session from 1.
	Sequence uint32
	At       time.Time // of the invocation
	// ChargingID is unique for each PDU session, also across restarts of the SMF.
	ChargingID string
	SUPI       ident.SUPI
	PEI        ident.PEI // empty when the UE did not tell
	Session    ident.PDUSessionID
	DNN        ident.DNN
	SNSSAI     ident.SNSSAI
	Address    ident.UEAddress
	UPF        string         // that measured
	Location   ident.Location // last known; RAT is NR
	AMBR       ident.AMBR     // session AMBR, bit/s
	Started    time.Time      // of the PDU session
	Stopped    time.Time      // of the PDU session; zero before Release
	// Used is the traffic since the invocation before; nil for none.
	Used *UsedUnits
}

// UsedUnits is traffic, the part of TS 32.291 type UsedUnitContainer used. Octets are
// those of the UE's IP packets.
type UsedUnits struct {
	UplinkOctets, DownlinkOctets   uint64
	UplinkPackets, DownlinkPackets uint64
	From, To                       time.Time // of the measurement
}

const pathCharging = "/nchf-convergedcharging/v3/chargingdata"

// chargingDataRequest is the part of type ChargingDataRequest used.
type chargingDataRequest struct {
	Subscriber ident.SUPI `json:"subscriberIdentifier"`
	Consumer   struct {
		NFID NFID   `json:"nFName"`
		Kind string `json:"nodeFunctionality"`
	} `json:"nfConsumerIdentification"`
	At       time.Time           `json:"invocationTimeStamp"`
	Sequence uint32              `json:"invocationSequenceNumber"`
	Usage    []multipleUnitUsage `json:"multipleUnitUsage,omitempty"`
	Session  pduSessionCharging  `json:"pDUSessionChargingInformation"`
}

type multipleUnitUsage struct {
	RatingGroup uint32              `json:"ratingGroup"`
	UPF         string              `json:"uPFID,omitempty"`
	Used        []usedUnitContainer `json:"usedUnitContainer"`
}

// usedUnitContainer has the packets as attributes of ours: the specification counts
// octets only.
type usedUnitContainer struct {
	Uplink          uint64 `json:"uplinkVolume"`
	Downlink        uint64 `json:"downlinkVolume"`
	Total           uint64 `json:"totalVolume"`
	UplinkPackets   uint64 `json:"simreachUplinkPackets"`
	DownlinkPackets uint64 `json:"simreachDownlinkPackets"`
	Local           uint32 `json:"localSequenceNumber"`
	Info            struct {
		First time.Time `json:"timeofFirstUsage"`
		Last  time.Time `json:"timeofLastUsage"`
	} `json:"pDUContainerInformation"`
}

type pduSessionCharging struct {
	ChargingID string        `json:"sMFchargingId"`
	User       userJSON      `json:"userInformation"`
	Location   *locationJSON `json:"userLocationinfo,omitempty"`
	PDU        struct {
		Slice struct {
			SNSSAI snssaiJSON `json:"sNSSAI"`
		} `json:"networkSlicingInfo"`
		Session int        `json:"pduSessionID"`
		DNN     ident.DNN  `json:"dnnId"`
		RAT     string     `json:"ratType"`
		Start   *time.Time `json:"startTime,omitempty"`
		Stop    *time.Time `json:"stopTime,omitempty"`
		AMBR    *ambrJSON  `json:"authorizedSessionAMBR,omitempty"`
		Address struct {
			V4 string `json:"pduIPv4Address,omitempty"`
			V6 string `json:"pduIPv6AddresswithPrefix,omitempty"`
		} `json:"pduAddress"`
		UPF string `json:"simreachUpf,omitempty"`
	} `json:"pduSessionInformation"`
}

type userJSON struct {
	PEI ident.PEI `json:"servedPEI,omitempty"`
}

// chargingDataResponse is the part of type ChargingDataResponse used.
type chargingDataResponse struct {
	At       time.Time `json:"invocationTimeStamp"`
	Sequence uint32    `json:"invocationSequenceNumber"`
}

func toCharging(d ChargingData) chargingDataRequest {
	j := chargingDataRequest{Subscriber: d.SUPI, At: d.At.UTC(), Sequence: d.Sequence}
	j.Consumer.NFID, j.Consumer.Kind = d.SMF, "SMF"
	j.Session.ChargingID, j.Session.User.PEI, j.Session.Location = d.ChargingID, d.PEI, toLocation(d.Location)
	p := &j.Session.PDU
	p.Slice.SNSSAI, p.Session, p.DNN, p.RAT, p.UPF = toSNSSAI(d.SNSSAI), int(d.Session), d.DNN, "NR", d.UPF
	p.Start, p.Stop = timeJSON(d.Started), timeJSON(d.Stopped)
	ambr := toAMBR(d.AMBR)
	p.AMBR = &ambr
	if d.Address.V4.IsValid() {
		p.Address.V4 = d.Address.V4.String()
	}
	if d.Address.V6.IsValid() {
		p.Address.V6 = d.Address.V6.String()
	}
	if u := d.Used; u != nil {
		c := usedUnitContainer{
			Uplink: u.UplinkOctets, Downlink: u.DownlinkOctets, Total: u.UplinkOctets + u.DownlinkOctets,
			UplinkPackets: u.UplinkPackets, DownlinkPackets: u.DownlinkPackets, Local: d.Sequence,
		}
		c.Info.First, c.Info.Last = u.From.UTC(), u.To.UTC()
		j.Usage = []multipleUnitUsage{{UPF: d.UPF, Used: []usedUnitContainer{c}}}
	}
	return j
}

// timeJSON returns nil for the zero time.
func timeJSON(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func (j *chargingDataRequest) data() (d ChargingData, err error) {
	p := &j.Session.PDU
	d = ChargingData{
		SMF: j.Consumer.NFID, Sequence: j.Sequence, At: j.At, ChargingID: j.Session.ChargingID,
		PEI: j.Session.User.PEI, DNN: p.DNN, UPF: p.UPF, Started: timeOf(p.Start), Stopped: timeOf(p.Stop),
	}
	if d.ChargingID == "" || d.Sequence == 0 {
		return d, fmt.Errorf("sMFchargingId and invocationSequenceNumber (from 1) are mandatory")
	}
	if d.SUPI, err = ident.ParseSUPI(string(j.Subscriber)); err != nil {
		return d, err
	}
	if d.Session, err = sessionID(p.Session); err != nil {
		return d, err
	}
	if d.SNSSAI, err = p.Slice.SNSSAI.snssai(); err != nil {
		return d, err
	}
	if d.Address.V4, err = parseV4(p.Address.V4); err != nil {
		return d, err
	}
	if d.Address.V6, err = parseV6Prefix(p.Address.V6); err != nil {
		return d, err
	}
	if p.AMBR != nil {
		if d.AMBR, err = p.AMBR.ambr(); err != nil {
			return d, err
		}
	}
	place, err := j.Session.Location.location()
	if err != nil {
		return d, err
	}
	if place != nil {
		d.Location = *place
	}
	for _, m := range j.Usage {
		for _, c := range m.Used {
			d.add(c)
		}
	}
	return d, nil
}

// add sums up containers: others than our SMF may send several.
func (d *ChargingData) add(c usedUnitContainer) {
	if d.Used == nil {
		d.Used = &UsedUnits{From: c.Info.First, To: c.Info.Last}
	}
	u := d.Used
	u.UplinkOctets += c.Uplink
	u.DownlinkOctets += c.Downlink
	u.UplinkPackets += c.UplinkPackets
	u.DownlinkPackets += c.DownlinkPackets
	if c.Info.First.Before(u.From) {
		u.From = c.Info.First
	}
	if c.Info.Last.After(u.To) {
		u.To = c.Info.Last
	}
}

// CreateCharging implements Charging.
func (c *Client) CreateCharging(ctx context.Context, d ChargingData) (ChargingRef, error) {
	r, err := jsonRequest(http.MethodPost, pathCharging, toCharging(d), true)
	if err != nil {
		return "", err
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	ref, err := lastSegment(resp.location)
	if err != nil {
		return "", c.unreadable(r, resp, err)
	}
	return ChargingRef(ref), nil
}

// UpdateCharging implements Charging.
func (c *Client) UpdateCharging(ctx context.Context, ref ChargingRef, d ChargingData) error {
	return c.call(ctx, http.MethodPost, pathCharging+"/"+segment(string(ref))+"/update", toCharging(d), nil, true)
}

// ReleaseCharging implements Charging.
func (c *Client) ReleaseCharging(ctx context.Context, ref ChargingRef, d ChargingData) error {
	return c.call(ctx, http.MethodPost, pathCharging+"/"+segment(string(ref))+"/release", toCharging(d), nil, true)
}

func chargingRoutes(s Charging) []route {
	read := func(in *incoming) (ChargingData, error) {
		var doc chargingDataRequest
		if err := in.into(&doc); err != nil {
			return ChargingData{}, err
		}
		d, err := doc.data()
		if err != nil {
			return d, invalidIE(err)
		}
		return d, nil
	}
	const one = pathCharging + "/{ref}"
	return []route{
		{http.MethodPost, pathCharging, func(ctx context.Context, in *incoming) (*answer, error) {
			d, err := read(in)
			if err != nil {
				return nil, err
			}
			ref, err := s.CreateCharging(ctx, d)
			if err != nil {
				return nil, err
			}
			return &answer{
				status: http.StatusCreated, location: pathCharging + "/" + segment(string(ref)),
				doc: chargingDataResponse{At: d.At, Sequence: d.Sequence},
			}, nil
		}},
		{http.MethodPost, one + "/update", func(ctx context.Context, in *incoming) (*answer, error) {
			d, err := read(in)
			if err != nil {
				return nil, err
			}
			if err := s.UpdateCharging(ctx, ChargingRef(in.PathValue("ref")), d); err != nil {
				return nil, err
			}
			return &answer{doc: chargingDataResponse{At: d.At, Sequence: d.Sequence}}, nil
		}},
		{http.MethodPost, one + "/release", func(ctx context.Context, in *incoming) (*answer, error) {
			d, err := read(in)
			if err != nil {
				return nil, err
			}
			return nil, s.ReleaseCharging(ctx, ChargingRef(in.PathValue("ref")), d)
		}},
	}
}
