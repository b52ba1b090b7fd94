package upf

import (
	"maps"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// heartbeatRequest answers anybody (TS 29.244 clause 6.2.2.2).
func (u *UPF) heartbeatRequest(c call, m pfcp.Message) (pfcp.Message, ident.SEID) {
	u.peerRecovery(c.from.Addr(), m.(*pfcp.HeartbeatRequest).Recovery)
	return &pfcp.HeartbeatResponse{Recovery: u.recovery}, 0
}

// peerRecovery compares a recovery time stamp from addr with the one we know. A
// newer one means that the CP function has restarted and forgotten its sessions, and
// so do we (TS 23.527 clause 4.4.2).
func (u *UPF) peerRecovery(addr netip.Addr, recovery time.Time) {
	for _, a := range u.associations {
		if a.addr != addr {
			continue
		}
		a.silent = false
		if recovery.After(a.recovery) {
			u.log.Info("CP function restarted", "node", nodeName(a.node), "sessions", len(a.sessions))
			u.endAssociation(a)
		}
	}
}

// associationSetup is TS 29.244 clause 6.2.6.2. The new association takes the place of
// one under the same node ID, whatever the recovery time stamp, and the sessions of
// the old one end: to retain them takes PFCP Session Retention Information, which is
// for SMF sets and not supported here.
//
// A node ID is a claim that anybody on N4 can make: 3GPP leaves the protection of N4
// to NDS/IP (TS 33.501 clause 9.9), which a testbed goes without. So an association
// belongs to the address that set it up. A CP function may restart there; from another
// address its node ID is accepted only once the old one has stopped to answer
// heartbeats. The first attempt is rejected and has the old one asked.
func (u *UPF) associationSetup(c call, m pfcp.Message) (pfcp.Message, ident.SEID) {
	req := m.(*pfcp.AssociationSetupRequest)
	a := u.associations[req.Node]
	if a != nil && a.addr != c.from.Addr() && !a.silent {
		u.count.Rejected++
		u.warnOnce("association refused: its node is associated from another address", "node", nodeName(a.node), "address", a.addr, "peer", c.from)
		u.probe(a, c.now)
		return u.reject(c.header.Type, pfcp.CauseRejected, 0), 0
	}
	if a != nil {
		u.log.Info("association replaced", "node", nodeName(a.node), "restarted", req.Recovery.After(a.recovery), "sessions", len(a.sessions))
		u.endAssociation(a)
	}
	// A CP function that starts anew may use its sequence numbers again.
	maps.DeleteFunc(u.answered, func(x exchange, _ *answered) bool { return x.peer.Addr() == c.from.Addr() })
	a = &association{node: req.Node, addr: c.from.Addr(), recovery: req.Recovery, sessions: make(map[ident.SEID]*session)}
	u.associations[req.Node] = a
	u.scheduleHeartbeat(a, c.now)
	u.log.Info("association set up", "node", nodeName(a.node), "peer", c.from)
	return &pfcp.AssociationSetupResponse{Node: u.node, Cause: pfcp.CauseAccepted, Recovery: u.recovery, FTUP: true}, 0
}

// associationRelease is TS 29.244 clause 6.2.8.
func (u *UPF) associationRelease(c call, m pfcp.Message) (pfcp.Message, ident.SEID) {
	a := u.associations[m.(*pfcp.AssociationReleaseRequest).Node]
	if a == nil || a.addr != c.from.Addr() {
		u.count.Rejected++
		return u.reject(c.header.Type, pfcp.CauseNoAssociation, 0), 0
	}
	u.log.Info("association released", "node", nodeName(a.node), "sessions", len(a.sessions))
	u.endAssociation(a)
	return &pfcp.AssociationReleaseResponse{Node: u.node, Cause: pfcp.CauseAccepted}, 0
}

// endAssociation removes an association with its sessions.
func (u *UPF) endAssociation(a *association) {
	for _, s := range a.sessions {
		u.endSession(s)
	}
	u.timers.stop(a.heartbeat)
	delete(u.associations, a.node)
}

// scheduleHeartbeat starts the wait for our next Heartbeat Request to a.
func (u *UPF) scheduleHeartbeat(a *association, now time.Time) {
	if u.cfg.HeartbeatInterval == 0 {
		return
	}
	a.heartbeat = u.timers.add(now.Add(u.cfg.HeartbeatInterval), func(now time.Time) { u.sendHeartbeat(a, now) })
}

// sendHeartbeat is TS 29.244 clause 6.2.2. A CP function that does not answer keeps
// its association and sessions: packets flow without it, and if it has restarted its
// recovery time stamp will say so.
func (u *UPF) sendHeartbeat(a *association, now time.Time) {
	u.send(netip.AddrPortFrom(a.addr, u.cfg.CPPort), 0, &pfcp.HeartbeatRequest{Recovery: u.recovery}, now,
		func(m pfcp.Message, now time.Time) {
			if u.associations[a.node] != a {
				return
			}
			u.scheduleHeartbeat(a, now)
			u.heartbeatAnswer(a, m)
		})
}

// probe asks a, out of turn, whether it is still there.
func (u *UPF) probe(a *association, now time.Time) {
	if a.probing {
		return
	}
	a.probing = true
	u.send(netip.AddrPortFrom(a.addr, u.cfg.CPPort), 0, &pfcp.HeartbeatRequest{Recovery: u.recovery}, now,
		func(m pfcp.Message, _ time.Time) {
			a.probing = false
			if u.associations[a.node] == a {
				u.heartbeatAnswer(a, m)
			}
		})
}

// heartbeatAnswer takes what came of a heartbeat to a; m is nil for nothing.
func (u *UPF) heartbeatAnswer(a *association, m pfcp.Message) {
	r, ok := m.(*pfcp.HeartbeatResponse)
	if silent := !ok; silent != a.silent {
		a.silent = silent
		u.log.Info("heartbeat", "node", nodeName(a.node), "answered", ok)
	}
	if ok {
		u.peerRecovery(a.addr, r.Recovery)
	}
}
