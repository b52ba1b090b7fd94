package smf

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

// upState is the user-plane connection between gNB and UPF.
type upState uint8

const (
	upDeactivated upState = iota
	upActivating          // a resource setup request waits for the gNB's answer
	upActivated
)

// session is one SM context. It belongs to the goroutine of run; others post
// events. What never changes after newSession may be read by anyone.
type session struct {
	smf      *SMF
	inbox    *mailbox[event]
	done     chan struct{} // closed when run has ended
	log      *slog.Logger
	counters *counters

	ref    sbi.SMContextRef
	seid   ident.SEID // ours
	supi   ident.SUPI
	id     ident.PDUSessionID
	dnn    ident.DNN
	snssai ident.SNSSAI
	create sbi.CreateSMContext
	pti    ident.PTI
	wish   *nas.PDUSessionEstablishmentRequest
	v4only bool // the UE asked for IPv4v6 and gets IPv4 with cause 50

	state    state
	up       upState
	data     sbi.SessionData
	grant    grant
	tried    []*upf
	remote   pfcp.FSEID  // the UPF's
	uplink   ident.FTEID // the UPF's N3 endpoint, once known
	want     plane
	have     plane
	sent     plane // what the request under way makes true
	busy     bool  // a PFCP request is under way
	token    int   // of that request
	upfUp    bool
	restores int

	registered bool       // at the UDM
	superseded bool       // the UDM registration is another session's
	wasUp      bool       // the user plane was up once
	announced  bool       // on the directory
	oldAMBR    ident.AMBR // to return to when a modification fails
	ambrCall   *call      // waits for the modification
	owesN1     bool       // the UE has not been told of its AMBR
	command    []byte     // 5GSM command under retransmission
	commandPTI ident.PTI  // of command; 0 unless the UE asked for it
	attempts   int        // retransmissions so far
	usage      UsageTotals
	charged    UsageTotals // what the account has of usage
	measuredAt time.Time   // when the UPF last reported
	location   ident.Location
	created    time.Time
	chargingID string
	ambr       ident.AMBR // of the last plane that existed
	account    *account

	amfQueue, udmQueue queue
	timers             [numTimers]time.Time
	status             atomic.Pointer[SessionStatus]
}

// plane is what the UPF is to do for the session.
type plane struct {
	exists   bool
	downlink ident.FTEID // the gNB's endpoint; zero drops
	ambr     ident.AMBR
}

// queue keeps calls to one NF in order, one at a time.
type queue struct {
	waiting []queued
	busy    bool
}

type queued struct {
	do   func(context.Context) error
	done event // posted afterwards, with err
}

func newSession(a *SMF, ref sbi.SMContextRef, seid ident.SEID, req sbi.CreateSMContext, wish *nas.PDUSessionEstablishmentRequest) *session {
	now := time.Now()
	return &session{
		smf: a, inbox: newMailbox[event](), done: make(chan struct{}), counters: &a.counters,
		log: a.log.With("supi", req.SUPI, "pdu_session", req.Session, "seid", seid),
		ref: ref, seid: seid, supi: req.SUPI, id: req.Session, dnn: req.DNN, snssai: req.SNSSAI,
		create: req, pti: wish.PTI, wish: wish, v4only: wish.SessionType == ident.IPv4v6,
		location: req.Location, created: now, measuredAt: now,
		chargingID: fmt.Sprintf("%s-%016x", a.instance, uint64(seid)), account: &account{c: a.charger},
	}
}

// run owns the session until it is released or ctx ends.
func (s *session) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer s.ended()
	defer tasks.Wait()
	defer cancel()

	l := &loop{s: s, tasks: &tasks}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !s.over() {
		due := l.due()
		if due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.inbox.ready:
			for _, ev := range s.inbox.take() {
				l.handle(ctx, ev)
			}
		case <-timer.C:
			now := time.Now()
			for id := range s.timers {
				if at := s.timers[id]; !at.IsZero() && !at.After(now) {
					s.timers[id] = time.Time{}
					l.handle(ctx, event{kind: timerEvents[id]})
				}
			}
		}
	}
	if s.registered { // the UPF's last report is in only now
		s.log.Info("pdu session released", "address", s.grant.address.V4,
			"uplink_bytes", s.usage.UplinkBytes, "downlink_bytes", s.usage.DownlinkBytes,
			"uplink_packets", s.usage.UplinkPackets, "downlink_packets", s.usage.DownlinkPackets)
	}
}

// over reports whether nothing is left to do.
func (s *session) over() bool {
	return s.state == stReleased && !s.busy && !s.have.exists && s.amfQueue.idle() && s.udmQueue.idle()
}

// ended gives back what the session held and turns away who still waits.
func (s *session) ended() {
	s.smf.upfs.giveBack(s, s.grant)
	s.smf.drop(s)
	for _, ev := range s.inbox.close() {
		if ev.kind == evReport {
			s.smf.n4.respond(ev.from, s.remote.SEID, &pfcp.SessionReportResponse{Cause: pfcp.CauseSessionNotFound})
		}
	}
	close(s.done)
}

// loop performs the actions of one session.
type loop struct {
	s        *session
	tasks    *sync.WaitGroup
	cancelN4 context.CancelFunc
}

// handle has the machine decide and does what it says. Status is brought up to
// date first, so that whoever is answered finds it so.
func (l *loop) handle(ctx context.Context, ev event) {
	list := l.s.step(ev)
	l.s.publish()
	l.perform(ctx, list)
	l.s.charge(ctx)
}

// due is when the first timer expires; zero when none runs.
func (l *loop) due() time.Time {
	var first time.Time
	for _, at := range l.s.timers {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

func (l *loop) perform(ctx context.Context, list []action) {
	s := l.s
	for _, act := range list {
		switch act := act.(type) {
		case reply:
			if act.call != nil {
				act.call.reply <- act.result
			}
		case transfer:
			l.amf(event{tag: act.tag}, func(ctx context.Context, c sbi.Communication) error {
				return c.N1N2Transfer(ctx, s.supi, act.m)
			})
		case notifyReleased:
			l.amf(event{}, func(ctx context.Context, c sbi.Communication) error {
				return c.SMContextReleased(ctx, s.supi, s.id, s.ref)
			})
		case fetch:
			l.tasks.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, s.smf.cfg.Timers.SBI)
				defer cancel()
				d, err := s.smf.deps.SubscriberData.SessionManagement(ctx, s.supi, s.snssai, s.dnn)
				s.inbox.post(event{kind: evSubscribed, data: d, err: err})
			})
		case register:
			r := sbi.SMFRegistration{SMF: s.smf.cfg.NFID, Session: s.id, SNSSAI: s.snssai, DNN: s.dnn, PLMN: s.create.GUAMI.PLMN}
			l.udm(func(ctx context.Context) error { return s.smf.deps.UEContext.RegisterSMF(ctx, s.supi, r) })
		case deregister:
			l.udm(func(ctx context.Context) error { return s.smf.deps.UEContext.DeregisterSMF(ctx, s.supi, s.id) })
		case sendN4:
			l.send(ctx, act)
		case cancelN4:
			if l.cancelN4 != nil {
				l.cancelN4()
			}
		case answerN4:
			s.smf.n4.respond(act.to, s.remote.SEID, &pfcp.SessionReportResponse{Cause: act.cause})
		case startTimer:
			s.timers[act.id] = time.Now().Add(act.d)
		case stopTimer:
			s.timers[act.id] = time.Time{}
		case announce:
			s.account.begin(ctx, s.chargingData())
			s.smf.directory.established(s, sbi.SessionEvent{
				SUPI: s.supi, Session: s.id, DNN: s.dnn, SNSSAI: s.snssai, Address: s.grant.address, UPF: s.grant.upf.cfg.Name,
			})
		case withdraw:
			s.smf.directory.released(s, sessionKey{s.supi, s.id})
		case forget:
			s.smf.hide(s)
		case reassociate:
			act.upf.inbox.post(assocEvent{refused: act.epoch})
		}
	}
	l.pump(ctx, &s.amfQueue)
	l.pump(ctx, &s.udmQueue)
}

// send starts a PFCP request; the window of the UPF keeps a returning UPF from
// being flooded.
func (l *loop) send(ctx context.Context, act sendN4) {
	s, u := l.s, l.s.grant.upf
	ctx, l.cancelN4 = context.WithCancel(ctx)
	l.tasks.Go(func() {
		select {
		case u.window <- struct{}{}:
			defer func() { <-u.window }()
		case <-ctx.Done():
			s.inbox.post(event{kind: evN4Done, token: act.token, err: ctx.Err()})
			return
		}
		r, err := s.smf.n4.request(ctx, u.cfg.N4, act.seid, act.m)
		s.inbox.post(event{kind: evN4Done, token: act.token, response: r, err: err})
	})
}

func (l *loop) amf(done event, f func(context.Context, sbi.Communication) error) {
	s := l.s
	done.kind = evAMFDone
	s.amfQueue.waiting = append(s.amfQueue.waiting, queued{func(ctx context.Context) error {
		c, err := s.smf.deps.AMF(s.create.AMF)
		if err != nil {
			return err
		}
		return f(ctx, c)
	}, done})
}

func (l *loop) udm(f func(context.Context) error) {
	l.s.udmQueue.waiting = append(l.s.udmQueue.waiting, queued{f, event{kind: evUDMDone}})
}

// pump starts the next call of q unless one is under way.
func (l *loop) pump(ctx context.Context, q *queue) {
	if q.busy || len(q.waiting) == 0 {
		return
	}
	next := q.waiting[0]
	q.waiting, q.busy = q.waiting[1:], true
	l.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, l.s.smf.cfg.Timers.SBI)
		defer cancel()
		ev := next.done
		ev.err = next.do(ctx)
		l.s.inbox.post(ev)
		if ev.err != nil && ev.tag != tagNone { // an event of its own to the procedure that asked
			ev.kind = evTransferFailed
			l.s.inbox.post(ev)
		}
	})
}

func (q *queue) idle() bool { return !q.busy && len(q.waiting) == 0 }

// amfDone is the end of a call to the AMF.
func (s *session) amfDone(ev event) []action {
	s.amfQueue.busy = false
	if ev.err != nil {
		s.counters.transferFailures.Add(1)
		s.log.Info("call to amf failed", "error", ev.err)
	}
	return nil
}

// udmDone is the end of a registration call; a session does not depend on it.
func (s *session) udmDone(ev event) []action {
	s.udmQueue.busy = false
	if ev.err != nil {
		s.log.Warn("registration at udm failed", "error", ev.err)
	}
	return nil
}

// publish shows the session to Status.
func (s *session) publish() {
	st := &SessionStatus{
		SUPI: s.supi, PEI: s.create.PEI, Session: s.id, DNN: s.dnn, SNSSAI: s.snssai, Address: s.grant.address,
		Location: s.location, Created: s.created, Measured: s.measuredAt,
		SEID: s.seid, Uplink: s.uplink, Downlink: s.want.downlink, AMBR: s.want.ambr,
		State: stateNames[s.state], UserPlane: upNames[s.up], Usage: s.usage, Restored: s.restores,
	}
	if s.grant.upf != nil {
		st.UPF = s.grant.upf.cfg.Name
	}
	s.status.Store(st)
}

var (
	stateNames = [numStates]string{"establishing", "active", "modifying", "releasing", "released"}
	upNames    = [...]string{upDeactivated: "deactivated", upActivating: "activating", upActivated: "activated"}
)

func (s *session) header(pti ident.PTI) nas.SMHeader {
	return nas.SMHeader{PDUSessionID: s.id, PTI: pti}
}

// answerN1 answers an UpdateSMContext with a 5GSM message.
func (s *session) answerN1(c *call, m nas.Message) reply {
	b, err := nas.Encode(m)
	if err != nil {
		return reply{c, callResult{err: problem(500, sbi.CauseSystemFailure, "%v", err)}}
	}
	return reply{c, callResult{out: sbi.UpdatedSMContext{N1: b}}}
}

// encodeN1 and encodeN2 encode messages made of the session's own values; an error
// is a fault of configuration or subscription, which ends the procedure.
func (s *session) encodeN1(m nas.Message) []byte {
	b, err := nas.Encode(m)
	if err != nil {
		s.counters.unencodable.Add(1)
		s.log.Error("5gsm message not encodable", "error", err)
	}
	return b
}

func (s *session) encodeN2(v any) []byte {
	b, err := ngap.EncodeTransfer(v)
	if err != nil {
		s.counters.unencodable.Add(1)
		s.log.Error("n2 transfer not encodable", "error", err)
	}
	return b
}
