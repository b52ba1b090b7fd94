package smf

import (
	"cmp"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// Status is a copy of what the SMF knows, for REST, console and tests.
type Status struct {
	NFID        sbi.NFID
	UPFs        []UPFStatus     // in the order of the configuration
	Sessions    []SessionStatus // by SUPI and session ID; released ones until their UPF has confirmed
	Subscribers int
	Counters    Counters
}

// UPFStatus is one UPF.
type UPFStatus struct {
	Name     string
	State    string    // idle, associated or lost
	Recovery time.Time // when the UPF started; zero before the first association
	Sessions int
	Losses   uint64 // how often the association went down
	Pools    []PoolStatus
}

// PoolStatus is the use of a UPF's addresses of one DNN.
type PoolStatus struct {
	DNN  ident.DNN
	Used int
}

// SessionStatus is one PDU session.
type SessionStatus struct {
	SUPI      ident.SUPI
	PEI       ident.PEI // empty when the UE did not tell
	Session   ident.PDUSessionID
	DNN       ident.DNN
	SNSSAI    ident.SNSSAI
	UPF       string // empty until one is selected
	Address   ident.UEAddress
	SEID      ident.SEID  // ours
	Uplink    ident.FTEID // the UPF's N3 endpoint
	Downlink  ident.FTEID // the gNB's; zero while the user plane is down
	AMBR      ident.AMBR
	Location  ident.Location // last known
	Created   time.Time
	Measured  time.Time // when the UPF last reported; Created before
	State     string    // establishing, active, modifying, releasing or released
	UserPlane string    // deactivated, activating or activated
	Restored  int       // how often it was put back on a restarted UPF
	Usage     UsageTotals
}

// UsageTotals is what the UPF reported since the session began. It lags behind by
// up to a reporting period or threshold; without either it is zero until the UPF has
// confirmed the release.
type UsageTotals struct {
	UplinkBytes, DownlinkBytes     uint64
	UplinkPackets, DownlinkPackets uint64
}

// Counters count since New.
type Counters struct {
	Established, Refused, Released, Modified, Superseded uint64
	MalformedN1, UnexpectedN1, MalformedN2, UnexpectedN2 uint64
	TransferFailures, EventResyncs, Unencodable          uint64

	PFCPSent, PFCPRetransmitted, PFCPTimeouts uint64 // requests
	PFCPReceived, PFCPMalformed               uint64 // datagrams
	PFCPUnmatched                             uint64 // responses without a request
	PFCPRepeated                              uint64 // requests seen before
	PFCPUnknownPeer                           uint64 // associations of unknown UPFs, reports of another UPF
	PFCPFailures                              uint64 // session requests refused or unanswered
	PFCPOrphans                               uint64 // sessions made too late and deleted again

	ChargingSent, ChargingFailures, ChargingLost uint64 // invocations of the CHF, repeats counted; given up
}

// Status returns a copy.
func (a *SMF) Status() Status {
	st := Status{NFID: a.cfg.NFID, Counters: a.count()}
	a.upfs.mu.Lock()
	for _, u := range a.upfs.list {
		us := UPFStatus{Name: u.cfg.Name, State: u.state.String(), Recovery: u.recovery, Sessions: len(u.sessions), Losses: u.losses}
		for _, d := range u.cfg.DNNs {
			us.Pools = append(us.Pools, PoolStatus{DNN: d.DNN, Used: len(u.dnns[d.DNN].pool.used)})
		}
		st.UPFs = append(st.UPFs, us)
	}
	a.upfs.mu.Unlock()

	a.mu.Lock()
	for _, s := range a.bySEID {
		st.Sessions = append(st.Sessions, *s.status.Load())
	}
	a.mu.Unlock()
	slices.SortFunc(st.Sessions, func(x, y SessionStatus) int {
		return cmp.Or(cmp.Compare(x.SUPI, y.SUPI), cmp.Compare(x.Session, y.Session), cmp.Compare(x.SEID, y.SEID))
	})

	a.directory.mu.Lock()
	st.Subscribers, st.Counters.EventResyncs = len(a.directory.subs), a.directory.resyncs
	a.directory.mu.Unlock()
	return st
}

func (a *SMF) count() Counters {
	c, n := &a.counters, &a.n4.counters
	return Counters{
		Established: c.established.Load(), Refused: c.refused.Load(), Released: c.released.Load(),
		Modified: c.modified.Load(), Superseded: c.superseded.Load(),
		MalformedN1: c.malformedN1.Load(), UnexpectedN1: c.unexpectedN1.Load(),
		MalformedN2: c.malformedN2.Load(), UnexpectedN2: c.unexpectedN2.Load(),
		TransferFailures: c.transferFailures.Load(), Unencodable: c.unencodable.Load(),
		PFCPSent: n.sent.Load(), PFCPRetransmitted: n.retransmitted.Load(), PFCPTimeouts: n.timeouts.Load(),
		PFCPReceived: n.received.Load(), PFCPMalformed: n.malformed.Load(), PFCPUnmatched: n.unmatched.Load(),
		PFCPRepeated: n.repeated.Load(), PFCPUnknownPeer: n.unknownPeer.Load(), PFCPFailures: c.n4Failures.Load(),
		PFCPOrphans:  c.orphans.Load(),
		ChargingSent: c.chargingSent.Load(), ChargingFailures: c.chargingFailures.Load(), ChargingLost: c.chargingLost.Load(),
	}
}
