package gnb

import (
	"errors"

	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

// n2State is the state of the NG interface instance.
type n2State uint8

const (
	n2Down    n2State = iota // no association; a retry may be waiting
	n2Dialing                // SCTP association being set up
	n2Setup                  // NG SETUP REQUEST sent
	n2Up                     // NG setup succeeded
)

// ueState is the state of a UE-associated logical NG connection in the gNB.
type ueState uint8

const (
	// ueInitial: INITIAL UE MESSAGE sent, the AMF's identifier is not known.
	ueInitial ueState = iota
	// ueSignalling: the AMF has answered; there is no UE context yet.
	ueSignalling
	// ueContextUp: INITIAL CONTEXT SETUP has succeeded.
	ueContextUp
	// ueReleasing: the radio has gone or failed and the AMF was asked to release.
	ueReleasing
)

// kind names the NGAP messages a gNB receives: a procedure code alone does not tell
// a request from its answer.
type kind uint8

const (
	kindOther kind = iota // not for a gNB
	kindSetupResponse
	kindSetupFailure
	kindReset
	kindResetAck
	kindErrorIndication
	kindDownlinkNAS
	kindContextSetup
	kindContextRelease
	kindSessionSetup
	kindSessionModify
	kindSessionRelease
)

func kindOf(m ngap.Message) kind {
	switch m.(type) {
	case *ngap.NGSetupResponse:
		return kindSetupResponse
	case *ngap.NGSetupFailure:
		return kindSetupFailure
	case *ngap.NGReset:
		return kindReset
	case *ngap.NGResetAcknowledge:
		return kindResetAck
	case *ngap.ErrorIndication:
		return kindErrorIndication
	case *ngap.DownlinkNASTransport:
		return kindDownlinkNAS
	case *ngap.InitialContextSetupRequest:
		return kindContextSetup
	case *ngap.UEContextReleaseCommand:
		return kindContextRelease
	case *ngap.PDUSessionResourceSetupRequest:
		return kindSessionSetup
	case *ngap.PDUSessionResourceModifyRequest:
		return kindSessionModify
	case *ngap.PDUSessionResourceReleaseCommand:
		return kindSessionRelease
	}
	return kindOther
}

type (
	nodeHandler func(*core, ngap.Message)
	ueHandler   func(*core, *ueContext, ngap.Message)
)

func onNode[M ngap.Message](f func(*core, M)) nodeHandler {
	return func(c *core, m ngap.Message) { f(c, m.(M)) }
}

func onUE[M ngap.Message](f func(*core, *ueContext, M)) ueHandler {
	return func(c *core, u *ueContext, m ngap.Message) { f(c, u, m.(M)) }
}

// nodeTable says which non-UE-associated message is legal in which state of the NG
// interface. For an absent cell see core.wrongState.
var nodeTable = map[kind]map[n2State]nodeHandler{
	kindSetupResponse: {n2Setup: onNode((*core).setupResponse)},
	kindSetupFailure:  {n2Setup: onNode((*core).setupFailure)},
	kindReset:         {n2Up: onNode((*core).reset)},
	kindResetAck:      {n2Up: onNode((*core).resetAck)},
	kindErrorIndication: {
		n2Setup: onNode((*core).errorIndication),
		n2Up:    onNode((*core).errorIndication),
	},
}

// ueTable says which UE-associated message is legal in which state of its UE.
var ueTable = map[kind]map[ueState]ueHandler{
	kindDownlinkNAS: {
		ueInitial:    onUE((*core).downlinkNAS),
		ueSignalling: onUE((*core).downlinkNAS),
		ueContextUp:  onUE((*core).downlinkNAS),
		ueReleasing:  onUE((*core).downlinkNAS), // answered with NAS NON DELIVERY INDICATION
	},
	kindContextSetup: {
		ueInitial:    onUE((*core).contextSetup),
		ueSignalling: onUE((*core).contextSetup),
		ueContextUp:  onUE((*core).contextSetupAgain),
		ueReleasing:  onUE((*core).contextSetupLost),
	},
	kindContextRelease: {
		ueInitial:    onUE((*core).contextRelease),
		ueSignalling: onUE((*core).contextRelease),
		ueContextUp:  onUE((*core).contextRelease),
		ueReleasing:  onUE((*core).contextRelease),
	},
	kindSessionSetup: {
		ueContextUp: onUE((*core).sessionSetup),
		ueReleasing: onUE((*core).sessionSetup), // every item fails: the radio has gone
	},
	kindSessionModify: {
		ueContextUp: onUE((*core).sessionModify),
		ueReleasing: onUE((*core).sessionModify),
	},
	kindSessionRelease: {
		ueContextUp: onUE((*core).sessionRelease),
		ueReleasing: onUE((*core).sessionRelease),
	},
}

// receive takes one NGAP PDU from the AMF.
func (c *core) receive(pdu []byte) {
	msg, err := ngap.Decode(pdu)
	if err != nil {
		c.malformed(err)
		return
	}
	c.step(msg)
}

// step looks msg up in the tables.
func (c *core) step(msg ngap.Message) {
	k := kindOf(msg)
	if row, ok := nodeTable[k]; ok {
		if h, ok := row[c.n2]; ok {
			h(c, msg)
		} else {
			c.wrongState(msg, ngap.PartialIDs{})
		}
		return
	}
	if k == kindOther || c.n2 != n2Up {
		c.wrongState(msg, ngap.PartialIDs{})
		return
	}
	u := c.find(msg)
	if u == nil {
		return
	}
	if h, ok := ueTable[k][u.state]; ok {
		h(c, u, msg)
		return
	}
	c.wrongState(msg, u.partial())
}

// ueIDs returns the identifiers of a UE-associated message.
func ueIDs(msg ngap.Message) (ids ngap.UEIDs, hasRAN bool) {
	switch m := msg.(type) {
	case *ngap.DownlinkNASTransport:
		return m.IDs, true
	case *ngap.InitialContextSetupRequest:
		return m.IDs, true
	case *ngap.UEContextReleaseCommand:
		return m.IDs, m.HasRAN
	case *ngap.PDUSessionResourceSetupRequest:
		return m.IDs, true
	case *ngap.PDUSessionResourceModifyRequest:
		return m.IDs, true
	case *ngap.PDUSessionResourceReleaseCommand:
		return m.IDs, true
	}
	return ids, false
}

// find returns the UE of msg, learning its AMF UE NGAP ID from the first message.
// Unknown local (RAN UE NGAP ID) and inconsistent remote identifiers are answered
// with ERROR INDICATION; the UE that has the inconsistent one is released locally,
// not the one that the message was addressed to (TS 38.413 clause 10.6).
func (c *core) find(msg ngap.Message) *ueContext {
	ids, hasRAN := ueIDs(msg)
	bad := ngap.PartialIDs{AMF: &ids.AMF}
	var u *ueContext
	if hasRAN {
		bad.RAN = &ids.RAN
		u = c.ues[ids.RAN]
	} else {
		u = c.byAMF[ids.AMF]
	}
	if u == nil {
		c.counters.UnknownID++
		cause := ngap.RadioUnknownLocalUENGAPID
		c.send(&ngap.ErrorIndication{IDs: bad, Cause: &cause})
		return nil
	}
	if !u.hasAMF {
		if other := c.byAMF[ids.AMF]; other != nil {
			// The AMF gives the identifier to another UE: it has forgotten that one.
			c.counters.UnknownID++
			c.drop(other, ue.ErrRadioLinkFailure)
		}
		u.amf, u.hasAMF = ids.AMF, true
		c.byAMF[ids.AMF] = u
		if u.state == ueInitial {
			u.state = ueSignalling
		}
		return u
	}
	if u.amf != ids.AMF {
		c.counters.UnknownID++
		cause := ngap.RadioInconsistentRemoteID
		c.send(&ngap.ErrorIndication{IDs: bad, Cause: &cause})
		if other := c.byAMF[ids.AMF]; other != nil {
			c.drop(other, ue.ErrRadioLinkFailure)
		}
		return nil
	}
	return u
}

// wrongState answers a message that is not compatible with the receiver's state
// (TS 38.413 clause 10.4). The class 1 procedures with a failure message of their
// own answer in their handlers; errors in responses are handled locally.
func (c *core) wrongState(msg ngap.Message, ids ngap.PartialIDs) {
	c.counters.WrongState++
	if _, ok := msg.(*ngap.ErrorIndication); ok || ngap.IsResponse(msg) {
		return
	}
	cause := ngap.ProtocolNotCompatibleState
	c.send(&ngap.ErrorIndication{IDs: ids, Cause: &cause, Diagnostics: &ngap.Diagnostics{Procedure: msg.Procedure()}})
}

// malformed answers a PDU that did not decode (TS 38.413 clauses 10.2 and 10.3). An
// initiating message with a failure message of its own gets that.
func (c *core) malformed(err error) {
	c.counters.Malformed++
	if c.counters.Malformed == 1 {
		c.log.Warn("malformed NGAP message from the AMF", "error", err)
	}
	de, ok := errors.AsType[*ngap.DecodeError](err)
	if !ok {
		cause := ngap.ProtocolTransferSyntax
		c.send(&ngap.ErrorIndication{Cause: &cause})
		return
	}
	if de.Procedure == ngap.ProcErrorIndication {
		return // never an answer to an answer
	}
	if de.Cause == 0 {
		return // of criticality ignore
	}
	const initiating, successful = 0, 1
	switch {
	case de.Procedure == ngap.ProcInitialContextSetup && de.Triggering == initiating &&
		de.IDs.AMF != nil && de.IDs.RAN != nil && c.ues[*de.IDs.RAN] != nil:
		c.send(&ngap.InitialContextSetupFailure{
			IDs: ngap.UEIDs{AMF: *de.IDs.AMF, RAN: *de.IDs.RAN}, Cause: de.Cause, Diagnostics: de.Diagnostics,
		})
		return
	case de.Procedure == ngap.ProcNGSetup && de.Triggering >= successful && c.n2 == n2Setup:
		c.setupGone(err)
		return
	case de.Triggering >= successful && de.Diagnostics != nil:
		return // an error in a response is for local error handling
	}
	c.send(&ngap.ErrorIndication{IDs: de.IDs, Cause: &de.Cause, Diagnostics: de.Diagnostics})
}
