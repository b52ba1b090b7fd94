package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/simreach/simreach/manager"
)

// Relays belong to the platform, not to an operator: these calls are for whom
// manager.Config.PlatformOperators names, and among their users for those who are
// permitted to.
var relayRoutes = []route{
	{"GET", "/v1/simreach/relays", "Simreach:listRelays", permitted, (*handler).relays},
	{"POST", "/v1/simreach/relays/{relay_id}/drain", "Simreach:drainRelay", permitted, (*handler).drainRelay},
}

// Relay is an attached relay. Counts are since its process began, or as far as its
// manager knows if it is attached to another one than was asked.
type Relay struct {
	ID           string            `json:"id"`
	Kind         string            `json:"kind"`    // outer or inner
	Address      string            `json:"address"` // outer: without a port
	Region       string            `json:"region,omitempty"`
	Manager      string            `json:"manager"` // the instance that it is attached to
	AttachedTime int64             `json:"attachedTime"`
	Draining     bool              `json:"draining"`
	Live         int               `json:"live"`     // connections relayed now
	Accepted     uint64            `json:"accepted"` // connections of clients, or of outer relays
	Opened       uint64            `json:"opened"`   // connections that reached their device
	Denied       map[string]uint64 `json:"denied"`   // by cause
	Up           uint64            `json:"upBytes"`  // from clients to devices
	Down         uint64            `json:"downBytes"`
	Rate         uint64            `json:"bytesPerSecond"` // recently, both directions
	Entries      int               `json:"entries"`        // open ports
	Unaudited    uint64            `json:"unaudited"`      // audit records that were lost
}

func (h *handler) relays(r *request) (int, any, error) {
	if err := h.manager.OperatesPlatform(r.principal); err != nil {
		return 0, nil, err
	}
	all := h.manager.Relays()
	out := make([]Relay, len(all))
	for i, s := range all {
		out[i] = relayOf(s)
	}
	return http.StatusOK, out, nil
}

func relayOf(s manager.RelayStatus) Relay {
	r := Relay{
		ID: string(s.ID), Kind: s.Kind.String(), Address: s.Address.String(), Region: s.Region, Manager: s.Manager,
		AttachedTime: s.Since.UnixMilli(), Draining: s.Draining, Live: s.Live, Accepted: s.Opened, Opened: s.Opened, Denied: s.Denied,
		Up: s.Up, Down: s.Down, Rate: s.Rate,
	}
	if s.Address.Port() == 0 {
		r.Address = s.Address.Addr().String()
	}
	if l := s.Load; !l.At.IsZero() {
		r.Accepted, r.Opened, r.Denied, r.Up, r.Down, r.Entries, r.Unaudited = l.Accepted, l.Opened, l.Denied, l.Up, l.Down, l.Entries, l.Unaudited
	}
	if r.Denied == nil {
		r.Denied = map[string]uint64{}
	}
	return r
}

func (h *handler) drainRelay(r *request) (int, any, error) {
	if err := h.manager.OperatesPlatform(r.principal); err != nil {
		return 0, nil, err
	}
	if err := h.manager.DrainRelay(r.Context(), manager.RelayID(r.PathValue("relay_id"))); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, nil
}

// Relays returns the attached relays. It takes an operator of the platform.
func (c Client) Relays(ctx context.Context) ([]Relay, error) {
	var all []Relay
	_, err := c.do(ctx, http.MethodGet, "/v1/simreach/relays", nil, &all)
	return all, err
}

// DrainRelay has an outer relay take no new connections. It takes an operator of the
// platform.
func (c Client) DrainRelay(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodPost, "/v1/simreach/relays/"+url.PathEscape(id)+"/drain", nil, nil)
	return err
}
