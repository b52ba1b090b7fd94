package amf

import (
	"log/slog"
	"time"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// timerID is one of a UE's timers.
type timerID int

const (
	// timerGuard is T3522, T3550, T3560 or T3570: at most one runs.
	timerGuard timerID = iota
	// timerContext guards INITIAL CONTEXT SETUP REQUEST.
	timerContext
	// timerReachable is the mobile reachable timer (TS 24.501 clause 5.3.7).
	timerReachable
	// timerImplicit is the implicit deregistration timer (the same clause).
	timerImplicit
	timerCount
)

// start (re)starts a timer.
func (u *ue) start(id timerID, d time.Duration) {
	u.stop(id)
	u.out = append(u.out, startTimer{id: id, gen: u.gens[id], d: d})
}

// stop stops a timer; an expiry already posted is ignored.
func (u *ue) stop(id timerID) {
	u.gens[id]++
	if t := u.timers[id]; t != nil {
		t.Stop()
		u.timers[id] = nil
	}
}

// timeout handles an expiry.
func (u *ue) timeout(id timerID) {
	u.timers[id] = nil
	switch id {
	case timerGuard:
		u.guardExpired()
	case timerContext:
		u.a.stats.n2Timeouts.Add(1)
		u.log(slog.LevelWarn, "gNB did not answer initial context setup")
		u.releaseN2(ngap.RadioUnspecified)
		u.abort()
	case timerReachable:
		u.start(timerImplicit, u.a.cfg.ImplicitDeregistration)
	case timerImplicit:
		// TS 24.501 clause 5.3.7: the network may implicitly deregister the UE.
		u.a.stats.implicitDeregistrations.Add(1)
		u.log(slog.LevelInfo, "implicitly deregistered")
		u.finish()
	}
}

// retransmission is the downlink message that waits for its answer.
type retransmission struct {
	d        time.Duration
	expiries int
	send     func() // sends it again
	aborted  func() // after the last expiry
}

// guard starts the timer of a message just sent: send repeats it on each expiry,
// and after Retransmissions repetitions the next expiry calls aborted.
func (u *ue) guard(d time.Duration, send, aborted func()) {
	u.retx = retransmission{d: d, send: send, aborted: aborted}
	u.start(timerGuard, d)
}

// endRetransmission stops the guard: the answer came, or nobody waits for it.
func (u *ue) endRetransmission() {
	u.retx = retransmission{}
	u.stop(timerGuard)
}

// guardExpired implements what the abnormal cases of T3522, T3550, T3560 and T3570
// have in common: "the network shall, on the first expiry of the timer, retransmit
// the message and shall reset and start the timer. This retransmission is repeated
// four times, i.e. on the fifth expiry of the timer, the network shall abort the
// procedure" (TS 24.501 clauses 5.4.1.3.7 b, 5.4.2.7 b, 5.4.3.6 b, 5.5.1.2.8 c, 5.5.2.3.5 a).
func (u *ue) guardExpired() {
	r := &u.retx
	if r.send == nil {
		return
	}
	r.expiries++
	if r.expiries <= u.a.cfg.Retransmissions {
		u.a.stats.retransmissions.Add(1)
		r.send()
		u.start(timerGuard, r.d)
		return
	}
	u.a.stats.proceduresAborted.Add(1)
	u.log(slog.LevelWarn, "procedure aborted: no answer from UE", "state", u.state)
	aborted := r.aborted
	u.endRetransmission()
	aborted()
}

// abandoned is the usual end of a procedure whose retransmissions are exhausted:
// abort it and release the N1 NAS signalling connection.
func (u *ue) abandoned() {
	u.releaseN2(ngap.NASUnspecified)
	u.abort()
}
