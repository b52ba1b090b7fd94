package amf

import (
	"context"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// sendError sends an ERROR INDICATION (TS 38.413 clause 8.7.5).
func (a *AMF) sendError(ctx context.Context, g *gnb, stream uint16, ids ngap.PartialIDs, cause ngap.Cause, d *ngap.Diagnostics) {
	a.stats.errorIndicationsSent.Add(1)
	a.send(ctx, g, stream, &ngap.ErrorIndication{IDs: ids, Cause: &cause, Diagnostics: d})
}

// errorIndication takes an ERROR INDICATION. One about an erroneous identifier makes
// both nodes release the connection that has it (TS 38.413 clause 10.6): the gNB's
// own if it does not know that one, ours if it finds that inconsistent. Anything
// else is for the log. It is never answered (clause 10.5).
func (a *AMF) errorIndication(g *gnb, m *ngap.ErrorIndication) {
	a.stats.errorIndicationsReceived.Add(1)
	a.logOnce(g, "error indication", "gNB reports an error", "cause", m.Cause)
	if m.Cause == nil || (*m.Cause != ngap.RadioUnknownLocalUENGAPID && *m.Cause != ngap.RadioInconsistentRemoteID) {
		return
	}
	erroneous := m.IDs
	if m.IDs.RAN != nil && m.IDs.AMF != nil {
		if *m.Cause == ngap.RadioUnknownLocalUENGAPID {
			erroneous.AMF = nil
		} else {
			erroneous.RAN = nil
		}
	}
	if c := a.reg.findPartial(g, erroneous); c != nil {
		a.reg.dropConn(c)
		a.connsLost([]*n2conn{c})
	}
}
