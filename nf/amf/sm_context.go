package amf

import (
	"context"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// smContext is a PDU session as the AMF sees it: where its SM context is and
// whether its user plane is up. Calls for one session go to the SMF one after
// another in the order they were made, so an update waits for the creation before
// it; they end independently of the UE context.
type smContext struct {
	id     ident.PDUSessionID
	dnn    ident.DNN
	snssai ident.SNSSAI
	a      *AMF
	owner  atomic.Pointer[ue] // whom outcomes are posted to; changes when a UE registers anew

	ops serial
	// ref belongs to the operations: only they use it. Empty before creation and
	// after the end.
	ref sbi.SMContextRef

	up sbi.UPState // owned by the owner's worker
}

// do runs op after the operations added before it, with CallTimeout.
func (s *smContext) do(op func(context.Context)) bool {
	ok := s.ops.add(&s.a.calls, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, s.a.cfg.CallTimeout)
		defer cancel()
		op(ctx)
	})
	if !ok {
		s.a.stats.callOverloads.Add(1)
	}
	return ok
}

// tell posts an outcome to the owner, if it still has this session.
func (s *smContext) tell(f func(*ue)) {
	s.owner.Load().post(func(u *ue) {
		if u.sessions[s.id] == s {
			f(u)
		}
	})
}

// create makes the SM context.
func (s *smContext) create(req sbi.CreateSMContext, then func(*ue, error)) bool {
	return s.do(func(ctx context.Context) {
		ref, err := s.a.smf.CreateSMContext(ctx, req)
		if err == nil {
			s.ref = ref
		}
		s.tell(func(u *ue) { then(u, err) })
	})
}

// update delivers something to the SM context.
func (s *smContext) update(req sbi.UpdateSMContext, then func(*ue, sbi.UpdatedSMContext, error)) bool {
	return s.do(func(ctx context.Context) {
		if s.ref == "" {
			err := error(problem(404, sbi.CauseContextNotFound, "no SM context"))
			s.tell(func(u *ue) { then(u, sbi.UpdatedSMContext{}, err) })
			return
		}
		upd, err := s.a.smf.UpdateSMContext(ctx, s.ref, req)
		if problemCause(err) == sbi.CauseContextNotFound {
			s.ref = ""
		}
		s.tell(func(u *ue) { then(u, upd, err) })
	})
}

// release ends the SM context without asking the UE. It does not need an owner.
func (s *smContext) release(cause sbi.ReleaseCause) {
	s.do(func(ctx context.Context) {
		if s.ref == "" {
			return
		}
		ref := s.ref
		s.ref = ""
		if err := s.a.smf.ReleaseSMContext(ctx, ref, cause); err != nil && problemCause(err) != sbi.CauseContextNotFound {
			s.a.stats.callFailures.Add(1)
			if ctx.Err() == nil { // else the AMF stops
				s.a.log.Warn("cannot release SM context", "pdu_session", s.id, "error", err)
			}
		}
	})
}

// released ends the session if it is the one that the SMF has released. That shows
// when the operations before are done, the creation among them.
func (s *smContext) released(ref sbi.SMContextRef) {
	s.do(func(context.Context) {
		if ref != "" && ref != s.ref {
			return
		}
		s.ref = ""
		s.tell(func(u *ue) { delete(u.sessions, s.id) })
	})
}

// dropSession releases a session locally: the SMF is told, the UE is not.
func (u *ue) dropSession(s *smContext, cause sbi.ReleaseCause) {
	delete(u.sessions, s.id)
	s.release(cause)
}

// after runs f once the operations added so far have ended.
func (s *smContext) after(f func()) bool {
	return s.do(func(context.Context) { f() })
}
