package udm

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// Authenticate implements sbi.Authentication: identification, sequence number and
// authentication vector of the UDM (TS 33.501 clause 6.1.3.2.0 step 1) and the
// AUSF's part of the challenge (steps 2 to 5). With req.Resync it first verifies
// the AUTS (TS 33.102 clause 6.3.5; TS 33.501 clause 6.1.3.3.2).
func (u *UDM) Authenticate(ctx context.Context, req sbi.AuthenticationRequest) (sbi.AuthenticationContext, error) {
	if err := ctx.Err(); err != nil {
		return sbi.AuthenticationContext{}, err
	}
	snn := req.ServingNetworkName
	if !u.networks[snn] {
		u.counted(func(c *Counters) { c.WrongNetwork++ })
		return sbi.AuthenticationContext{}, problem(http.StatusForbidden, sbi.CauseServingNetwork, "serving network %.100q may not authenticate our subscribers", snn)
	}
	supi, err := u.identify(req.SUPIOrSUCI)
	if err != nil {
		u.counted(func(c *Counters) { c.BadIdentity++ })
		return sbi.AuthenticationContext{}, err
	}
	u.mu.Lock()
	sub, err := u.knownLocked(supi)
	u.mu.Unlock()
	if err != nil {
		return sbi.AuthenticationContext{}, err
	}

	m := aka.NewMilenage(sub.k, sub.opc)
	if r := req.Resync; r != nil {
		sqnMS, ok := aka.OpenAUTS(m, r.RAND, r.AUTS)
		if !ok {
			u.counted(func(c *Counters) { c.BadAUTS++ })
			return sbi.AuthenticationContext{}, rejected("%s: the AUTS is not the USIM's", supi)
		}
		u.resynchronise(supi, sub, sqnMS)
	}
	sqn, challenge, id, err := u.draw(supi, sub)
	if err != nil {
		return sbi.AuthenticationContext{}, err
	}

	res, ck, ik, ak := m.F2345(challenge)
	concealed := aka.XorSQN(sqn, ak)
	out := sbi.AuthenticationContext{
		ID:   id,
		RAND: challenge,
		AUTN: aka.BuildAUTN(concealed, sub.amf, m.F1(challenge, sqn, sub.amf)),
	}
	xresStar := aka.RESStar(ck, ik, snn, challenge, res[:])
	out.HXRESStar = aka.HXRESStar(challenge, xresStar)
	kseaf := aka.KSEAF(aka.KAUSF(ck, ik, snn, concealed), snn)

	u.mu.Lock()
	defer u.mu.Unlock()
	u.count.Challenges++
	u.count.Evicted += u.auth.add(&authContext{
		id: id, supi: supi, xresStar: xresStar, kseaf: kseaf, expires: time.Now().Add(u.cfg.AuthContextTTL),
	}, u.cfg.MaxAuthContexts)
	return out, nil
}

func (u *UDM) resynchronise(supi ident.SUPI, sub *subscriber, sqnMS uint64) {
	u.mu.Lock()
	was := sub.sqn
	sub.sqn = resyncSQN(sub.sqn, sqnMS)
	now := sub.sqn
	u.count.Resyncs++
	u.mu.Unlock()
	u.log.Info("USIM resynchronised", "nf", "udm", "supi", supi, "sqn_was", was, "sqn", now)
}

// draw takes the next sequence number, a RAND and a context ID.
func (u *UDM) draw(supi ident.SUPI, sub *subscriber) (sqn uint64, challenge [16]byte, id string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var b [32]byte
	if _, err := io.ReadFull(u.rand, b[:]); err != nil {
		return 0, challenge, "", fmt.Errorf("udm: authenticate %s: draw RAND: %w", supi, err)
	}
	sqn, ok := nextSQN(sub.sqn)
	if !ok {
		return 0, challenge, "", rejected("%s: its sequence numbers are used up; give it a new K", supi)
	}
	sub.sqn = sqn
	return sqn, [16]byte(b[:16]), hex.EncodeToString(b[16:]), nil
}

func (u *UDM) counted(f func(*Counters)) {
	u.mu.Lock()
	f(&u.count)
	u.mu.Unlock()
}

// Confirm implements sbi.Authentication (TS 33.501 clause 6.1.3.2.0 steps 10 to
// 12). A challenge that was confirmed may be confirmed again until it expires, with
// the same answer, so that a client may repeat a request whose answer was lost;
// after a wrong RES* it is failed for good. An unknown or expired contextID gives a
// Problem CONTEXT_NOT_FOUND.
func (u *UDM) Confirm(ctx context.Context, contextID string, resStar []byte) (sbi.Confirmation, error) {
	if err := ctx.Err(); err != nil {
		return sbi.Confirmation{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.auth.find(contextID, time.Now())
	if c == nil {
		return sbi.Confirmation{}, problem(http.StatusNotFound, sbi.CauseContextNotFound, "no authentication context %.64q, or it has expired", contextID)
	}
	_, known := u.subs[c.supi]
	if !known || c.failed || !aka.Equal(c.xresStar[:], resStar) {
		c.failed = true
		u.count.WrongRES++
		u.log.Info("authentication failed", "nf", "udm", "supi", c.supi)
		return sbi.Confirmation{}, nil
	}
	u.count.Confirmed++
	return sbi.Confirmation{Success: true, SUPI: c.supi, KSEAF: c.kseaf}, nil
}

// authContext is a challenge that waits for its RES*.
type authContext struct {
	id       string
	supi     ident.SUPI
	xresStar [16]byte
	kseaf    [32]byte
	expires  time.Time
	failed   bool
}

// authContexts keeps challenges in the order they were made, which is the order in
// which they expire. Guarded by UDM.mu.
type authContexts struct {
	byID  map[string]*authContext
	order []*authContext
}

// add keeps c, drops what has expired, and while there are more than most, drops
// the oldest, which it counts.
func (a *authContexts) add(c *authContext, most int) (evicted uint64) {
	a.expire(time.Now())
	for len(a.order) >= most {
		a.dropOldest()
		evicted++
	}
	a.byID[c.id] = c
	a.order = append(a.order, c)
	return evicted
}

func (a *authContexts) find(id string, now time.Time) *authContext {
	a.expire(now)
	return a.byID[id]
}

func (a *authContexts) live() int {
	a.expire(time.Now())
	return len(a.order)
}

func (a *authContexts) expire(now time.Time) {
	for len(a.order) > 0 && !now.Before(a.order[0].expires) {
		a.dropOldest()
	}
}

func (a *authContexts) dropOldest() {
	delete(a.byID, a.order[0].id)
	a.order[0] = nil // the array outlives the slice's start
	a.order = a.order[1:]
}
