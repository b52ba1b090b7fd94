package amf

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// registry knows every gNB, N2 connection and UE context by their identifiers.
// Its lock guards the maps and the fields marked "registry" in gnb and n2conn; it
// is held for map operations only, never while calling or sending.
type registry struct {
	guami  ident.GUAMI
	maxUEs int

	randMu sync.Mutex // serialises rand
	rand   io.Reader

	mu     sync.Mutex
	gnbs   map[*gnb]struct{}
	byID   map[ident.GNBID]*gnb
	conns  map[int64]*n2conn // by AMF UE NGAP ID
	nextID int64
	ues    map[*ue]struct{}
	byTMSI map[uint32]*ue
	bySUPI map[ident.SUPI]*ue
}

// maxAMFID is the largest AMF UE NGAP ID (TS 38.413 clause 9.3.3.1).
const maxAMFID = 1<<40 - 1

func newRegistry(g ident.GUAMI, maxUEs int, rnd io.Reader) *registry {
	return &registry{
		guami: g, maxUEs: maxUEs, rand: rnd,
		gnbs: map[*gnb]struct{}{}, byID: map[ident.GNBID]*gnb{}, conns: map[int64]*n2conn{},
		ues: map[*ue]struct{}{}, byTMSI: map[uint32]*ue{}, bySUPI: map[ident.SUPI]*ue{},
	}
}

// addGNB registers a new association, not yet set up.
func (r *registry) addGNB(c sctp.Conn) *gnb {
	g := &gnb{conn: c, conns: map[uint32]*n2conn{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gnbs[g] = struct{}{}
	return g
}

// removeGNB forgets an association and returns the N2 connections it carried.
func (r *registry) removeGNB(g *gnb) []*n2conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.gnbs, g)
	if r.byID[g.id] == g {
		delete(r.byID, g.id)
	}
	return r.dropAllLocked(g)
}

// setUp records a successful NG Setup. It returns the association that had the
// same global gNB ID before (nil if none) and the connections g carried itself:
// NG Setup erases them (TS 38.413 clause 8.7.1.1).
func (r *registry) setUp(g *gnb, m *ngap.NGSetupRequest) (old *gnb, erased []*n2conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.up && g.id != m.GNB && r.byID[g.id] == g {
		delete(r.byID, g.id)
	}
	if o := r.byID[m.GNB]; o != g {
		old = o
	}
	g.id, g.name, g.supported, g.up = m.GNB, m.Name, m.Supported, true
	r.byID[m.GNB] = g
	return old, r.dropAllLocked(g)
}

func (r *registry) dropAllLocked(g *gnb) []*n2conn {
	list := make([]*n2conn, 0, len(g.conns))
	for _, c := range g.conns {
		list = append(list, c)
		r.dropLocked(c)
	}
	return list
}

func (r *registry) dropLocked(c *n2conn) {
	if r.conns[c.amf] == c {
		delete(r.conns, c.amf)
	}
	if c.gnb.conns[c.ran] == c {
		delete(c.gnb.conns, c.ran)
	}
	if c.guard != nil {
		c.guard.Stop()
	}
	c.gone = true
}

// dropConn forgets c; the identifiers may be used again.
func (r *registry) dropConn(c *n2conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropLocked(c)
}

// newConn makes the N2 connection of an INITIAL UE MESSAGE. replaced is an older
// connection under the same RAN UE NGAP ID, which the gNB has evidently forgotten.
// It returns nil when the AMF is full.
func (r *registry) newConn(g *gnb, ran uint32, stream uint16) (c, replaced *n2conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) >= r.maxUEs || len(r.ues) >= r.maxUEs {
		return nil, nil
	}
	if replaced = g.conns[ran]; replaced != nil {
		r.dropLocked(replaced)
	}
	for {
		r.nextID = r.nextID%maxAMFID + 1
		if r.conns[r.nextID] == nil {
			break
		}
	}
	c = &n2conn{gnb: g, gnbID: g.id, amf: r.nextID, ran: ran, stream: stream}
	r.conns[c.amf] = c
	g.conns[ran] = c
	return c, replaced
}

// verdict says how the identifiers of a message matched.
type verdict int

const (
	idsOK verdict = iota
	idsUnknown
	idsInconsistent
)

// find looks up the connection a message of g names, checking both identifiers
// (TS 38.413 clause 10.6). The AMF UE NGAP ID is the local one, the RAN UE NGAP ID
// the remote one. With idsInconsistent, c is the connection of g, if any, that has
// the erroneous RAN UE NGAP ID: the one with the AMF UE NGAP ID belongs to a UE
// that did nothing wrong.
func (r *registry) find(g *gnb, ids ngap.UEIDs) (c *n2conn, owner *ue, v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c = r.conns[ids.AMF]
	switch {
	case c == nil || c.gnb != g: // identifiers count "for the same NG interface"
		return nil, nil, idsUnknown
	case c.ran != ids.RAN:
		return g.conns[ids.RAN], nil, idsInconsistent
	}
	return c, c.owner, idsOK
}

// findPartial looks up a connection of g by either identifier.
func (r *registry) findPartial(g *gnb, p ngap.PartialIDs) *n2conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.AMF != nil {
		if c := r.conns[*p.AMF]; c != nil && c.gnb == g && (p.RAN == nil || c.ran == *p.RAN) {
			return c
		}
		return nil
	}
	if p.RAN != nil {
		return g.conns[*p.RAN]
	}
	return nil
}

// allConns lists the connections of g.
func (r *registry) allConns(g *gnb) []*n2conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*n2conn, 0, len(g.conns))
	for _, c := range g.conns {
		list = append(list, c)
	}
	return list
}

// own makes u the UE context that messages on c go to. It reports false if c is
// gone already: its gNB was lost meanwhile.
func (r *registry) own(c *n2conn, u *ue) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.owner = u
	return !c.gone
}

// ownerOf returns the UE context c belongs to.
func (r *registry) ownerOf(c *n2conn) *ue {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.owner
}

// release starts the guard of a UE CONTEXT RELEASE COMMAND: c lives until the
// gNB completes it or d has passed. From now on c has no owner.
func (r *registry) release(c *n2conn, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.gone {
		return
	}
	c.owner, c.releasing = nil, true
	c.guard = time.AfterFunc(d, func() { r.dropConn(c) })
}

// isReleasing reports whether a UE CONTEXT RELEASE COMMAND was sent for c.
func (r *registry) isReleasing(c *n2conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.releasing
}

// gnbByID returns a gNB that is set up, or nil.
func (r *registry) gnbByID(id ident.GNBID) *gnb {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

// addUE registers a UE context that has no permanent identity yet.
func (r *registry) addUE(u *ue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ues[u] = struct{}{}
}

// removeUE forgets u under all its identities.
func (r *registry) removeUE(u *ue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ues, u)
	for _, g := range []*ident.GUTI{u.guti, u.oldGUTI} {
		if g != nil && r.byTMSI[g.TMSI] == u {
			delete(r.byTMSI, g.TMSI)
		}
	}
	if r.bySUPI[u.supi] == u {
		delete(r.bySUPI, u.supi)
	}
}

// claimSUPI makes u the context of supi and returns the one that was, nil if none.
func (r *registry) claimSUPI(u *ue, supi ident.SUPI) (old *ue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.bySUPI[supi]; o != u {
		old = o
	}
	r.bySUPI[supi] = u
	return old
}

// ueBySUPI returns the context of supi or nil.
func (r *registry) ueBySUPI(supi ident.SUPI) *ue {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bySUPI[supi]
}

// ueByTMSI returns the context a 5G-S-TMSI of this AMF names, or nil.
func (r *registry) ueByTMSI(s ident.STMSI) *ue {
	if s.Set != r.guami.Set || s.Pointer != r.guami.Pointer {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byTMSI[s.TMSI]
}

// assignGUTI gives u a fresh 5G-GUTI: unpredictable, as TS 33.501 clause 6.12.3
// demands, and unused.
func (r *registry) assignGUTI(u *ue) (*ident.GUTI, error) {
	for {
		var b [4]byte
		r.randMu.Lock()
		_, err := io.ReadFull(r.rand, b[:])
		r.randMu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("amf: assign 5G-TMSI: %w", err)
		}
		t := binary.BigEndian.Uint32(b[:])
		r.mu.Lock()
		if _, used := r.byTMSI[t]; used || t == 0 || t == 0xffffffff {
			r.mu.Unlock()
			continue
		}
		r.byTMSI[t] = u
		r.mu.Unlock()
		return &ident.GUTI{GUAMI: r.guami, TMSI: t}, nil
	}
}

// dropGUTI makes a 5G-GUTI of u invalid.
func (r *registry) dropGUTI(u *ue, g *ident.GUTI) {
	if g == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byTMSI[g.TMSI] == u {
		delete(r.byTMSI, g.TMSI)
	}
}

// stopTimers stops what the timers would still hold. Run calls it when every
// other goroutine has ended.
func (r *registry) stopTimers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for u := range r.ues {
		for _, t := range u.timers {
			if t != nil {
				t.Stop()
			}
		}
	}
	for _, c := range r.conns {
		if c.guard != nil {
			c.guard.Stop()
		}
	}
}
