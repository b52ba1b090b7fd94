package ue

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/simreach/simreach/internal/ident"
)

// SessionInfo describes an established PDU session to Host and to callers.
type SessionInfo struct {
	SUPI    ident.SUPI
	ID      ident.PDUSessionID
	DNN     ident.DNN
	SNSSAI  ident.SNSSAI // zero when the network named none
	Address ident.UEAddress
	MTU     int
	DNS     []netip.Addr
}

// SessionStatus is one PDU session of a Status.
type SessionStatus struct {
	Info   SessionInfo // complete while State is SMActive or later
	State  SMState
	Bearer bool  // user packets flow
	Err    error // why the last establishment failed, nil otherwise

	UplinkPackets, UplinkBytes     uint64
	DownlinkPackets, DownlinkBytes uint64
	UplinkDropped                  uint64 // no bearer was up
}

// Counters count what the network sent wrong and what this UE had to repeat.
type Counters struct {
	Malformed       uint64 // NAS messages that did not decode
	Unprotected     uint64 // plain NAS messages discarded (TS 24.501 clause 4.4.4.2)
	IntegrityFailed uint64 // MAC or replay check failed
	WrongState      uint64 // message not compatible with the state
	Retransmissions uint64 // NAS messages sent again after a timer
	RadioLinkLost   uint64 // RRC connections lost, orderly releases not counted
}

// Status is a copy of what a UE is doing.
type Status struct {
	SUPI      ident.SUPI
	State     MMState
	Connected bool        // 5GMM-CONNECTED
	GNB       string      // the gNB camped on; empty: none
	GUTI      *ident.GUTI // nil: none
	TAI       ident.TAI   // of the cell camped on
	Sessions  []SessionStatus
	// Err is why the last registration or service request failed; nil after a success.
	Err      error
	Counters Counters
}

// Session returns the session with that ID.
func (s Status) Session(id ident.PDUSessionID) (SessionStatus, bool) {
	for _, v := range s.Sessions {
		if v.Info.ID == id {
			return v, true
		}
	}
	return SessionStatus{}, false
}

// Registered reports whether the UE is in 5GMM-REGISTERED or a service request
// away from it.
func (s Status) Registered() bool {
	return s.State == MMRegistered || s.State == MMServiceRequestInitiated
}

// board publishes the newest Status. mu guards all fields.
type board struct {
	mu      sync.Mutex
	status  Status
	changed chan struct{} // closed at the next change
}

func (b *board) set(s Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status = s
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) get() (Status, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status, b.changed
}

// Status returns a copy of the UE's state.
func (u *UE) Status() Status {
	s, _ := u.board.get()
	s.Sessions = slices.Clone(s.Sessions)
	for i := range s.Sessions {
		u.planes[s.Sessions[i].Info.ID].count(&s.Sessions[i])
	}
	return s
}

// Wait blocks until ok says true of the UE's status, which it is asked at once and
// after every change. It returns ctx.Err() when ctx ends first and ErrStopped when
// Run has ended. Packet counters alone are no change.
func (u *UE) Wait(ctx context.Context, ok func(Status) bool) error {
	for {
		_, changed := u.board.get()
		if ok(u.Status()) {
			return nil
		}
		select {
		case <-changed:
		case <-u.ended:
			if ok(u.Status()) {
				return nil
			}
			return ErrStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// snapshot builds the public status from the machine.
func (m *machine) snapshot() Status {
	s := Status{
		SUPI:      m.cfg.SUPI,
		State:     m.state,
		Connected: m.cm == cmConnected,
		GNB:       m.cell.Name,
		TAI:       m.cell.Location.TAI,
		Err:       m.lastErr,
		Counters:  m.counters,
	}
	if m.guti != nil {
		g := *m.guti
		s.GUTI = &g
	}
	for _, id := range slices.Sorted(maps.Keys(m.sessions)) {
		v := m.sessions[id]
		s.Sessions = append(s.Sessions, SessionStatus{Info: v.info, State: v.state, Bearer: v.bearer, Err: v.err})
	}
	return s
}
