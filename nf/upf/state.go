package upf

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/upf/datapath"
)

// state is the PFCP state of a UPF.
type state struct {
	recovery     time.Time
	associations map[pfcp.NodeID]*association
	sessions     map[ident.SEID]*session
	byCP         map[pfcp.FSEID]*session
	byTunnel     map[ident.FTEID]map[ident.SEID]*session // by remote tunnel endpoint
	teids        map[ident.TEID]ident.SEID               // local ones in use

	sequence uint32
	pending  map[exchange]*pending
	answered map[exchange]*answered
	timers   timers
	count    Counters
}

func newState() state {
	return state{
		associations: make(map[pfcp.NodeID]*association),
		sessions:     make(map[ident.SEID]*session),
		byCP:         make(map[pfcp.FSEID]*session),
		byTunnel:     make(map[ident.FTEID]map[ident.SEID]*session),
		teids:        make(map[ident.TEID]ident.SEID),
		pending:      make(map[exchange]*pending),
		answered:     make(map[exchange]*answered),
	}
}

// association is a CP function that may set up sessions (TS 29.244 clause 5.8).
type association struct {
	node      pfcp.NodeID
	addr      netip.Addr // where its setup request came from, and all others must
	recovery  time.Time
	sessions  map[ident.SEID]*session
	heartbeat *timer
	silent    bool // it has not answered our last heartbeat, nor sent one since
	probing   bool // a heartbeat out of turn is under way
}

// session is a PFCP session.
type session struct {
	id    ident.SEID
	cp    pfcp.FSEID
	assoc *association
	rules ruleBook
	urrs  map[uint32]*measurement
	// tunnels are the remote endpoints of its FARs; true if an Error Indication for
	// one has been reported since.
	tunnels map[ident.FTEID]bool
}

// procedures is which requests a UPF serves; those that need an association or a
// session say so by cause. Everything else is discarded.
var procedures = map[pfcp.MessageType]func(*UPF, call, pfcp.Message) (answer pfcp.Message, seid ident.SEID){
	pfcp.TypeHeartbeatRequest:            (*UPF).heartbeatRequest,     // always
	pfcp.TypeAssociationSetupRequest:     (*UPF).associationSetup,     // always
	pfcp.TypeAssociationReleaseRequest:   (*UPF).associationRelease,   // with an association
	pfcp.TypeSessionEstablishmentRequest: (*UPF).sessionEstablishment, // with an association
	pfcp.TypeSessionModificationRequest:  (*UPF).sessionModification,  // in a session
	pfcp.TypeSessionDeletionRequest:      (*UPF).sessionDeletion,      // in a session
}

// Counters is what happened on N4 since New.
type Counters struct {
	Received           uint64 // well-formed messages
	Sent               uint64
	SendFailed         uint64
	Malformed          uint64 // answered or discarded as TS 29.244 clause 7.6 says
	Unexpected         uint64 // responses nobody waits for, requests that a UPF does not serve
	Retransmissions    uint64 // requests that came again
	RequestsUnanswered uint64 // ours, after N1 attempts
	Rejected           uint64 // requests answered with a cause other than accepted
	Internal           uint64 // messages of ours that could not be encoded
}

// Status is a copy of a UPF's state.
type Status struct {
	Node         string
	Recovery     time.Time // zero before Run, if Deps leave it to Run
	Associations []AssociationStatus
	Sessions     []SessionStatus // by SEID
	N4           Counters
	Datapath     datapath.Status
}

// AssociationStatus is one CP function.
type AssociationStatus struct {
	Node     string
	Address  netip.Addr
	Recovery time.Time
	Sessions int
	Silent   bool // did not answer our last heartbeat, nor has sent one since
}

// SessionStatus is one PFCP session.
type SessionStatus struct {
	SEID    ident.SEID
	CP      pfcp.FSEID
	UE      ident.UEAddress
	TEIDs   []ident.TEID  // local
	Tunnels []ident.FTEID // remote
	Usage   datapath.Usage
}

// Status returns a copy. It waits for the message that is being handled.
func (u *UPF) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := Status{Node: nodeName(u.node), Recovery: u.recovery, N4: u.count, Datapath: u.dp.Status()}
	for _, a := range u.associations {
		st.Associations = append(st.Associations, AssociationStatus{
			Node: nodeName(a.node), Address: a.addr, Recovery: a.recovery, Sessions: len(a.sessions), Silent: a.silent,
		})
	}
	slices.SortFunc(st.Associations, func(a, b AssociationStatus) int { return cmp.Compare(a.Node, b.Node) })
	for _, s := range u.sessions {
		st.Sessions = append(st.Sessions, u.sessionStatus(s))
	}
	slices.SortFunc(st.Sessions, func(a, b SessionStatus) int { return cmp.Compare(a.SEID, b.SEID) })
	return st
}

func (u *UPF) sessionStatus(s *session) SessionStatus {
	out := SessionStatus{SEID: s.id, CP: s.cp}
	for _, d := range s.rules.pdrs {
		if d.PDI.FTEID != nil {
			out.TEIDs = append(out.TEIDs, d.PDI.FTEID.TEID)
		}
		if a := d.PDI.UEAddress; a != nil && (a.V4.IsValid() || a.V6.IsValid()) {
			out.UE = *a
		}
	}
	slices.Sort(out.TEIDs)
	for t := range s.tunnels {
		out.Tunnels = append(out.Tunnels, t)
	}
	if usages, err := u.dp.Usage(s.id); err == nil {
		for _, v := range usages {
			// Rules of one session are usually all counted by each of its URRs.
			out.Usage.UplinkBytes = max(out.Usage.UplinkBytes, v.UplinkBytes)
			out.Usage.DownlinkBytes = max(out.Usage.DownlinkBytes, v.DownlinkBytes)
			out.Usage.UplinkPackets = max(out.Usage.UplinkPackets, v.UplinkPackets)
			out.Usage.DownlinkPackets = max(out.Usage.DownlinkPackets, v.DownlinkPackets)
		}
	}
	return out
}

func nodeName(n pfcp.NodeID) string {
	if n.Addr.IsValid() {
		return n.Addr.String()
	}
	return n.FQDN
}
