package gnb

import (
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

// connect begins a UE-associated logical NG connection with INITIAL UE MESSAGE
// (TS 38.413 clause 8.6.1).
func (c *core) connect(r *radio, req ue.ConnectRequest) error {
	if c.n2 != n2Up {
		return ErrNotServing
	}
	for c.lastRAN++; c.ues[c.lastRAN] != nil; c.lastRAN++ {
	}
	u := &ueContext{ran: c.lastRAN, radio: r, bearers: map[sessionID]*bearer{}}
	r.ran = u.ran
	c.ues[u.ran] = u
	c.send(&ngap.InitialUEMessage{
		RAN: u.ran, NAS: req.NAS, Location: c.cfg.location(), EstablishmentCause: req.Cause,
		STMSI: req.STMSI, ContextRequested: true,
	})
	return nil
}

// uplinkNAS forwards a NAS message of a UE (clause 8.6.3).
func (c *core) uplinkNAS(r *radio, nas []byte) {
	u := c.ues[r.ran]
	if u == nil || u.radio != r {
		return // released meanwhile
	}
	if !u.hasAMF {
		// The UE speaks before the AMF has answered its first message: only the
		// logical connection that INITIAL UE MESSAGE begins can carry it.
		c.counters.WrongState++
		return
	}
	c.send(&ngap.UplinkNASTransport{IDs: u.ids(), NAS: nas, Location: c.cfg.location()})
}

// downlinkNAS delivers a NAS message or says why not (clauses 8.6.2 and 8.6.4).
func (c *core) downlinkNAS(u *ueContext, m *ngap.DownlinkNASTransport) {
	if !c.deliver(u, ue.DownlinkNAS{NAS: m.NAS}) {
		c.nonDelivery(u, m.NAS)
	}
}

func (c *core) nonDelivery(u *ueContext, nas []byte) {
	c.send(&ngap.NASNonDeliveryIndication{IDs: u.ids(), NAS: nas, Cause: ngap.RadioConnectionWithUELost})
	if !u.asked {
		c.requestRelease(u, ngap.RadioConnectionWithUELost)
	}
}
