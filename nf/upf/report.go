package upf

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/upf/datapath"
)

// measurement is a URR at work.
type measurement struct {
	urr      uint32
	sequence uint32
	start    time.Time      // of what the next report is about
	base     datapath.Usage // what has been reported
	owed     datapath.Usage // of it, what no CP function has confirmed: due again
	period   time.Duration  // of timer
	timer    *timer
}

// volumeLimit is the volume at which the next report of r is due, 0 for none. x is
// nil for a new one.
func volumeLimit(x *measurement, r pfcp.URR) uint64 {
	if r.VolumeThreshold == 0 {
		return 0
	}
	if x == nil {
		return r.VolumeThreshold
	}
	return x.base.Bytes() + r.VolumeThreshold
}

// updateMeasurements starts measurements of new URRs of s and changes the timers of
// those whose period is another now.
func (u *UPF) updateMeasurements(s *session, now time.Time) {
	for id, r := range s.rules.urrs {
		x := s.urrs[id]
		if x == nil {
			x = &measurement{urr: id, start: now}
			s.urrs[id] = x
		}
		if x.period != r.Period {
			u.timers.stop(x.timer)
			x.period, x.timer = r.Period, nil
			u.schedulePeriod(s, x, now)
		}
	}
}

// schedulePeriod starts the wait for the next periodic report of x.
func (u *UPF) schedulePeriod(s *session, x *measurement, now time.Time) {
	if x.period == 0 {
		return
	}
	x.timer = u.timers.add(now.Add(x.period), func(now time.Time) {
		u.schedulePeriod(s, x, now)
		usages, err := u.dp.Usage(s.id)
		if err != nil {
			return
		}
		u.sendReport(s, &pfcp.SessionReportRequest{
			Usage: []pfcp.UsageReport{u.report(s, x, usages[x.urr], pfcp.TriggerPeriod, now)},
		}, now)
	})
}

// report tells what x has measured since its last report, and what of earlier ones
// was lost, and starts the next one.
func (u *UPF) report(s *session, x *measurement, usage datapath.Usage, why pfcp.UsageTrigger, now time.Time) pfcp.UsageReport {
	r := pfcp.UsageReport{
		URR: x.urr, Sequence: x.sequence, Trigger: why, Start: x.start, End: now,
		UplinkBytes:     usage.UplinkBytes - x.base.UplinkBytes + x.owed.UplinkBytes,
		DownlinkBytes:   usage.DownlinkBytes - x.base.DownlinkBytes + x.owed.DownlinkBytes,
		UplinkPackets:   usage.UplinkPackets - x.base.UplinkPackets + x.owed.UplinkPackets,
		DownlinkPackets: usage.DownlinkPackets - x.base.DownlinkPackets + x.owed.DownlinkPackets,
	}
	x.sequence++
	x.start, x.base, x.owed = now, usage, datapath.Usage{}
	if rule, ok := s.rules.urrs[x.urr]; ok && rule.VolumeThreshold != 0 {
		u.dp.SetVolumeLimit(s.id, x.urr, volumeLimit(x, rule))
	}
	return r
}

// finalReports are the termination reports of the URRs in last, which end.
func (u *UPF) finalReports(s *session, last map[uint32]datapath.Usage, now time.Time) []pfcp.UsageReport {
	var out []pfcp.UsageReport
	for _, id := range slices.Sorted(maps.Keys(last)) {
		x := s.urrs[id]
		if x == nil {
			continue
		}
		out = append(out, u.report(s, x, last[id], pfcp.TriggerTermination, now))
		u.timers.stop(x.timer)
		delete(s.urrs, id)
	}
	return out
}

// lost makes what was in a report due again in the next one of its URR. Should only
// the confirmations have been lost, the CP function counts it twice; a report that was
// lost on the way is the likelier case, N1 attempts later.
func (s *session) lost(reports []pfcp.UsageReport) {
	for _, r := range reports {
		x := s.urrs[r.URR]
		if x == nil || r.Sequence >= x.sequence { // the URR is gone, or a new one has its ID
			continue
		}
		x.owed.UplinkBytes += r.UplinkBytes
		x.owed.DownlinkBytes += r.DownlinkBytes
		x.owed.UplinkPackets += r.UplinkPackets
		x.owed.DownlinkPackets += r.DownlinkPackets
		if r.Start.Before(x.start) {
			x.start = r.Start
		}
	}
}

// sendReport is TS 29.244 clause 6.3.5 (session report). A session that the CP
// function does not know any more ends here too.
func (u *UPF) sendReport(s *session, m *pfcp.SessionReportRequest, now time.Time) {
	to := netip.AddrPortFrom(s.cp.Addr, u.cfg.CPPort)
	u.send(to, s.cp.SEID, m, now, func(answer pfcp.Message, _ time.Time) {
		if u.sessions[s.id] != s {
			return
		}
		switch r, ok := answer.(*pfcp.SessionReportResponse); {
		case !ok:
			s.lost(m.Usage)
			if e := m.ErrorIndication; e != nil && s.tunnels[*e] {
				s.tunnels[*e] = false // the peer's next one is reported again
			}
		case r.Cause == pfcp.CauseSessionNotFound:
			u.log.Info("session unknown to CP function", "seid", s.id)
			u.endSession(s)
		}
	})
}

// event turns what packets brought about into session reports.
func (u *UPF) event(e datapath.Event, now time.Time) {
	switch e.Kind {
	case datapath.ErrorIndication:
		// TS 29.244 clause 5.10. One report per tunnel until the CP function changes
		// the rules: the peer indicates each packet.
		for _, s := range u.byTunnel[e.Peer] {
			if !s.tunnels[e.Peer] {
				s.tunnels[e.Peer] = true
				u.sendReport(s, &pfcp.SessionReportRequest{ErrorIndication: &e.Peer}, now)
			}
		}
	case datapath.DownlinkData:
		if s := u.sessions[e.Session]; s != nil {
			u.sendReport(s, &pfcp.SessionReportRequest{DownlinkData: e.PDR}, now)
		}
	case datapath.VolumeReached:
		u.volumeReached(e, now)
	}
}

func (u *UPF) volumeReached(e datapath.Event, now time.Time) {
	s := u.sessions[e.Session]
	if s == nil || s.urrs[e.URR] == nil {
		return
	}
	usages, err := u.dp.Usage(s.id)
	if err != nil {
		return
	}
	x := s.urrs[e.URR]
	if threshold := s.rules.urrs[e.URR].VolumeThreshold; threshold == 0 || usages[e.URR].Bytes() < x.base.Bytes()+threshold {
		// Another report has gone out since the event was made.
		u.dp.SetVolumeLimit(s.id, e.URR, volumeLimit(x, s.rules.urrs[e.URR]))
		return
	}
	u.sendReport(s, &pfcp.SessionReportRequest{
		Usage: []pfcp.UsageReport{u.report(s, x, usages[e.URR], pfcp.TriggerVolume, now)},
	}, now)
}
