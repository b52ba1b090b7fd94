package smf

import "time"

// heartbeatAnswered handles a heartbeat response (TS 29.244 clause 6.2.2; TS
// 23.527 clause 4.3.2): the recovery time tells a restart from a lost path.
func (a *association) heartbeatAnswered(recovery time.Time) time.Duration {
	if !recovery.Equal(a.recovery()) {
		a.down(assocIdle, "restarted")
		return 0
	}
	a.table.mu.Lock()
	back := a.u.state == assocLost
	if back {
		a.u.state = assocUp
		for s := range a.u.sessions {
			s.inbox.post(event{kind: evUPFBack, epoch: a.u.epoch, upf: a.u})
		}
	}
	a.table.mu.Unlock()
	if back {
		a.log.Info("pfcp path restored", "upf", a.u.cfg.Name)
	}
	return a.t.Heartbeat
}

// heartbeatMissed handles a heartbeat that N1 attempts did not get through. The
// next one goes out at once, so that a UPF that returns is noticed within T1.
func (a *association) heartbeatMissed() time.Duration {
	a.down(assocLost, "heartbeat unanswered")
	return 0
}
