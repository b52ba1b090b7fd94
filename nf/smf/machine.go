package smf

import (
	"errors"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

// state is the 5GSM state of a session on the network side (TS 24.501 clause
// 6.1.3.3), with the time before and after it told apart.
type state uint8

const (
	// stEstablishing: PDU SESSION INACTIVE, and the request is being worked on.
	stEstablishing state = iota
	// stActive: PDU SESSION ACTIVE: the accept is on its way or there. Whether the
	// user plane is up is a separate matter, see upState.
	stActive
	// stModifying: PDU SESSION MODIFICATION PENDING: a modification command waits
	// for its answer, T3591 runs.
	stModifying
	// stReleasing: PDU SESSION INACTIVE PENDING: a release command waits for its
	// answer, T3592 runs. User plane and directory entry are gone already.
	stReleasing
	// stReleased: nobody knows the session any more; what is left is to have the
	// UPF, the UDM and the AMF told.
	stReleased
	numStates
)

// eventKind is what can happen to a session.
type eventKind uint8

const (
	evStart      eventKind = iota // by CreateSMContext
	evSubscribed                  // the UDM answered
	// 5GSM messages of the UE (TS 24.501 clause 8.3).
	evN1ModificationRequest
	evN1ModificationComplete
	evN1ModificationReject
	evN1ReleaseRequest
	evN1ReleaseComplete
	evN1Status
	evN1Unexpected // an establishment request in the SM context of a session
	evN1Malformed
	// Answers of the gNB (TS 38.413 clause 9.3.4).
	evN2SetupResponse
	evN2SetupFail
	evN2ReleaseResponse
	evN2ModifyResponse
	evN2ModifyFail
	// Requests of the AMF and of the operator.
	evActivate
	evDeactivate
	evReleaseContext
	evSuperseded
	evSetAMBR
	evRelease
	evRecreate
	// Timers.
	evT3591
	evT3592
	evTN2
	// N1N2Transfer did not reach the UE or the gNB.
	evTransferFailed
	// The user plane function.
	evN4Done
	evReport
	evUPFLost
	evUPFBack
	evUPFRestarted
	// A call to the AMF or the UDM ended.
	evAMFDone
	evUDMDone
	numEvents
)

// event is one thing that happened, with what came along.
type event struct {
	kind eventKind

	call     *call                       // who waits for an answer; nil when nobody does
	n1       nas.Message                 // N1 events but evN1Malformed
	header   nas.SMHeader                // N1 events: of the message as received
	headed   bool                        // N1 events: the message was long enough for header
	n1Cause  nas.SMCause                 // evN1Malformed; 0: to be ignored
	setup    *ngap.SetupResponseTransfer // evN2SetupResponse
	data     sbi.SessionData             // evSubscribed
	ambr     ident.AMBR                  // evSetAMBR
	location *ident.Location             // requests of the AMF; nil: it did not say
	err      error                       // evSubscribed, evTransferFailed, evN4Done
	tag      transferTag                 // evTransferFailed
	response pfcp.Message                // evN4Done
	token    int                         // evN4Done: of the request
	epoch    uint64                      // evUPF...
	upf      *upf                        // evUPF...
	report   *pfcp.SessionReportRequest  // evReport
	from     transaction                 // evReport
}

// call is an API call that waits for the session.
type call struct{ reply chan callResult }

type callResult struct {
	out sbi.UpdatedSMContext
	err error
}

// handler decides what an event does to the session. It performs no I/O: what is
// to be done is returned.
type handler func(*session, event) []action

// procedures is the session machine: which event is handled in which state, and
// by which procedure. An empty cell is a message that does not fit the state; see
// unexpected.
var procedures = [numStates]map[eventKind]handler{
	stEstablishing: {
		evStart:          (*session).start,
		evSubscribed:     (*session).subscribed,
		evDeactivate:     (*session).deactivated,
		evReleaseContext: (*session).releasedByAMF,
		evSuperseded:     (*session).releasedByAMF,
		evRelease:        (*session).abandoned,
		evTN2:            (*session).upfGone,
		evN1Status:       (*session).ignored,
		evN1Malformed:    (*session).malformed,
	},
	stActive: {
		evN1ModificationRequest: (*session).modificationRefused,
		evN1ReleaseRequest:      (*session).releaseRequested,
		evN1Status:              (*session).statusReceived,
		evN1Malformed:           (*session).malformed,
		evN2SetupResponse:       (*session).tunnelUp,
		evN2SetupFail:           (*session).setupFailed,
		evN2ReleaseResponse:     (*session).ignored,
		evN2ModifyResponse:      (*session).ignored,
		evN2ModifyFail:          (*session).ignored,
		evActivate:              (*session).activate,
		evDeactivate:            (*session).deactivated,
		evReleaseContext:        (*session).releasedByAMF,
		evSuperseded:            (*session).releasedByAMF,
		evSetAMBR:               (*session).modify,
		evRelease:               (*session).releaseByOperator,
		evRecreate:              (*session).releaseByOperator,
		evTN2:                   (*session).setupFailed,
		evTransferFailed:        (*session).acceptUndelivered,
	},
	stModifying: {
		evN1ModificationRequest:  (*session).modificationRefused,
		evN1ModificationComplete: (*session).modified,
		evN1ModificationReject:   (*session).modificationRejected,
		evN1ReleaseRequest:       (*session).releaseRequested,
		evN1Status:               (*session).statusReceived,
		evN1Malformed:            (*session).malformed,
		evN2SetupResponse:        (*session).tunnelUp,
		evN2SetupFail:            (*session).setupFailed,
		evN2ReleaseResponse:      (*session).ignored,
		evN2ModifyResponse:       (*session).ignored,
		evN2ModifyFail:           (*session).ignored,
		evActivate:               (*session).activate,
		evDeactivate:             (*session).deactivated,
		evReleaseContext:         (*session).releasedByAMF,
		evSuperseded:             (*session).releasedByAMF,
		evRelease:                (*session).releaseByOperator,
		evRecreate:               (*session).releaseByOperator,
		evT3591:                  (*session).repeatModification,
		evTN2:                    (*session).setupFailed,
		evTransferFailed:         (*session).modificationUndelivered,
	},
	stReleasing: {
		evN1ModificationRequest:  (*session).ignored, // TS 24.501 clause 6.3.3.5: release goes on
		evN1ModificationComplete: (*session).ignored,
		evN1ModificationReject:   (*session).ignored,
		evN1ReleaseRequest:       (*session).ignored,
		evN1ReleaseComplete:      (*session).releaseComplete,
		evN1Status:               (*session).statusReceived,
		evN1Malformed:            (*session).malformed,
		evN2SetupResponse:        (*session).ignored,
		evN2SetupFail:            (*session).ignored,
		evN2ReleaseResponse:      (*session).ignored,
		evN2ModifyResponse:       (*session).ignored,
		evN2ModifyFail:           (*session).ignored,
		evDeactivate:             (*session).deactivated,
		evReleaseContext:         (*session).releasedByAMF,
		evSuperseded:             (*session).releasedByAMF,
		evRelease:                (*session).ignored,
		evRecreate:               (*session).ignored,
		evT3592:                  (*session).repeatRelease,
		evTransferFailed:         (*session).releaseUndelivered,
	},
	stReleased: {
		evReleaseContext: (*session).ignored,
		evSuperseded:     (*session).ignored,
		evTransferFailed: (*session).ignored,
	},
}

// userPlane is the other table: events of N4 and of finished calls are handled
// the same in every state.
var userPlane = map[eventKind]handler{
	evN4Done:       (*session).n4Done,
	evReport:       (*session).reported,
	evUPFLost:      (*session).upfLost,
	evUPFBack:      (*session).upfBack,
	evUPFRestarted: (*session).upfRestarted,
	evAMFDone:      (*session).amfDone,
	evUDMDone:      (*session).udmDone,
}

// step is the machine: it returns what to do about ev.
func (s *session) step(ev event) []action {
	if out, wrong := s.checkIdentities(ev); wrong {
		return out
	}
	if ev.location != nil && *ev.location != (ident.Location{}) {
		s.location = *ev.location
	}
	h := userPlane[ev.kind]
	if h == nil {
		h = procedures[s.state][ev.kind]
	}
	if h == nil {
		return s.unexpected(ev)
	}
	return h(s, ev)
}

// errNotInState is answered to API calls that do not fit the session's state.
var errNotInState = errors.New("smf: not possible in the session's present state")

// unexpected answers an empty cell of the table: the UE with 5GSM STATUS "message
// type not compatible with the protocol state" (TS 24.501 clause 7.4), the AMF and
// the operator with a problem. Late timers and answers are dropped.
func (s *session) unexpected(ev event) []action {
	switch ev.kind {
	case evN1ModificationRequest, evN1ModificationComplete, evN1ModificationReject,
		evN1ReleaseRequest, evN1ReleaseComplete, evN1Status, evN1Unexpected:
		s.counters.unexpectedN1.Add(1)
		return []action{s.answerN1(ev.call, &nas.SMStatus{SMHeader: s.header(ev.header.PTI), Cause: nas.SMTypeNotCompatible})}
	case evN2SetupResponse, evN2SetupFail, evN2ReleaseResponse, evN2ModifyResponse, evN2ModifyFail:
		s.counters.unexpectedN2.Add(1)
		return []action{reply{ev.call, callResult{err: problem(403, causeN2Error, "N2 message does not fit state %d", s.state)}}}
	}
	if s.state == stReleased {
		return []action{reply{ev.call, callResult{err: notFound()}}}
	}
	return []action{reply{ev.call, callResult{err: errors.Join(problem(409, "INVALID_STATE", "session %d is busy", s.id), errNotInState)}}}
}

// ignored handles what fits the state but changes nothing.
func (s *session) ignored(ev event) []action { return []action{reply{call: ev.call}} }

// malformed answers a 5GSM message that could not be read (TS 24.501 clause 7.5).
func (s *session) malformed(ev event) []action {
	s.counters.malformedN1.Add(1)
	if ev.n1Cause == 0 {
		return []action{reply{call: ev.call}}
	}
	return []action{s.answerN1(ev.call, &nas.SMStatus{SMHeader: s.header(ev.header.PTI), Cause: ev.n1Cause})}
}

// statusReceived is 5GSM STATUS from the UE (TS 24.501 clause 6.5.3). It ends the
// procedure of the PTI that it names, no other.
func (s *session) statusReceived(ev event) []action {
	cause := ev.n1.(*nas.SMStatus).Cause
	s.log.Warn("5gsm status", "cause", cause)
	out := []action{reply{call: ev.call}}
	switch {
	case cause == nas.SMInvalidPDUSessionIdentity: // the UE has no such session
		return append(out, s.finish(true)...)
	case ev.header.PTI != s.commandPTI: // about another message than our command
	case s.state == stModifying:
		return append(out, s.giveUpModification(&ModificationRejected{Cause: cause})...)
	case s.state == stReleasing:
		return append(out, s.finish(true)...)
	}
	return out
}

// timerID is one of the session's timers.
type timerID uint8

const (
	t3591 timerID = iota
	t3592
	tN2
	numTimers
)

var timerEvents = [numTimers]eventKind{t3591: evT3591, t3592: evT3592, tN2: evTN2}

// action is what the session's loop is to do; see session.perform.
type action interface{ isAction() }

type (
	// reply answers an API call; without a call it is nothing.
	reply struct {
		call   *call
		result callResult
	}
	// transfer sends N1 and N2 through the AMF, after the calls before it.
	transfer struct {
		m   sbi.N1N2Message
		tag transferTag
	}
	// notifyReleased tells the AMF that the SMF let the session go.
	notifyReleased struct{}
	// fetch asks the UDM for the subscription.
	fetch struct{}
	// register and deregister tell the UDM who serves the session.
	register   struct{}
	deregister struct{}
	// sendN4 sends a PFCP request; its outcome is evN4Done with the same token.
	sendN4 struct {
		seid  ident.SEID
		m     pfcp.Message
		token int
	}
	// cancelN4 gives up on the request under way.
	cancelN4 struct{}
	// answerN4 answers a session report.
	answerN4 struct {
		to    transaction
		cause pfcp.Cause
	}
	startTimer struct {
		id timerID
		d  time.Duration
	}
	stopTimer struct{ id timerID }
	// announce and withdraw put the session on the directory and take it off.
	announce struct{}
	withdraw struct{}
	// forget makes the session unknown to the API.
	forget struct{}
	// reassociate tells the association that the UPF does not know it.
	reassociate struct {
		upf   *upf
		epoch uint64
	}
)

func (reply) isAction()          {}
func (transfer) isAction()       {}
func (notifyReleased) isAction() {}
func (fetch) isAction()          {}
func (register) isAction()       {}
func (deregister) isAction()     {}
func (sendN4) isAction()         {}
func (cancelN4) isAction()       {}
func (answerN4) isAction()       {}
func (startTimer) isAction()     {}
func (stopTimer) isAction()      {}
func (announce) isAction()       {}
func (withdraw) isAction()       {}
func (forget) isAction()         {}
func (reassociate) isAction()    {}

// transferTag says which procedure a transfer belongs to.
type transferTag uint8

const (
	tagNone transferTag = iota
	tagAccept
	tagReject
	tagModification
	tagRelease
	tagN2Release
)
