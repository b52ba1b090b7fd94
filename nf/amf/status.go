package amf

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// Status is a copy of what an AMF knows.
type Status struct {
	GNBs     []GNBStatus
	UEs      []UEStatus // sorted by SUPI; those not yet identified come first
	Counters Counters
}

// GNBStatus is one NG association.
type GNBStatus struct {
	ID        ident.GNBID // zero before NG Setup
	Name      string
	Address   string // the association's remote address
	Up        bool   // NG Setup succeeded
	Supported []ngap.SupportedTA
	UEs       int // UE-associated connections
}

// UEStatus is one UE context.
type UEStatus struct {
	SUPI      ident.SUPI // empty before authentication
	PEI       ident.PEI
	GUTI      ident.GUTI // zero before REGISTRATION ACCEPT
	State     string     // of the 5GMM machine, such as "REGISTERED"
	Connected bool       // CM-CONNECTED
	GNB       ident.GNBID
	AMFUEID   int64  // 0 in CM-IDLE
	RANUEID   uint32 // 0 in CM-IDLE
	Location  ident.Location
	Allowed   []ident.SNSSAI
	Ciphering uint8 // NEA in use, meaningful with Secured
	Integrity uint8 // NIA in use
	Secured   bool
	Sessions  []SessionStatus // sorted by ID

	capability *nas.SecurityCapability
}

// SessionStatus is one PDU session.
type SessionStatus struct {
	ID     ident.PDUSessionID
	DNN    ident.DNN
	SNSSAI ident.SNSSAI
	UP     sbi.UPState // empty before the first setup
}

// Status returns a snapshot: each UE's state after the last message it handled.
func (a *AMF) Status() Status {
	var st Status
	a.reg.mu.Lock()
	for g := range a.reg.gnbs {
		st.GNBs = append(st.GNBs, GNBStatus{
			ID: g.id, Name: g.name, Address: g.conn.RemoteAddr().String(), Up: g.up,
			Supported: slices.Clone(g.supported), UEs: len(g.conns),
		})
	}
	ues := make([]*ue, 0, len(a.reg.ues))
	for u := range a.reg.ues {
		ues = append(ues, u)
	}
	a.reg.mu.Unlock()
	for _, u := range ues {
		if s := u.snap.Load(); s != nil {
			c := *s
			c.Allowed, c.Sessions = slices.Clone(s.Allowed), slices.Clone(s.Sessions)
			st.UEs = append(st.UEs, c)
		}
	}
	slices.SortFunc(st.UEs, func(a, b UEStatus) int { return cmp.Compare(a.SUPI, b.SUPI) })
	slices.SortFunc(st.GNBs, func(a, b GNBStatus) int {
		return cmp.Or(cmp.Compare(a.ID.Value, b.ID.Value), cmp.Compare(a.Address, b.Address))
	})
	st.Counters = a.stats.snapshot()
	return st
}

// publish stores the UE's snapshot.
func (u *ue) publish() {
	s := &UEStatus{
		SUPI: u.supi, PEI: u.pei, State: u.state.String(), Connected: u.conn != nil,
		Allowed: slices.Clone(u.allowed), Secured: u.sec != nil, capability: u.caps,
	}
	if u.guti != nil {
		s.GUTI = *u.guti
	}
	if u.sec != nil {
		s.Ciphering, s.Integrity = u.sec.Algorithms()
	}
	if c := u.conn; c != nil {
		s.GNB, s.AMFUEID, s.RANUEID, s.Location = c.gnbID, c.amf, c.ran, c.location
	}
	for _, x := range u.sessions {
		s.Sessions = append(s.Sessions, SessionStatus{ID: x.id, DNN: x.dnn, SNSSAI: x.snssai, UP: x.up})
	}
	slices.SortFunc(s.Sessions, func(a, b SessionStatus) int { return cmp.Compare(a.ID, b.ID) })
	u.snap.Store(s)
}

// Counters count since New.
type Counters struct {
	GNBAssociations, GNBsLost                                        uint64
	NGSetups, NGSetupsRejected, NGResets                             uint64
	NGAPReceived, NGAPSent, NGAPUndecodable, NGAPNotCompatible       uint64
	NGAPUnknownUE                                                    uint64 // identifiers unknown or inconsistent
	NGAPStale                                                        uint64 // messages on connections already given up
	ErrorIndicationsSent, ErrorIndicationsReceived, NASNonDeliveries uint64
	SendFailures, EncodeFailures, N2Timeouts, ContextSetupFailures   uint64
	Overloads                                                        uint64 // INITIAL UE MESSAGE beyond MaxUEs
	MailboxDrops                                                     uint64 // messages beyond a UE's mailbox

	NASReceived, NASSent, NASUndecodable, NASNotCompatible uint64
	NASMACFailures, NASReplays, NASUnprotected             uint64
	NASDiscarded                                           uint64 // for other reasons
	StatusReceived                                         uint64 // 5GMM STATUS from UEs
	Retransmissions, ProceduresAborted                     uint64

	Registrations, RegistrationAccepts, RegistrationRejects uint64
	Identifications, Authentications, Resynchronisations    uint64
	EquipmentRefused                                        uint64 // devices that the EIR does not accept
	AuthenticationFailures, AuthenticationRejects           uint64
	SecurityModes, SecurityModeRejects                      uint64
	ServiceRequests, ServiceAccepts, ServiceRejects         uint64
	Deregistrations, ImplicitDeregistrations, Superseded    uint64
	SessionsRequested, SessionsRefused, PayloadsReturned    uint64
	CallFailures                                            uint64 // calls of other NFs that failed
	CallOverloads                                           uint64 // calls that found no room to wait
}

type counters struct {
	gnbs, gnbsLost, ngSetups, ngSetupsRejected, ngResets                              atomic.Uint64
	ngapReceived, ngapSent, ngapUndecodable, ngapNotCompatible                        atomic.Uint64
	ngapUnknownUE, ngapStale                                                          atomic.Uint64
	errorIndicationsSent, errorIndicationsReceived, nasNonDeliveries                  atomic.Uint64
	sendFailures, encodeFailures, n2Timeouts, contextSetupFailures                    atomic.Uint64
	overloads, mailboxDrops                                                           atomic.Uint64
	nasReceived, nasSent, nasUndecodable, nasNotCompatible                            atomic.Uint64
	nasMACFailures, nasReplays, nasUnprotected, nasDiscarded, statusReceived          atomic.Uint64
	retransmissions, proceduresAborted                                                atomic.Uint64
	registrations, registrationAccepts, registrationRejects                           atomic.Uint64
	identifications, authentications, resynchronisations, equipmentRefused            atomic.Uint64
	authenticationFailures, authenticationRejects, securityModes, securityModeRejects atomic.Uint64
	serviceRequests, serviceAccepts, serviceRejects                                   atomic.Uint64
	deregistrations, implicitDeregistrations, superseded                              atomic.Uint64
	sessionsRequested, sessionsRefused, payloadsReturned, callFailures, callOverloads atomic.Uint64
}

func (c *counters) snapshot() Counters {
	return Counters{
		GNBAssociations: c.gnbs.Load(), GNBsLost: c.gnbsLost.Load(),
		NGSetups: c.ngSetups.Load(), NGSetupsRejected: c.ngSetupsRejected.Load(), NGResets: c.ngResets.Load(),
		NGAPReceived: c.ngapReceived.Load(), NGAPSent: c.ngapSent.Load(),
		NGAPUndecodable: c.ngapUndecodable.Load(), NGAPNotCompatible: c.ngapNotCompatible.Load(),
		NGAPUnknownUE: c.ngapUnknownUE.Load(), NGAPStale: c.ngapStale.Load(),
		ErrorIndicationsSent: c.errorIndicationsSent.Load(), ErrorIndicationsReceived: c.errorIndicationsReceived.Load(),
		NASNonDeliveries: c.nasNonDeliveries.Load(),
		SendFailures:     c.sendFailures.Load(), EncodeFailures: c.encodeFailures.Load(),
		N2Timeouts: c.n2Timeouts.Load(), ContextSetupFailures: c.contextSetupFailures.Load(),
		Overloads: c.overloads.Load(), MailboxDrops: c.mailboxDrops.Load(),
		NASReceived: c.nasReceived.Load(), NASSent: c.nasSent.Load(),
		NASUndecodable: c.nasUndecodable.Load(), NASNotCompatible: c.nasNotCompatible.Load(),
		NASMACFailures: c.nasMACFailures.Load(), NASReplays: c.nasReplays.Load(),
		NASUnprotected: c.nasUnprotected.Load(), NASDiscarded: c.nasDiscarded.Load(), StatusReceived: c.statusReceived.Load(),
		Retransmissions: c.retransmissions.Load(), ProceduresAborted: c.proceduresAborted.Load(),
		Registrations: c.registrations.Load(), RegistrationAccepts: c.registrationAccepts.Load(),
		RegistrationRejects: c.registrationRejects.Load(),
		EquipmentRefused:    c.equipmentRefused.Load(),
		Identifications:     c.identifications.Load(), Authentications: c.authentications.Load(),
		Resynchronisations:     c.resynchronisations.Load(),
		AuthenticationFailures: c.authenticationFailures.Load(), AuthenticationRejects: c.authenticationRejects.Load(),
		SecurityModes: c.securityModes.Load(), SecurityModeRejects: c.securityModeRejects.Load(),
		ServiceRequests: c.serviceRequests.Load(), ServiceAccepts: c.serviceAccepts.Load(), ServiceRejects: c.serviceRejects.Load(),
		Deregistrations: c.deregistrations.Load(), ImplicitDeregistrations: c.implicitDeregistrations.Load(),
		Superseded:        c.superseded.Load(),
		SessionsRequested: c.sessionsRequested.Load(), SessionsRefused: c.sessionsRefused.Load(),
		PayloadsReturned: c.payloadsReturned.Load(), CallFailures: c.callFailures.Load(), CallOverloads: c.callOverloads.Load(),
	}
}
