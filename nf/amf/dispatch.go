package amf

import (
	"context"
	"errors"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// dispatch takes one decoded NGAP message. It runs in the association's reader:
// it never calls another network function and hands UE-associated messages to the
// UE's mailbox.
func (a *AMF) dispatch(ctx context.Context, g *gnb, stream uint16, m ngap.Message) {
	if r, ok := m.(*ngap.NGSetupRequest); ok {
		a.ngSetup(ctx, g, stream, r)
		return
	}
	if e, ok := m.(*ngap.ErrorIndication); ok {
		a.errorIndication(g, e)
		return
	}
	if !a.isUp(g) {
		// TS 38.413 clause 8.7.1.1: NG Setup is the first procedure on an association.
		a.notCompatible(ctx, g, stream, m)
		return
	}
	switch m := m.(type) {
	case *ngap.NGReset:
		a.ngReset(ctx, g, stream, m)
	case *ngap.NGResetAcknowledge:
		a.ngResetAcknowledge(g)
	case *ngap.InitialUEMessage:
		a.initialUEMessage(ctx, g, stream, m)
	case *ngap.UplinkNASTransport:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.uplinkNAS(c, m) })
	case *ngap.NASNonDeliveryIndication:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.nasNonDelivery(c, m) })
	case *ngap.InitialContextSetupResponse:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.contextSetUp(c, m) })
	case *ngap.InitialContextSetupFailure:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.contextSetupFailed(c, m) })
	case *ngap.UEContextReleaseRequest:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.contextReleaseRequest(c, m) })
	case *ngap.UEContextReleaseComplete:
		a.contextReleaseComplete(g, m)
	case *ngap.PDUSessionResourceSetupResponse:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.resourcesSetUp(m.Sessions, m.Failed) })
	case *ngap.PDUSessionResourceModifyResponse:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.resourcesModified(m.Sessions, m.Failed) })
	case *ngap.PDUSessionResourceReleaseResponse:
		a.toUE(ctx, g, stream, m, m.IDs, func(u *ue, c *n2conn) { u.resourcesReleased(m.Sessions) })
	default:
		// A message only an AMF sends.
		a.logOnce(g, "unexpected", "NGAP message an AMF does not receive", "procedure", m.Procedure())
		a.notCompatible(ctx, g, stream, m)
	}
}

// notCompatible answers a message that does not fit the state: "the Error Indication
// procedure shall be initiated with an appropriate cause value", naming the message;
// one in a response is for local error handling (TS 38.413 clause 10.4).
func (a *AMF) notCompatible(ctx context.Context, g *gnb, stream uint16, m ngap.Message) {
	a.stats.ngapNotCompatible.Add(1)
	if !ngap.IsResponse(m) {
		a.sendError(ctx, g, stream, ngap.PartialIDs{}, ngap.ProtocolNotCompatibleState, diagnose(m.Procedure()))
	}
}

// isUp reports whether NG Setup has succeeded on g.
func (a *AMF) isUp(g *gnb) bool {
	a.reg.mu.Lock()
	defer a.reg.mu.Unlock()
	return g.up
}

// toUE posts a UE-associated message to the UE it names. An erroneous identifier,
// "either an unknown local AP ID, or an inconsistent remote AP ID", is answered as
// TS 38.413 clause 10.6 says: Error Indication with the received identifiers, and
// "local release of any established UE-associated logical connection [...] having
// the erroneous AP ID".
func (a *AMF) toUE(ctx context.Context, g *gnb, stream uint16, m ngap.Message, ids ngap.UEIDs, f func(*ue, *n2conn)) {
	c, u, v := a.reg.find(g, ids)
	if v == idsOK {
		if u == nil || !u.postBounded(func(u *ue) { f(u, c) }) {
			// The connection is being released; what the gNB still says about it is moot.
			a.stats.ngapStale.Add(1)
		}
		return
	}
	a.stats.ngapUnknownUE.Add(1)
	cause := ngap.RadioUnknownLocalUENGAPID
	if v == idsInconsistent {
		cause = ngap.RadioInconsistentRemoteID
	}
	a.logOnce(g, "ids", "NGAP message for an unknown UE", "amf_ue_id", ids.AMF, "ran_ue_id", ids.RAN, "procedure", m.Procedure())
	a.sendError(ctx, g, stream, ngap.PartialIDs{AMF: &ids.AMF, RAN: &ids.RAN}, cause, nil)
	if c != nil {
		a.reg.dropConn(c)
		a.connsLost([]*n2conn{c})
	}
}

// undecodable answers a message that could not be decoded (TS 38.413 clauses 10.2
// and 10.3). An undecodable Error Indication is not answered, so that two peers
// cannot keep each other busy.
func (a *AMF) undecodable(ctx context.Context, g *gnb, stream uint16, err error) {
	a.stats.ngapUndecodable.Add(1)
	a.logOnce(g, "undecodable", "cannot decode NGAP message", "error", err)
	d, ok := errors.AsType[*ngap.DecodeError](err)
	if !ok {
		a.sendError(ctx, g, stream, ngap.PartialIDs{}, ngap.ProtocolTransferSyntax, nil)
		return
	}
	const initiating = 0
	switch {
	case d.Procedure == ngap.ProcErrorIndication:
		return // clause 10.5
	case d.Cause == 0:
		return // of criticality ignore
	case d.Triggering != initiating && d.Diagnostics != nil:
		return // clause 10.3: an error in a response is for local error handling
	case d.Procedure == ngap.ProcNGSetup && d.Diagnostics != nil:
		// Clause 10.3.5: reject with the procedure's own failure message.
		a.send(ctx, g, stream, &ngap.NGSetupFailure{Cause: d.Cause, Diagnostics: d.Diagnostics})
		return
	}
	a.sendError(ctx, g, stream, d.IDs, d.Cause, d.Diagnostics)
}

func diagnose(p ngap.ProcedureCode) *ngap.Diagnostics { return &ngap.Diagnostics{Procedure: p} }
