package ue

import (
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// timerKind names a timer of TS 24.501 tables 10.2.1 and 10.3.1, or one of the two
// that stand for the layers that are not simulated.
type timerKind uint8

const (
	t3346 timerKind = iota
	t3502
	t3510
	t3511
	t3512
	t3516
	t3517
	t3519
	t3520
	t3521
	t3525
	t3540
	t3580
	t3581
	t3582
	tSearch // pause between cell searches
	tReturn // pause before a return to connected mode
)

// timerID is one timer: those of 5GSM run once per PDU session.
type timerID struct {
	kind    timerKind
	session ident.PDUSessionID
}

// timerSet holds the deadlines of the running timers.
type timerSet map[timerID]time.Time

func (t timerSet) running(k timerKind) bool {
	_, ok := t[timerID{kind: k}]
	return ok
}

// next returns the earliest deadline.
func (t timerSet) next() (time.Time, bool) {
	var first time.Time
	for _, d := range t {
		if first.IsZero() || d.Before(first) {
			first = d
		}
	}
	return first, !first.IsZero()
}

// expire removes and returns the timers whose deadline is not after now, in the
// order of their deadlines.
func (t timerSet) expire(now time.Time) []timerID {
	var ids []timerID
	for id, d := range t {
		if !d.After(now) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b timerID) int {
		if c := t[a].Compare(t[b]); c != 0 {
			return c
		}
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		return int(a.session) - int(b.session)
	})
	for _, id := range ids {
		delete(t, id)
	}
	return ids
}

func (m *machine) start(k timerKind, d time.Duration) { m.timers[timerID{kind: k}] = m.now.Add(d) }
func (m *machine) stop(kinds ...timerKind) {
	for _, k := range kinds {
		delete(m.timers, timerID{kind: k})
	}
}

func (m *machine) startSession(k timerKind, id ident.PDUSessionID, d time.Duration) {
	m.timers[timerID{k, id}] = m.now.Add(d)
}

func (m *machine) stopSession(id ident.PDUSessionID) {
	for _, k := range []timerKind{t3580, t3581, t3582} {
		delete(m.timers, timerID{k, id})
	}
}

// timeout handles the expiry of one timer.
func (m *machine) timeout(id timerID) {
	switch id.kind {
	case t3510:
		m.registrationTimeout()
	case t3512:
		m.periodicTimeout()
	case t3516:
		m.auth.challenge = nil
	case t3517:
		m.serviceTimeout()
	case t3519:
		m.suci = nil
	case t3520:
		m.authenticationTimeout()
	case t3521:
		m.deregistrationTimeout()
	case t3540:
		m.releaseConnection()
	case t3580:
		m.establishmentTimeout(m.sessions[id.session])
	case t3581:
		m.modificationTimeout(m.sessions[id.session])
	case t3582:
		m.releaseTimeout(m.sessions[id.session])
	case t3502:
		// A new series of attempts begins (TS 24.501 clause 5.5.1.2.5).
		m.reg.attempts = 0
	case t3525:
		m.service.attempts = 0
	case t3346, t3511, tSearch, tReturn:
		// Their end alone lets advance go on.
	}
}
