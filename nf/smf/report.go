package smf

import (
	"context"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// request dispatches a request of a UPF, or an establishment response that came too
// late.
func (a *SMF) request(ctx context.Context, t transaction, h pfcp.Header, m pfcp.Message) {
	switch m := m.(type) {
	case *pfcp.HeartbeatRequest: // answered to anyone (TS 29.244 clause 6.2.2.2)
		a.n4.respond(t, 0, &pfcp.HeartbeatResponse{Recovery: a.n4.recovery})
		if u := a.upfs.byPeer(t.peer); u != nil {
			u.inbox.post(assocEvent{heartbeat: &m.Recovery})
		}
	case *pfcp.AssociationSetupRequest:
		u := a.upfs.byPeer(t.peer)
		if u == nil {
			a.n4.counters.unknownPeer.Add(1)
			a.n4.respond(t, 0, &pfcp.AssociationSetupResponse{Node: a.n4.node, Cause: pfcp.CauseRejected, Recovery: a.n4.recovery})
			return
		}
		u.inbox.post(assocEvent{setup: m, from: t})
	case *pfcp.AssociationReleaseRequest:
		u := a.upfs.byPeer(t.peer)
		if u == nil {
			a.n4.counters.unknownPeer.Add(1)
			a.n4.respond(t, 0, &pfcp.AssociationReleaseResponse{Node: a.n4.node, Cause: pfcp.CauseNoAssociation})
			return
		}
		u.inbox.post(assocEvent{release: true, from: t})
	case *pfcp.SessionReportRequest:
		a.mu.Lock()
		s := a.bySEID[h.SEID]
		a.mu.Unlock()
		if s == nil || !s.inbox.post(event{kind: evReport, report: m, from: t}) {
			a.n4.respond(t, 0, &pfcp.SessionReportResponse{Cause: pfcp.CauseSessionNotFound})
		}
	case *pfcp.SessionEstablishmentResponse:
		a.orphaned(ctx, t, h.SEID, m)
	default: // a request that only a UPF handles
		a.n4.counters.malformed.Add(1)
		if typ, ok := h.Type.Response(); ok {
			a.log.Debug("pfcp request that an SMF does not serve", "peer", t.peer, "type", typ.String())
		}
	}
}

// orphaned deletes the session that a UPF has made for one of ours after that gave the
// UPF up: it would hold the UE's address for as long as the association lasts. A
// repeated response of the UPF that has the session is not meant.
func (a *SMF) orphaned(ctx context.Context, t transaction, ours ident.SEID, m *pfcp.SessionEstablishmentResponse) {
	u := a.upfs.byPeer(t.peer)
	if u == nil || m.Cause != pfcp.CauseAccepted || m.FSEID == nil {
		return
	}
	a.mu.Lock()
	s := a.bySEID[ours]
	a.mu.Unlock()
	if s != nil && s.status.Load().UPF == u.cfg.Name {
		return
	}
	a.counters.orphans.Add(1)
	a.log.Warn("pfcp session came too late and is deleted", "upf", u.cfg.Name, "seid", ours)
	_ = a.spawn(ctx, func(ctx context.Context) { // fails only when the SMF stops
		if _, err := a.n4.request(ctx, u.cfg.N4, m.FSEID.SEID, &pfcp.SessionDeletionRequest{}); err != nil && ctx.Err() == nil {
			a.log.Warn("pfcp session not deleted", "upf", u.cfg.Name, "seid", ours, "error", err)
		}
	})
}

// reported handles a session report (TS 29.244 clause 7.5.8; TS 23.502 clause
// 4.4.2): usage is added up, an error indication of the gNB ends the tunnel to it.
func (s *session) reported(ev event) []action {
	if from := ev.from.peer.Addr(); s.grant.upf == nil || from != s.grant.upf.cfg.N4.Addr() && from != s.remote.Addr {
		s.smf.n4.counters.unknownPeer.Add(1) // not the UPF of this session
		return []action{answerN4{to: ev.from, cause: pfcp.CauseSessionNotFound}}
	}
	cause := pfcp.CauseAccepted
	if ev.report.DownlinkData != 0 { // we never ask for buffering
		cause = pfcp.CauseServiceNotSupported
	}
	out := []action{answerN4{to: ev.from, cause: cause}}
	s.measured(ev.report.Usage)
	if e := ev.report.ErrorIndication; e != nil && *e == s.want.downlink {
		out = append(out, s.tunnelLost()...)
	}
	return out
}

// measured adds usage reports up. Reports are ours once each: repeats of a report
// request are answered by the transaction layer, and the measurement restarts
// with each report.
func (s *session) measured(list []pfcp.UsageReport) {
	if len(list) > 0 {
		s.measuredAt = time.Now()
	}
	for _, u := range list {
		s.usage.UplinkBytes += u.UplinkBytes
		s.usage.DownlinkBytes += u.DownlinkBytes
		s.usage.UplinkPackets += u.UplinkPackets
		s.usage.DownlinkPackets += u.DownlinkPackets
	}
}
