package ue

import (
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
)

// SMState is a state of one PDU session in the UE (TS 24.501 clause 6.1.3.2).
type SMState uint8

// 5GSM states.
const (
	SMInactive SMState = iota
	SMActivePending
	SMActive
	SMInactivePending
	SMModificationPending
)

var smStateNames = [...]string{
	SMInactive:            "PDU SESSION INACTIVE",
	SMActivePending:       "PDU SESSION ACTIVE PENDING",
	SMActive:              "PDU SESSION ACTIVE",
	SMInactivePending:     "PDU SESSION INACTIVE PENDING",
	SMModificationPending: "PDU SESSION MODIFICATION PENDING",
}

// String returns the specification's name.
func (s SMState) String() string {
	if int(s) < len(smStateNames) {
		return smStateNames[s]
	}
	return "PDU SESSION ?"
}

// session is one PDU session identity of the UE.
type session struct {
	cfg    SessionConfig
	state  SMState
	info   SessionInfo
	pti    ident.PTI // of the UE-requested procedure running, 0 none
	wanted bool      // establish it whenever the UE is registered
	unsent bool      // request waits for a connection
	last   nas.Message
	sent   int  // transmissions of last
	up     bool // its IP interface is open
	bearer bool
	qfi    ident.QFI
	err    error
	// done is the PTI of the last network command answered: the command seen
	// again is a retransmission (clause 7.3.1).
	done      ident.PTI
	doneReply nas.Message
}

// active reports whether the session exists on both sides.
func (s *session) active() bool {
	return s.state == SMActive || s.state == SMInactivePending || s.state == SMModificationPending
}

type smHandler func(*machine, *session, nas.Message)

func onSM[M nas.Message](f func(*machine, *session, M)) smHandler {
	return func(m *machine, s *session, msg nas.Message) { f(m, s, msg.(M)) }
}

func ignoreSM(*machine, *session, nas.Message) {}

// smTable says which 5GSM message is legal in which state of its session. For an
// absent cell of a session that does not exist the answer is 5GSM STATUS cause 43
// (TS 24.501 clause 7.3.2), else cause 98 (clause 7.4).
var smTable = map[nas.MessageType]map[SMState]smHandler{
	nas.TypePDUSessionEstablishmentAccept: {
		SMActivePending: onSM((*machine).establishmentAccept),
	},
	nas.TypePDUSessionEstablishmentReject: {
		SMActivePending: onSM((*machine).establishmentReject),
	},
	nas.TypePDUSessionModificationCommand: {
		SMActive:              onSM((*machine).modificationCommand),
		SMModificationPending: onSM((*machine).modificationCommand),
		SMInactivePending:     ignoreSM, // the release goes on, clause 6.3.2.6
	},
	nas.TypePDUSessionModificationReject: {
		SMModificationPending: onSM((*machine).modificationReject),
	},
	nas.TypePDUSessionReleaseCommand: {
		SMActivePending:       onSM((*machine).releaseCommand), // the accept was lost
		SMActive:              onSM((*machine).releaseCommand),
		SMInactivePending:     onSM((*machine).releaseCommand),
		SMModificationPending: onSM((*machine).releaseCommand),
	},
	nas.TypePDUSessionReleaseReject: {
		SMInactivePending: onSM((*machine).releaseReject),
	},
	nas.TypeSMStatus: {
		SMInactive:            ignoreSM,
		SMActivePending:       onSM((*machine).smStatus),
		SMActive:              onSM((*machine).smStatus),
		SMInactivePending:     onSM((*machine).smStatus),
		SMModificationPending: onSM((*machine).smStatus),
	},
}

// solicited lists the answers to UE-requested procedures: they must carry the
// session's own PTI (clause 7.3.1).
func solicited(t nas.MessageType) bool {
	switch t {
	case nas.TypePDUSessionEstablishmentAccept, nas.TypePDUSessionEstablishmentReject,
		nas.TypePDUSessionModificationReject, nas.TypePDUSessionReleaseReject:
		return true
	}
	return false
}

// smHeader returns the header of a 5GSM message from the network.
func smHeader(msg nas.Message) (nas.SMHeader, bool) {
	switch v := msg.(type) {
	case *nas.PDUSessionEstablishmentAccept:
		return v.SMHeader, true
	case *nas.PDUSessionEstablishmentReject:
		return v.SMHeader, true
	case *nas.PDUSessionModificationCommand:
		return v.SMHeader, true
	case *nas.PDUSessionModificationReject:
		return v.SMHeader, true
	case *nas.PDUSessionReleaseCommand:
		return v.SMHeader, true
	case *nas.PDUSessionReleaseReject:
		return v.SMHeader, true
	case *nas.SMStatus:
		return v.SMHeader, true
	}
	return nas.SMHeader{}, false
}
