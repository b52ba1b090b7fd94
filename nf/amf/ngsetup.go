package amf

import (
	"context"
	"fmt"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// setupRetry is the Time To Wait of an NG SETUP FAILURE, in seconds: the
// configuration of one side must change before trying again makes sense.
const setupRetry = 10

// ngSetup is NG Setup (TS 38.413 clause 8.7.1).
func (a *AMF) ngSetup(ctx context.Context, g *gnb, stream uint16, m *ngap.NGSetupRequest) {
	if cause, ok := a.admit(m.Supported); !ok {
		a.stats.ngSetupsRejected.Add(1)
		a.log.Warn("NG Setup rejected", "gnb", gnbName(m.GNB), "cause", fmt.Sprintf("%d/%d", cause.Group(), cause.Value()))
		a.send(ctx, g, stream, &ngap.NGSetupFailure{Cause: cause, TimeToWait: setupRetry})
		return
	}
	old, erased := a.reg.setUp(g, m)
	a.stats.ngSetups.Add(1)
	a.connsLost(erased)
	if old != nil {
		// The gNB came back on a new association before the old one was seen to
		// fail: its reader ends and sends the UEs there to CM-IDLE.
		a.log.Warn("gNB set up again, old association replaced", "gnb", gnbName(m.GNB), "conn", g.conn.RemoteAddr())
		a.connsLost(a.reg.removeGNB(old))
		old.conn.Abort()
	}
	a.log.Info("NG Setup", "gnb", gnbName(m.GNB), "conn", g.conn.RemoteAddr())
	resp := &ngap.NGSetupResponse{AMFName: a.cfg.Name, GUAMIs: []ident.GUAMI{a.cfg.GUAMI}, Capacity: a.cfg.Capacity}
	for _, p := range a.cfg.PLMNs {
		resp.PLMNs = append(resp.PLMNs, ngap.BroadcastPLMN{PLMN: p.PLMN, Slices: p.Slices})
	}
	a.send(ctx, g, stream, resp)
}

// admit decides on the supported TA list of a gNB. TS 38.413 clause 8.7.1.4: the
// AMF fails the procedure with "unknown PLMN or SNPN" if it does not identify any
// of the PLMNs; a gNB that shares a network but no slice with it can serve no UE
// either, and gets "slice(s) not supported".
func (a *AMF) admit(list []ngap.SupportedTA) (cause ngap.Cause, ok bool) {
	cause = ngap.MiscUnknownPLMN
	for _, ta := range list {
		for _, b := range ta.Broadcast {
			p := a.cfg.support(b.PLMN)
			if p == nil {
				continue
			}
			if slices.ContainsFunc(b.Slices, func(s ident.SNSSAI) bool { return slices.Contains(p.Slices, s) }) {
				return 0, true
			}
			cause = causeSliceNotSupported
		}
	}
	return cause, false
}

// gnbName is the text form of a global gNB ID used in logs and status.
func gnbName(id ident.GNBID) string {
	if !id.PLMN.Valid() {
		return "unknown"
	}
	return fmt.Sprintf("%s-%0*x", id.PLMN, (int(id.Bits)+3)/4, id.Value)
}
