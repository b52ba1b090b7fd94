package upf

import (
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/upf/datapath"
)

// sessionEstablishment is TS 29.244 clause 6.3.2.
func (u *UPF) sessionEstablishment(c call, m pfcp.Message) (pfcp.Message, ident.SEID) {
	req := m.(*pfcp.SessionEstablishmentRequest)
	a := u.associations[req.Node]
	if a == nil || a.addr != c.from.Addr() {
		u.count.Rejected++
		return u.reject(c.header.Type, pfcp.CauseNoAssociation, 0), req.FSEID.SEID
	}
	old := u.byCP[req.FSEID]
	if old != nil && old.assoc.addr != a.addr {
		u.count.Rejected++
		return u.reject(c.header.Type, pfcp.CauseRejected, 0), req.FSEID.SEID
	}
	if old != nil { // a CP function that names one of its sessions again has lost it
		u.endSession(old)
	}
	s := &session{id: u.newSEID(), cp: req.FSEID, assoc: a, rules: newRuleBook(), urrs: make(map[uint32]*measurement)}
	book := newRuleBook()
	if err := book.create(req.Rules); err != nil {
		return u.rejectSession(c, s, err)
	}
	chosen, err := u.chooseTEIDs(s.id, book)
	if err != nil {
		return u.rejectSession(c, s, err)
	}
	if _, err := u.commit(s, book, c.now); err != nil {
		return u.rejectSession(c, s, err)
	}
	u.sessions[s.id], u.byCP[s.cp], a.sessions[s.id] = s, s, s
	u.log.Debug("session established", "seid", s.id, "node", nodeName(a.node))
	return &pfcp.SessionEstablishmentResponse{
		Node: u.node, Cause: pfcp.CauseAccepted,
		FSEID: &pfcp.FSEID{SEID: s.id, Addr: u.cfg.N4Address}, Created: chosen,
	}, s.cp.SEID
}

// sessionModification is TS 29.244 clause 6.3.3. What it removes is gone before what
// it creates comes, so that a rule can be replaced in one message.
func (u *UPF) sessionModification(c call, m pfcp.Message) (pfcp.Message, ident.SEID) {
	req := m.(*pfcp.SessionModificationRequest)
	s := u.sessionOf(c)
	if s == nil {
		return u.noSession(c)
	}
	if req.FSEID != nil && u.byCP[*req.FSEID] != nil && u.byCP[*req.FSEID] != s {
		return u.rejectSession(c, s, rejectf(pfcp.CauseRejected, "F-SEID %v is another session's", *req.FSEID))
	}
	for _, id := range req.QueryURRs {
		if s.urrs[id] == nil {
			return u.rejectSession(c, s, rejectf(pfcp.CauseRuleCreationFailure, "query URR %d: no such rule", id))
		}
	}
	book := s.rules.clone()
	if err := book.remove(req.Remove); err != nil {
		return u.rejectSession(c, s, err)
	}
	if err := book.create(req.Create); err != nil {
		return u.rejectSession(c, s, err)
	}
	if err := book.update(req.Update); err != nil {
		return u.rejectSession(c, s, err)
	}
	created, err := u.chooseTEIDs(s.id, book)
	if err != nil {
		return u.rejectSession(c, s, err)
	}
	old := s.rules
	reports, err := u.commit(s, book, c.now)
	if err != nil {
		return u.rejectSession(c, s, err)
	}
	u.endMarkers(old, s.rules, req.Update.FARs)
	if req.FSEID != nil && *req.FSEID != s.cp {
		delete(u.byCP, s.cp)
		s.cp = *req.FSEID
		u.byCP[s.cp] = s
	}
	if len(req.QueryURRs) != 0 {
		usages, err := u.dp.Usage(s.id)
		if err == nil {
			for _, id := range req.QueryURRs {
				if x := s.urrs[id]; x != nil {
					reports = append(reports, u.report(s, x, usages[id], pfcp.TriggerImmediate, c.now))
				}
			}
		}
	}
	return &pfcp.SessionModificationResponse{Cause: pfcp.CauseAccepted, Created: created, Usage: reports}, s.cp.SEID
}

// endMarkers closes the tunnels that updated FARs have left, where asked to by
// the SNDEM flag.
func (u *UPF) endMarkers(old, now ruleBook, updates []pfcp.FAR) {
	for _, x := range updates {
		if x.Forward == nil || !x.Forward.SendEndMarker {
			continue
		}
		was, is := old.fars[x.ID].Forward, now.fars[x.ID].Forward
		if was == nil || was.Outer == nil || is != nil && is.Outer != nil && *is.Outer == *was.Outer {
			continue
		}
		if err := u.dp.SendEndMarker(*was.Outer); err != nil {
			u.warnOnce("send end marker", "error", err)
		}
	}
}

// sessionDeletion is TS 29.244 clause 6.3.4.
func (u *UPF) sessionDeletion(c call, _ pfcp.Message) (pfcp.Message, ident.SEID) {
	s := u.sessionOf(c)
	if s == nil {
		return u.noSession(c)
	}
	last := u.endSession(s)
	reports := u.finalReports(s, last, c.now)
	u.log.Debug("session deleted", "seid", s.id)
	return &pfcp.SessionDeletionResponse{Cause: pfcp.CauseAccepted, Usage: reports}, s.cp.SEID
}

// sessionOf is the session that a request is in: nil if there is none, or if it came
// neither from where the association was set up nor from the address of the CP
// function's F-SEID. To anybody else the session does not exist.
func (u *UPF) sessionOf(c call) *session {
	s := u.sessions[c.header.SEID]
	if from := c.from.Addr(); s == nil || from != s.assoc.addr && from != s.cp.Addr {
		return nil
	}
	return s
}

// noSession rejects a request in a session that does not exist, or for want of an
// association if its sender has none.
func (u *UPF) noSession(c call) (pfcp.Message, ident.SEID) {
	cause := pfcp.CauseNoAssociation
	for _, a := range u.associations {
		if a.addr == c.from.Addr() {
			cause = pfcp.CauseSessionNotFound
		}
	}
	u.count.Rejected++
	return u.reject(c.header.Type, cause, 0), 0
}

// rejectSession rejects a request in s, which is as it was.
func (u *UPF) rejectSession(c call, s *session, err error) (pfcp.Message, ident.SEID) {
	u.count.Rejected++
	cause, ie := causeOf(err)
	u.log.Info("session request rejected", "seid", s.id, "request", c.header.Type.String(), "error", err)
	return u.reject(c.header.Type, cause, ie), s.cp.SEID
}

// commit makes book the rules of s, in the datapath and here, or changes nothing and
// returns why. reports are the last ones of URRs that book no longer has.
func (u *UPF) commit(s *session, book ruleBook, now time.Time) (reports []pfcp.UsageReport, err error) {
	rules, err := u.translate(s.id, book)
	if err != nil {
		return nil, err
	}
	for i := range rules.URRs {
		r := &rules.URRs[i]
		r.VolumeLimit = volumeLimit(s.urrs[r.ID], book.urrs[r.ID])
	}
	removed, err := u.dp.Apply(rules)
	if err != nil {
		return nil, err
	}
	for _, t := range localTEIDs(s.rules) {
		delete(u.teids, t)
	}
	for _, t := range localTEIDs(book) {
		u.teids[t] = s.id
	}
	u.linkTunnels(s, tunnelsOf(book))
	reports = u.finalReports(s, removed, now)
	s.rules = book
	u.updateMeasurements(s, now)
	return reports, nil
}

// linkTunnels makes tunnels those of s.
func (u *UPF) linkTunnels(s *session, tunnels map[ident.FTEID]bool) {
	for t := range s.tunnels {
		delete(u.byTunnel[t], s.id)
		if len(u.byTunnel[t]) == 0 {
			delete(u.byTunnel, t)
		}
	}
	for t := range tunnels {
		if u.byTunnel[t] == nil {
			u.byTunnel[t] = make(map[ident.SEID]*session)
		}
		u.byTunnel[t][s.id] = s
	}
	s.tunnels = tunnels
}

// endSession forgets s and returns the last counts of its URRs.
func (u *UPF) endSession(s *session) map[uint32]datapath.Usage {
	last, err := u.dp.Remove(s.id)
	if err != nil {
		u.log.Error("remove session from datapath", "seid", s.id, "error", err)
	}
	for _, t := range localTEIDs(s.rules) {
		delete(u.teids, t)
	}
	u.linkTunnels(s, nil)
	for _, x := range s.urrs {
		u.timers.stop(x.timer)
	}
	delete(u.sessions, s.id)
	if u.byCP[s.cp] == s {
		delete(u.byCP, s.cp)
	}
	delete(s.assoc.sessions, s.id)
	return last
}
