package api

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/simreach/simreach/manager"
)

// Headers of requests and answers.
const (
	HeaderAPIKey  = "X-Soracom-API-Key"
	HeaderToken   = "X-Soracom-Token"
	HeaderLang    = "X-Soracom-Lang"
	HeaderNextKey = "X-Soracom-Next-Key"
)

// DefaultHostnameSuffix ends host names unless configured otherwise.
const DefaultHostnameSuffix = ".napter.simreach.internal"

// CreateRequest is the body of POST /v1/port_mappings.
type CreateRequest struct {
	Destination *Destination `json:"destination,omitempty"`
	Duration    *float64     `json:"duration,omitempty"` // seconds, whole; absent: the manager's default
	TLSRequired bool         `json:"tlsRequired,omitempty"`
	Source      *Source      `json:"source,omitempty"`
}

// Destination is the device and its port. Answers have the target that the mapping
// was made for and the strategy; requests may name service and protocol.
type Destination struct {
	IMSI     string  `json:"imsi,omitempty"`
	SIMID    string  `json:"simId,omitempty"`
	Port     float64 `json:"port"`
	Service  string  `json:"service,omitempty"`
	Protocol string  `json:"protocol,omitempty"`
	Strategy string  `json:"destinationChoosingStrategy,omitempty"`
}

// Source says who may connect.
type Source struct {
	IPRanges []string `json:"ipRanges"`
}

// PortMapping is an entry as clients see it.
type PortMapping struct {
	CreatedTime int64       `json:"createdTime"` // milliseconds since 1970
	Destination Destination `json:"destination"`
	Duration    int64       `json:"duration"` // seconds
	Endpoint    string      `json:"endpoint"` // "address:port"
	Expired     bool        `json:"expired"`
	ExpiredTime int64       `json:"expiredTime"` // milliseconds since 1970
	Hostname    string      `json:"hostname"`
	IMSI        string      `json:"imsi,omitempty"` // only of mappings made by IMSI
	IPAddress   string      `json:"ipAddress"`
	OperatorID  string      `json:"operatorId"`
	Placement   string      `json:"placement"`
	Port        uint16      `json:"port"`
	SIMID       string      `json:"simId,omitempty"` // only of mappings made by SIM ID
	Source      Source      `json:"source"`
	TLSRequired bool        `json:"tlsRequired"`
}

// RelayStatus is an attached relay in Status.
type RelayStatus struct {
	ID     string            `json:"id"`
	Kind   string            `json:"kind"`
	Live   int               `json:"live"`
	Opened uint64            `json:"opened"`
	Closed uint64            `json:"closed"`
	Denied map[string]uint64 `json:"denied"`
}

// Status is the answer of GET /v1/simreach/status: numbers about the whole manager,
// for a testbed to wait on. Needs no credentials.
type Status struct {
	Entries int           `json:"entries"`
	Devices int           `json:"devices"` // attached, as the directory knows
	Relays  []RelayStatus `json:"relays"`
}

// Error is the body of an error answer, with its HTTP status.
type Error struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("manager API: %d %s: %s", e.Status, e.Code, e.Message)
}

// Is matches a manager.Code, so that errors.Is(err, manager.CodeUnknownEntry) works
// on both sides of the API.
func (e *Error) Is(target error) bool {
	c, ok := target.(manager.Code)
	return ok && string(c) == e.Code
}

func portMapping(e manager.Entry, suffix string) PortMapping {
	m := PortMapping{
		CreatedTime: e.Created.UnixMilli(),
		ExpiredTime: e.Expires.UnixMilli(),
		Duration:    int64(e.Duration().Seconds()),
		Destination: Destination{Port: float64(e.DevicePort), Strategy: string(e.Strategy)},
		Endpoint:    e.Address.String(),
		Hostname:    hostname(e, suffix),
		IPAddress:   e.Address.Addr().String(),
		Port:        e.Address.Port(),
		OperatorID:  string(e.OperatorID),
		Placement:   "default",
		Source:      source(e.Ranges),
		TLSRequired: e.TLS,
	}
	if e.Strategy == manager.IMSIPrioritized {
		m.IMSI, m.Destination.IMSI = string(e.IMSI), string(e.IMSI)
	} else {
		m.SIMID, m.Destination.SIMID = e.SIMID, e.SIMID
	}
	return m
}

func source(ranges []netip.Prefix) Source {
	s := Source{IPRanges: make([]string, len(ranges))}
	for i, r := range ranges {
		s.IPRanges[i] = r.String()
	}
	return s
}

// hostname is the relay's address with dashes, as clients turn it back.
func hostname(e manager.Entry, suffix string) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(e.Address.Addr().String()) + cmp.Or(suffix, DefaultHostnameSuffix)
}
