package amf

import (
	"context"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// ask runs f in the UE's worker and returns its result. Errors besides f's: Problem
// CONTEXT_NOT_FOUND (404) without such a UE, ErrStopped, ctx.Err().
func (a *AMF) ask(ctx context.Context, supi ident.SUPI, f func(*ue) error) error {
	unknown := problem(404, sbi.CauseContextNotFound, "no context for "+string(supi))
	u := a.reg.ueBySUPI(supi)
	if u == nil {
		return unknown
	}
	answer := make(chan error, 1)
	if !u.postOr(func(u *ue) { answer <- f(u) }, func() { answer <- unknown }) {
		select {
		case <-a.stopped:
			return ErrStopped
		default:
			return unknown
		}
	}
	select {
	case err := <-answer:
		return err
	case <-a.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// N1N2Transfer implements sbi.Communication (TS 29.518 clause 5.2.2.3.1). It
// returns nil once the messages are on their way to the gNB. Problems:
// CONTEXT_NOT_FOUND (404) for an unknown UE or session, UE_IN_CM_IDLE_STATE (409)
// without N2 connection, MANDATORY_IE_INCORRECT (400).
func (a *AMF) N1N2Transfer(ctx context.Context, supi ident.SUPI, m sbi.N1N2Message) error {
	if len(m.N1) == 0 && len(m.N2) == 0 {
		return problem(400, sbi.CauseMandatoryIEIncorrect, "neither N1 nor N2")
	}
	return a.ask(ctx, supi, func(u *ue) error {
		s := u.sessions[m.Session]
		if s == nil {
			return problem(404, sbi.CauseContextNotFound, "no such PDU session")
		}
		return u.transfer(s, m)
	})
}

// SMContextReleased implements sbi.Communication (TS 29.502 clause 5.2.2.5). It is
// not an error if the session is gone already, or if the identity is another session's
// by now: after a release with reactivation requested the UE's next request may be here
// before the SMF's word about the session before.
func (a *AMF) SMContextReleased(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID, ref sbi.SMContextRef) error {
	return a.ask(ctx, supi, func(u *ue) error {
		if s := u.sessions[id]; s != nil {
			s.released(ref)
		}
		return nil
	})
}

// Deregister implements sbi.Communication (TS 23.502 clause 4.2.2.3.3). It returns
// nil once the procedure has begun and the PDU sessions are on their way out; a UE in
// CM-IDLE is deregistered without being told, since paging is not offered.
func (a *AMF) Deregister(ctx context.Context, supi ident.SUPI, reason sbi.DeregistrationReason) error {
	return a.ask(ctx, supi, func(u *ue) error {
		u.deregister(reason)
		return nil
	})
}
