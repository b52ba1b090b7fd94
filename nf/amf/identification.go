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

// identifyEquipment asks for the IMEI of a UE that had no IMEISV to tell in SECURITY
// MODE COMPLETE (TS 23.502 clause 4.2.2.2.2 step 11), under the security just set up.
func (u *ue) identifyEquipment() {
	u.askedPEI = true
	u.setState(stateIdentification)
	send := func() { u.downlink(&nas.IdentityRequest{IdentityType: nas.IdentityIMEI}) }
	send()
	u.a.stats.identifications.Add(1)
	u.guard(u.a.cfg.T3570, send, u.abandoned)
}

// identityResponse takes IDENTITY RESPONSE (clause 5.4.3.4). Anything but a SUCI
// leaves the UE unidentified; a UE that was asked for its IMEI may have none.
func (u *ue) identityResponse(m nas.Message) {
	u.endRetransmission()
	id := m.(*nas.IdentityResponse).Identity
	if u.askedPEI && u.secure {
		u.pei = id.PEI
		u.admit()
		return
	}
	if id.SUCI == nil {
		u.refuse(nas.MMIdentityCannotBeDerived)
		return
	}
	u.authenticate(id.SUCI.String(), false)
}
