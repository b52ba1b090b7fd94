package gnb

import (
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

// errorIndication: the AMF could not use something we sent (TS 38.413 clause
// 8.7.5). About an erroneous identifier "both nodes shall initiate a local release"
// of the connection that has it (clause 10.6): the AMF's if it does not know that
// one, ours if it finds that inconsistent.
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
	case m.IDs.AMF != nil && (m.IDs.RAN == nil || cause == ngap.RadioUnknownLocalUENGAPID):
		u = c.byAMF[*m.IDs.AMF]
	case m.IDs.RAN != nil:
		u = c.ues[*m.IDs.RAN]
	}
	if u != nil {
		c.drop(u, ue.ErrRadioLinkFailure)
	}
}
