package amf

import (
	"log/slog"

	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// serviceRequest takes a verified SERVICE REQUEST (TS 24.501 clause 5.6.1; TS
// 23.502 clause 4.2.3.2).
func (u *ue) serviceRequest(m nas.Message) {
	req := m.(*nas.ServiceRequest)
	u.a.stats.serviceRequests.Add(1)
	if u.resend {
		// The container was not understood, so neither is what the UE wants; a
		// registration settles that.
		u.serviceReject(nas.MMIdentityCannotBeDerived)
		return
	}
	if req.PDUSessionStatus != nil {
		u.keepSessions(*req.PDUSessionStatus)
	}
	u.reactivate(req.UplinkDataStatus, func(u *ue, setups []ngap.SessionSetup, failed nas.SessionSet) {
		acc := &nas.ServiceAccept{}
		if req.PDUSessionStatus != nil {
			set := u.sessionSet()
			acc.PDUSessionStatus = &set
		}
		if req.UplinkDataStatus != nil {
			acc.ReactivationResult = &failed
		}
		u.a.stats.serviceAccepts.Add(1)
		if u.conn.context == contextNone {
			u.setupContext(u.pdu(acc), setups)
			return
		}
		u.downlink(acc)
		u.setupResources(setups)
	})
}

// serviceRequestUnknown rejects a SERVICE REQUEST of a UE that this AMF does not
// know or whose integrity check failed: "the AMF shall send the SERVICE REJECT
// message with 5GMM cause #9" and keep the context it may have (TS 24.501 clause
// 4.4.4.3).
func (u *ue) serviceRequestUnknown(nas.Message) {
	u.a.stats.serviceRequests.Add(1)
	u.serviceReject(nas.MMIdentityCannotBeDerived)
}

// serviceReject refuses and releases the N1 NAS signalling connection.
func (u *ue) serviceReject(cause nas.MMCause) {
	u.a.stats.serviceRejects.Add(1)
	u.log(slog.LevelInfo, "service request rejected", "error", &RejectedByAMF{Procedure: "service request", Cause: cause})
	u.downlink(&nas.ServiceReject{Cause: cause})
	u.releaseN2(ngap.NASUnspecified)
	if !u.registered {
		u.finish()
	}
}
