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

// errorIndication takes an ERROR INDICATION. One that says the gNB does not know
// the connection, or pairs its identifiers differently, releases it here too
// (TS 38.413 clause 10.6); anything else is for the log. It is never answered.
func (a *AMF) errorIndication(g *gnb, m *ngap.ErrorIndication) {
	a.stats.errorIndicationsReceived.Add(1)
	a.logOnce(g, "error indication", "gNB reports an error", "cause", m.Cause)
	if m.Cause == nil || (*m.Cause != ngap.RadioUnknownLocalUENGAPID && *m.Cause != ngap.RadioInconsistentRemoteID) {
		return
	}
	if c := a.reg.findPartial(g, m.IDs); c != nil {
		a.reg.dropConn(c)
		a.connsLost([]*n2conn{c})
	}
}
