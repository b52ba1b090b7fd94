package gnb

import (
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

// errorIndication: the AMF could not use something we sent (TS 38.413 clause
// 8.7.5). Where it says that it does not know the UE, the connection is gone on its
// side and is released locally (clause 10.6).
func (c *core) errorIndication(m *ngap.ErrorIndication) {
	c.counters.ErrorIndications++
	cause := ngap.Cause(0)
	if m.Cause != nil {
		cause = *m.Cause
	}
	c.log.Info("NGAP ERROR INDICATION received", "cause_group", uint8(cause.Group()), "cause", cause.Value())
	if cause != ngap.RadioUnknownLocalUENGAPID && cause != ngap.RadioInconsistentRemoteID {
		return
	}
	var u *ueContext
	switch {
	case m.IDs.RAN != nil:
		u = c.ues[*m.IDs.RAN]
	case m.IDs.AMF != nil:
		u = c.byAMF[*m.IDs.AMF]
	}
	if u != nil {
		c.drop(u, ue.ErrRadioLinkFailure)
	}
}
