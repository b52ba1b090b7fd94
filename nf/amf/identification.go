package amf

import (
	"github.com/simreach/simreach/internal/wire/nas"
)

// identify starts the identification procedure for the SUCI (TS 24.501 clause
// 5.4.3.2), guarded by T3570.
func (u *ue) identify() {
	u.setState(stateIdentification)
	send := func() { u.downlink(&nas.IdentityRequest{IdentityType: nas.IdentitySUCI}) }
	send()
	u.a.stats.identifications.Add(1)
	u.guard(u.a.cfg.T3570, send, u.abandoned)
}

// identityResponse takes IDENTITY RESPONSE (clause 5.4.3.4). Anything but a SUCI
// leaves the UE unidentified.
func (u *ue) identityResponse(m nas.Message) {
	u.endRetransmission()
	id := m.(*nas.IdentityResponse).Identity
	if id.SUCI == nil {
		u.refuse(nas.MMIdentityCannotBeDerived)
		return
	}
	u.authenticate(id.SUCI.String(), false)
}
