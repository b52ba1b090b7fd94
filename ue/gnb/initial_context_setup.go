package gnb

import (
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

// contextSetup is TS 38.413 clause 8.3.1: the UE context is made, then the sessions
// in it, then the NAS message is delivered.
func (c *core) contextSetup(u *ueContext, m *ngap.InitialContextSetupRequest) {
	if u.radio == nil {
		c.contextSetupLost(u, m)
		return
	}
	u.state = ueContextUp
	done, failed := c.setUpSessions(u, m.Sessions)
	if m.NAS != nil && !c.deliver(u, ue.DownlinkNAS{NAS: m.NAS}) {
		c.nonDelivery(u, m.NAS)
	}
	c.send(&ngap.InitialContextSetupResponse{IDs: u.ids(), Sessions: done, Failed: failed})
}

// contextSetupAgain: a second context for a UE that has one is a logical error,
// answered with the procedure's failure message (clause 10.4).
func (c *core) contextSetupAgain(u *ueContext, m *ngap.InitialContextSetupRequest) {
	c.counters.WrongState++
	c.send(&ngap.InitialContextSetupFailure{
		IDs: u.ids(), Cause: ngap.ProtocolNotCompatibleState,
		Failed: failAll(m.Sessions, ngap.ProtocolNotCompatibleState),
	})
}

// contextSetupLost: the UE has gone meanwhile (clause 8.3.1.3).
func (c *core) contextSetupLost(u *ueContext, m *ngap.InitialContextSetupRequest) {
	c.send(&ngap.InitialContextSetupFailure{
		IDs: u.ids(), Cause: ngap.RadioConnectionWithUELost,
		Failed: failAll(m.Sessions, ngap.RadioConnectionWithUELost),
	})
	if !u.asked {
		c.requestRelease(u, ngap.RadioConnectionWithUELost)
	}
}
