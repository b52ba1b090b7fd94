package ue

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// machine is the protocol logic of one UE: 5GMM, 5GSM, NAS security and cell
// selection. It does no I/O: inputs are method calls, outputs are actions in out,
// time is the field now, which the caller sets before each input. Not for
// concurrent use; the UE's loop owns it.
type machine struct {
	cfg  Config
	t    Timers
	log  *slog.Logger
	rand io.Reader
	usim *usim
	caps nas.SecurityCapability

	now    time.Time
	out    []action
	timers timerSet

	state MMState
	cm    cmState
	cell  Cell // camped on; Name is empty when none

	prefer    string        // gNB to search first
	avoid     string        // gNB to search last: it has just failed
	searching bool          // a search is running
	pause     time.Duration // last pause between searches or returns
	since     time.Time     // when the connection began

	want intent
	guti *ident.GUTI
	tais []ident.TAI
	suci *nas.SUCI // while T3519 runs

	sec     security
	auth    authentication
	reg     registration
	service service
	dereg   deregistration

	sessions map[ident.PDUSessionID]*session
	lastPTI  ident.PTI

	lastErr  error
	counters Counters
}

// cmState is the signalling connection: 5GMM-IDLE, being set up, 5GMM-CONNECTED.
type cmState uint8

const (
	cmIdle cmState = iota
	cmConnecting
	cmConnected
)

// intent is the 5GMM procedure to start as soon as cell and timers allow.
type intent uint8

const (
	wantNothing intent = iota
	wantInitial
	wantMobility
	wantPeriodic
	wantService
	wantRecovery // service request or mobility registration, as the cell's area says
	wantDeregistration
)

// action is something the machine asks its owner to do.
type action interface{}

type (
	// actSearch looks for a cell: prefer first, avoid last.
	actSearch struct{ prefer, avoid string }
	// actConnect sets up an RRC connection on the cell camped on.
	actConnect struct{ req ConnectRequest }
	// actSend sends one NAS message on the RRC connection.
	actSend struct{ pdu []byte }
	// actRelease drops the RRC connection, or its set-up, from the UE's side.
	actRelease struct{}
	// actDone ends whoever waits for op.
	actDone struct {
		op   op
		info SessionInfo
		err  error
	}
	// actUp and actDown open and close a session's IP interface.
	actUp   struct{ info SessionInfo }
	actDown struct{ id ident.PDUSessionID }
	// actBearer switches a session's user plane.
	actBearer struct {
		id  ident.PDUSessionID
		up  bool
		qfi ident.QFI
	}
)

// op names what a command waits for.
type op struct {
	kind opKind
	id   ident.PDUSessionID
}

type opKind uint8

const (
	opRegister opKind = iota
	opMove
	opDeregister
	opEstablish
	opModify
	opRelease
)

func newMachine(cfg Config, log *slog.Logger, rnd io.Reader) *machine {
	m := &machine{
		cfg: cfg, t: cfg.Timers.withDefaults(), log: log, rand: rnd,
		usim: newUSIM(cfg), timers: timerSet{}, sessions: map[ident.PDUSessionID]*session{},
	}
	ea, ia := cfg.Ciphering, cfg.Integrity
	if len(ea) == 0 {
		ea = []uint8{0, 1, 2, 3}
	}
	if len(ia) == 0 {
		ia = []uint8{1, 2, 3}
	}
	for _, a := range ea {
		m.caps.EA |= 1 << a
	}
	for _, a := range ia {
		m.caps.IA |= 1 << a
	}
	for _, s := range cfg.Sessions {
		if _, err := m.wantSession(s); err != nil {
			log.Error("PDU session not wanted", "error", err) // Validate allows 15
		}
	}
	return m
}

// wantSession remembers a session to establish whenever registered. The identity is
// chosen here if the caller left it open.
func (m *machine) wantSession(c SessionConfig) (*session, error) {
	if c.ID == 0 {
		for id := ident.PDUSessionID(1); id <= 15 && c.ID == 0; id++ {
			if s := m.sessions[id]; s == nil || (s.state == SMInactive && !s.wanted) {
				c.ID = id
			}
		}
		if c.ID == 0 {
			return nil, fmt.Errorf("%w: no free PDU session identity", ErrBusy)
		}
	}
	if c.Type == 0 {
		c.Type = ident.IPv4
	}
	s := m.sessions[c.ID]
	if s == nil {
		s = &session{}
		m.sessions[c.ID] = s
	}
	if s.state == SMInactive {
		s.cfg = c
		s.info = SessionInfo{SUPI: m.cfg.SUPI, ID: c.ID, DNN: c.DNN}
		s.err = nil
	}
	s.wanted = true
	return s, nil
}

func (m *machine) act(a action) { m.out = append(m.out, a) }

func (m *machine) done(k opKind, id ident.PDUSessionID, err error) {
	m.act(actDone{op: op{k, id}, err: err})
}

// take returns the actions of the last input.
func (m *machine) take() []action {
	m.advance()
	out := m.out
	m.out = nil
	return out
}

// advance starts what is wanted and possible now. It is called after every input,
// so that no procedure has to know what comes after it.
func (m *machine) advance() {
	if m.state == MMRegistered && m.want == wantNothing {
		if m.cm == cmConnected {
			m.advanceSessions()
		} else if m.cm == cmIdle && m.mustConnect() {
			m.want = wantService
		}
	}
	if m.want == wantNothing || m.cm == cmConnecting || m.searching {
		return
	}
	switch m.state {
	case MMRegisteredInitiated, MMServiceRequestInitiated, MMDeregisteredInitiated, MMNull:
		return // one procedure at a time
	}
	if m.blocked() {
		return
	}
	if m.cell.Name == "" {
		if m.timers.running(tSearch) {
			return
		}
		m.searching = true
		m.act(actSearch{prefer: m.prefer, avoid: m.avoid})
		return
	}
	w := m.want
	if w == wantRecovery {
		w = wantMobility
		if m.inArea() && m.hasActive() {
			w = wantService
		}
	}
	if w == wantService && !m.inArea() {
		w = wantMobility
	}
	m.want = wantNothing
	switch w {
	case wantInitial:
		m.startRegistration(nas.RegistrationInitial)
	case wantMobility:
		m.startRegistration(nas.RegistrationMobility)
	case wantPeriodic:
		m.startRegistration(nas.RegistrationPeriodic)
	case wantService:
		if m.cm == cmIdle {
			m.startService()
		}
	case wantDeregistration:
		m.startDeregistration()
	}
}

// blocked reports whether a back-off timer forbids the wanted procedure.
func (m *machine) blocked() bool {
	switch m.want {
	case wantDeregistration:
		return false
	case wantService:
		return m.timers.running(t3525) || m.timers.running(tReturn) || m.timers.running(t3346)
	case wantRecovery:
		return m.timers.running(t3346)
	}
	return m.timers.running(t3511) || m.timers.running(t3502) || m.timers.running(t3346)
}

// inArea reports whether the cell's tracking area is one the UE is registered in.
func (m *machine) inArea() bool {
	for _, t := range m.tais {
		if t == m.cell.Location.TAI {
			return true
		}
	}
	return false
}

func (m *machine) hasActive() bool {
	for _, s := range m.sessions {
		if s.active() {
			return true
		}
	}
	return false
}

// mustConnect reports whether an idle registered UE has a reason to connect.
func (m *machine) mustConnect() bool {
	if m.cell.Name == "" && m.cfg.NoReselect {
		return false
	}
	for _, s := range m.sessions {
		if s.unsent || (s.wanted && s.state == SMInactive) || (s.active() && !m.cfg.AllowIdle) {
			return true
		}
	}
	return false
}

// powerOn leaves 5GMM-NULL.
func (m *machine) powerOn() {
	if m.state == MMNull {
		m.state = MMDeregistered
	}
}

// powerOff drops the radio without signalling and enters 5GMM-NULL. GUTI, security
// context and SQN survive in the USIM and the non-volatile memory (TS 24.501
// annex C), sessions do not.
func (m *machine) powerOff() {
	m.releaseConnection()
	m.endAll(ErrAborted)
	m.dropSessions(ErrAborted)
	clear(m.timers)
	m.state, m.want, m.cell, m.searching = MMNull, wantNothing, Cell{}, false
	m.reg = registration{}
	m.service = service{}
	m.dereg = deregistration{}
	m.auth = authentication{}
	m.suci = nil
}

// endAll ends whoever waits for a 5GMM procedure, now that the UE is deregistered.
func (m *machine) endAll(err error) {
	if err == nil {
		err = ErrAborted
	}
	m.done(opRegister, 0, err)
	m.done(opMove, 0, err)
	m.done(opDeregister, 0, nil)
}

// campedOn is the result of a search.
func (m *machine) campedOn(c Cell) {
	if !m.searching {
		return
	}
	m.searching, m.avoid, m.prefer = false, "", ""
	m.cell = c
}

// noCell is the result of a search in which no gNB answered.
func (m *machine) noCell(err error) {
	if !m.searching {
		return
	}
	m.searching = false
	if m.want == wantDeregistration {
		m.finishDeregistration(nil) // nobody to tell
		return
	}
	m.lastErr = err
	m.backOff(tSearch)
}

// backOff starts k with a pause that doubles from SearchMin to SearchMax.
func (m *machine) backOff(k timerKind) {
	m.pause = min(max(2*m.pause, m.t.SearchMin), m.t.SearchMax)
	m.start(k, m.pause)
}

// connected is the result of actConnect.
func (m *machine) connected() {
	m.cm = cmConnected
	m.since = m.now
	m.stop(t3512)
}

// connectFailed says that the cell could not be reached: its gNB has gone or
// refuses, so the UE looks for another. Nothing was sent, hence no attempt counts.
func (m *machine) connectFailed(err error) {
	if m.cm != cmConnecting {
		return
	}
	m.cm = cmIdle
	m.lastErr = err
	m.loseCell()
	m.backOff(tSearch)
	switch m.state {
	case MMRegisteredInitiated:
		m.stop(t3510)
		m.state = m.reg.before
		m.want = m.reg.intent()
	case MMServiceRequestInitiated:
		m.stop(t3517)
		m.state = MMRegistered
		m.want = wantService
	case MMDeregisteredInitiated:
		m.finishDeregistration(nil)
	}
}

func (m *machine) loseCell() {
	m.avoid = m.cell.Name
	m.cell = Cell{}
}

// released is the end of the RRC connection, seen from the radio. A nil err is an
// orderly release.
func (m *machine) released(err error) {
	if m.cm == cmIdle {
		return
	}
	m.idle()
	lost := errors.Is(err, ErrRadioLinkFailure)
	if lost {
		m.counters.RadioLinkLost++
		m.loseCell()
	}
	switch m.state {
	case MMRegisteredInitiated:
		if err == nil {
			err = ErrAborted
		}
		m.registrationFailed(fmt.Errorf("connection released during registration: %w", err))
	case MMServiceRequestInitiated:
		m.serviceFailed()
	case MMDeregisteredInitiated:
		m.finishDeregistration(nil) // lower layer failure: clause 5.5.2.2.6
	case MMRegistered:
		if lost {
			if !m.cfg.NoReselect {
				m.want = wantRecovery
			}
			return
		}
		if m.reg.t3512 > 0 { // else the network wants no periodic registration
			m.start(t3512, m.reg.t3512)
		}
		if m.now.Sub(m.since) < shortConnection {
			m.backOff(tReturn)
		} else {
			m.pause = 0
		}
	}
}

// shortConnection: after one shorter than this the UE pauses before it connects
// again, so that a network that releases at once is not asked in a tight loop.
const shortConnection = 10 * time.Second

// releaseConnection drops the RRC connection from the UE's side, if there is one.
func (m *machine) releaseConnection() {
	if m.cm == cmIdle {
		return
	}
	m.act(actRelease{})
	m.idle()
}

// idle enters 5GMM-IDLE: bearers end with the connection, sessions do not.
func (m *machine) idle() {
	m.cm = cmIdle
	m.sec.secure = false
	m.stop(t3540)
	m.forgetChallenge()
	m.auth.failures = 0 // consecutive are those within T3520 only: clause 5.4.1.3.7
	for id, s := range m.sessions {
		if s.bearer {
			m.bearer(id, false, 0)
		}
	}
	if m.state != MMDeregistered {
		return
	}
	if m.reg.again { // the network asked for a new registration
		m.reg.again = false
		m.want = wantInitial
	} else if m.dereg.switchOff {
		m.dereg.switchOff = false
		m.powerOff()
	}
}

// bearer notes that user packets of a session can or cannot flow.
func (m *machine) bearer(id ident.PDUSessionID, up bool, qfi ident.QFI) {
	s := m.sessions[id]
	if s == nil {
		return
	}
	s.bearer, s.qfi = up, qfi
	m.act(actBearer{id: id, up: up, qfi: qfi})
}

// uplinkPending says that a session without bearer has packets to send.
func (m *machine) uplinkPending(id ident.PDUSessionID) {
	if m.cell.Name == "" && m.cfg.NoReselect {
		return
	}
	if s := m.sessions[id]; m.state == MMRegistered && m.cm == cmIdle && m.want == wantNothing && s != nil && s.active() {
		m.want = wantService
	}
}
